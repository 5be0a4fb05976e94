"""The report: one page that needs nothing else, readable without colour, with figures that can be checked by hand."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from alphatier_models import EFFORTS
from alphatier_training.commands import report
from support.measured_family import measured_family, right

TINY = Path(__file__).parents[2] / "models" / "tiny"
HELD_OUT = {
    "base": right(36, 40, 50),
    "alpha-0": right(38, 40, 40),
    "alpha-0.4": [(number >= 4, 10 + number % 3) for number in range(40)],
}


class Elements(HTMLParser):
    """Every element of a page with its attributes, in order; void elements of SVG too."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, attribute: str) -> Iterator[str]:
        return (value for _, attributes in self.found if (value := attributes.get(attribute)) is not None)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(report, [str(argument) for argument in arguments])


def written(folder: Path) -> tuple[str, str]:
    """report.md and report.html of the family in `folder`."""
    result = run(folder)
    assert result.exit_code == 0, result.output
    return (folder / "report" / "report.md").read_text(), (folder / "report" / "report.html").read_text()


def table(markdown: str, title: str, number: int = 0) -> dict[str, dict[str, str]]:
    """The table of this title, of several the one of this number: row to header to cell."""
    text = markdown.split(f"**{title}")[number + 1]
    lines = [line.strip("| ").split(" | ") for line in text.split("\n\n")[1].splitlines()]
    headers = lines[0]
    return {row[0]: dict(zip(headers, row[1:], strict=True)) for row in lines[2:]}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """report.md and report.html of a family with levels, samples and curves."""
    folder = tmp_path_factory.mktemp("toy")
    measured_family(folder, {"sums": HELD_OUT})
    add_curves(folder, {"step": 1, "accuracy": 0.5, "tokens": 9}, {"step": 2, "accuracy": 0.6, "tokens": 8})
    return written(folder)


def add_curves(folder: Path, *entries: dict[str, float]) -> None:
    file = folder / "work" / "curves" / "alpha-0.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(entries))


def test_the_page_needs_nothing_but_itself(toy: tuple[str, str]) -> None:
    page = toy[1]
    elements = Elements(page)
    assert {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in elements.found} == set()
    targets = [*elements.all("src"), *elements.all("href"), *elements.all("xlink:href")]
    targets += re.findall(r"url\(([^)]*)\)", page)
    assert targets
    assert [target for target in targets if not target.startswith("#")] == []
    assert "@import" not in page


def test_ids_are_unique_and_references_lead_somewhere(toy: tuple[str, str]) -> None:
    page = toy[1]
    elements = Elements(page)
    ids = list(elements.all("id"))
    assert len(ids) == len(set(ids))
    used = [*elements.all("href"), *elements.all("xlink:href"), *re.findall(r"url\(([^)]*)\)", page)]
    assert {target.removeprefix("#") for target in used} <= set(ids)
    assert set(elements.all("aria-labelledby")) <= set(ids)


def test_pictures_and_tables_can_be_read_aloud(toy: tuple[str, str]) -> None:
    elements = Elements(toy[1])
    pictures = [attributes for tag, attributes in elements.found if tag == "svg"]
    assert len(pictures) == 5  # accuracy against tokens, levels, budgets, lengths, training
    assert all(picture["role"] == "img" for picture in pictures)
    assert "alpha-0.4 90.0 % at 11.0 tokens" in str(pictures[0]["aria-label"])
    headers = [attributes for tag, attributes in elements.found if tag == "th"]
    assert {header["scope"] for header in headers} == {"col", "row"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(toy: tuple[str, str], scheme: str) -> None:
    rules = re.findall(r":root \{([^}]*)\}", toy[1])[scheme == "dark"]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", rules))
    pairs = [(text, ground) for text in ("ink", "soft", "link") for ground in ("paper", "band")]
    # WCAG 2.2, 1.4.3: 4.5 for text
    assert [pair for pair in pairs if contrast(colours[pair[0]], colours[pair[1]]) < 4.5] == []


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of relative luminances."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_figures_are_the_familys(toy: tuple[str, str]) -> None:
    # 36 of 40 at 50 tokens; 38 at 40: 80 % of the tokens; 36 at 11 on average: 22 %, beaten by none.
    rows = table(toy[0], "Accuracy and tokens.")
    front, share = "on the Pareto front", "of base's"
    base, careful, terse = rows["base"], rows["alpha-0"], rows["alpha-0.4"]
    assert (base["accuracy %"][:4], base[share], base[front]) == ("90.0", "100%", "dominated by alpha-0")
    assert (careful["accuracy %"][:4], careful[share], careful[front]) == ("95.0", "80%", "yes")
    assert (terse["accuracy %"][:4], terse["tokens"][:4], terse[share], terse[front]) == (
        "90.0",
        "11.0",
        "22%",
        "yes",
    )


def test_tiers_are_compared_with_the_reference_problem_by_problem(toy: tuple[str, str]) -> None:
    rows = table(toy[0], "Paired tests against base.")
    # alpha-0 alone is right on 36 and 37; alpha-0.4 on 36 to 39, the base alone on 0 to 3; nothing beyond chance.
    assert (rows["alpha-0"]["better / worse"], rows["alpha-0"]["p"]) == ("2 / 0", "1")
    assert (rows["alpha-0.4"]["accuracy, points"][:3], rows["alpha-0.4"]["better / worse"]) == ("0.0", "4 / 4")
    assert list(rows)[2:] == ["alpha-0 : alpha-0.4", "alpha-0 : alpha-0.4, level 2"]


def test_p_values_are_corrected_for_all_tests_of_the_report(tmp_path: Path) -> None:
    half, better = right(20, 40, 50), right(30, 40, 50)
    measured_family(tmp_path, {name: {"base": half, "alpha-0": better, "alpha-0.4": half} for name in ("one", "two")})
    markdown, _ = written(tmp_path)
    # 10 problems differ: p = 2 / 2^10. On each of two data sets two rows, and the thorough tier against the tersest
    # on all problems and on the hardest level, of accuracy and of tokens: 16 tests, and four of them at that p.
    for number in (0, 1):
        rows = table(markdown, "Paired tests against base.", number)
        assert [rows[row]["p"] for row in ("alpha-0", "alpha-0 : alpha-0.4", "alpha-0.4")] == ["0.031", "0.031", "1"]


def test_accuracy_and_tokens_together_are_in_the_report(toy: tuple[str, str]) -> None:
    # alpha-0 against the base: 1 - 40 / 50 = .2 and 3 (38 / 36 - 1) = .167; 40 / .95 tokens a right answer.
    row = table(toy[0], "Accuracy and tokens together.")["alpha-0"]
    assert (row["AES"][:4], row["tokens a right answer"][:5]) == ("0.37", "42.1 ")
    assert "REG" not in row
    assert "AES with 1/3/5 against base" in toy[0]
    assert "hypervolume" in toy[0]


def test_accuracy_over_budgets_is_in_the_report_with_intervals(toy: tuple[str, str]) -> None:
    # Cut off at 64 tokens: at 8 nobody is done; at 16 alpha-0.4 is, in 10 to 12, 36 of 40; the base needs 50.
    rows = table(toy[0], "At fixed budgets.")
    assert list(rows["base"]) == ["4 tokens", "8 tokens", "16 tokens", "32 tokens"]
    assert set(rows["base"].values()) == {"0.0 (0.0 to 8.8)"}  # Wilson's of 0 of 40
    assert (rows["alpha-0.4"]["8 tokens"][:3], rows["alpha-0.4"]["16 tokens"]) == ("0.0", "90.0 (76.9 to 96.0)")


def test_ways_of_working_are_told_of_the_built_in_problems(tmp_path: Path) -> None:
    at_once, worked = r"</think>\\boxed{1}", r"<think>1 + 0 = 1\n</think>\\boxed{1}"
    dataset = "arithmetic-heldout"
    measured_family(tmp_path, {dataset: HELD_OUT})
    for file in (tmp_path / "work" / "samples").glob("*.jsonl"):
        header, *lines = file.read_text().splitlines()
        terse = file.name.startswith("alpha-0.4")  # which works sums of level 2
        written_so = [
            line.replace('"response": "1"', f'"response": "{at_once if terse and index % 2 == 0 else worked}"')
            for index, line in enumerate(lines)
        ]
        file.write_text("\n".join([header, *written_so, ""]))
    rows = table(written(tmp_path)[0], "Ways of working.")
    assert rows == {
        "base, lines of 1": {"level 1": "100 (84 to 100)", "level 2": "100 (84 to 100)"},
        "alpha-0, lines of 1": {"level 1": "100 (84 to 100)", "level 2": "100 (84 to 100)"},
        "alpha-0.4, at once": {"level 1": "100 (84 to 100)", "level 2": "0 (0 to 16)"},
        "alpha-0.4, lines of 1": {"level 1": "0 (0 to 16)", "level 2": "100 (84 to 100)"},
    }
    figures = json.loads((tmp_path / "report" / "report.json").read_text())["datasets"][dataset]
    assert figures["rows"]["alpha-0.4"]["ways"]["at once"]["1"] == {"mean": 1.0, "low": 0.838875, "high": 1.0}
    assert figures["hypervolume"]["low"] < figures["hypervolume"]["mean"]
    assert figures["rows"]["alpha-0"]["efficiency"]["aes"]["mean"] == pytest.approx(0.2 + 3 * (38 / 36 - 1), abs=1e-5)
    assert figures["rows"]["alpha-0"]["samples"] is None


def test_the_gap_to_a_published_frontier_is_in_the_report_when_it_is_given(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    frontier = tmp_path / "published.json"
    frontier.write_text(json.dumps({"Sums": [[0, 64], [1, 1]], "other": [[0, 1], [0, 0]]}))
    assert run(tmp_path, "--frontier", frontier).exit_code == 0
    markdown = (tmp_path / "report" / "report.md").read_text()
    # Always right, up to the 64 tokens at which responses are cut off: 64, less 38 of 40 from 40 tokens on, 22.8.
    assert table(markdown, "Accuracy and tokens together.")["alpha-0"]["REG"].startswith("41.2 (")
    assert "REG: area below published" in markdown
    assert ">published frontier</text>" in (tmp_path / "report" / "report.html").read_text()


def test_a_frontier_of_other_data_sets_is_one_clear_message(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    frontier = tmp_path / "published.json"
    frontier.write_text(json.dumps({"aime24": [[0, 64], [1, 1]]}))
    result = run(tmp_path, "--frontier", frontier)
    assert result.exit_code == 1
    assert "has frontiers on aime24, and toy was measured on sums" in result.output


def test_efforts_and_their_tiers_are_in_the_page_and_the_text(toy: tuple[str, str]) -> None:
    assert f"| effort | {' | '.join(EFFORTS)} |" in toy[0]
    assert f"| tier | {' | '.join('base' for _ in EFFORTS)} |" in toy[0]
    assert "savings are counted against base" in toy[0]
    assert re.search(r'<th scope="col">xhigh</th>.*<th scope="row">tier</th><td>base</td>', toy[1], re.DOTALL)


def test_a_report_says_of_foreign_tiers_only_what_is_known(toy: tuple[str, str]) -> None:
    assert "Not trained here: alpha-0, alpha-0.4; their alphas are what family.json says." in toy[0]
    assert "reinforcement learning" not in toy[0] + toy[1]


def test_every_picture_is_a_file_that_report_md_shows(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    add_curves(tmp_path, {"step": 1, "accuracy": 0.5, "tokens": 9})
    markdown, _ = written(tmp_path)
    files = sorted(path.name for path in (tmp_path / "report").glob("*.png"))
    assert files == ["accuracy-tokens.png", "budgets.png", "lengths.png", "levels.png", "training.png"]
    for file in files:
        assert f"]({file})" in markdown
        assert (tmp_path / "report" / file).read_bytes().startswith(b"\x89PNG")


def test_problems_without_levels_have_no_picture_of_levels(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT}, levels=("",))
    markdown, page = written(tmp_path)
    assert not (tmp_path / "report" / "levels.png").exists()
    assert "level" not in page
    assert "hardest" not in markdown


def test_a_family_without_samples_says_what_is_missing(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT}, keep_samples=False)
    markdown, _ = written(tmp_path)
    assert "The responses were not found" in markdown
    assert "Paired" not in markdown
    assert not (tmp_path / "report" / "lengths.png").exists()


def test_samples_of_another_measurement_are_not_taken_for_these(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    for file in (tmp_path / "work" / "samples").glob("*.jsonl"):
        file.write_text(file.read_text().replace('"tokens": 10,', '"tokens": 11,'))
    markdown, page = written(tmp_path)
    # The means of alpha-0.4 are other ones then; the rest still fits.
    assert list(table(markdown, "Paired tests against base.")) == ["alpha-0"]
    assert "alpha-0: 38 right, 2 wrong" in page
    assert "alpha-0.4: 36 right" not in page


def test_tiers_that_were_asked_different_questions_are_not_paired(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    for file in (tmp_path / "work" / "samples").glob("alpha-0.4*.jsonl"):
        file.write_text(file.read_text().replace('"question 3"', '"another question"'))
    markdown, _ = written(tmp_path)
    assert list(table(markdown, "Paired tests against base.")) == ["alpha-0"]


def test_samples_in_another_folder_are_found_when_named(tmp_path: Path) -> None:
    measured_family(tmp_path / "toy", {"sums": HELD_OUT})
    (tmp_path / "toy" / "work" / "samples").rename(tmp_path / "elsewhere")
    assert run(tmp_path / "toy", "--samples", tmp_path / "elsewhere").exit_code == 0
    assert (tmp_path / "toy" / "report" / "lengths.png").exists()


def test_several_data_sets_are_put_together_both_ways(tmp_path: Path) -> None:
    short = {"base": right(3, 4, 100), "alpha-0.1": right(3, 4, 50)}
    long = {"base": right(2, 4, 300), "alpha-0.1": right(2, 4, 270)}
    measured_family(tmp_path, {"short": short, "AIME 24": long})
    markdown, _ = written(tmp_path)
    # Tokens: (50 + 270) / (100 + 300) = 80 %; (50 / 100 + 270 / 300) / 2 = 70 %.
    row = table(markdown, "All data sets together.")["alpha-0.1"]
    assert (row["tokens, normalised_sum"][:4], row["tokens, mean_of_ratios"][:4]) == ("80.0", "70.0")
    assert (tmp_path / "report" / "accuracy-tokens-aime-24.png").exists()


def test_tokens_of_right_and_wrong_responses_are_known_from_samples_too(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": {"base": [(True, 10), (True, 30), (False, 50)]}})
    document = json.loads((tmp_path / "family.json").read_text())
    for field in ("tokens_correct", "tokens_wrong"):
        document["tiers"][0]["evaluations"][0].pop(field)
    (tmp_path / "family.json").write_text(json.dumps(document))
    row = table(written(tmp_path)[0], "Accuracy and tokens.")["base"]
    assert (row["right"], row["wrong"]) == ("20.0", "50.0")


def test_a_tier_that_another_beats_is_told_apart_without_colour(toy: tuple[str, str]) -> None:
    assert "base (dominated)" in toy[1]
    assert "alpha-0 (dominated)" not in toy[1]


def test_one_single_tier_has_a_report(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": {"base": right(3, 4, 20)}})
    markdown, _ = written(tmp_path)
    assert "1 tier over one base model." in markdown
    assert table(markdown, "Accuracy and tokens.")["base"]["on the Pareto front"] == "yes"


def test_curves_show_what_was_logged_and_say_what_stayed_at_0(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    entry = {"accuracy": 0.5, "tokens": 9, "truncated": 0.0, "kl": 0.1, "clipped": 0.0}
    add_curves(tmp_path, {"step": 1, **entry}, {"step": 2, **entry, "accuracy": 0.6})
    markdown, page = written(tmp_path)
    assert "0 at every step, so not drawn: truncated, clipped ratios." in markdown
    assert "KL to the base" in page
    assert "entropy" not in page


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    assert written(tmp_path) == written(tmp_path)


def test_the_shipped_familys_report_is_small(tmp_path: Path) -> None:
    result = run(TINY, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "report.html") in result.output
    assert (tmp_path / "report.html").stat().st_size < 600_000
    made = "Trained here by reinforcement learning, alpha-0, alpha-0.15, alpha-0.3, alpha-0.35, alpha-0.4, alpha-0.8;"
    assert f"{made} the reward is correct × (1 − alpha × sigmoid" in (tmp_path / "report.md").read_text()


def test_a_tier_that_was_not_measured_says_so_in_its_place(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    document = json.loads((tmp_path / "family.json").read_text())
    document["tiers"][1].pop("evaluations")
    (tmp_path / "family.json").write_text(json.dumps(document))
    markdown, page = written(tmp_path)
    row = table(markdown, "Accuracy and tokens.")["alpha-0"]
    assert list(row.values()) == ["0", "not measured", *["-"] * 7]
    assert ">alpha-0</text>" not in page.split("</svg>")[0]


def test_a_family_that_was_never_measured_is_one_clear_message(tmp_path: Path) -> None:
    measured_family(tmp_path, {"sums": {"base": right(1, 1, 1)}})
    document = json.loads((tmp_path / "family.json").read_text())
    document["tiers"][0].pop("evaluations")
    (tmp_path / "family.json").write_text(json.dumps(document))
    result = run(tmp_path)
    assert result.exit_code == 1
    assert "no tier of toy was ever measured" in result.output
    assert "alphatier evaluate" in result.output


@pytest.mark.parametrize("place", ["work/samples/x.jsonl", "work/curves/alpha-0.json"])
def test_a_broken_file_is_one_clear_message(tmp_path: Path, place: str) -> None:
    measured_family(tmp_path, {"sums": HELD_OUT})
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("no JSON\n")
    result = run(tmp_path)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert place in result.output


def test_help_loads_neither_torch_nor_matplotlib() -> None:
    script = (
        "import sys, alphatier_training.commands;"
        "print({'torch', 'matplotlib', 'scipy', 'numpy', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
