"""What a sweep runs: variants of a recipe's `rl` section and alphas, each with several seeds.

    alphas: [0.2, 0.4]
    seeds: [42, 43, 44]
    variants:
      sigmoid: {}
      kimi: {penalty: {kind: min_max}}
      whitened: {advantage: whiten, alphas: [0.2]}

What: one YAML file, checked against the recipe's schema; every variant starts from the recipe's own base.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError

from alphatier_models import EFFORTS
from alphatier_models.schema import Name
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.reading import parse_recipe
from alphatier_training.recipe.sections import Alpha, Section


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
        plain = (name for name, changes in self.variants.items() if not changes.keys() - {"alphas"})
        return tuple(variants or plain)


@dataclass(frozen=True)
class Run:
    """One variant with one seed."""

    variant: str
    seed: int
    recipe: Recipe

    def folder(self, out: Path) -> Path:
        """Where the run goes."""
        return out / self.variant / f"seed-{self.seed}"


def load_sweep(path: Path) -> Sweep:
    """Read the variants in the YAML file at `path`; TrainingError with every fault."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Sweep.model_validate(document)
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
        for name, changes in sweep.variants.items():
            yield Run(name, seed, _variant(recipe, sweep, name, changes, seed))


def _variant(recipe: Recipe, sweep: Sweep, name: str, changes: dict[str, Any], seed: int) -> Recipe:
    document = recipe.model_dump(mode="json")
    changes = copy.deepcopy(changes)
    alphas = changes.pop("alphas", list(sweep.alphas))
    document["rl"] = document["rl"] | changes | {"seed": seed}
    document["tiers"] = {"alphas": alphas, "default": BASE_TIER, "efforts": dict.fromkeys(EFFORTS, BASE_TIER)}
    return parse_recipe(document, f"variant {name!r} of {recipe.name}")
