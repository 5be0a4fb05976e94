"""A family's router: what it says of a prompt, which file it refuses, what renaming and retraining tiers change."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphatier_models import FamilyError, load_family, save_family
from alphatier_models.blending.making import copied_family
from alphatier_models.card import files_to_upload
from alphatier_models.editing import renamed
from alphatier_models.routing import Expectation, Router, RouterError, load_router
from alphatier_models.routing.features import NAMES, features
from alphatier_models.routing.router import best
from support.families import small_family
from support.routers import small_router, with_router


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Router:
    return small_router(small_family(tmp_path_factory.mktemp("router") / "toy"))


def test_it_expects_less_of_the_terse_tier_where_a_prompt_is_hard(router: Router) -> None:
    easy, hard = (router.predict(prompt).expectations for prompt in ("2 + 2", "1 + 2 + 3 + 4"))
    assert [round(one.chance, 2) for one in easy] == [0.99, 0.99]
    assert [round(one.chance, 2) for one in hard] == [0.99, 0.5]
    assert [round(one.tokens) for one in hard] == [80, 40]
    assert [round(one.p90) for one in hard] == [120, 60]


@pytest.mark.parametrize(
    ("prompt", "unlike"), [("2 + 2", None), ("Hello!", "numbers"), ("1 " * 11, "numbers"), ("", "numbers")]
)
def test_a_prompt_outside_the_measures_that_were_trained_on_is_unlike(
    router: Router, prompt: str, unlike: str | None
) -> None:
    assert router.predict(prompt).unlike == unlike


@given(st.text(max_size=3000))
def test_any_text_has_measures_chances_and_tokens(text: str) -> None:
    measures, words = features(text)
    assert len(measures) == len(NAMES)
    assert all(measure >= 0 for measure in measures)
    assert len(words) == len(set(words))


@pytest.mark.parametrize("change", [str.upper, lambda text: f"  {text.replace(' ', '   ')} "])
def test_neither_case_nor_spaces_change_what_is_seen(change: object) -> None:
    text = "What is 17 plus 25 minus 8?"
    assert features(change(text)) == features(text)  # type: ignore[operator]


def test_every_script_has_words() -> None:
    assert {"17", "苹", "果", "#2"} & set(features("汤姆有17个苹果")[1]) == {"苹", "果", "#2"}
    assert features("У Тома 17 яблок")[1][:4] == ["у", "тома", "#2", "яблок"]


def test_the_best_is_worth_most_at_the_price_and_the_first_of_those_that_are_worth_the_same() -> None:
    thorough, terse = Expectation("a", 0.99, 80, 80, 90), Expectation("b", 0.97, 40, 40, 50)
    assert best([thorough, terse], price=0.04).tier == "a"  # 99 - 3.2 = 95.8 against 97 - 1.6 = 95.4
    assert best([thorough, terse], price=0.06).tier == "b"  # 94.2 against 94.6
    assert best([thorough, terse], price=0.051).tier == "a"  # 94.92 against 94.96


def test_a_target_finds_its_price_on_the_routers_own_sample(router: Router) -> None:
    assert router.price_for(accuracy_share=0.98) == 0.1  # .98 of .99 = .9702, reached with 60 tokens
    assert router.price_for(accuracy_share=1.0) == 0
    assert router.price_for(tokens=50) == 10
    assert router.price_for(tokens=10) == 10  # nothing reaches it: the fewest


def test_the_file_is_read_back_and_held_against_its_checksum(tmp_path: Path) -> None:
    family = with_router(tmp_path / "toy", small_family(tmp_path / "toy"))
    assert load_router(tmp_path / "toy" / "router.json") == small_router(family)
    (tmp_path / "toy" / "router.json").write_text("{}")
    with pytest.raises(FamilyError, match=r"another checksum than family\.json says\. Train it again"):
        load_family(tmp_path / "toy")
    (tmp_path / "toy" / "router.json").unlink()
    with pytest.raises(FamilyError, match="cannot be read"):
        load_family(tmp_path / "toy")


def test_a_file_with_rows_of_another_length_is_refused(tmp_path: Path) -> None:
    family = small_family(tmp_path / "toy")
    router = small_router(family)
    file = tmp_path / "router.json"
    for change in ({"hidden": ((1.0,),)}, {"shift": (1.0,)}, {"measures": ("x",)}, {"scale": (0.0,) * len(NAMES)}):
        file.write_text(router.model_copy(update=change).model_dump_json())
        with pytest.raises(RouterError, match="other measures of a prompt, or was cut short"):
            load_router(file)


def test_a_renamed_tier_is_still_known_and_one_with_other_weights_is_not(tmp_path: Path) -> None:
    family = with_router(tmp_path / "toy", small_family(tmp_path / "toy"))
    router = load_router(tmp_path / "toy" / "router.json")
    assert router.fits(family) == {"careful": "careful", "terse": "terse"}
    assert router.fits(renamed(family, "terse", "quick")) == {"careful": "careful", "terse": "quick"}
    other = [tier.model_copy(update={"sha256": "0" * 64}) if tier.name == "terse" else tier for tier in family.tiers]
    assert router.fits(family.model_copy(update={"tiers": tuple(other)})) == {"careful": "careful"}
    base = family.base.model_copy(update={"sha256": "0" * 64})
    assert router.fits(family.model_copy(update={"base": base})) == {}


def test_a_copy_and_an_upload_of_the_family_have_its_router(tmp_path: Path) -> None:
    family = with_router(tmp_path / "toy", small_family(tmp_path / "toy"))
    with copied_family(tmp_path / "toy", tmp_path / "copy"):
        pass
    assert load_family(tmp_path / "copy").router == family.router
    assert "router.json" in files_to_upload(family, tmp_path / "toy")


def test_a_router_outside_the_familys_folder_is_refused(tmp_path: Path) -> None:
    family = with_router(tmp_path / "toy", small_family(tmp_path / "toy"))
    assert family.router is not None
    away = family.router.model_copy(update={"path": "../router.json"})
    save_family(family.model_copy(update={"router": away}), tmp_path / "toy")
    with pytest.raises(FamilyError, match="leaves the family's folder"):
        load_family(tmp_path / "toy")
