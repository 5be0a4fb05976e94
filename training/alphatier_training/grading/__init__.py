"""Whether a response is right; one grader for training and evaluation."""

from alphatier_training.grading.answers import is_correct, last_box

__all__ = ["is_correct", "last_box"]
