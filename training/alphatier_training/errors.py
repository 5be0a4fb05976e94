"""The errors of this package; each message names what is wrong and the remedy.

TrainingError            anything that stops `alphatier train` or `alphatier evaluate`
├── RecipeError          the recipe cannot be read or does not fit together
├── FolderError          the output folder belongs to another run
├── StageError           a stage's process failed; its log says why
├── GroupError           a prompt's group of samples would be, or was, split
└── EndpointError        an OpenAI-compatible endpoint does not answer as one
"""


class TrainingError(Exception):
    """Training or evaluation cannot go on."""


class RecipeError(TrainingError):
    """The recipe cannot be used."""


class FolderError(TrainingError):
    """The output folder cannot be used by this run."""


class StageError(TrainingError):
    """The process of a stage ended with an error."""


class GroupError(TrainingError):
    """The samples of one prompt are not together in one process."""


class EndpointError(TrainingError):
    """The endpoint under evaluation failed."""
