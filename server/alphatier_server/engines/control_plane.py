"""What exactly one process of a gateway owns: the families, the engines, and the watch over the settings.

Weights are hashed in a thread while the gateway listens already; engines start, and so requests are answered,
once the checksums are right. A changed configuration file is applied while running as far as it can be, and a
faulty one changes nothing.
"""

import asyncio
import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from alphatier_models import Family, FamilyError, load_family
from alphatier_server.engines.canary import judge
from alphatier_server.engines.control import administer
from alphatier_server.engines.engine import Busy, Report
from alphatier_server.engines.fleet import Fleet
from alphatier_server.errors import ConfigError, EngineError
from alphatier_server.metrics.definitions import Metrics
from alphatier_server.replicas.pool import Pool
from alphatier_server.settings.changes import needs_restart
from alphatier_server.settings.engines import EngineSettings
from alphatier_server.settings.families import load_families, shipped_family
from alphatier_server.settings.file import Source
from alphatier_server.settings.gateway import GatewayConfig
from alphatier_server.settings.watch import FileWatch

WATCH_SECONDS = 1.0

log = logging.getLogger("alphatier")


class ControlPlane:
    """Made before the loop runs, so that faults are told early. Raises FamilyError, ConfigError, EngineError."""

    def __init__(
        self,
        source: Source,
        config: GatewayConfig,
        metrics: Metrics,
        *,
        report: Report,
        engine_api_key: str | None,
        on_failure: Callable[[BaseException], None],
        busy: Busy | None = None,
    ) -> None:
        self._source = source
        self._say = report
        self._config = config
        self._ready_announced = False
        self._hangup = asyncio.Event()
        loaded = load_families(config.families, checksums=False)
        self.families: dict[str, Family] = {name: family for name, (family, _) in loaded.items()}
        self._folders = {name: folder for name, (_, folder) in loaded.items()}
        for family in self.families.values():
            metrics.declare(family)
        self.pool = Pool(metrics, config.replicas, most_per_replica=config.overload.max_in_flight_per_replica)
        self._logs = config.engine_logs or Path(tempfile.mkdtemp(prefix="alphatier-"))
        try:
            self.fleet = Fleet(
                self.families,
                self._folders,
                self.pool,
                metrics,
                engines_of(config),
                logs=self._logs,
                report=self._report,
                on_failure=on_failure,
                default_key=engine_api_key,
                checksums=config.checksums,
                ca_file=config.engine_ca_file,
                busy=busy,
                alphas=config.alphas,
                canary=config.canary,
            )
        except EngineError:
            self.tidy()
            raise
        self.administer = partial(administer, self.fleet)

    async def run(self) -> None:
        """Check the weights, start the engines, and follow the settings, until cancelled. Raises FamilyError."""
        watch = FileWatch(*filter(None, [self._source.file]))
        try:
            if self._config.checksums:
                for folder in self._folders.values():
                    await asyncio.to_thread(load_family, folder, checksums=True)
            self.fleet.start()
            while True:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._hangup.wait(), WATCH_SECONDS)
                await self._judge()
                if watch.changed() or self._hangup.is_set():
                    self._hangup.clear()
                    await self._apply()
        finally:
            await self.fleet.close()

    def reload(self) -> None:
        """Read the settings again soon, changed or not."""
        self._hangup.set()

    def tidy(self) -> None:
        """Remove the engines' logs, if their folder was a temporary one."""
        if self._config.engine_logs is None:
            shutil.rmtree(self._logs, ignore_errors=True)

    async def _judge(self) -> None:
        """Roll back new versions of tiers that are worse. Does not raise."""
        try:
            await judge(self.fleet)
        except Exception:  # the gateway goes on with what it has
            log.exception("a canary could not be rolled back")

    async def _apply(self) -> None:
        """Take over what the settings say now. Does not raise."""
        try:
            config = self._source.load()
            await asyncio.to_thread(load_families, config.families, checksums=False)  # all of them, or none
            await self.fleet.apply_families(config.families or [shipped_family()])
            if engines_of(config) != engines_of(self._config):
                await self.fleet.apply(engines_of(config))
        except (ConfigError, FamilyError, EngineError) as error:
            self._say(f"the settings were not taken over: {error}")
            return
        except Exception:
            # Whatever is wrong with a file or an engine that comes, the gateway goes on with what it has.
            log.exception("the settings were not taken over")
            return
        late = needs_restart(self._config, config)
        self._config = self._config.model_copy(update={"families": config.families, "engines": config.engines})
        self._say("the settings were read again" + (f"; only a restart changes {', '.join(late)}" if late else ""))

    def _report(self, text: str) -> None:
        self._say(text)
        if self.pool.ready() and not self._ready_announced:
            self._ready_announced = True
            self._say('ready; try: alphatier ask --compare "What is 17 + 25 - 8?"')


def engines_of(config: GatewayConfig) -> list[EngineSettings]:
    """The engines that the settings ask for; the installed one where they name none."""
    return list(config.engines) or [EngineSettings()]
