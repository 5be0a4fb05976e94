"""The one reader and the one writer of family.json.

Reading checks everything before anything is served: the text, the schema, the files that it names,
their checksums, and the chat template. Every fault is reported at once, each with its remedy.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alphatier_models.errors import EditError, FamilyError, FamilyProblem
from alphatier_models.hashing import directory_sha256, text_sha256
from alphatier_models.routing.router import RouterError, load_router
from alphatier_models.schema import Family

FAMILY_FILE = "family.json"
_CHECKPOINT_FILES = ("config.json",)
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
GATED_FILES = (*ADAPTER_FILES, "gate.json")


def load_family(path: str | Path, *, checksums: bool = True) -> Family:
    """Read and check the family at `path` (the folder, or its family.json).

    `checksums=False` skips hashing the weights, which takes about a second a gigabyte.
    Raises FamilyError with every fault found.
    """
    file = family_file(path)
    family = read_family(file)
    problems = list(_file_problems(family, file.parent, checksums=checksums))
    if problems:
        raise FamilyError(file, problems)
    return family


def read_family(path: str | Path) -> Family:
    """Read the family at `path` and check its text alone, none of the files that it names. Raises FamilyError."""
    family, problems = _parse(family_file(path))
    if family is None:
        raise FamilyError(family_file(path), problems)
    return family


def find_problems(path: str | Path) -> list[FamilyProblem]:
    """Every fault of the family at `path`; an empty list when it is sound."""
    try:
        load_family(path)
    except FamilyError as error:
        return error.problems
    return []


def save_family(family: Family, path: str | Path) -> None:
    """Write family.json at `path` (the folder, or the file) atomically: readers see the old one or the new one."""
    file = family_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, family.model_dump_json(indent=2, exclude_none=True) + "\n", 0o644)


def replace_file(file: Path, text: str, mode: int) -> None:
    """Write beside the file and rename over it: readers see the old text or the new one."""
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, file)
    except BaseException:
        os.unlink(temporary)
        raise


def change_family(path: str | Path, change: Callable[[Family], Family]) -> Family:
    """Write what `change` makes of the family at `path`; two that change one family take turns.

    Raises FamilyError when the result is no sound family, and whatever `change` raises; nothing has changed then.
    """
    file = family_file(path)
    read_family(file)
    lock = os.open(file.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = checked(change(read_family(file)), file)
        save_family(changed, file)
    finally:
        os.close(lock)
    return changed


def checked(family: Family, file: Path) -> Family:
    """The family, once more held against the schema. Raises FamilyError."""
    try:
        return Family.model_validate(family.model_dump())
    except ValidationError as error:
        raise FamilyError(file, [_schema_problem(details) for details in error.errors()]) from error


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """An empty folder that becomes `target` when the block ends without an error, and is removed else."""
    if target.exists():
        raise EditError(f"{target} exists already and is not overwritten. Give another name, or remove it.")
    temporary = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def family_file(path: str | Path) -> Path:
    """The family.json that `path` means: itself, or the one in the folder."""
    path = Path(path)
    return path if path.suffix == ".json" else path / FAMILY_FILE


def base_folder(family: Family, family_dir: Path) -> Path | None:
    """The folder of the family's base, or None when the base is a hub id."""
    local = family_dir / family.base.model
    return local if local.is_dir() else None


def chat_template(folder: Path) -> str | None:
    """The chat template of a model: chat_template.jinja, or what tokenizer_config.json holds; None without one."""
    try:
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    try:
        template = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)


def _parse(file: Path) -> tuple[Family | None, list[FamilyProblem]]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_no_duplicate_keys)
    except FileNotFoundError:
        return None, [FamilyProblem("", "there is no such file", "Give the folder of a family, e.g. models/tiny")]
    except OSError as error:
        return None, [FamilyProblem("", f"cannot be read: {error.strerror}", "Check the path and its permissions")]
    except ValueError as error:
        return None, [FamilyProblem("", f"is not valid JSON: {error}", "Mend it by hand or write it again")]
    try:
        return Family.model_validate(document, strict=False), []
    except ValidationError as error:
        return None, [_schema_problem(details) for details in error.errors()]


def _no_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"the key {key!r} appears twice in one object")
        document[key] = value
    return document


def _schema_problem(details: Any) -> FamilyProblem:
    field = _dotted(details["loc"])
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return FamilyProblem(field, "unknown key", "Remove it, or check its spelling against models/README.md")
    if kind == "missing":
        return FamilyProblem(field, "missing", "Add it; models/README.md describes every key")
    if kind == "value_error":
        return _own_problem(field, message.removeprefix("Value error, "))
    return FamilyProblem(
        field, f"{message}, but it is {_shown(details['input'])}", "models/README.md describes every key"
    )


def _own_problem(field: str, message: str) -> FamilyProblem:
    """Our validators say `[field: ]problem; remedy`."""
    head, separator, rest = message.partition(": ")
    if separator and " " not in head:
        field, message = (f"{field}.{head}" if field else head), rest
    problem, _, remedy = message.partition("; ")
    return FamilyProblem(field, problem, remedy[:1].upper() + remedy[1:])


def _dotted(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _file_problems(family: Family, folder: Path, *, checksums: bool) -> Iterator[FamilyProblem]:
    yield from _base_problems(family, folder, checksums=checksums)
    for index, tier in enumerate(family.tiers):
        if tier.path is not None and tier.sha256 is not None:
            needed = ADAPTER_FILES if tier.layout == "adapter" else _CHECKPOINT_FILES
            yield from _folder_problems(
                tier.path, tier.sha256, needed, f"tiers[{index}]", folder, checksums=checksums
            )
    if family.gated is not None:
        path, sha256 = family.gated.path, family.gated.sha256
        yield from _folder_problems(path, sha256, GATED_FILES, "gated", folder, checksums=checksums)
    yield from _router_problems(family, folder)


def _router_problems(family: Family, folder: Path) -> Iterator[FamilyProblem]:
    if family.router is None:
        return
    if _leaves(family.router.path):
        yield _outside("router", family.router.path)
        return
    try:
        load_router(folder / family.router.path, family.router.sha256)
    except RouterError as error:
        yield FamilyProblem("router", str(error), "Or remove `router`")


def _leaves(path: str) -> bool:
    return Path(path).is_absolute() or ".." in Path(path).parts


def _outside(field: str, path: str) -> FamilyProblem:
    return FamilyProblem(
        f"{field}.path", f"{path!r} leaves the family's folder", "Give a path below family.json's folder"
    )


def _base_problems(family: Family, folder: Path, *, checksums: bool) -> Iterator[FamilyProblem]:
    base = family.base
    if _leaves(base.model):
        yield FamilyProblem("base.model", f"{base.model!r} leaves the family's folder", "Keep the base beside it")
        return
    local = base_folder(family, folder)
    if local is None:
        if base.sha256 is not None:
            yield FamilyProblem(
                "base.model", f"the folder {base.model} does not exist", f"Put the base model into {folder}"
            )
        return
    yield from _missing_files(local, _CHECKPOINT_FILES, "base.model")
    if checksums and base.sha256 is not None:
        yield from _checksum_problems(local, base.sha256, "base.sha256")
    template = chat_template(local) if base.chat_template_sha256 is not None else None
    if template is not None and text_sha256(template) != base.chat_template_sha256:
        yield FamilyProblem(
            "base.chat_template_sha256",
            f"the chat template (chat_template.jinja) has {text_sha256(template)}, not the checksum in the file",
            "Restore the template that the tiers were trained with",
        )


def _folder_problems(
    path: str, sha256: str, needed: tuple[str, ...], field: str, folder: Path, *, checksums: bool
) -> Iterator[FamilyProblem]:
    if _leaves(path):
        yield _outside(field, path)
        return
    local = folder / path
    missing = list(_missing_files(local, needed, f"{field}.path"))
    yield from missing
    if checksums and not missing:
        yield from _checksum_problems(local, sha256, f"{field}.sha256")


def _missing_files(local: Path, needed: tuple[str, ...], field: str) -> Iterator[FamilyProblem]:
    if not local.is_dir():
        yield FamilyProblem(field, f"the folder {local} does not exist", "Restore it, or remove the tier")
        return
    for name in needed:
        if not (local / name).is_file():
            yield FamilyProblem(field, f"the file {local / name} does not exist", "Restore it from training")


def _checksum_problems(local: Path, expected: str, field: str) -> Iterator[FamilyProblem]:
    try:
        actual = directory_sha256(local)
    except OSError as error:
        remedy = "Let the user that this runs as read it (chmod -R a+rX FOLDER)"
        yield FamilyProblem(field, f"{error.filename} cannot be read: {error.strerror}", remedy)
        return
    if actual != expected:
        yield FamilyProblem(
            field,
            f"{local} has the checksum {actual}, not {expected}",
            "The files changed since training: restore them, or evaluate again and write the new checksum",
        )
