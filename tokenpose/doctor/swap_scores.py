"""How plausible it is that a person's left and right are swapped: logarithms of odds, learned from the file itself.

Nothing here knows about bodies. For two pairs of left and right keypoints, a few measures say how much closer left is
to left, and right to right, than left to right. Most people are labeled correctly, so the measures should speak for
their labels, and against the same labels with one pair swapped. A logistic regression without intercept learns from
this how much each measure counts. Each third of the people gets scores that the other two thirds taught. People with
high scores after the first round don't teach in the second one: a few of them would flatten everybody's scores.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int

from tokenpose.shapes import KeypointArray, VisibleArray

SETTLED = 2.0
"""People with a lower score teach in the second round."""

FOLDS = 3
MOST_TEACHERS = 20_000
"""At most so many people teach: five weights need no more, and a large file would only take longer."""

MOST_LESSONS = 300_000
"""At most so many people times swaps: with more than COCO's 15 swaps, fewer people teach each of them."""

PRIOR = (1.2, 0.7, 1.4, 3.0, 1.1)
"""The weights that learning starts from, for the measures of neighboring pairs, in units of their spread, so that these
count in files of few people too. They are means of the weights learned on LSPET without the other measures."""

FlipPair = Int[np.ndarray, " 2"]
Measures = Float[np.ndarray, "people measures"]
TwoPairs = tuple[int, int]
"""Rows of two flip pairs, the smaller one first."""


def scale_to_unit_spread(keypoints: KeypointArray, labeled: VisibleArray) -> KeypointArray:
    """Keypoints in units of each person's spread, which no swap changes; 0 where they are not labeled."""
    count = np.maximum(labeled.sum(axis=1), 1)[:, None]
    center = np.where(labeled[..., None], keypoints, 0).sum(axis=1) / count
    moved = np.where(labeled[..., None], keypoints - center[:, None], 0)
    spread = np.sqrt((moved**2).sum(axis=(1, 2)) / count[:, 0])
    return moved / np.maximum(spread, 1e-6)[:, None, None]


def pair_distances(keypoints: KeypointArray, first: FlipPair, second: FlipPair) -> tuple[np.ndarray, ...]:
    """The distances left to left, right to right, left to right, right to left, of two pairs."""
    corners = ((0, 0), (1, 1), (0, 1), (1, 0))
    return tuple(np.linalg.norm(keypoints[:, first[i]] - keypoints[:, second[j]], axis=-1) for i, j in corners)


def measure_sides(
    keypoints: KeypointArray, labeled: VisibleArray, first: FlipPair, second: FlipPair
) -> Float[np.ndarray, "people 5"]:
    """Five measures that are positive if they speak for the sides of two pairs; swapping one pair changes their signs.

    Over both sides: the sum of the distances, the sum of their squares, and the longer distance; then the cosine of the
    two pairs' directions, and the distances where just three of the four are labeled. 0 where nothing is comparable.
    """
    left, right, across, back = pair_distances(keypoints, first, second)
    directions = [keypoints[:, pair[0]] - keypoints[:, pair[1]] for pair in (first, second)]
    lengths = np.prod([np.linalg.norm(direction, axis=-1) for direction in directions], axis=0)
    known = [labeled[:, index] for index in (*first, *second)]
    all_four, count = np.all(known, axis=0), np.sum(known, axis=0)
    whole = np.stack(
        (
            across + back - left - right,
            (across**2 + back**2 - left**2 - right**2) / 2,
            np.maximum(across, back) - np.maximum(left, right),
            (directions[0] * directions[1]).sum(axis=-1) / np.maximum(lengths, 1e-6),
        ),
        axis=1,
    )
    cases = [(count == 3) & ~known[index] for index in (3, 2, 1, 0)]
    three = np.select(cases, [back - left, across - right, across - left, back - right], 0.0)
    return np.concatenate((np.where(all_four[:, None], whole, 0), three[:, None]), axis=1)


def score_swaps(
    measures: Mapping[TwoPairs, Measures], touched: Sequence[Sequence[TwoPairs]], tree: Sequence[TwoPairs]
) -> Float[np.ndarray, "people swaps"]:
    """How much more plausible each swap is than the labels: the logarithm of the odds.

    ``touched``: the two pairs by which each swap is judged. ``tree``: neighboring pairs.
    """
    fold = np.arange(len(next(iter(measures.values())))) % FOLDS
    scores = np.zeros((len(fold), len(touched)))
    teaches = np.ones(len(fold), dtype=bool)
    most = min(MOST_TEACHERS, MOST_LESSONS // len(touched))
    for _ in range(2):
        teachers = [np.flatnonzero((fold != number) & teaches)[:most] for number in range(FOLDS)]
        for column, pairs in enumerate(touched):
            prior = np.concatenate([np.multiply(PRIOR, both in tree) for both in pairs])
            own = np.concatenate([measures[both] for both in pairs], axis=1)
            for number in range(FOLDS):
                scores[fold == number, column] = -own[fold == number] @ _learn(own[teachers[number]], prior)
        teaches = scores.max(axis=1) < SETTLED
    return scores


def _learn(values: Measures, prior: Float[np.ndarray, " measures"]) -> Float[np.ndarray, " measures"]:
    """How much each measure counts: logistic regression by Newton's method."""
    spread = np.sqrt((values**2).mean(axis=0)) if len(values) else np.zeros(len(prior))
    spread = np.where(spread > 0, spread, 1.0)
    scaled, weights = values / spread, prior.copy()
    cost = _cost(scaled, weights, prior)
    for _ in range(25):
        wrong = 1 / (1 + np.exp(np.clip(scaled @ weights, -50, 50)))
        gradient = scaled.T @ wrong - (weights - prior)
        curvature = (scaled.T * (wrong * (1 - wrong))) @ scaled + np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        while (after := _cost(scaled, weights + step, prior)) > cost and np.abs(step).max() > 1e-6:
            step = step / 2  # Newton's method may go too far
        weights = weights + step
        if cost - after < 1e-5 * cost:
            break
        cost = after
    return weights / spread


def _cost(scaled: Measures, weights: Float[np.ndarray, " measures"], prior: Float[np.ndarray, " measures"]) -> float:
    """How badly the weights explain the labels, plus how far they are from the prior."""
    return float(np.logaddexp(0, -(scaled @ weights)).sum() + ((weights - prior) ** 2).sum() / 2)
