"""Adapters that come and go while a vLLM runs: `POST /v1/load_lora_adapter` and `/v1/unload_lora_adapter`.

An engine never gets other weights under a name that it has seen: requests under way would change their
weights in the middle, and vLLM keeps prefixes by the adapter's name. Weights that replace others are
loaded as `<family>:<tier>@<first digits of their checksum>`.
https://docs.vllm.ai/en/latest/features/lora/#dynamically-serving-lora-adapters
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from alphatier_models import EditError, directory_sha256
from alphatier_server.engines.api import EngineApi
from alphatier_server.errors import EngineError

LOAD_SECONDS = 300.0
"""An adapter from a slow disk takes seconds; past this, something hangs."""
UNLOAD_SECONDS = 30.0
_DIGITS = 8


@dataclass(frozen=True)
class Adapter:
    """One adapter on disk; `public` is `<family>:<tier>`, `sha256` the tier's `identity`."""

    public: str
    sha256: str
    path: Path
    rank: int = 0
    pinned: bool = False
    """In the hub's cache, whose files stay what they are."""


def versioned(public: str, sha256: str) -> str:
    """The engine's name for weights that are not the first under their public name."""
    return f"{public}@{sha256[:_DIGITS]}"


class RuntimeAdapters:
    """The adapters of one vLLM, from its start to its end.

    Without `plain_names` it may have other weights under a public name already: nothing is loaded as such.
    """

    def __init__(self, api: EngineApi, *, plain_names: bool = True) -> None:
        self._api = api
        self._plain_names = plain_names
        self.loaded: dict[str, str] = {}
        """Name -> checksum of what the engine has loaded."""
        self._seen: dict[str, str] = {}

    def found(self, name: str, sha256: str) -> None:
        """The engine has this already, from its command line."""
        self.loaded[name] = self._seen[name] = sha256

    def name_of(self, public: str, sha256: str) -> str | None:
        """The name under which the weights are loaded."""
        names = (public, versioned(public, sha256))
        return next((name for name in names if self.loaded.get(name) == sha256), None)

    def lacks(self, adapter: Adapter) -> bool:
        return self.name_of(adapter.public, adapter.sha256) is None

    async def load(self, adapter: Adapter) -> str:
        """Load what is not there yet. Returns the engine's name for it. Raises EngineError."""
        plain = self._plain_names and self._seen.get(adapter.public, adapter.sha256) == adapter.sha256
        name = adapter.public if plain else versioned(adapter.public, adapter.sha256)
        document = {"lora_name": name, "lora_path": str(adapter.path)}
        status, text = await self._api.post("/v1/load_lora_adapter", document, LOAD_SECONDS)
        if status in (404, 405) and "No adapter found" not in text:
            raise EngineError(
                f"engine {self._api.name} takes no adapters while it runs. Start it with --enable-lora and the "
                "environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
            )
        if status != 200 and not (status == 400 and "already been loaded" in text):
            raise EngineError(f"engine {self._api.name} did not load {name}: {status} {text:.500}")
        self.found(name, adapter.sha256)
        return name

    async def unload(self, name: str) -> None:
        """Raises EngineError where the engine refuses; it is not asked again then."""
        try:
            status, text = await self._api.post("/v1/unload_lora_adapter", {"lora_name": name}, UNLOAD_SECONDS)
        finally:
            self.loaded.pop(name, None)
        if status not in (200, 404):
            raise EngineError(f"engine {self._api.name} did not unload {name}: {status} {text:.500}")


@dataclass(frozen=True)
class AdapterStore:
    """Copies of adapters that were loaded while engines ran, so that a folder may change under them at any time."""

    folder: Path
    checksums: bool = True

    def newest(self, adapter: Adapter) -> Adapter:
        """The copy, if there is one; else the adapter itself."""
        copy = self._copy_path(adapter)
        return replace(adapter, path=copy) if copy.is_dir() else adapter

    async def keep(self, adapter: Adapter) -> Adapter:
        """The same adapter, as a copy with the checksum that was promised. Raises EngineError."""
        if not adapter.pinned and not self._copy_path(adapter).is_dir():
            await asyncio.to_thread(self._copy, adapter)
        return self.newest(adapter)

    async def export(self, gated: Adapter, alpha: float, adapter: Adapter) -> None:
        """Keep `adapter`, which is the gated one at `alpha`. Raises EngineError."""
        copy = await self.keep(gated)
        if not self._copy_path(adapter).is_dir():
            await asyncio.to_thread(self._export, copy.path, alpha, adapter)

    def _copy_path(self, adapter: Adapter) -> Path:
        family, _, tier = adapter.public.partition(":")
        return self.folder / family / f"{tier}@{adapter.sha256}"

    def _copy(self, adapter: Adapter) -> None:
        with self._new(adapter) as copy:
            shutil.copytree(adapter.path, copy, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
            if self.checksums and directory_sha256(copy) != adapter.sha256:
                raise EngineError(
                    f"{adapter.path} has another checksum than family.json says; it may still be being written. "
                    "Load the family again when it is complete."
                )

    def _export(self, gated: Path, alpha: float, adapter: Adapter) -> None:
        try:
            from alphatier_models.gated import export
        except ImportError as error:  # they come with vLLM, and nothing else here needs them
            raise EngineError(
                f"{adapter.public} is made of the family's gated adapter, which needs numpy and safetensors: "
                "pip install numpy safetensors"
            ) from error
        try:
            with self._new(adapter) as folder:
                export(gated, alpha, folder)
        except EditError as error:
            raise EngineError(str(error)) from error

    @contextmanager
    def _new(self, adapter: Adapter) -> Iterator[Path]:
        """An empty folder that becomes the adapter's copy if the block ends without an error. Raises EngineError."""
        target = self._copy_path(adapter)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".copy-") as temporary:
                folder = Path(temporary) / "adapter"
                folder.mkdir()
                yield folder
                try:
                    folder.rename(target)
                except OSError:
                    if not target.is_dir():  # another load of the same weights was first: its copy is as good
                        raise
        except (OSError, shutil.Error) as error:
            raise EngineError(f"{adapter.path} cannot be copied to {target.parent}: {error}") from error
