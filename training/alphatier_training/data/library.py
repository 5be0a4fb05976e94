"""Data sets through Hugging Face's `datasets`: the hub, folders that it saved, files of parquet, CSV or JSONL.

What not: nothing is imported before it is needed; a copy of local files is not left in the cache.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alphatier_training.data.formats import Row
from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import DataSet

_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes."""
_BUILDERS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv"}


def load_rows(data: DataSet, path: Path | None) -> list[Row]:
    """The rows of a hub data set (`path` None), a folder or one file, at most `data.limit`.

    Raises:
        DataError: it is not there, has no such split, or its files cannot be read.
    """
    with _translated(data):
        if path is None:
            return _from_hub(data)
        if any((path / name).is_file() for name in _SAVED):
            return _saved(data, path)
        with tempfile.TemporaryDirectory() as cache:
            return _local(data, path, cache)


def _from_hub(data: DataSet) -> list[Row]:
    from datasets import load_dataset

    return _first(load_dataset(data.hub, data.config, split=data.split, revision=data.revision), data.limit)


def _saved(data: DataSet, path: Path) -> list[Row]:
    from datasets import DatasetDict, load_from_disk

    saved = load_from_disk(str(path))
    if isinstance(saved, DatasetDict):
        if data.split not in saved:
            raise ValueError(f"it has no split {data.split!r}; it has {', '.join(saved)}")
        saved = saved[data.split]
    return _first(saved, data.limit)


def _local(data: DataSet, path: Path, cache: str) -> list[Row]:
    from datasets import disable_progress_bars, load_dataset
    from datasets.utils.logging import CRITICAL, get_verbosity, set_verbosity

    disable_progress_bars()
    before = get_verbosity()
    set_verbosity(CRITICAL)  # what it logs before it raises is in the error too
    try:
        if path.is_dir():
            return _first(load_dataset(str(path), data.config, split=data.split, cache_dir=cache), data.limit)
        files, options = {data.split: str(path)}, {"sep": "\t"} if path.suffix == ".tsv" else {}
        builder = _BUILDERS[path.suffix]
        rows = load_dataset(builder, data_files=files, split=data.split, cache_dir=cache, **options)
        return _first(rows, data.limit)
    finally:
        set_verbosity(before)


def _first(rows: Any, limit: int | None) -> list[Row]:
    return list(rows.select(range(min(limit, len(rows)))) if limit else rows)


@contextmanager
def _translated(data: DataSet) -> Iterator[None]:
    """Turns what `datasets` raises into one error that names the data set and the remedy."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except ConnectionError as error:
        raise DataError(
            f"{data.name}: {data.hub} cannot be fetched from the hub: {_reason(error)}. Check the connection and the "
            "id, or save the data set elsewhere with `save_to_disk` and give the folder as `path`."
        ) from error
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        raise DataError(
            f"{data.name}: {data.path or data.hub} cannot be read: {_reason(error)}. "
            "Check its path or id, `config`, `split` and `revision`."
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of an error, and of what caused it where that says more."""
    texts = [str(error), str(error.__cause__ or "")]
    return ": ".join(text.strip().splitlines()[0].rstrip(".:") for text in texts if text.strip()) or repr(error)
