"""The report of a family: one HTML page, the same as Markdown, its pictures, and the recipe.

OUT/report/report.html            everything in one file: no script, nothing fetched
OUT/report/report.md              the same text and tables beside the PNG files
OUT/report/accuracy-tokens.png    one point a tier, 95 % intervals both ways, the Pareto front
OUT/report/levels.png             accuracy and tokens of each tier by level, where problems have levels
OUT/report/lengths.png            histograms of right and wrong responses, where samples were found
OUT/report/training.png           what the RL runs logged, by step
OUT/report/recipe.json            the recipe with every default; its sha256 is the one in family.json

Pictures of further data sets have the data set's name at the end: accuracy-tokens-aime.png.
"""

from pathlib import Path

from alphatier_models import Family
from alphatier_training.recipe import Recipe
from alphatier_training.report.content import Picture, sections
from alphatier_training.report.evidence import Evidence, gather
from alphatier_training.report.markdown import report_md
from alphatier_training.report.page import report_html
from alphatier_training.report.style import drawing, save_png
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
        write_text(out / "report.md", report_md(evidence, report, origin(evidence)))
        write_text(out / "report.html", report_html(evidence, report, origin(evidence)))


def origin(evidence: Evidence) -> str:
    """Which recipe made the family, in a sentence."""
    sha256, seeds = evidence.recipe_sha256(), {tier.seed for tier in evidence.family.tiers if tier.seed is not None}
    if sha256 is None:
        return "family.json names no recipe."
    where = "recipe.json, beside this report" if evidence.recipe else "its file was not found"
    seed = f", seed {', '.join(map(str, sorted(seeds)))}" if seeds else ""
    return f"Recipe sha256 {sha256} ({where}){seed}."
