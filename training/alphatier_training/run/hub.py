"""Whether the hub can give a recipe's base, and which commit of it."""

from collections.abc import Iterator
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from alphatier_training.recipe import BASE_TIER, Recipe
from alphatier_training.recipe.base import PretrainedBase
from alphatier_training.run.folder import RunFolder

SECONDS = 10.0
"""How long the hub may take for an answer."""


def hub_answers() -> bool:
    """Whether the hub can be asked, or what its cache holds is to do (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return True
    try:
        urlopen(constants.ENDPOINT, timeout=SECONDS).close()
    except HTTPError:
        return True
    except (URLError, OSError):
        return False
    return True


def hub_faults(recipe: Recipe, folder: RunFolder, *, away: bool) -> Iterator[str]:
    """A base on the hub that is not pinned, not there, or not for us; a line each with the remedy.

    Args:
        recipe: The recipe.
        folder: The run's folder; a base that it has is not asked for.
        away: Whether the hub does not answer.
    """
    base = recipe.base
    if not isinstance(base, PretrainedBase) or folder.is_done(BASE_TIER) or not base.is_on_hub():
        return
    newest = None
    if not away:
        try:
            newest = _commit(base)
        except _Refused as refused:
            yield str(refused)
    if base.revision is None:
        commit = f"{newest}, the newest" if newest else f"a commit of https://huggingface.co/{base.model}/commits"
        yield f"base.revision: {base.model} is not pinned, so that it may change: add `revision:` and {commit}"


class _Refused(Exception):
    """The hub does not give the base; the message says why and what to do."""


def _commit(base: PretrainedBase) -> str | None:
    """The commit that the revision is, of a base whose files we may read."""
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its name whatever the version

    api, page = HfApi(), f"https://huggingface.co/{base.model}"
    try:
        if base.revision and isinstance(
            try_to_load_from_cache(base.model, "config.json", revision=base.revision), str
        ):
            return base.revision
        found = api.model_info(base.model, revision=base.revision, timeout=SECONDS)
        api.auth_check(base.model)
    except GatedRepoError as error:
        remedy = f"accept its terms at {page}, and set HF_TOKEN or run `hf auth login`"
        raise _Refused(f"base.model: {base.model} is gated: {remedy}") from error
    except RevisionNotFoundError as error:
        raise _Refused(f"base.revision: {base.model} has no {base.revision}: take one of {page}/commits") from error
    except RepositoryNotFoundError as error:
        remedy = "check the spelling, set HF_TOKEN, or give a folder"
        raise _Refused(f"base.model: the hub has no {base.model}, or it is private: {remedy}") from error
    except (httpx.HTTPError, HFValidationError, OSError) as error:
        remedy = "check its spelling and the connection, or download it and give its folder"
        raise _Refused(f"base.model: the hub cannot give {base.model} ({type(error).__name__}): {remedy}") from error
    return found.sha
