"""The command line of the brownout benchmark; `--help` says what each option does."""

from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from alphatier_models import load_family
from alphatier_server.gateway.brownout import Brownout, Limits
from alphatier_server.settings.brownout import BrownoutSettings
from alphatier_training.routing.knowing import read_known
from benchmarks.brownout import figures as goals
from benchmarks.brownout.figures import Figures, Step, bound, figures, saturating, slot_seconds, step_figures
from benchmarks.brownout.live import Live
from benchmarks.brownout.simulate import House, Seen, Tiers, simulate
from benchmarks.deadlines import SLOTS, SPEED
from benchmarks.paced_engine import Speed

FAMILY = Path(__file__).parents[3] / "models" / "tiny"
LOADS = (1.0, 1.5, 2.0, 3.0)
STEP = 0.5, 2.0
Load = Callable[[float], float]
"""By time, in seconds; 1 saturates the thorough tier."""
JUMP, END, WHOLE = 30.0, 60.0, 130.0


@click.group()
def main() -> None:
    """Brownout at 1 to 3 times the load that saturates the thorough tier, against the best mix of tiers there is."""


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.argument("samples", type=click.Path(exists=True, path_type=Path)),
        click.option("--family", type=click.Path(exists=True, path_type=Path), default=FAMILY),
        click.option("--faster", default=4.0, show_default=True, help="Times faster than the measured engine."),
        click.option("--objective", default=6.0, show_default=True, help="Of a full engine's time for an answer."),
        click.option("--loads", default=",".join(map(str, LOADS)), show_default=True, help="With commas."),
    ):
        command = option(command)
    return command


@main.command("simulate")
@_shared
@click.option("--engines", default=8, show_default=True)
@click.option("--gateways", default=2, show_default=True)
@click.option("--seconds", default=150.0, show_default=True, help="Of each load.")
@click.option("--warm", default=30.0, show_default=True, help="Seconds of them that do not count.")
@click.option("--seed", default=0, show_default=True)
@click.option("--step/--no-step", default=True, help="Whether to show a load that jumps too. [default: yes]")
def simulated(
    samples: Path,
    family: Path,
    faster: float,
    objective: float,
    loads: str,
    engines: int,
    gateways: int,
    seconds: float,
    warm: float,
    seed: int,
    step: bool,
) -> None:
    """In the simulator, with the gateway's own controller."""
    setup = Setup(read_tiers(samples, family), faster, objective, engines)
    table = setup.table(f"simulated: {engines} engines, {gateways} gateways")
    for load in map(float, loads.split(",")):
        thorough = setup.simulated(constant(load), seconds, 0, seed)
        seen = setup.simulated(constant(load), seconds, gateways, seed)
        without = figures(thorough, setup.objective, warm, seconds).late
        setup.row(table, load, figures(seen, setup.objective, warm, seconds), without)
    Console(width=170).print(table)
    if step:
        seen = setup.simulated(_step, WHOLE, gateways, seed)
        setup.tell_step(step_figures(seen, setup.objective, JUMP, END))


@main.command("live")
@_shared
@click.option("--seconds", default=90.0, show_default=True, help="Of each load.")
@click.option("--warm", default=20.0, show_default=True, help="Seconds of them that do not count.")
@click.option(
    "--model", default="tiny", show_default=True, help="What clients ask for; tiny:auto goes by the router."
)
def lived(
    samples: Path, family: Path, faster: float, objective: float, loads: str, seconds: float, warm: float, model: str
) -> None:
    """Before a real gateway and an engine of that speed, beside what the simulator says of the same."""
    setup = Setup(read_tiers(samples, family), faster, objective, 1)
    live = Live(
        samples, family, setup.tiers, setup.house, setup.objective, saturating(setup.tiers, setup.house), model
    )
    table = setup.table("before the gateway, and simulated")
    for load in map(float, loads.split(",")):
        same = constant(load)
        measured = live.run(same, seconds, brownout=False) if load == 2 else setup.simulated(same, seconds, 0, 0)
        without = figures(measured, setup.objective, warm, seconds).late
        seen = live.run(same, seconds)
        setup.row(table, load, figures(seen, setup.objective, warm, seconds), without)
        seen = setup.simulated(same, seconds, 1, 0)
        setup.row(table, load, figures(seen, setup.objective, warm, seconds), without, kind="simulated")
    Console(width=170).print(table)
    setup.tell_step(step_figures(live.run(_step, WHOLE), setup.objective, JUMP, END))


def constant(load: float) -> Load:
    """The same all the time."""
    return lambda _now: load


def _step(now: float) -> float:
    return STEP[JUMP <= now < END]


class Setup:
    """Tiers, engines, and how both are driven and shown."""

    def __init__(self, tiers: Tiers, faster: float, objective: float, engines: int) -> None:
        speed = Speed(*(seconds / faster for seconds in SPEED))
        self.tiers = tiers
        service = float(slot_seconds(tiers, House(speed, SLOTS))[0])
        self.service = service
        self.objective = objective * service
        self.house = House(speed, SLOTS, engines, patience=self.objective)

    def simulated(self, load: Load, seconds: float, gateways: int, seed: int) -> Seen:
        """Without brownout and without shedding where there are no `gateways`."""
        settings = BrownoutSettings(seconds=self.objective)
        begin, full = settings.begin * self.objective, settings.full * self.objective
        limits = Limits(begin, full, settings.back_seconds, settings.dwell_seconds)
        rate = saturating(self.tiers, self.house)
        house = self.house if gateways else House(self.house.speed, SLOTS, self.house.engines)
        controllers: list[Brownout | None] = [None]
        if gateways:
            controllers = [Brownout(limits) for _ in range(gateways)]
        tick = house.speed.step(1) / 2
        return simulate(self.tiers, house, lambda now: rate * load(now), seconds, controllers, seed=seed, tick=tick)

    def table(self, title: str) -> Table:
        speed, goal = self.house.speed, goals
        per_second = saturating(self.tiers, self.house)
        table = Table(
            title=f"{title}; a step {1000 * speed.base:.0f} ms + {1000 * speed.each:.2f} ms for each of {SLOTS}\n"
            f"{self.tiers.names[0]}: {per_second:.1f} a second are 1x, {self.service:.2f} s each; "
            f"objective {self.objective:.1f} s"
        )
        for column in (
            "load",
            "",
            "shedding",
            "bound",
            "goodput",
            f"of bound (>= {goal.OF_BOUND:.0%})",
            f"loss (1x: +-{goal.LOSS} points)",
            "late",
            f"thorough late (2x: <= {goal.VIOLATIONS} of it)",
            "level",
            "apart",
            f"reversals/min (<= {goal.REVERSALS:g})",
        ):
            table.add_column(column, justify="right")
        return table

    def row(self, table: Table, load: float, found: Figures, without: float, kind: str = "") -> None:
        """Goodput is right answers in time for each request at 1x."""
        most = load * bound(self.tiers, self.house, load)
        table.add_row(
            f"{load:g}x",
            kind,
            f"{self.tiers.chances[0] * min(1.0, load):.3f}",
            f"{most:.3f}",
            f"{load * found.goodput:.3f}",
            f"{load * found.goodput / most:.1%}",
            f"{found.loss:.2f}",
            f"{found.late:.2%}",
            f"{without:.1%}",
            f"{found.level:.2f}",
            f"{found.apart:.2f}",
            f"{found.reversals:.1f}",
        )

    def tell_step(self, step: Step) -> None:
        regained = max(goals.REGAINED, 2 * self.service)
        print(f"{STEP[0]:g}x, for {END - JUMP:g} s {STEP[1]:g}x, then {STEP[0]:g}x: {step.late:.2%} late")
        print(f"objective regained after {step.regained:.0f} s (goal: {regained:.1f})")
        print(f"full quality {step.back:.1f} s after the end (goal: {goals.FULL_QUALITY:g})")


def read_tiers(samples: Path, family: Path) -> Tiers:
    """Of the family's tiers those that were asked, the most accurate first."""
    known = read_known(load_family(family, checksums=False), [samples]).by_accuracy()
    return Tiers(known.tiers, np.asarray(known.right), np.asarray(known.tokens))
