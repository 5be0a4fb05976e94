"""The report of a family: one HTML page, the same as Markdown, its pictures, and the recipe.

OUT/report/report.html            everything in one file: no script, nothing fetched
OUT/report/report.md              the same text and tables beside the PNG files
OUT/report/accuracy-tokens.png    one point a tier, 95 % intervals both ways, the Pareto front
OUT/report/levels.png             accuracy and tokens of each tier by level, where problems have levels
OUT/report/budgets.png            accuracy over budgets of tokens, where samples were found
OUT/report/lengths.png            histograms of right and wrong responses, where samples were found
OUT/report/training.png           what the RL runs logged, by step
OUT/report/recipe.json            the recipe with every default; its sha256 is the one in family.json

Pictures of further data sets have the data set's name at the end: accuracy-tokens-aime.png.
"""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from alphatier_models import EFFORTS, Family
from alphatier_training.evaluation.tables import Table
from alphatier_training.recipe import Recipe
from alphatier_training.report.content import Part, Picture, Section, method, sections, summary
from alphatier_training.report.evidence import Evidence, gather
from alphatier_training.report.style import drawing, save_png, to_svg
from alphatier_training.run.folder import RunFolder, write_text


def write_report(family: Family, recipe: Recipe, folder: RunFolder) -> None:
    """Write the report of a finished run."""
    write_evidence(gather(family, folder.root, recipe=recipe.canonical_json()), folder.report)


def write_evidence(evidence: Evidence, out: Path) -> None:
    """Write the report of what is known about a family into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    if evidence.recipe is not None:
        write_text(out / "recipe.json", evidence.recipe)
    with drawing():
        report = list(sections(evidence))
        for part in (part for section in report for part in section.parts):
            if isinstance(part, Picture):
                save_png(part.figure, out / f"{part.name}.png")
        write_text(out / "report.md", "\n\n".join(_markdown(evidence, report)) + "\n")
        write_text(out / "report.html", _page(evidence, report))


def _markdown(evidence: Evidence, report: Sequence[Section]) -> Iterator[str]:
    """The blocks of report.md; its pictures are the PNG files next to it."""
    yield f"# Family {evidence.family.name}"
    yield summary(evidence)
    yield method(evidence)
    for section in report:
        yield f"## {section.heading}"
        yield from map(_block, section.parts)
    yield f"## Origin\n\n{_origin(evidence)}"


def _block(part: Part) -> str:
    if isinstance(part, Picture):
        return f"![{part.description}]({part.name}.png)"
    return part.markdown() if isinstance(part, Table) else str(part)


def _page(evidence: Evidence, report: Sequence[Section]) -> str:
    """The text of report.html, which needs nothing but itself: SVG pictures and style sheet are inside, no script."""
    source = (files("alphatier_training.report") / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = lambda part: Markup(to_svg(part.figure, part.name, part.description))
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    return environment.from_string(source).render(
        family=evidence.family,
        summary=summary(evidence),
        method=method(evidence),
        sections=report,
        efforts=[(effort, evidence.family.efforts[effort]) for effort in EFFORTS],
        origin=_origin(evidence),
        recipe=evidence.recipe,
    )


def _origin(evidence: Evidence) -> str:
    """Which recipe made the family, in a sentence."""
    sha256, seeds = evidence.recipe_sha256(), {tier.seed for tier in evidence.family.tiers if tier.seed is not None}
    if sha256 is None:
        return "family.json names no recipe."
    where = "recipe.json, beside this report" if evidence.recipe else "its file was not found"
    seed = f", seed {', '.join(map(str, sorted(seeds)))}" if seeds else ""
    return f"Recipe sha256 {sha256} ({where}){seed}."
