"""Many runs over one base: variants of a recipe's `rl` section and alphas, with several seeds each, in one table.

    alphas: [0.2, 0.4]
    seeds: [42, 43, 44]
    variants:
      sigmoid: {}
      kimi: {penalty: {kind: min_max}}
      whitened: {advantage: whiten, alphas: [0.2]}

    OUT/base-run/              the recipe's base, and its samples
    OUT/kimi/seed-42/          a run, resumable like any
    OUT/sweep.md, sweep.json, sweep.png   the tables

The alphas of the variants that change nothing else make a curve (the paper's, in the shipped sweeps), and every other
variant is held against it (`variants`); all runs answer the same held-out problems. What not: no training of its own
(`train`), no figures.
"""

import copy
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError
from rich.console import Console

from alphatier_models import EFFORTS, FAMILY_FILE
from alphatier_models.schema import Name
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.sections import Alpha, Section
from alphatier_training.run.folder import RunFolder, replacing
from alphatier_training.run.scheduling import Machine
from alphatier_training.train import Selection, train_family
from alphatier_training.variants import Run


class Sweep(Section):
    """The variants of a recipe."""

    alphas: tuple[Alpha, ...] = Field(min_length=1, description="a tier each, in every variant that names none")
    seeds: tuple[int, ...] = Field((42, 43, 44), min_length=1, description="of prompts and rollouts")
    variants: dict[Name, dict[str, Any]] = Field(
        min_length=1, description="name to changes of the recipe's `rl` section; `alphas` for alphas of its own"
    )

    def curve(self, variants: Sequence[str] = ()) -> tuple[str, ...]:
        """The variants that the others are held against: the named ones, else those that change only alphas.

        Raises:
            TrainingError: there is no such variant.
        """
        for variant in variants:
            if variant not in self.variants:
                known = ", ".join(self.variants)
                raise TrainingError(f"--curve {variant}: there is no such variant; there are {known}.")
        unchanged = (name for name, changes in self.variants.items() if not changes.keys() - {"alphas"})
        return tuple(variants or unchanged)


def load_sweep(path: Path) -> Sweep:
    """Read the variants in the YAML file at `path`; TrainingError with every fault."""
    try:
        return Sweep.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TrainingError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        faults = "\n".join(f"  - {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise TrainingError(f"{path} is no usable sweep (expected alphas, seeds, variants):\n{faults}") from error


def runs(recipe: Recipe, sweep: Sweep) -> Iterator[Run]:
    """Every run of the sweep, seeds first, so that a sweep cut short has some of everything.

    Raises:
        TrainingError: a variant is no usable recipe.
    """
    for seed in sweep.seeds:
        for name, own in sweep.variants.items():
            document, changes = recipe.model_dump(mode="json"), copy.deepcopy(own)
            alphas = changes.pop("alphas", list(sweep.alphas))
            document["rl"] = document["rl"] | changes | {"seed": seed}
            document["tiers"] = {"alphas": alphas, "default": BASE_TIER, "efforts": dict.fromkeys(EFFORTS, BASE_TIER)}
            yield Run(name, seed, parse_recipe(document, f"variant {name!r} of {recipe.name}"))


def run_sweep(
    recipe: Recipe, todo: Sequence[Run], out: Path, machine: Machine, console: Console, *, base: Path | None = None
) -> None:
    """Train and measure every run of the sweep in `out` that is not finished.

    The base is that of `base`, a family or a run with the same one, else the recipe's, trained here.
    """
    source = RunFolder(base or out / "base-run")
    if base is None:
        train_family(recipe, source.root, machine, console, Selection(tier=BASE_TIER))
    elif not source.base.is_dir():
        raise TrainingError(f"{base} holds no base/. Give a family, or a run of `alphatier train`, with --base.")
    for number, run in enumerate(todo, start=1):
        console.print(f"[{number}/{len(todo)}] {run.variant}, seed {run.seed}", highlight=False)
        folder = RunFolder(run.folder(out))
        if not (folder.root / FAMILY_FILE).is_file():
            _adopt_base(run.recipe, source, folder)
        train_family(run.recipe, folder.root, machine, console)


def _adopt_base(recipe: Recipe, source: RunFolder, folder: RunFolder) -> None:
    """Give a run its base as if its own stage had made it, and what was measured of it; it takes the rest."""
    folder.claim(recipe)
    if folder.is_done(BASE_TIER):
        return
    if source.base.is_dir():
        with replacing(folder.base) as new:
            shutil.copytree(source.base, new, dirs_exist_ok=True)
    if source.base_file.is_file():
        shutil.copyfile(source.base_file, folder.base_file)
    if source.samples.is_dir():
        others = shutil.ignore_patterns("alpha-*")
        shutil.copytree(source.samples, folder.samples, dirs_exist_ok=True, ignore=others)
    folder.mark_done(BASE_TIER, 0.0)
