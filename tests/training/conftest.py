"""One family trained in one go for the whole session."""

from pathlib import Path

import pytest

from support.mini_training import mini_recipe, train, write_recipe


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a mini family, trained by `alphatier train`."""
    folder = tmp_path_factory.mktemp("trained")
    train(write_recipe(folder, mini_recipe()), folder / "mini")
    return folder / "mini"
