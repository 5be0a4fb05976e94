"""The routers of the families that are served, read when they are first needed and when they have changed."""

import logging
from collections.abc import Mapping
from pathlib import Path

from alphatier_models import Family
from alphatier_models.routing import Router, RouterError, load_router
from alphatier_server.gateway.expect import Routing, routing_of
from alphatier_server.settings.auto import AutoSettings

log = logging.getLogger("alphatier")


class Routers:
    """For one process. `folders` are the families', by name, and change with them."""

    def __init__(self, folders: Mapping[str, Path], settings: AutoSettings) -> None:
        self._folders = folders
        self._settings = settings
        self._read: dict[str, Router | None] = {}
        """By checksum; reading one takes about 10 ms."""
        self._routings: dict[str, tuple[Family, Routing | None]] = {}

    def of(self, family: Family) -> Routing | None:
        """The family's router; None where it has none, or one that does not fit it."""
        if family.router is None:
            return None
        known = self._routings.get(family.name)
        if known is None or known[0] is not family:
            router = self._router(family)
            known = family, None if router is None else routing_of(router, family, self._settings)
            self._routings[family.name] = known
        return known[1]

    def _router(self, family: Family) -> Router | None:
        assert family.router is not None
        sha256, folder = family.router.sha256, self._folders.get(family.name)
        if folder is None:
            return None
        if sha256 not in self._read:
            try:
                self._read = {sha256: load_router(folder / family.router.path, sha256)}
            except RouterError as error:
                log.warning("auto goes by the measured figures: %s", error)
                self._read[sha256] = None
        return self._read[sha256]
