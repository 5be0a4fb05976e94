"""The report as one HTML page that needs nothing but itself: SVG pictures and style sheet are inside, no script.

What: fills `page.html.jinja`. What not: no figures are computed here.
"""

from collections.abc import Sequence
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from alphatier_models import EFFORTS
from alphatier_training.report.content import METHOD, Part, Picture, Section, summary
from alphatier_training.report.evidence import Evidence
from alphatier_training.report.style import to_svg
from alphatier_training.report.tables import Table

TEMPLATE = "page.html.jinja"


def report_html(evidence: Evidence, sections: Sequence[Section], origin: str) -> str:
    """The text of report.html; `origin` says which recipe made the family."""
    source = (files("alphatier_training.report") / TEMPLATE).read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["svg"] = _svg
    environment.tests["table"] = lambda part: isinstance(part, Table)
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    return environment.from_string(source).render(
        family=evidence.family,
        summary=summary(evidence),
        method=METHOD,
        sections=sections,
        efforts=[(effort, evidence.family.efforts[effort]) for effort in EFFORTS],
        origin=origin,
        recipe=evidence.recipe,
    )


def _svg(part: Part) -> Markup:
    assert isinstance(part, Picture)
    return Markup(to_svg(part.figure, part.name, part.description))
