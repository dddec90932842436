"""What to do after a run, judged by its validations."""

from collections.abc import Sequence
from typing import NamedTuple

RISE = 0.5
"""Percentage points in the last quarter of an annealing, from which a score counts as rising."""
FALL = 1.0
"""Percentage points below the best, from which a score counts as fallen."""


class Validated(NamedTuple):
    """One validation of a run."""

    epoch: int
    """The number of epochs done."""
    score: float


def advise_next(validated: Sequence[Validated], name: str, epochs: int) -> str:
    """One line: how the run's score ended, and what to do next.

    ``name``: of the score, which is in percent. ``epochs``: of the latest annealing.
    """
    last = validated[-1]
    best = max(validated, key=lambda each: each.score)
    earlier = [each.score for each in validated[:-1] if each.epoch <= last.epoch - epochs / 4]
    ended = f"{name} {last.score:.4g} after {last.epoch} epochs"
    if best.score - last.score >= FALL:
        return (
            f"{ended}: validation fell from {best.score:.4g} after {best.epoch} epochs: train fewer epochs, or with "
            'more augmentation or people; keep "best" (--keep best) keeps the best weights'
        )
    if earlier and last.score - max(earlier) >= RISE:
        return f"{ended}: validation still rising: --resume --extend {2 * epochs} continues"
    if not earlier:
        return f"{ended}: too few validations to tell whether more epochs would help (--validate-every)"
    return f"{ended}: validation has leveled off: more epochs are unlikely to help, more or other people may"
