"""The errors of this package; each message names what is wrong and the remedy.

TrainingError            anything that stops `alphatier train` or `alphatier evaluate`
├── RecipeError          the recipe cannot be read or does not fit together
├── DataError            a data set cannot be read, or no problem is left of it
├── FolderError          the output folder belongs to another run
├── EngineError          the engine that generates the rollouts failed
├── DivergenceError      the numbers of a run are not finite
├── CollapseError        a run collapsed before its first checkpoint
├── GroupError           a prompt's group of samples would be, or was, split
├── EndpointError        an OpenAI-compatible endpoint does not answer as one
├── EvidenceError        a report or a choice lacks the figures it needs, or a file behind them cannot be read
└── ChoiceError          no tier can be chosen as asked
"""

from alphatier_models import EditError, FamilyError


class TrainingError(Exception):
    """Training or evaluation cannot go on."""


class RecipeError(TrainingError):
    """The recipe cannot be used."""


class DataError(TrainingError):
    """A data set cannot be used."""


class FolderError(TrainingError):
    """The output folder cannot be used by this run."""


class EngineError(TrainingError):
    """The engine that generates the rollouts failed."""


class DivergenceError(TrainingError):
    """The numbers of a run are no numbers any more."""


class CollapseError(TrainingError):
    """A run lost its accuracy or its responses, and there is no checkpoint from before."""


class GroupError(TrainingError):
    """The samples of one prompt are not together in one process."""


class EndpointError(TrainingError):
    """The endpoint under evaluation failed."""


class EvidenceError(TrainingError):
    """The figures behind a report or a choice are missing or broken."""


class ChoiceError(TrainingError):
    """The tiers cannot be chosen as asked."""


class GraderError(TrainingError):
    """Answers cannot be compared."""


EXPECTED = (TrainingError, FamilyError, EditError)
"""What a command shows as its message alone."""
