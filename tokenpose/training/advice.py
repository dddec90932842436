"""What to do after a run, judged by its validations."""

import math
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
    scores: tuple[float, ...]
    """The first decides which validation is best; the others, where those before are equal."""

    @property
    def rank(self) -> tuple[float, ...]:
        """What orders validations: the scores, an unknown one below all others."""
        return tuple(-math.inf if math.isnan(score) else score for score in self.scores)


def advise_next(validated: Sequence[Validated], names: Sequence[str], epochs: int) -> str:
    """One line: how the run's score ended, and what to do next.

    ``names``: of the scores, which are in percent. It judges by the first that has changed at all. ``epochs``: of the
    latest annealing.
    """
    column = next((place for place in range(len(names)) if len({each.rank[place] for each in validated}) > 1), 0)
    scores = [(each.epoch, each.rank[column]) for each in validated]
    last, score = scores[-1]
    best_epoch, best = max(scores, key=lambda pair: pair[1])
    earlier = [value for epoch, value in scores[:-1] if epoch <= last - epochs / 4]
    ended = f"{names[column]} {score:.4g} after {last} epochs"
    if best - score >= FALL:
        return (
            f"{ended}: validation fell from {best:.4g} after {best_epoch} epochs: train fewer epochs, or with more "
            'augmentation or people; keep "best" (--keep best) keeps the best weights'
        )
    if earlier and score - max(earlier) >= RISE:
        return f"{ended}: validation still rising: --resume --extend {2 * epochs} continues"
    if not earlier:
        return f"{ended}: too few validations to tell whether more epochs would help (--validate-every)"
    return f"{ended}: validation has leveled off: more epochs are unlikely to help, more or other people may"
