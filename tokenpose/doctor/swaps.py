"""Left and right swapped: keypoints of a person that are more plausible the other way round.

Every flip pair may be swapped by itself, and every part of the body that hangs on the rest by one pair. The scores of
`tokenpose.doctor.swap_scores` judge these swaps. A person whose left and right are swapped completely looks like any
other and is not found. With many pairs only those near the swapped ones judge a swap: all of them would take minutes
and find no more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Int

from tokenpose.doctor.swap_scores import (
    MOST_TEACHERS,
    Measures,
    TwoPairs,
    measure_sides,
    pair_distances,
    scale_to_unit_spread,
    score_swaps,
)
from tokenpose.shapes import KeypointArray, VisibleArray
from tokenpose.skeletons import Skeleton

SWAP_SCORE = 7.0
"""People with a higher score are reported: 148 of LSPET's 9,000, about half of a sample of them rightly, judged by eye.
With 6 it would be 216 people, with 8 99."""

NEAREST = 16
"""At most so many neighboring pairs judge a swap; with COCO's keypoints these are all."""

FEWEST = 20
"""People that it takes to judge the file as a whole."""

FlipPairs = Int[np.ndarray, "pairs 2"]
PairSet = frozenset[int]
"""Rows of flip pairs that are swapped together."""


@dataclass(frozen=True, kw_only=True)
class Swap:
    """What speaks against a person's labels."""

    person: int
    pairs: tuple[int, ...]
    """Rows of the flip pairs that look swapped."""
    neighbor: int
    """The pair that stays in place to which the swap shortens the distances most."""
    score: float
    """The logarithm of the odds between the swapped labels and those of the file."""


def find_swaps(
    keypoints: KeypointArray, labeled: VisibleArray, skeleton: Skeleton, least_score: float = SWAP_SCORE
) -> tuple[list[Swap], tuple[int, ...]]:
    """People whose left and right look swapped, by falling score; and pairs whose names are swapped in the whole file.

    These pairs are found first and swapped back for the rest. Each person has one swap, the most plausible one.
    """
    pairs = np.array(skeleton.flip_pairs or (), dtype=np.int64).reshape(-1, 2)
    if len(pairs) < 2 or not len(keypoints):
        return [], ()
    scaled = scale_to_unit_spread(keypoints, labeled)
    lengths = _lengths_between(scaled, labeled, pairs, skeleton.limbs)
    tree = _tree(lengths, len(pairs))
    swapped_names = _swapped_names(scaled, labeled, pairs, tree)
    pairs[list(swapped_names)] = pairs[list(swapped_names), ::-1]
    swaps = _list_swaps(len(pairs), tree)
    touched = [_nearest(part, lengths, tree) for part in swaps]
    needed = sorted({*tree, *(both for some in touched for both in some)})
    measures = {both: measure_sides(scaled, labeled, pairs[both[0]], pairs[both[1]]) for both in needed}
    scores = score_swaps(measures, touched, tree)
    worst, most = scores.argmax(axis=1), scores.max(axis=1)
    swapped = np.flatnonzero(most > least_score)
    return [
        Swap(
            person=int(person),
            pairs=tuple(sorted(swaps[worst[person]])),
            neighbor=_neighbor(measures, swaps[worst[person]], int(person), tree),
            score=float(most[person]),
        )
        for person in swapped[most[swapped].argsort()[::-1]]
    ], swapped_names


def _combinations(pairs: FlipPairs) -> Iterator[tuple[int, int]]:
    return combinations(range(len(pairs)), 2)


def _lengths_between(
    scaled: KeypointArray, labeled: VisibleArray, pairs: FlipPairs, limbs: Sequence[tuple[int, int]]
) -> dict[TwoPairs, tuple[bool, float]]:
    """For each two pairs, whether no limbs join them, and their median distance over some people."""
    some = slice(None, None, math.ceil(len(scaled) / MOST_TEACHERS))
    scaled, labeled = scaled[some], labeled[some]
    lengths = {}
    jointed = {frozenset(limb) for limb in limbs}
    for first, second in _combinations(pairs):
        both = labeled[:, [*pairs[first], *pairs[second]]].all(axis=1)
        left, right, across, back = pair_distances(scaled[both], pairs[first], pairs[second])
        length = float(np.median(np.minimum(left + right, across + back))) if both.any() else math.inf
        has_limbs = all(frozenset((a, b)) in jointed for a, b in zip(pairs[first], pairs[second], strict=True))
        lengths[first, second] = (not has_limbs, length)
    return lengths


def _tree(lengths: Mapping[TwoPairs, tuple[bool, float]], count: int) -> list[TwoPairs]:
    """Edges between neighboring pairs that connect all of them: limbs, else the shortest distances."""
    nearest = {
        pair: (lengths[0, pair], (0, pair)) for pair in range(1, count)
    }  # from the pairs reached to each other one
    edges = []
    while nearest:
        pair = min(nearest, key=lambda pair: nearest[pair])
        edges.append(nearest.pop(pair)[1])
        for other in nearest:
            edge = min(pair, other), max(pair, other)
            nearest[other] = min(nearest[other], (lengths[edge], edge))
    return edges


def _nearest(part: PairSet, lengths: Mapping[TwoPairs, tuple[bool, float]], tree: Sequence[TwoPairs]) -> list[TwoPairs]:
    """The two pairs that judge a swap, one that is swapped and one that is not: edges of the tree, then the nearest."""
    edges = set(tree)
    touched = [both for both in lengths if (both[0] in part) != (both[1] in part)]
    return sorted(sorted(touched, key=lambda both: (both not in edges, lengths[both]))[:NEAREST])


def _component(tree: Sequence[TwoPairs], start: int) -> PairSet:
    """The pairs that these edges connect to one pair."""
    reached, before = {start}, 0
    while len(reached) > before:
        before = len(reached)
        reached |= {pair for edge in tree if not reached.isdisjoint(edge) for pair in edge}
    return frozenset(reached)


def _list_swaps(count: int, tree: Sequence[TwoPairs]) -> list[PairSet]:
    """Each pair by itself, and for each edge the smaller of the two parts that it connects."""
    swaps = [frozenset({pair}) for pair in range(count)]
    for edge in tree:
        part = _component([other for other in tree if other != edge], edge[0])
        rest = frozenset(range(count)) - part
        smaller = min(part, rest, key=len)
        if smaller not in swaps:
            swaps.append(smaller)
    return swaps


def _swapped_names(
    scaled: KeypointArray, labeled: VisibleArray, pairs: FlipPairs, tree: Sequence[TwoPairs]
) -> tuple[int, ...]:
    """FlipPairs whose left is, with most people, nearer to the right of what they hang on: the fewer of both kinds."""
    kept = []
    for edge in tree:
        measures = measure_sides(scaled, labeled, pairs[edge[0]], pairs[edge[1]])[:, 0]
        known = measures[measures != 0]
        if len(known) < FEWEST or (known > 0).mean() > 0.3:
            kept.append(edge)
    signs = {0: True}
    while len(signs) < len(pairs):
        for edge in tree:
            for here, there in (edge, edge[::-1]):
                if here in signs:
                    signs.setdefault(there, signs[here] == (edge in kept))
    groups = [tuple(sorted(pair for pair in signs if signs[pair] is side)) for side in (True, False)]
    return min(groups, key=len)


def _neighbor(measures: Mapping[TwoPairs, Measures], part: PairSet, person: int, tree: Sequence[TwoPairs]) -> int:
    """The pair that stays in place, beside swapped ones, to which the swap shortens the distances most."""
    gains: dict[int, float] = {}
    for edge in tree:
        for inside, outside in (edge, edge[::-1]):
            if inside in part and outside not in part:
                gain = -float(measures[min(edge), max(edge)][person, 0])
                gains[outside] = max(gain, gains.get(outside, -math.inf))
    return max(gains, key=gains.__getitem__)
