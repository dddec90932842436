"""Findings about left and right: people whose keypoints look swapped, and swapped names."""

import math

import numpy as np

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.doctor.swap_scores import pair_distances
from tokenpose.doctor.swaps import SWAP_SCORE, Swap, find_swaps


def check_sides(records: Records, least_score: float = SWAP_SCORE) -> list[Finding]:
    """People whose left and right look swapped, and names that are swapped in the whole file."""
    swaps, swapped_names = find_swaps(records.keypoints, records.labeled(), records.skeleton, least_score)
    return [_about_names(records, pair) for pair in swapped_names] + [_about(records, one) for one in swaps]


def _about_names(records: Records, pair: int) -> Finding:
    left, right = (records.skeleton.keypoints[index] for index in (records.skeleton.flip_pairs or ())[pair])
    message = f"in most people {left} is on the side of the other right keypoints, and {right} on that of the left ones"
    advice = "swap the two names in the category, or the two keypoints in every annotation"
    return records.about_file(
        "left and right", "error", message, advice=advice, keypoints=(left, right), priority=math.inf
    )


def _about(records: Records, swap: Swap) -> Finding:
    skeleton, pairs = records.skeleton, records.skeleton.flip_pairs or ()
    names = [tuple(skeleton.keypoints[index] for index in pairs[pair]) for pair in swap.pairs]
    return records.about_person(
        swap.person,
        "left and right",
        "warning",
        f"{', '.join(' and '.join(pair) for pair in names)} look swapped{_lengths(records, swap)}",
        advice="check the two sides: left and right are the person's own",
        priority=swap.score,
        keypoints=tuple(name for pair in names for name in pair),
    )


def _lengths(records: Records, swap: Swap) -> str:
    """The distances to the pair that stays in place, swapped and as labeled; empty where keypoints are missing."""
    person, labeled = swap.person, records.labeled()[swap.person]
    pairs = np.array(records.skeleton.flip_pairs)
    stays = pairs[swap.neighbor]
    ends = [pair for pair in pairs[list(swap.pairs)] if labeled[[*pair, *stays]].all()]
    if not ends:
        return ""
    points = records.keypoints[person : person + 1]
    distances = [[float(one[0]) for one in pair_distances(points, pair, stays)] for pair in ends]
    left, right, across, back = max(distances, key=lambda four: four[0] + four[1] - four[2] - four[3])
    if across + back > 0.9 * (left + right):
        return ""
    to = " and ".join(records.skeleton.keypoints[index] for index in stays)
    shorter, labels = f"{across:.0f} and {back:.0f}", f"{left:.0f} and {right:.0f}"
    return f": swapped they are {shorter} pixels from {to}, as labeled {labels}"
