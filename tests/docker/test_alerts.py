"""docker/alerts.yaml: each rule fires when its promise is broken, and is silent when it is kept."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from alphatier_server.metrics.definitions import Metrics
from support.processes import require

FILE = Path(__file__).parents[2] / "docker" / "alerts.yaml"
EVERY = [rule for group in yaml.safe_load(FILE.read_text())["groups"] for rule in group["rules"]]
RULES = {rule["alert"]: rule for rule in EVERY if "alert" in rule}


class Case(NamedTuple):
    """Series by the sum that they grow by in a minute (gauges: `=` what they are), and the alert's labels."""

    broken: Mapping[str, str]
    kept: Mapping[str, str]
    labels: Mapping[str, str]


TIER = {"family": "tiny", "tier": "alpha-0.4"}
OF = 'family="tiny",tier="alpha-0.4"'
AUTO = f'alphatier_decisions_total{{{OF},decision="auto"}}'
UNLIKE = 'alphatier_auto_unlike_total{family="tiny"}'
OK, LATE = (
    f'alphatier_requests_total{{{OF},decision="{decision}",outcome="{outcome}"}}'
    for decision, outcome in (("default", "ok"), ("deadline", "timeout"))
)
TIMED = f"alphatier_deadline_duration_ratio_count{{{OF}}}"
CUT = f"alphatier_cut_off_answers_total{{{OF}}}"
LEVEL, TURNS = (f'alphatier_brownout_{name}{{family="tiny",instance="a"}}' for name in ("level", "reversals_total"))
SAME, DIFFERENT = (
    f'alphatier_shadow_answers_total{{{OF},reference="base",outcome="{outcome}"}}' for outcome in ("agree", "differ")
)
FAILED = f'alphatier_requests_total{{{OF},decision="default",outcome="engine_error"}}'
WITHIN, BEGUN = (f"alphatier_time_to_first_answer_token_seconds_{what}" for what in ('bucket{le="10.0"}', "count"))
SLID = f'alphatier_decisions_total{{{OF},decision="brownout"}}'
UP, UP_TOO = (f'alphatier_replica_up{{replica="{name}"}}' for name in "ab")
CASES = {
    "AlphatierAutoUnlike": Case({AUTO: "100", UNLIKE: "21"}, {AUTO: "100", UNLIKE: "19"}, {"family": "tiny"}),
    "AlphatierCutOff": Case({OK: "100", CUT: "6"}, {OK: "100", CUT: "4"}, TIER),
    "AlphatierDeadlinesMissed": Case({TIMED: "100", LATE: "6"}, {TIMED: "100", LATE: "4"}, {"family": "tiny"}),
    "AlphatierBrownoutLasts": Case({LEVEL: "=.1"}, {LEVEL: "=0"}, {"family": "tiny", "instance": "a"}),
    "AlphatierBrownoutSwings": Case({TURNS: "3"}, {TURNS: "2"}, {"family": "tiny", "instance": "a"}),
    "AlphatierShadowDisagrees": Case(
        {SAME: "8", DIFFERENT: "1"}, {SAME: "10", DIFFERENT: "1"}, {**TIER, "reference": "base"}
    ),
    "AlphatierUnanswered": Case({OK: "1000", FAILED: "7"}, {OK: "1000", FAILED: "5"}, {}),
    "AlphatierAnswersBeginLate": Case({BEGUN: "100", WITHIN: "69"}, {BEGUN: "100", WITHIN: "71"}, {}),
    "AlphatierOtherTier": Case({AUTO: "69", SLID: "31"}, {AUTO: "71", SLID: "29"}, {}),
    "AlphatierNoEngine": Case({UP: "=0", UP_TOO: "=0"}, {UP: "=0", UP_TOO: "=1"}, {}),
    "AlphatierEngineDown": Case({UP: "=0", UP_TOO: "=1"}, {UP: "=1", UP_TOO: "=1"}, {"replica": "a"}),
    "AlphatierShedding": Case(
        {'alphatier_requests_shed_total{priority="low"}': "1"},
        {'alphatier_requests_shed_total{priority="low"}': "0"},
        {"priority": "low"},
    ),
    "AlphatierLimitStore": Case(
        {"alphatier_limit_store_failures_total": "1"}, {"alphatier_limit_store_failures_total": "0"}, {}
    ),
    "AlphatierLogLost": Case(
        {"alphatier_log_lines_dropped_total": "1"}, {"alphatier_log_lines_dropped_total": "0"}, {}
    ),
}


def test_every_rule_has_a_case_and_a_page_of_the_runbook() -> None:
    runbook = FILE.with_name("runbook.md").read_text()
    assert list(CASES) == list(RULES)
    assert re.findall("^## (Alphatier.*)", runbook, re.MULTILINE) == list(RULES)


@pytest.mark.parametrize("alert", list(CASES))
def test_a_broken_promise_fires_and_a_kept_one_is_silent(alert: str, tmp_path: Path) -> None:
    broken, kept, labels = CASES[alert]
    rule = RULES[alert]
    expected = {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": rule["annotations"]}
    tests = [_test(alert, broken, [expected]), _test(alert, kept, []), _test(alert, {}, [])]
    file = tmp_path / "tests.yaml"
    file.write_text(json.dumps({"rule_files": [str(FILE)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([require("promtool"), "test", "rules", file], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def _test(alert: str, series: Mapping[str, str], fires: list[dict[str, Any]]) -> dict[str, Any]:
    """After two hours of such traffic; a day's sums are what these two hours were."""
    values = {
        name: f"{grows[1:]}x120" if grows.startswith("=") else f"0+{grows}x120" for name, grows in series.items()
    }
    given = [{"series": name, "values": value} for name, value in values.items()]
    return {"interval": "1m", "input_series": given, "alert_rule_test": [_at("2h", alert, fires)]}


def _at(time: str, alert: str, fires: list[dict[str, Any]]) -> dict[str, Any]:
    return {"eval_time": time, "alertname": alert, "exp_alerts": fires}


def test_every_metric_of_the_rules_exists() -> None:
    named = set(re.findall(r"alphatier_\w+", " ".join(rule["expr"] for rule in EVERY)))
    there = {f.name for f in Metrics().registry.collect()}
    assert {name for name in named if re.sub("_(total|count|bucket)$", "", name) not in there} == set()
