"""`alphatier family new` and `add`: options, the interview, and what is printed; `making` does the work."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import click

from alphatier_models.errors import EditError, FamilyError
from alphatier_models.making import (
    BASE_TIER,
    Source,
    Wishes,
    add_tier,
    check_all,
    default_alpha,
    default_reasoning,
    draft,
    family_name,
    find_source,
    write_family,
)
from alphatier_models.schema import EFFORTS, Effort, Family

T = TypeVar("T")
_Command = Callable[..., None]


def weights_options(command: _Command) -> _Command:
    """What `new` and `add` have in common."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts."),
        click.option(
            "--accept-mismatch", is_flag=True, help="Accept another tokenizer, chat template or base's name."
        ),
        click.option("--link", is_flag=True, help="Link local folders instead of copying their files."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("out", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--base", "base_text", required=True, metavar="MODEL", help="The model that the tiers were trained from."
)
@click.option("--tier", "tier_texts", multiple=True, required=True, metavar="NAME=MODEL", help="A tier; repeat it.")
@click.option("--name", help="The family's name.  [OUT's]")
@click.option(
    "--alpha", "alphas", multiple=True, metavar="NAME=X", help="Its length penalty; repeat it.  [of alpha-X]"
)
@click.option("--effort", "efforts", multiple=True, metavar="EFFORT=NAME", help="Its tier; repeat it.  [by alpha]")
@click.option("--default", help="The tier of requests that choose none.  [medium's]")
@click.option("--reasoning", metavar="PARSER|none", help="vLLM's parser of <think>.  [by the vocabulary]")
@click.option(
    "--ask/--yes", default=None, help="Ask for what is not given, or take the defaults.  [ask on a terminal]"
)
@weights_options
def new(
    out: Path,
    base_text: str,
    tier_texts: tuple[str, ...],
    name: str | None,
    alphas: tuple[str, ...],
    efforts: tuple[str, ...],
    default: str | None,
    reasoning: str | None,
    ask: bool | None,
    link: bool,
    accept_mismatch: bool,
    as_json: bool,
) -> None:
    """Make a family in OUT of a base and of checkpoints or LoRA adapters that exist. Nothing is trained.

    \b
    MODEL is a folder            runs/alpha-0.1
    or a model on the hub        Qwen/Qwen3-14B@main   (pinned to the commit that it is now)

    Every tier is checked against the base: kind of adapter, rank, modules and shapes, tokenizer and chat template.
    Folders are copied, or linked with --link; those inside OUT stay. Models on the hub stay there.

    \b
    Example:
      alphatier family new mine --base runs/base --tier alpha-0=runs/a0 --tier alpha-0.2=runs/a2
      alphatier evaluate mine --data hub:HuggingFaceH4/MATH-500 --write   # until then: "not measured"
      alphatier serve --family mine
    """
    with told():
        wishes = Wishes(
            name=name,
            alphas=dict(pairs(alphas, "--alpha", float)),
            efforts=efforts_of(efforts, "--effort"),
            default=default,
            reasoning=reasoning,
        )
        texts = pairs(tier_texts, "--tier", str)
        base = find_source(base_text)
        tiers = {tier: find_source(text) for tier, text in texts.items()}
        doubts = check_all(base, tiers, accept_doubts=accept_mismatch)
        if sys.stdin.isatty() if ask is None else ask:
            wishes = _interview(out, base, tiers, wishes)
        family = draft(out, base, tiers, wishes)
        say = _quiet if as_json else click.echo
        family = write_family(out, family, {BASE_TIER: base, **tiers}, link=link, say=say)
    _warn(doubts)
    _show(family, out, as_json=as_json)


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("tier", metavar="NAME=MODEL")
@click.option("--alpha", type=float, help="The length penalty that it was trained at.  [of a name alpha-X]")
@weights_options
def add(path: Path, tier: str, alpha: float | None, link: bool, accept_mismatch: bool, as_json: bool) -> None:
    """Add a checkpoint or adapter to the family at PATH; MODEL is a folder, or ID@REVISION on the hub.

    No effort leads to it until you say so: alphatier family efforts PATH low=NAME

    Example: alphatier family add mine alpha-0.4=runs/a4
    """
    with told():
        ((name, text),) = pairs([tier], "NAME=MODEL", str).items()
        alpha = default_alpha(name) if alpha is None else alpha
        say = _quiet if as_json else click.echo
        family, doubts = add_tier(
            path, name, find_source(text), alpha, link=link, accept_doubts=accept_mismatch, say=say
        )
    _warn(doubts)
    _show(family, path, as_json=as_json)


@contextmanager
def told() -> Iterator[None]:
    """Faults as one line each instead of a traceback."""
    try:
        yield
    except FamilyError as error:
        only = error.problems[0] if len(error.problems) == 1 else error
        raise click.ClickException(str(only)) from error
    except EditError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error}. The family is as it was.") from error


def pairs(texts: Sequence[str], option: str, convert: Callable[[str], T]) -> dict[str, T]:
    """`A=x` of each text as A -> x. Raises EditError."""
    found: dict[str, T] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            if not equals or not name or not value or name in found:
                raise ValueError
            found[name] = convert(value)
        except ValueError:
            twice = f": {name} is given twice" if name in found else ""
            raise EditError(f"{option} {text}{twice}. Write it once as NAME=VALUE.") from None
    return found


def efforts_of(texts: Sequence[str], option: str) -> dict[Effort, str]:
    """`low=alpha-0.2` as effort -> tier. Raises EditError."""
    asked = pairs(texts, option, str)
    strange = [effort for effort in asked if effort not in EFFORTS]
    if strange:
        raise EditError(f"{strange[0]!r} is no effort; the efforts are {', '.join(EFFORTS)}.")
    return {effort: asked[effort] for effort in EFFORTS if effort in asked}


def _interview(out: Path, base: Source, tiers: Mapping[str, Source], wishes: Wishes) -> Wishes:
    """Ask for everything that no option gave; return takes the default."""
    names = click.Choice([BASE_TIER, *tiers])
    name = wishes.name or click.prompt("The family's name", default=family_name(out), err=True)
    alphas = dict(wishes.alphas)
    for tier in tiers:
        if tier not in alphas:
            shown = default_alpha(tier)
            text = click.prompt(
                f"Length penalty (alpha) of {tier}", default="-" if shown is None else f"{shown:g}", err=True
            )
            alphas[tier] = None if text == "-" else _number(text)
    parser = wishes.reasoning or click.prompt(
        "vLLM's parser of the thinking, or none", default=default_reasoning(base.weights), err=True
    )
    wishes = replace(wishes, name=name, alphas=alphas, reasoning=parser)
    proposed = draft(out, base, tiers, wishes)
    efforts = {
        effort: wishes.efforts.get(effort)
        or click.prompt(f"Tier of the effort {effort}", type=names, default=proposed.efforts[effort], err=True)
        for effort in EFFORTS
    }
    default = wishes.default or click.prompt(
        "Tier of requests that choose none", type=names, default=efforts["medium"], err=True
    )
    return replace(wishes, efforts=efforts, default=default)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise EditError(f"{text!r} is no number. Give an alpha from 0 to below 1, or - for none.") from None


def _warn(doubts: Sequence[str]) -> None:
    for doubt in doubts:
        click.echo(f"Accepted: {doubt}.", err=True)


def _show(family: Family, path: Path, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(family.model_dump(mode="json", exclude_none=True), indent=2))
        return
    for tier in family.tiers:
        where = f"{tier.hub}@{str(tier.revision)[:8]}" if tier.hub else tier.path or family.base.model
        efforts = [effort for effort in EFFORTS if family.efforts[effort] == tier.name]
        click.echo(f"  {tier.name:<16} {tier.layout:<11} {where}  {' '.join(efforts)}")
    missing = [tier.name for tier in family.tiers if not tier.evaluations]
    only = "".join(f" --tier {name}" for name in missing) if len(missing) < len(family.tiers) else ""
    click.echo(f"Not measured yet: alphatier evaluate {path}{only} --data PROBLEMS --write")


def _quiet(_text: str) -> None: ...
