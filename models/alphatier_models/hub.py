"""The Hugging Face hub: commits, files in its cache, and uploads, through `huggingface_hub`.

That library is asked for only here, and imported when it is needed; it brings no torch. Its own variables count:
HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE (https://huggingface.co/docs/huggingface_hub/package_reference).
"""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from alphatier_models.errors import EditError, HubError
from alphatier_models.files import base_folder
from alphatier_models.schema import Family, Tier
from alphatier_models.weights import WANTED, Weights, layout_of, read_weights

_SMALL = tuple(pattern for pattern in WANTED if pattern != "*.safetensors")


def commit_of(model: str, revision: str | None) -> str:
    """The commit of a revision: a branch, a tag or a commit; None for the main branch. Raises HubError."""
    with _asking(model, revision) as hub:
        return str(hub.HfApi().model_info(model, revision=revision).sha)


def fetched(model: str, commit: str | None, *, patterns: Sequence[str] = WANTED) -> Path:
    """The folder of a model's files in the hub's cache, fetched if need be. Raises HubError."""
    with _asking(model, commit) as hub:
        return Path(hub.snapshot_download(model, revision=commit, allow_patterns=list(patterns)))


def base_on_disk(family: Family, folder: Path) -> Path:
    """The base of the family in `folder`, fetched if it is on the hub. Raises HubError."""
    local = base_folder(family, folder)
    return local.resolve() if local is not None else fetched(family.base.model, family.base.revision)


def tier_on_disk(tier: Tier, folder: Path) -> Path | None:
    """A tier's own weights, fetched if they are on the hub; None for the base. Raises HubError."""
    if tier.hub is not None:
        return fetched(tier.hub, tier.revision)
    return (folder / tier.path).resolve() if tier.path is not None else None


def look_at(model: str, commit: str) -> Weights:
    """A model on the hub: an adapter is fetched; of a checkpoint the small files and the headers of its weights.

    Raises HubError, or EditError when it is no model.
    """
    folder = fetched(model, commit, patterns=_SMALL)
    try:
        if layout_of(folder) == "adapter":
            return read_weights(fetched(model, commit))
    except EditError as error:
        raise HubError(f"{model}: {error}") from error
    with _asking(model, commit) as hub:
        files = hub.HfApi().get_safetensors_metadata(model, revision=commit).files_metadata.values()
    return Weights(folder, {name: tuple(info.shape) for file in files for name, info in file.tensors.items()})


def verify(model: str, commit: str | None) -> list[str]:
    """Fetch a model and compare each file with the hub's own checksum; those that differ. Raises HubError."""
    fetched(model, commit)
    with _asking(model, commit) as hub:
        return [mismatch["path"] for mismatch in hub.HfApi().verify_repo_checksums(model, revision=commit).mismatches]


def upload(files: Mapping[str, Path], repository: str, *, private: bool) -> str:
    """Upload files (name there -> where they are) as one commit; the repository's address. Raises HubError."""
    with _asking(repository, None) as hub:
        api = hub.HfApi()
        created = api.create_repo(repository, private=private, exist_ok=True)
        operations = [hub.CommitOperationAdd(name, file) for name, file in files.items()]
        api.create_commit(created.repo_id, operations, commit_message="Upload a family of efficiency tiers")
        return str(created)


@contextmanager
def _asking(model: str, revision: str | None) -> Iterator[Any]:
    """huggingface_hub, its errors as one line each."""
    try:
        hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    except ImportError as error:
        raise HubError(
            f"{model} is on the hub, and huggingface_hub is not installed. Install it: pip install 'alphatier[hub]'"
        ) from error
    _say_once()
    if not sys.stderr.isatty():
        import_module("huggingface_hub.utils").disable_progress_bars()
    try:
        yield hub
    except errors.GatedRepoError as error:
        raise HubError(
            f"{model} is gated: accept its terms at https://huggingface.co/{model}, and set HF_TOKEN to a token of "
            "that account."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"There is neither a folder {model} nor a model of that id on the hub. Check its spelling, or set "
            "HF_TOKEN if it is private."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(
            f"{model} has no revision {revision} on the hub. Give a commit, a tag or a branch of it."
        ) from error
    except (errors.NotASafetensorsRepoError, errors.SafetensorsParsingError) as error:
        raise HubError(f"{model} has no sound safetensors files on the hub. Give a model that has them.") from error
    except (errors.HTTPError, ValueError, OSError, RuntimeError) as error:
        raise HubError(
            f"The hub did not serve {model} ({type(error).__name__}: {_first_line(error)}). Check the connection, "
            "HF_ENDPOINT and the disk, or use folders."
        ) from error


def _say_once() -> None:
    """No line a request; and where the process has a log of its own, the library's lines in that alone."""
    for client in ("httpx", "httpx2"):
        logging.getLogger(client).setLevel(logging.WARNING)
    if logging.root.handlers:
        logging.getLogger("huggingface_hub").handlers.clear()


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0]
