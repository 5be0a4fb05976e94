"""A family of checkpoints and adapters that exist: where they come from, what belongs to the base, what is written.

Local folders are copied into the family's folder (or linked; one that is in it stays where it is), models on the hub
stay there, pinned to a commit. family.json is written last, so that what was stopped halfway is no family.
"""

import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from alphatier_models import hub
from alphatier_models.errors import EditError, FamilyProblem
from alphatier_models.files import base_folder, change_family, checked, family_file, new_folder, save_family
from alphatier_models.fit import check_fit
from alphatier_models.hashing import directory_sha256
from alphatier_models.schema import EFFORTS, HUB_ID, Base, Effort, Family, Reasoning, Tier
from alphatier_models.weights import WANTED, Weights, read_weights

BASE_TIER = "base"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """Weights that were found: in a folder, or on the hub at a commit."""

    weights: Weights
    hub: str | None = None
    commit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked for beyond the weights; what is None or absent gets its default."""

    name: str | None = None
    alphas: Mapping[str, float | None]
    efforts: Mapping[Effort, str]
    default: str | None = None
    reasoning: str | None = None
    """The name of vLLM's parser, or `none`."""


def find_source(text: str) -> Source:
    """The weights that `PATH` or `ID[@REVISION]` names. Raises EditError."""
    if Path(text).expanduser().is_dir():
        return Source(read_weights(Path(text).expanduser().resolve()))
    model, _, revision = text.partition("@")
    if not HUB_ID.fullmatch(model):
        raise EditError(f"There is no folder {text}. Give one, or a model on the hub: ORGANISATION/NAME@REVISION.")
    commit = hub.commit_of(model, revision or None)
    return Source(hub.look_at(model, commit), model, commit)


def default_efforts(tiers: Sequence[Tier]) -> dict[Effort, str]:
    """Every effort's tier: more effort, less penalty, the base at the end; seven steps spread evenly over the tiers.

    >>> tiers = [Tier(name="base", layout="base")]
    >>> set(default_efforts(tiers).values())
    {'base'}
    """
    trained = sorted((tier for tier in tiers if tier.layout != "base"), key=lambda tier: -(tier.alpha or 0.0))
    ladder = [tier.name for tier in (*trained, *(tier for tier in tiers if tier.layout == "base"))]
    return {effort: ladder[place * len(ladder) // len(EFFORTS)] for place, effort in enumerate(EFFORTS)}


def default_alpha(name: str) -> float | None:
    """The alpha in a tier's name: 0.1 of `alpha-0.1`; None without one."""
    match = re.fullmatch(r"alpha-(0(?:\.\d+)?)", name)
    return float(match[1]) if match else None


def default_reasoning(base: Weights) -> str:
    """vLLM's parser for a base whose vocabulary marks the thinking, `none` for another."""
    if not base.has_words("<think>", "</think>"):
        return "none"
    return "qwen3" if str(base.config.get("model_type", "")).startswith("qwen3") else "deepseek_r1"


def draft(out: Path, base: Source, tiers: Mapping[str, Source], wishes: Wishes) -> Family:
    """The family as it will be, without checksums. Raises EditError or FamilyError."""
    members = [Tier(name=BASE_TIER, layout="base")]
    for name, source in tiers.items():
        members.append(_tier(name, source, wishes.alphas.get(name, default_alpha(name))))
    strangers = [name for name in wishes.alphas if name not in tiers]
    if strangers:
        raise EditError(f"--alpha {strangers[0]}: there is no tier of that name; the tiers are {', '.join(tiers)}.")
    efforts = {**default_efforts(members), **wishes.efforts}
    parser = wishes.reasoning or default_reasoning(base.weights)
    where = {"model": base.hub, "revision": base.commit} if base.hub else {"model": BASE_TIER}
    family = Family.model_construct(
        schema_version=1,
        name=wishes.name or family_name(out),
        base=Base(**where, chat_template_sha256=base.weights.template_sha256),
        reasoning=None if parser == "none" else Reasoning(vllm_parser=parser),
        tiers=tuple(members),
        efforts=efforts,
        default_tier=wishes.default or efforts["medium"],
        reference_tier=BASE_TIER,
    )
    return checked(family, family_file(out))


def family_name(out: Path) -> str:
    """The folder's name as a family's: `Qwen3 14B` is qwen3-14b."""
    return re.sub(r"[^a-z0-9._-]+", "-", out.resolve().name.lower()).strip("-._") or "family"


def write_family(out: Path, family: Family, sources: Mapping[str, Source], *, link: bool, say: Say) -> Family:
    """Bring the weights to `out` and write the drafted `family` there; all of it or nothing.

    `sources` are those of the base (`base`) and of the other tiers, by name. Raises EditError.
    """
    if family_file(out).exists():
        raise EditError(
            f"{family_file(out)} exists already. Add to it with `alphatier family add`, or give another OUT."
        )
    with ExitStack() as undo:
        if not out.exists():
            out.mkdir(parents=True)
            undo.callback(out.rmdir)
        places = {name: _bring(out, name, source, link, undo, say) for name, source in sources.items()}
        base = places[BASE_TIER]
        model = {} if base is None else {"model": base, "sha256": directory_sha256(out / base)}
        tiers = tuple(_placed(out, tier, places.get(tier.name)) for tier in family.tiers)
        whole = family.model_copy(update={"base": family.base.model_copy(update=model), "tiers": tiers})
        save_family(checked(whole, family_file(out)), out)
        undo.pop_all()
    return whole


def add_tier(
    path: Path, name: str, source: Source, alpha: float | None, *, link: bool, accept_doubts: bool, say: Say
) -> tuple[Family, list[str]]:
    """Add a tier to the family at `path`; the family and the doubts that were accepted. No effort leads to it yet.

    Raises EditError or FamilyError; nothing was changed then.
    """
    folder, doubts = family_file(path).parent, []
    with ExitStack() as undo:

        def change(family: Family) -> Family:
            tier = _tier(name, source, alpha)
            wider = checked(family.model_copy(update={"tiers": (*family.tiers, tier)}), family_file(path))
            base = base_weights(family, folder)
            doubts.extend(check_fit(name, source.weights, base, _base_id(family), accept_doubts=accept_doubts))
            placed = _placed(folder, tier, _bring(folder, name, source, link, undo, say))
            return wider.model_copy(update={"tiers": (*family.tiers, placed)})

        family = change_family(path, change)
        undo.pop_all()
    return family, doubts


def base_weights(family: Family, folder: Path) -> Weights:
    """The base's shapes and small files; of a base on the hub they are fetched. Raises EditError."""
    local = base_folder(family, folder)
    if local is not None:
        return read_weights(local)
    return hub.look_at(family.base.model, family.base.revision or hub.commit_of(family.base.model, None))


def hub_problems(family: Family, folder: Path) -> Iterator[FamilyProblem]:
    """Fetch what the family in `folder` has on the hub, and say what is wrong with it."""
    try:
        if family.base.sha256 is None:
            yield from _changed_on_disk("base.model", family.base.model, family.base.revision)
        base = base_weights(family, folder)
    except EditError as error:
        yield _as_problem("base.model", error)
        return
    if family.base.chat_template_sha256 not in (None, base.template_sha256):
        yield FamilyProblem("base.chat_template_sha256", "the base has another chat template", "Make the family anew")
    for index, tier in enumerate(family.tiers):
        if tier.hub is None:
            continue
        try:
            yield from _changed_on_disk(f"tiers[{index}].hub", tier.hub, tier.revision)
            weights = read_weights(hub.fetched(tier.hub, tier.revision))
            check_fit(tier.name, weights, base, _base_id(family), accept_doubts=True)
        except EditError as error:
            yield _as_problem(f"tiers[{index}].hub", error)


def _changed_on_disk(field: str, model: str, commit: str | None) -> Iterator[FamilyProblem]:
    for name in hub.verify(model, commit):
        problem = f"{name} of {model} in the cache is not what the hub has"
        yield FamilyProblem(field, problem, "Remove the model from the cache (`hf cache rm`), and fetch it again")


def _as_problem(field: str, error: EditError) -> FamilyProblem:
    problem, _, remedy = str(error).partition(". ")
    return FamilyProblem(field, problem, remedy.removesuffix("."))


def check_all(base: Source, tiers: Mapping[str, Source], *, accept_doubts: bool) -> list[str]:
    """Check every tier against the base; the doubts that were accepted. Raises EditError."""
    if base.weights.layout != "checkpoint":
        raise EditError("--base is an adapter. Give the model that it was trained from.")
    found: Iterable[list[str]] = (
        check_fit(name, source.weights, base.weights, base.hub, accept_doubts=accept_doubts)
        for name, source in tiers.items()
    )
    return [doubt for doubts in found for doubt in doubts]


def _base_id(family: Family) -> str | None:
    return family.base.model if family.base.sha256 is None else None


def _tier(name: str, source: Source, alpha: float | None) -> Tier:
    """The tier, its checksum still open."""
    where = {"hub": source.hub, "revision": source.commit} if source.hub else {"path": name, "sha256": "0" * 64}
    try:
        return Tier.model_validate({"name": name, "layout": source.weights.layout, "alpha": alpha, **where})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "tier"
        raise EditError(f"{name}: {field}: {first['msg'].removeprefix('Value error, ')}.") from error


def _placed(folder: Path, tier: Tier, place: str | None) -> Tier:
    if place is None or tier.layout == "base":
        return tier
    return tier.model_copy(update={"path": place, "sha256": directory_sha256(folder / place)})


def _bring(folder: Path, name: str, source: Source, link: bool, undo: ExitStack, say: Say) -> str | None:
    """Where the weights are, relative to the family's folder; None for the hub."""
    if source.hub is not None:
        return None
    origin = source.weights.folder
    if folder.resolve() in origin.parents:
        return origin.relative_to(folder.resolve()).as_posix()
    target = folder / name
    if target.exists() or target.is_symlink():
        raise EditError(f"{target} exists already and is not overwritten. Give the tier another name, or remove it.")
    if link:
        target.symlink_to(origin, target_is_directory=True)
        undo.callback(target.unlink)
        return name
    files = sorted({file for pattern in WANTED for file in origin.glob(pattern)})
    say(f"copying {name} ({sum(file.stat().st_size for file in files) / 1e6:,.1f} MB)")
    with new_folder(target) as temporary:
        for file in files:
            shutil.copyfile(file, temporary / file.name)
    undo.callback(shutil.rmtree, target, ignore_errors=True)
    return name
