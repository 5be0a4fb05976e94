"""The model card of a family: README.md with figures, recipe and licence, and what is uploaded beside it.

The head is what the hub reads: https://huggingface.co/docs/hub/model-cards
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from alphatier_models import hub
from alphatier_models.errors import EditError
from alphatier_models.figures import datasets, headings, row, settings
from alphatier_models.files import FAMILY_FILE, base_folder, replace_file
from alphatier_models.schema import Family, Tier

CARD = "README.md"
_MARK = "<!-- Written by `alphatier family card`. -->"
_PAPER = "[Training Language Models to Reason Efficiently](https://arxiv.org/abs/2502.04463)"
_PLOT = "report/accuracy-tokens.png"
_RECIPE = "report/recipe.json"


def write_card(family: Family, folder: Path, *, repository: str | None, licence: str | None) -> Path:
    """Write the card into the family's folder. `repository` is its id on the hub, `licence` the hub's name of one.

    Raises EditError when somebody else's README.md is there, or the base's licence cannot be looked up.
    """
    file = folder / CARD
    if file.is_file() and _MARK not in file.read_text(encoding="utf-8"):
        raise EditError(f"{file} was not written by this command and is kept. Move it away first.")
    replace_file(file, card(family, folder, repository, licence or base_licence(family, folder)), 0o644)
    return file


def card(family: Family, folder: Path, repository: str | None, licence: str | None) -> str:
    """The card's text."""
    blocks = [
        _head(family, licence) + _MARK,
        f"# {family.name}",
        f"One reasoning model at {len(family.tiers)} levels of effort, a family for alphatier: {_base(family)}, and "
        f"tiers that were trained from it to answer with fewer tokens. Alpha is the length penalty of {_PAPER}.",
        *_figures(family, folder),
        "## Use",
        _use(family, repository),
        "## Tiers and recipe",
        "\n".join(_origins(family, folder)),
        "## Licence",
        f"The base's licence: {licence or 'not stated by the base'}. The tiers are made from the base, so that it "
        "holds for them too.",
    ]
    return "\n\n".join(blocks) + "\n"


def base_licence(family: Family, folder: Path) -> str | None:
    """The licence in the head of the base's own card; None when it has none. Raises HubError."""
    local = base_folder(family, folder) or hub.fetched(family.base.model, family.base.revision, patterns=(CARD,))
    try:
        head = re.match(r"---\n(.*?)\n---", (local / CARD).read_text(encoding="utf-8"), re.DOTALL)
    except OSError:
        return None
    found = re.search(r"^license: *([^\s#]+)", head[1], re.MULTILINE) if head else None
    return found[1].strip("'\"") if found else None


def files_to_upload(family: Family, folder: Path) -> dict[str, Path]:
    """Name in the repository -> file: family.json, the card, the weights that are here, the report's main parts."""
    local = base_folder(family, folder)
    folders = [*([family.base.model] if local else []), *(tier.path for tier in family.tiers if tier.path)]
    folders += [family.gated.path] if family.gated else []
    names = [FAMILY_FILE, CARD, _RECIPE, *(str(file.relative_to(folder)) for file in folder.glob("report/*.png"))]
    names += [family.router.path] if family.router else []
    files = {name: folder / name for name in names if (folder / name).is_file()}
    for name in folders:
        below = (file for file in (folder / name).rglob("*") if file.is_file())
        visible = (file.relative_to(folder) for file in below)
        files |= {
            file.as_posix(): folder / file for file in visible if not any(part.startswith(".") for part in file.parts)
        }
    return files


def _head(family: Family, licence: str | None) -> str:
    lines = ["pipeline_tag: text-generation"]
    if family.base.sha256 is None:
        lines.append(f"base_model: {json.dumps(family.base.model)}")
    if licence is not None:
        lines.append(f"license: {json.dumps(licence)}")
    if any(tier.layout == "adapter" for tier in family.tiers):
        lines.append("library_name: peft")
    lines += ["tags:", "- alphatier", "- reasoning", "- arxiv:2502.04463"]
    return "\n".join(["---", *lines, "---", ""])


def _figures(family: Family, folder: Path) -> Iterator[str]:
    measured = datasets(family)
    for dataset in (*measured,) or (None,):
        rows = [row(family, tier, dataset) for tier in family.tiers]
        lines = [headings(family), ["---"] * len(rows[0]), *rows]
        yield "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        if dataset is not None:
            yield f"{settings(family, dataset)}. Tokens are those of a response, reasoning and answer together."
    if not measured:
        yield "Not measured yet: `alphatier evaluate` fills the figures in."
    if measured and (folder / _PLOT).is_file():
        yield f"![Accuracy against tokens of each tier]({_PLOT})"


def _use(family: Family, repository: str | None) -> str:
    fetch = f"hf download {repository} --local-dir {family.name}\n" if repository else ""
    tier = family.default_tier
    return (
        f"```sh\npip install 'alphatier[vllm]'\n{fetch}alphatier serve --family {family.name}\n```\n\n"
        f"A request chooses its tier by the model's name, e.g. `{family.name}:{tier}`, or by `reasoning_effort`."
    )


def _base(family: Family) -> str:
    model = family.base.model
    return f"[{model}](https://huggingface.co/{model})" if family.base.sha256 is None else "a base model (`base/`)"


def _origins(family: Family, folder: Path) -> Iterator[str]:
    for tier in family.tiers:
        yield f"- `{tier.name}`: {_origin(family, tier)}"
    if (folder / _RECIPE).is_file():
        yield f"\nThe recipe with every setting: [{_RECIPE}]({_RECIPE})."


def _origin(family: Family, tier: Tier) -> str:
    if tier.layout == "base":
        return f"the untouched base, {_base(family)}" + _at(family.base.revision)
    where = f"[{tier.hub}](https://huggingface.co/{tier.hub}){_at(tier.revision)}" if tier.hub else f"`{tier.path}/`"
    how = ", blended of " + " and ".join(f"{p.weight:g} {p.tier}" for p in tier.blend) if tier.blend else ""
    recipe = f", recipe sha256 {tier.recipe_sha256}, seed {tier.seed}" if tier.recipe_sha256 else ""
    return f"{'an adapter' if tier.layout == 'adapter' else 'a checkpoint'}, {where}{how}{recipe}"


def _at(commit: str | None) -> str:
    return f" at commit {commit}" if commit else ""
