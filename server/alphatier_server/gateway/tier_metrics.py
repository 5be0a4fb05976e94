"""The series of one tier, found once: looking one up by its labels costs as much as counting."""

from alphatier_server.gateway.decide import Decision
from alphatier_server.gateway.dial import figures_of
from alphatier_server.metrics.collector import Counter
from alphatier_server.metrics.definitions import Metrics


class TierMetrics:
    """The metrics of one tier."""

    def __init__(self, metrics: Metrics, family: str, tier: str) -> None:
        self._metrics = metrics
        self._labels = (family, tier)
        self._decisions: dict[str, Counter] = {}
        self._endpoints: dict[str, EndpointMetrics] = {}
        self._saved: tuple[Decision, float] | None = None
        self.in_flight = metrics.in_flight.labels(family, tier)
        self.disconnects = metrics.disconnects.labels(family, tier)
        self.cut_off = metrics.cut_off.labels(family, tier)
        self.retries = metrics.retries.labels(family, tier)
        self.saved_tokens = metrics.saved_tokens.labels(family, tier)
        self.prompt_tokens = metrics.request_prompt_tokens.labels(family, tier)
        self.completion_tokens = metrics.request_completion_tokens.labels(family, tier)
        self.reasoning_tokens = metrics.request_reasoning_tokens.labels(family, tier)
        self.overhead = metrics.overhead.labels(family, tier)
        self.first_token = metrics.first_token.labels(family, tier)
        self.first_answer_token = metrics.first_answer_token.labels(family, tier)
        self.output_token = metrics.output_token.labels(family, tier)
        self.queue = metrics.queue.labels(family, tier)
        self.deadline_ratio = metrics.deadline_ratio.labels(family, tier)

    def decision(self, reason: str) -> Counter:
        """Decisions for it by this rule."""
        counter = self._decisions.get(reason)
        if counter is None:
            counter = self._decisions[reason] = self._metrics.decisions.labels(*self._labels, reason)
        return counter

    def endpoint(self, name: str) -> "EndpointMetrics":
        """Those of one API."""
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            endpoint = self._endpoints[name] = EndpointMetrics(self._metrics, (*self._labels, name))
        return endpoint

    def saved_share(self, decision: Decision) -> float:
        """`saved_share` of the family as it is, which may be replaced while the gateway runs."""
        if self._saved is None or self._saved[0].family is not decision.family:
            self._saved = (decision, saved_share(decision))
        return self._saved[1]


class EndpointMetrics:
    """The metrics of one API of a tier."""

    def __init__(self, metrics: Metrics, labels: tuple[str, str, str]) -> None:
        self._metrics = metrics
        self._labels = labels
        self._requests: dict[tuple[str, str], Counter] = {}
        self.prompt_tokens = metrics.prompt_tokens.labels(*labels)
        self.completion_tokens = metrics.completion_tokens.labels(*labels)
        self.reasoning_tokens = metrics.reasoning_tokens.labels(*labels)
        self.duration = metrics.duration.labels(*labels)

    def requests(self, reason: str, outcome: str) -> Counter:
        """Requests decided by this rule that ended so."""
        counter = self._requests.get((reason, outcome))
        if counter is None:
            family, tier, endpoint = self._labels
            counter = self._metrics.requests.labels(family, tier, reason, endpoint, outcome)
            self._requests[reason, outcome] = counter
        return counter


def saved_share(decision: Decision) -> float:
    """Tokens saved for each token generated, from the family's mean tokens; 0 where it is not known.

    (mean tokens of the reference tier / mean tokens of this tier) - 1, on the first data set measured for both. Those
    of an alpha between two measured ones are interpolated.
    """
    family, tier = decision.family, decision.tier
    reference = family.tier(family.reference_tier)
    between = None if tier.evaluations else figures_of(family, tier)
    for mine in tier.evaluations if between is None else (between,):
        theirs = reference.evaluation(mine.dataset)
        if theirs is not None:
            return max(0.0, theirs.tokens.mean / mine.tokens.mean - 1.0) if mine.tokens.mean > 0 else 0.0
    return 0.0
