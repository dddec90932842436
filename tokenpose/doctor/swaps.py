"""Left and right exchanged: which keypoints of a person are more plausible the other way round.

Nothing is known of bodies here. For every two pairs of left and right keypoints, a few measures say how much nearer the
left ones are to each other, and the right ones, than left to right. How much each of them counts is learned from the
file itself, by the one thing that is known: most people are labelled rightly, so that their measures should speak for
the labels, and those of the same people with a pair exchanged, against. That is a logistic regression without
intercept; each third of the people is judged by what the other two thirds taught, and those who are doubtful after a
first round don't teach in the second, or a few would flatten the scores of all. A score is the logarithm of the odds
between both readings. A person whose left and right are exchanged as a whole can't be told by it. Where there are
many pairs, only those count that are near those exchanged: all of them would take minutes, and tell no more.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float, Int

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.skeletons import Skeleton

SUSPICIOUS = 7.0
"""The score from which on somebody is suspected: 148 of LSPET's 9,000 people, of a sample seen by eye
about half rightly so. From 6 on it would be 216, from 8 on 99."""

DOUBTFUL = 2.0
FOLDS = 3
MOST_TEACHERS = 20_000
"""People to learn from at most: five weights need no more, and a large file would only take longer."""

MOST_LESSONS = 300_000
"""People times exchanges to learn from at most: with more than COCO's 15 exchanges, fewer people teach each."""

NEAREST = 16
"""Pairs of pairs by which an exchange is judged at most, the nearest; with COCO's keypoints it is all of them."""

FEWEST = 20
"""People without whom nothing is said of the file as a whole."""

PRIOR = (1.2, 0.7, 1.4, 3.0, 1.1)
"""The weights of the measures of pairs that hang together, in units of their spread: where learning starts, so that
they matter in files of few people. Means of those learned on LSPET without the other measures."""

Points = Float[np.ndarray, "people keypoints 2"]
Labelled = Bool[np.ndarray, "people keypoints"]
Pairs = Int[np.ndarray, "pairs 2"]
Measures = Float[np.ndarray, "people measures"]
Both = tuple[int, int]
"""Rows of two of the pairs, the smaller first."""
Exchange = frozenset[int]
"""Which pairs change sides together."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """What speaks against a person's labels."""

    person: int
    pairs: tuple[int, ...]
    """Rows of the flip pairs that look exchanged."""
    neighbour: int
    """A pair that stays, to which the distances shrink most."""
    score: float


def find_swaps(
    keypoints: Points, labelled: Labelled, skeleton: Skeleton, suspicious: float = SUSPICIOUS
) -> tuple[list[Suspicion], tuple[int, ...]]:
    """People whose left and right look exchanged, worst first; and pairs that are exchanged in the file as a whole.

    The latter are judged first, and taken as exchanged for the rest. One suspicion a person: the most plausible.
    """
    pairs = np.array(skeleton.flip_pairs or (), dtype=np.int64).reshape(-1, 2)
    if len(pairs) < 2 or not len(keypoints):
        return [], ()
    points = _normalised(keypoints, labelled)
    lengths = _lengths_between(points, labelled, pairs, skeleton.limbs)
    tree = _tree(lengths, len(pairs))
    exchanged = _exchanged_names(points, labelled, pairs, tree)
    pairs[list(exchanged)] = pairs[list(exchanged), ::-1]
    exchanges = _exchanges(len(pairs), tree)
    touched = [_nearest(part, lengths, tree) for part in exchanges]
    needed = sorted({*tree, *(both for some in touched for both in some)})
    measures = {both: _measure(points, labelled, pairs[both[0]], pairs[both[1]]) for both in needed}
    scores = _score(measures, touched, tree)
    worst, most = scores.argmax(axis=1), scores.max(axis=1)
    suspects = np.flatnonzero(most > suspicious)
    return [
        Suspicion(
            person=int(person),
            pairs=tuple(sorted(exchanges[worst[person]])),
            neighbour=_neighbour(measures, exchanges[worst[person]], int(person), tree),
            score=float(most[person]),
        )
        for person in suspects[most[suspects].argsort()[::-1]]
    ], exchanged


def _combinations(pairs: Pairs) -> Iterator[tuple[int, int]]:
    return combinations(range(len(pairs)), 2)


def _normalised(keypoints: Points, labelled: Labelled) -> Points:
    """In units of each person's spread, which no exchange changes; unlabelled ones are 0."""
    count = np.maximum(labelled.sum(axis=1), 1)[:, None]
    center = np.where(labelled[..., None], keypoints, 0).sum(axis=1) / count
    moved = np.where(labelled[..., None], keypoints - center[:, None], 0)
    spread = np.sqrt((moved**2).sum(axis=(1, 2)) / count[:, 0])
    return moved / np.maximum(spread, 1e-6)[:, None, None]


def _distances(points: Points, first: Int[np.ndarray, " 2"], second: Int[np.ndarray, " 2"]) -> tuple[np.ndarray, ...]:
    """Left to left, right to right, left to right, right to left."""
    corners = ((0, 0), (1, 1), (0, 1), (1, 0))
    return tuple(np.linalg.norm(points[:, first[i]] - points[:, second[j]], axis=-1) for i, j in corners)


def _measure(
    points: Points, labelled: Labelled, first: Int[np.ndarray, " 2"], second: Int[np.ndarray, " 2"]
) -> Float[np.ndarray, "people 5"]:
    """What speaks for the sides of two pairs, positive; exchanging one of them turns the signs.

    Over both sides the sum of the distances, of their squares and the longer one; the cosine of the two pairs'
    directions; and the distances where just three of the four are labelled. 0 where there is nothing to compare.
    """
    left, right, across, back = _distances(points, first, second)
    directions = [points[:, pair[0]] - points[:, pair[1]] for pair in (first, second)]
    lengths = np.prod([np.linalg.norm(direction, axis=-1) for direction in directions], axis=0)
    known = [labelled[:, index] for index in (*first, *second)]
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


def _lengths_between(
    points: Points, labelled: Labelled, pairs: Pairs, limbs: Sequence[tuple[int, int]]
) -> dict[Both, tuple[bool, float]]:
    """How far pairs are from each other: whether no limbs join them, and the median distance over some people."""
    some = slice(None, None, math.ceil(len(points) / MOST_TEACHERS))
    points, labelled = points[some], labelled[some]
    lengths = {}
    jointed = {frozenset(limb) for limb in limbs}
    for first, second in _combinations(pairs):
        both = labelled[:, [*pairs[first], *pairs[second]]].all(axis=1)
        left, right, across, back = _distances(points[both], pairs[first], pairs[second])
        length = float(np.median(np.minimum(left + right, across + back))) if both.any() else math.inf
        has_limbs = all(frozenset((a, b)) in jointed for a, b in zip(pairs[first], pairs[second], strict=True))
        lengths[first, second] = (not has_limbs, length)
    return lengths


def _tree(lengths: Mapping[Both, tuple[bool, float]], count: int) -> list[Both]:
    """How the pairs hang together: by limbs, and where these don't tell, by the shortest distances."""
    nearest = {pair: (lengths[0, pair], (0, pair)) for pair in range(1, count)}  # of those reached, to each that isn't
    edges = []
    while nearest:
        pair = min(nearest, key=lambda pair: nearest[pair])
        edges.append(nearest.pop(pair)[1])
        for other in nearest:
            edge = min(pair, other), max(pair, other)
            nearest[other] = min(nearest[other], (lengths[edge], edge))
    return edges


def _nearest(part: Exchange, lengths: Mapping[Both, tuple[bool, float]], tree: Sequence[Both]) -> list[Both]:
    """Of what an exchange touches, one pair in it and one that stays, the edges of the tree and what is nearest."""
    edges = set(tree)
    touched = [both for both in lengths if (both[0] in part) != (both[1] in part)]
    return sorted(sorted(touched, key=lambda both: (both not in edges, lengths[both]))[:NEAREST])


def _component(tree: Sequence[Both], start: int) -> Exchange:
    """What hangs together with a pair by these edges."""
    reached, before = {start}, 0
    while len(reached) > before:
        before = len(reached)
        reached |= {pair for edge in tree if not reached.isdisjoint(edge) for pair in edge}
    return frozenset(reached)


def _exchanges(count: int, tree: Sequence[Both]) -> list[Exchange]:
    """Each pair by itself, and each part that hangs on the rest by one edge, the smaller of both."""
    exchanges = [frozenset({pair}) for pair in range(count)]
    for edge in tree:
        part = _component([other for other in tree if other != edge], edge[0])
        rest = frozenset(range(count)) - part
        smaller = min(part, rest, key=len)
        if smaller not in exchanges:
            exchanges.append(smaller)
    return exchanges


def _exchanged_names(points: Points, labelled: Labelled, pairs: Pairs, tree: Sequence[Both]) -> tuple[int, ...]:
    """Pairs whose left is, with most people, nearer to the right of what they hang on: the fewer of both kinds."""
    kept = []
    for edge in tree:
        measures = _measure(points, labelled, pairs[edge[0]], pairs[edge[1]])[:, 0]
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


def _score(
    measures: Mapping[Both, Measures], touched: Sequence[Sequence[Both]], tree: Sequence[Both]
) -> Float[np.ndarray, "people exchanges"]:
    """How much more plausible each exchange is than the labels as they are: the logarithm of the odds.

    ``touched``: by which pairs of pairs each exchange is judged.
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
        teaches = scores.max(axis=1) < DOUBTFUL
    return scores


def _learn(values: Measures, prior: Float[np.ndarray, " measures"]) -> Float[np.ndarray, " measures"]:
    """Weights by which the measures speak for the labels: logistic regression by Newton's method."""
    spread = np.sqrt((values**2).mean(axis=0)) if len(values) else np.zeros(len(prior))
    spread = np.where(spread > 0, spread, 1.0)
    scaled, weights = values / spread, prior.copy()
    cost = _cost(scaled, weights, prior)
    for _ in range(25):
        doubt = 1 / (1 + np.exp(np.clip(scaled @ weights, -50, 50)))
        gradient = scaled.T @ doubt - (weights - prior)
        curvature = (scaled.T * (doubt * (1 - doubt))) @ scaled + np.eye(len(weights))
        step = np.linalg.solve(curvature, gradient)
        while (after := _cost(scaled, weights + step, prior)) > cost and np.abs(step).max() > 1e-6:
            step = step / 2  # Newton's method may go too far
        weights = weights + step
        if cost - after < 1e-5 * cost:
            break
        cost = after
    return weights / spread


def _cost(scaled: Measures, weights: Float[np.ndarray, " measures"], prior: Float[np.ndarray, " measures"]) -> float:
    """How badly the weights explain the labels, and how far they are from where they start."""
    return float(np.logaddexp(0, -(scaled @ weights)).sum() + ((weights - prior) ** 2).sum() / 2)


def _neighbour(measures: Mapping[Both, Measures], part: Exchange, person: int, tree: Sequence[Both]) -> int:
    """The pair that stays, hanging on exchanged ones, to which their distances shrink most."""
    gains: dict[int, float] = {}
    for edge in tree:
        for inside, outside in (edge, edge[::-1]):
            if inside in part and outside not in part:
                gain = -float(measures[min(edge), max(edge)][person, 0])
                gains[outside] = max(gain, gains.get(outside, -math.inf))
    return max(gains, key=gains.__getitem__)


def check_sides(records: Records, suspicious: float = SUSPICIOUS) -> list[Finding]:
    """People whose left and right look exchanged, and names that are exchanged in the whole file."""
    suspicions, exchanged = find_swaps(records.keypoints, records.labelled(), records.skeleton, suspicious)
    return [_about_names(records, pair) for pair in exchanged] + [_about(records, one) for one in suspicions]


def _about_names(records: Records, pair: int) -> Finding:
    left, right = (records.skeleton.keypoints[index] for index in (records.skeleton.flip_pairs or ())[pair])
    message = f"with most people, {left} is on the side of the other right keypoints, and {right} of the left ones"
    advice = "exchange the two names in the category, or the two keypoints in every annotation"
    return records.about_file(
        "left and right", "error", message, advice=advice, keypoints=(left, right), doubt=math.inf
    )


def _about(records: Records, suspicion: Suspicion) -> Finding:
    skeleton, pairs = records.skeleton, records.skeleton.flip_pairs or ()
    names = [tuple(skeleton.keypoints[index] for index in pairs[pair]) for pair in suspicion.pairs]
    return records.about_person(
        suspicion.person,
        "left and right",
        "warning",
        f"{', '.join(' and '.join(pair) for pair in names)} look exchanged{_lengths(records, suspicion)}",
        advice="left and right are the person's own: see whether they are",
        doubt=suspicion.score,
        keypoints=tuple(name for pair in names for name in pair),
    )


def _lengths(records: Records, suspicion: Suspicion) -> str:
    """The distances to the pair that stays, as labelled and exchanged, where they can be told."""
    person, labelled = suspicion.person, records.labelled()[suspicion.person]
    pairs = np.array(records.skeleton.flip_pairs)
    stays = pairs[suspicion.neighbour]
    ends = [pair for pair in pairs[list(suspicion.pairs)] if labelled[[*pair, *stays]].all()]
    if not ends:
        return ""
    points = records.keypoints[person : person + 1]
    distances = [[float(one[0]) for one in _distances(points, pair, stays)] for pair in ends]
    left, right, across, back = max(distances, key=lambda four: four[0] + four[1] - four[2] - four[3])
    if across + back > 0.9 * (left + right):
        return ""
    to = " and ".join(records.skeleton.keypoints[index] for index in stays)
    shorter, labels = f"{across:.0f} and {back:.0f}", f"{left:.0f} and {right:.0f}"
    return f": the other way round they are {shorter} pixels from {to}, as labelled {labels}"
