"""`alphatier family new`, `add`, `remove`, `rename`, `efforts`, `default`: a family of weights that exist already."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from peft import PeftModel
from transformers import AutoModelForCausalLM

from alphatier_models import EFFORTS, Family, find_problems, load_family
from alphatier_models.cli import main
from alphatier_models.files import change_family
from support.small_llama import small_llama


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_llama(tmp_path_factory.mktemp("made"))


@pytest.fixture
def weights(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "weights"))


def run(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["family", *map(str, arguments)], input=typed)


def two_tiers(weights: Path, out: Path, *options: object) -> Result:
    tiers = ["--tier", f"alpha-0={weights / 'base-0'}", "--tier", f"alpha-0.4={weights / 'base-1'}"]
    return run("new", out, "--base", weights / "base", *tiers, *options)


@pytest.fixture
def family(made: Path, tmp_path: Path) -> Path:
    result = two_tiers(made, tmp_path / "own")
    assert result.exit_code == 0, result.output
    return tmp_path / "own"


def refused(result: Result, words: str) -> None:
    """One line that says what is wrong, and no traceback."""
    assert result.exit_code == 1, result.output
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


# --- new --------------------------------------------------------------------------------------------------


def test_adapters_of_plain_peft_become_a_family_that_loads(family: Path) -> None:
    loaded = load_family(family)
    assert [(tier.name, tier.layout, tier.alpha) for tier in loaded.tiers] == [
        ("base", "base", None),
        ("alpha-0", "adapter", 0.0),
        ("alpha-0.4", "adapter", 0.4),
    ]
    base = AutoModelForCausalLM.from_pretrained(family / "base")
    ids = torch.tensor([[3, 4, 5]])
    before = base(ids).logits.detach().clone()
    tier = PeftModel.from_pretrained(base, str(family / "alpha-0.4"))
    assert not torch.allclose(tier(ids).logits, before)


def test_more_effort_leads_to_less_penalty_and_at_last_to_the_base(family: Path) -> None:
    loaded = load_family(family)
    assert [loaded.efforts[effort] for effort in EFFORTS] == ["alpha-0.4"] * 3 + ["alpha-0"] * 2 + ["base"] * 2
    assert (loaded.default_tier, loaded.reference_tier) == ("alpha-0", "base")


def test_the_vocabulary_tells_how_thinking_is_marked(family: Path, made: Path, tmp_path: Path) -> None:
    reasoning = load_family(family).reasoning
    assert reasoning is not None
    assert (reasoning.start, reasoning.vllm_parser) == ("<think>", "deepseek_r1")
    assert two_tiers(made, tmp_path / "plain", "--reasoning", "none").exit_code == 0
    assert load_family(tmp_path / "plain").reasoning is None


def test_options_say_alphas_efforts_default_and_name(made: Path, tmp_path: Path) -> None:
    options = ("--alpha", "alpha-0=0.05", "--effort", "max=alpha-0", "--default", "base", "--name", "mine", "--json")
    result = two_tiers(made, tmp_path / "own", *options)
    assert result.exit_code == 0, result.output
    loaded = load_family(tmp_path / "own")
    assert json.loads(result.stdout) == loaded.model_dump(mode="json", exclude_none=True)
    assert (loaded.name, loaded.tier("alpha-0").alpha) == ("mine", 0.05)
    assert (loaded.efforts["max"], loaded.default_tier) == ("alpha-0", "base")


def test_the_interview_asks_for_what_no_option_gave(made: Path, tmp_path: Path) -> None:
    tiers = ["--tier", f"terse={made / 'base-1'}"]
    #        name, alpha, parser, seven efforts, default; an empty line takes what is proposed
    answers = ["mine", "0.3", "", "terse", "", "", "", "", "", "base", "terse"]
    arguments = ("new", tmp_path / "own", "--base", made / "base", *tiers, "--ask")
    result = run(*arguments, typed="\n".join(answers) + "\n")
    assert result.exit_code == 0, result.output
    loaded = load_family(tmp_path / "own")
    assert (loaded.name, loaded.tier("terse").alpha, loaded.default_tier) == ("mine", 0.3, "terse")
    assert (loaded.efforts["none"], loaded.efforts["max"]) == ("terse", "base")


def test_a_checkpoint_of_the_bases_kind_is_a_tier(made: Path, tmp_path: Path) -> None:
    assert run("new", tmp_path / "own", "--base", made / "base", "--tier", f"full={made / 'full'}").exit_code == 0
    tier = load_family(tmp_path / "own").tier("full")
    assert (tier.layout, tier.alpha) == ("checkpoint", None)


def test_links_cost_no_copy_and_folders_inside_stay(weights: Path) -> None:
    out = weights.parent / "linked"
    assert two_tiers(weights, out, "--link").exit_code == 0
    assert (out / "base").resolve() == weights / "base"
    assert find_problems(out) == []
    assert two_tiers(weights, weights).exit_code == 0  # OUT is the folder that holds them
    assert load_family(weights).tier("alpha-0").path == "base-0"


def spoil(name: str, **changes: object) -> Callable[[Path], None]:
    def change(weights: Path) -> None:
        file = weights / name
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return change


def cut(weights: Path) -> None:
    file = weights / "base-0" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-8])


def retokenise(weights: Path) -> None:
    file = weights / "base-0" / "tokenizer.json"
    file.write_text(file.read_text().replace('"<think>"', '"<ponder>"'))


def retemplate(weights: Path) -> None:
    (weights / "base-0" / "chat_template.jinja").write_text("other")


def as_pickle(weights: Path) -> None:
    (weights / "base-0" / "adapter_model.safetensors").rename(weights / "base-0" / "adapter_model.bin")


def of_a_wider_base(weights: Path) -> None:
    shutil.rmtree(weights / "base-0")
    (weights / "wider-0").rename(weights / "base-0")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (of_a_wider_base, "down_proj is 16 x 32 in the base, 32 x 32 for the adapter"),
        (cut, "it is cut short"),
        (as_pickle, "Save the weights as safetensors"),
        (spoil("base-0/adapter_config.json", r=8), "rank 4 and 4, adapter_config.json says 8"),
        (spoil("base-0/adapter_config.json", peft_type="IA3"), "of the kind 'IA3'"),
        (spoil("base-0/adapter_config.json", use_dora=True), "DoRA"),
        (spoil("base-0/adapter_config.json", target_modules=["q_proj"]), "its target_modules do not name"),
        (retokenise, "its tokenizer is not the base's"),
        (retemplate, "its chat template is not the base's"),
        (lambda weights: shutil.rmtree(weights / "base-0"), "There is no folder"),
        (lambda weights: (weights / "base-0" / "adapter_config.json").unlink(), "holds no model"),
    ],
)
def test_what_is_not_the_bases_is_refused_and_nothing_is_written(
    weights: Path, change: Callable[[Path], object], words: str
) -> None:
    change(weights)
    refused(two_tiers(weights, weights.parent / "own"), words)
    assert not (weights.parent / "own").exists()


def test_what_trainers_leave_in_a_tokenizer_is_no_mismatch(weights: Path) -> None:
    spoil("base-0/tokenizer.json", padding={"strategy": "BatchLongest"})(weights)
    assert two_tiers(weights, weights.parent / "own").exit_code == 0


def test_another_template_is_accepted_when_asked_to_and_said(weights: Path) -> None:
    retemplate(weights)
    result = two_tiers(weights, weights.parent / "own", "--accept-mismatch")
    assert result.exit_code == 0
    assert "Accepted: alpha-0: its chat template is not the base's." in result.stderr


@pytest.mark.parametrize(
    ("tier", "options", "words"),
    [
        ("alpha-0=base-0", ("--alpha", "alpha-9=0.1"), "alpha-9: there is no tier of that name"),
        ("alpha-0=base-0", ("--alpha", "alpha-0=1.5"), "alpha-0: alpha: Input should be less than 1"),
        ("alpha-0=base-0", ("--effort", "turbo=alpha-0"), "'turbo' is no effort"),
        ("alpha-0=base-0", ("--effort", "low=alpha-9"), "efforts.low: 'alpha-9' is no tier of this family"),
        ("alpha-0=base-0", ("--default", "alpha-9"), "default_tier: 'alpha-9' is no tier"),
        ("alpha-0=base-0", ("--name", "My Own"), "name: String should match"),
        ("base=base-0", (), "two tiers are called 'base'"),
        ("Alpha=base-0", (), "Alpha: name: String should match"),
        ("auto=base-0", (), "reserved"),
        ("base-0", (), "Write it once as NAME=VALUE"),
    ],
)
def test_options_that_cannot_be_meant_are_one_line(
    made: Path, tmp_path: Path, tier: str, options: tuple[str, ...], words: str
) -> None:
    text = tier.replace("=", f"={made}/")
    refused(run("new", tmp_path / "own", "--base", made / "base", "--tier", text, *options), words)
    assert not (tmp_path / "own").exists()


def test_a_family_that_exists_is_not_overwritten(family: Path, made: Path) -> None:
    before = (family / "family.json").read_bytes()
    refused(two_tiers(made, family), "exists already")
    assert (family / "family.json").read_bytes() == before


def test_what_was_copied_before_a_fault_is_removed_again(made: Path, tmp_path: Path) -> None:
    (tmp_path / "own" / "alpha-0.4").mkdir(parents=True)
    refused(two_tiers(made, tmp_path / "own"), "alpha-0.4 exists already and is not overwritten")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["alpha-0.4"]


# --- changes ----------------------------------------------------------------------------------------------


def test_a_tier_is_added_checked_and_led_to(family: Path, made: Path) -> None:
    result = run("add", family, f"alpha-0.2={made / 'full'}")
    assert result.exit_code == 0, result.output
    assert run("efforts", family, "low=alpha-0.2", "medium=alpha-0.2").exit_code == 0
    assert run("default", family, "alpha-0.2").exit_code == 0
    loaded = load_family(family)
    assert (loaded.tier("alpha-0.2").alpha, loaded.efforts["medium"], loaded.default_tier) == (
        0.2,
        *["alpha-0.2"] * 2,
    )


def test_a_tier_that_is_renamed_keeps_its_place(family: Path) -> None:
    assert run("rename", family, "alpha-0.4", "terse").exit_code == 0
    loaded = load_family(family)
    assert (loaded.efforts["low"], loaded.tier("terse").path) == ("terse", "alpha-0.4")


def test_a_trial_follows_its_tiers_names_and_ends_with_them(family: Path) -> None:
    document = json.loads((family / "family.json").read_text())
    trial = {"tier": "alpha-0", "version": "alpha-0.4", "share": 0.1}
    (family / "family.json").write_text(json.dumps({**document, "canary": trial}))
    assert run("rename", family, "alpha-0.4", "terse").exit_code == 0
    assert (canary := load_family(family).canary) is not None
    assert (canary.tier, canary.version) == ("alpha-0", "terse")
    assert run("remove", family, "terse", "--to", "alpha-0").exit_code == 0
    assert load_family(family).canary is None


def test_what_led_to_a_tier_leads_to_its_heir(family: Path) -> None:
    shutil.rmtree(family / "alpha-0.4")  # a family that lost its files can still be mended
    assert run("remove", family, "alpha-0.4", "--to", "alpha-0").exit_code == 0
    assert load_family(family).efforts["none"] == "alpha-0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("remove", "alpha-0"), "the effort medium, the effort high, the default lead to alpha-0"),
        (("remove", "alpha-9"), "'alpha-9' is no tier of own; the tiers are base, alpha-0, alpha-0.4"),
        (("remove", "alpha-0", "--to", "alpha-0"), "is the tier to remove"),
        (("rename", "alpha-0", "alpha-0.4"), "has a tier alpha-0.4 already"),
        (("efforts", "low=alpha-9"), "'alpha-9' is no tier"),
        (("efforts", "low"), "NAME=VALUE"),
        (("default", "alpha-9"), "'alpha-9' is no tier"),
    ],
)
def test_a_change_that_is_refused_changes_nothing(family: Path, arguments: tuple[str, ...], words: str) -> None:
    before = (family / "family.json").read_bytes()
    refused(run(arguments[0], family, *arguments[1:]), words)
    assert (family / "family.json").read_bytes() == before


def test_a_name_that_the_schema_refuses_is_not_written(family: Path) -> None:
    refused(run("rename", family, "alpha-0", "auto"), "reserved")
    assert find_problems(family) == []


def test_a_tier_of_another_base_is_not_added(family: Path, made: Path) -> None:
    refused(run("add", family, f"wide={made / 'wider-0'}"), "in the base")
    assert sorted(path.name for path in family.iterdir()) == ["alpha-0", "alpha-0.4", "base", "family.json"]


def test_two_changes_of_one_family_take_turns(family: Path) -> None:
    def change(before: Family) -> Family:
        other = os.open(family, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(other)
        return before

    change_family(family, change)
