"""Whether a response is right; one grader for training and evaluation."""

from alphatier_training.grading.answers import are_correct, close, is_correct, last_box, statistics
from alphatier_training.grading.pool import Statistics

__all__ = ["Statistics", "are_correct", "close", "is_correct", "last_box", "statistics"]
