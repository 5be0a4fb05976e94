"""Rows from where they lie: JSON lines (also .gz and .xz), a parquet or CSV file, a data set's folder, the hub.

What: every row as a dict with its place, or what is wrong at that place. What not: no meaning of fields (`formats`);
what needs the `datasets` library is in `library`.
"""

import gzip
import json
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, cast

from alphatier_training.data.formats import Row
from alphatier_training.errors import DataError
from alphatier_training.recipe.problems import DataSet

_BOM = b"\xef\xbb\xbf"
_TABLES = (".parquet", ".csv", ".tsv")


def _open_plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _open_gzip(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path))


def _open_xz(path: Path) -> IO[bytes]:
    return lzma.open(path)


_OPENERS: dict[str, Callable[[Path], IO[bytes]]] = {".gz": _open_gzip, ".xz": _open_xz}


@dataclass(frozen=True)
class Found:
    """One row, or why there is none at its place."""

    place: str
    """Where it is, e.g. `line 7`."""
    row: Row | None
    fault: str = ""


def find_rows(data: DataSet) -> list[Found]:
    """The rows of a data set, at most `data.limit`, broken ones as faults.

    Raises:
        DataError: there is no such data set, or it cannot be read at all.
    """
    if data.path is None:
        return _through_library(data, None)
    path = Path(data.path)
    if not path.exists():
        raise DataError(
            f"{data.name}: {path} does not exist. Paths are relative to where the tool runs ({Path.cwd()}); "
            "correct `path`, or give `hub` for a data set of the Hugging Face hub."
        )
    if path.is_dir() or path.suffix in _TABLES:
        return _through_library(data, path)
    try:
        return list(islice(_lines(path), data.limit))
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(
            f"{data.name}: {path} cannot be read: {error}. Check its permissions, or fetch it again."
        ) from error


def place_of(data: DataSet) -> str:
    """How messages name where a data set lies: its path or hub id."""
    return str(data.path if data.path is not None else data.hub)


def _through_library(data: DataSet, path: Path | None) -> list[Found]:
    from alphatier_training.data.library import load_rows

    return [Found(f"row {number}", row) for number, row in enumerate(load_rows(data, path), 1)]


def _lines(path: Path) -> Iterator[Found]:
    """The objects of a JSONL file; blank lines are passed over."""
    with _OPENERS.get(path.suffix, _open_plain)(path) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield _parsed(f"line {number}", line.removeprefix(_BOM) if number == 1 else line)


def _parsed(place: str, line: bytes) -> Found:
    try:
        row = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Found(place, None, f"not UTF-8 (byte {error.start + 1} of the line)")
    except RecursionError:
        return Found(place, None, "not usable JSON: nested too deep")
    except ValueError as error:
        return Found(place, None, f"not JSON: {error}")
    if isinstance(row, dict):
        return Found(place, row)
    hint = "; a list becomes lines with `jq -c '.[]'`" if isinstance(row, list) else ""
    return Found(place, None, f"no JSON object, one of which is expected on each line{hint}")
