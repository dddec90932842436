"""Swaps among many pairs."""

import numpy as np

from tokenpose.doctor import swap_scores, swaps
from tokenpose.skeletons import Skeleton


def test_exchanges_among_many_pairs_are_found_by_the_nearest_pairs_alone(monkeypatch):
    count, random = 40, np.random.default_rng(0)
    left = random.uniform((0.05, 0), (0.5, 1), (count, 2))
    keypoints = 300 * np.concatenate((left, left * (-1, 1))) + random.normal(0, 5, (60, 2 * count, 2))
    keypoints[7, [3, 3 + count]] = keypoints[7, [3 + count, 3]]
    skeleton = Skeleton.from_names([f"{side}_{index}" for side in ("left", "right") for index in range(count)])
    widths, learn = [], swap_scores._learn
    monkeypatch.setattr(swap_scores, "_learn", lambda values, prior: widths.append(len(prior)) or learn(values, prior))
    suspicions, exchanged = swaps.find_swaps(keypoints, np.ones(keypoints.shape[:2], dtype=bool), skeleton)
    assert ([(one.person, one.pairs) for one in suspicions], exchanged) == ([(7, (3,))], ())
    assert max(widths) == 5 * swaps.NEAREST  # of 400 pairs of pairs that touch one half of them
