"""Rows from where they lie: JSON lines (also .gz, .xz), and through `datasets` folders, tables and the hub.

What: every row as a dict with its place, or what is wrong at that place. What not: no meaning of columns (`reading`).
"""

import gzip
import json
import lzma
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import DataSet

Row = Mapping[str, Any]

_OPENERS: Mapping[str, Any] = {".gz": gzip.open, ".xz": lzma.open}
_TABLES: Mapping[str, tuple[str, dict[str, str]]] = {
    ".parquet": ("parquet", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
}
_SAVED = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` writes."""


@dataclass(frozen=True)
class Found:
    """One row, or why there is none at its place, e.g. `line 7`."""

    place: str
    row: Row | None
    fault: str = ""


def find_rows(data: DataSet) -> list[Found]:
    """The rows of a data set, at most `data.limit`, broken ones as faults.

    Raises:
        DataError: there is no such data set, or it cannot be read at all.
    """
    path = None if data.path is None else Path(data.path)
    if path is not None and not path.exists():
        raise DataError(
            f"{data.name}: {path} does not exist. Paths are relative to where the tool runs ({Path.cwd()}); "
            "correct `path`, or give `hub` for a data set of the Hugging Face hub."
        )
    if path is None or path.is_dir() or path.suffix in _TABLES:
        return [Found(f"row {number}", row) for number, row in enumerate(_through_library(data, path), 1)]
    try:
        with _OPENERS.get(path.suffix, open)(path, "rb") as lines:
            return list(islice(_parsed(lines), data.limit))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{data.name}: {path} cannot be read: {error}. Check its permissions, or fetch it again."
        ) from error


def place_of(data: DataSet) -> str:
    """How messages name where a data set lies: its path or hub id."""
    return str(data.hub if data.path is None else data.path)


def _parsed(lines: Any) -> Iterator[Found]:
    """The objects of a JSONL file; blank lines are passed over."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            fault, row = "", None
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
            except UnicodeDecodeError as error:
                fault = f"not UTF-8 (byte {error.start + 1} of the line)"
            except RecursionError:
                fault = "not usable JSON: nested too deep"
            except ValueError as error:
                fault = f"not JSON: {error}"
            if not fault and not isinstance(row, dict):
                hint = "; a list becomes lines with `jq -c '.[]'`" if isinstance(row, list) else ""
                fault = f"no JSON object, one of which is expected on each line{hint}"
            yield Found(f"line {number}", None if fault else row, fault)


def _through_library(data: DataSet, path: Path | None) -> list[Row]:
    """The rows as `datasets` reads them; of local files it leaves no copy in its cache."""
    from datasets import DatasetDict, disable_progress_bars, load_dataset, load_from_disk
    from datasets.utils.logging import CRITICAL, set_verbosity

    disable_progress_bars()
    set_verbosity(CRITICAL)  # what it logs before it raises is in the error too
    with _in_our_words(data), tempfile.TemporaryDirectory() as cache:
        if path is None:
            rows = load_dataset(data.hub, data.config, split=data.split, revision=data.revision)
        elif path.is_file():
            kind, options = _TABLES[path.suffix]
            rows = load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **options)
        elif any((path / name).is_file() for name in _SAVED):
            rows = load_from_disk(str(path))
            if isinstance(rows, DatasetDict):
                if data.split not in rows:
                    raise ValueError(f"it has no split {data.split!r}; it has {', '.join(rows)}")
                rows = rows[data.split]
        else:
            rows = load_dataset(str(path), data.config, split=data.split, cache_dir=cache)
        return list(rows.take(min(data.limit, len(rows))) if data.limit else rows)


@contextmanager
def _in_our_words(data: DataSet) -> Iterator[None]:
    """Turns what `datasets` raises into one error that names the data set and the remedy."""
    from datasets.exceptions import DatasetsError

    try:
        yield
    except (DatasetsError, OSError, ValueError, LookupError, RuntimeError) as error:
        texts = [str(error), str(error.__cause__ or "")]
        reason = ": ".join(text.strip().splitlines()[0].rstrip(".:") for text in texts if text.strip()) or repr(error)
        if isinstance(error, ConnectionError):
            raise DataError(
                f"{data.name}: {data.hub} cannot be fetched from the hub: {reason}. Check the connection and the "
                "id, or save the data set elsewhere with `save_to_disk` and give the folder as `path`."
            ) from error
        raise DataError(
            f"{data.name}: {place_of(data)} cannot be read: {reason}. "
            "Check its path or id, `config`, `split` and `revision`."
        ) from error
