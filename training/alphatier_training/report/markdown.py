"""The report as Markdown, for reading beside the code; its pictures are the PNG files next to it."""

from collections.abc import Iterable, Iterator, Sequence

from alphatier_training.report.content import METHOD, Part, Picture, Section, summary
from alphatier_training.report.evidence import Evidence
from alphatier_training.report.tables import Table


def report_md(evidence: Evidence, sections: Sequence[Section], origin: str) -> str:
    """The text of report.md; `origin` says which recipe made the family."""
    return "\n\n".join(_blocks(evidence, sections, origin)) + "\n"


def table_md(table: Table) -> str:
    """A Markdown table with its caption above."""
    lines = [table.headers, ["---"] * len(table.headers), *table.rows]
    return f"{table.caption}\n\n" + "\n".join(f"| {' | '.join(_cells(cells))} |" for cells in lines)


def _blocks(evidence: Evidence, sections: Sequence[Section], origin: str) -> Iterator[str]:
    yield f"# Family {evidence.family.name}"
    yield summary(evidence)
    yield METHOD
    for section in sections:
        yield f"## {section.heading}"
        yield from map(_part, section.parts)
    yield f"## Origin\n\n{origin}"


def _part(part: Part) -> str:
    if isinstance(part, Table):
        return table_md(part)
    if isinstance(part, Picture):
        return f"![{part.description}]({part.name}.png)"
    return part


def _cells(cells: Iterable[str]) -> Iterator[str]:
    return (cell.replace("|", "\\|") for cell in cells)
