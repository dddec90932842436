"""Checks of flip pairs: whether they agree with the names of the keypoints and with where these lie."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.skeletons import Skeleton, explain_unknown_flip_pairs, infer_flip_pairs

UNLIKE = 0.3
"""How much farther from the rest of the body one keypoint of a pair may be than the other, as a logarithm: the worst
pair of LSPET differs by 0.03, of COCO's 86 people by 0.12."""

FEWEST = 20
"""People that it takes to compare distances."""


def check_pairs(records: Records) -> list[Finding]:
    """Flip pairs that are missing, contradict the names, or whose keypoints are not each other's mirror image."""
    skeleton = records.skeleton
    findings = [*_check_names(records), *_contradictions(records)]
    for left, right in skeleton.flip_pairs or ():
        names = (skeleton.keypoints[left], skeleton.keypoints[right])
        difference, reference = _difference(records.keypoints, records.labeled(), skeleton, (left, right))
        if abs(difference) > UNLIKE:
            near, far = names if difference > 0 else names[::-1]
            message = (
                f"{near} and {far} don't look like a pair: {far} is {np.exp(abs(difference)):.1f} times as far from "
                f"{reference} as {near}"
            )
            advice = "check that the names have the same order as the keypoints' numbers"
            findings.append(
                records.about_file(
                    "flip pairs", "warning", message, advice=advice, keypoints=names, priority=abs(difference)
                )
            )
    return findings


def _check_names(records: Records) -> list[Finding]:
    """Names from which no pairs follow, where none are given."""
    skeleton = records.skeleton
    if skeleton.flip_pairs is not None:
        return []
    alone = names_without_partner(skeleton)
    advice = 'name both "left_..." and "right_...", or give the pairs: --flip-pairs left_a:right_a,left_b:right_b'
    if alone:
        message = f"{', '.join(alone)} {'has' if len(alone) == 1 else 'have'} no partner of the other side by name"
        return [records.about_file("flip pairs", "error", message, advice=advice, keypoints=alone)]
    message = f"the names don't say which keypoints change sides: {explain_unknown_flip_pairs(skeleton.keypoints)}"
    advice += "; --flip-pairs none if no keypoint changes sides; or train without mirroring, --flip 0"
    return [records.about_file("flip pairs", "error", message, advice=advice)]


def names_without_partner(skeleton: Skeleton) -> tuple[str, ...]:
    """Keypoints whose name has a side, where no name is the same but for the other side."""
    sided = [index for index in range(len(skeleton)) if skeleton.side(index)]
    return tuple(
        skeleton.keypoints[index]
        for index in sided
        if not any(
            infer_flip_pairs((skeleton.keypoints[index], skeleton.keypoints[other]))
            for other in sided
            if other != index
        )
    )


def _contradictions(records: Records) -> list[Finding]:
    """Pairs of the file that disagree with those that follow from the names."""
    skeleton = records.skeleton
    pairs, named = skeleton.flip_pairs, infer_flip_pairs(skeleton.keypoints)
    if pairs is None or named is None:
        return []
    partners = _partners(named)
    findings = []
    for pair in pairs:
        names = tuple(skeleton.keypoints[index] for index in pair)
        meant = partners.get(pair[0])
        if meant == pair[1] or (meant is None and pair[1] not in partners):
            continue
        by_name = "in no pair" if meant is None else f"paired with {skeleton.keypoints[meant]}"
        message = f"{names[0]} is paired with {names[1]}; by the names it should be {by_name}"
        findings.append(
            records.about_file("flip pairs", "error", message, advice="correct the pair or the name", keypoints=names)
        )
    given = {index for pair in pairs for index in pair}
    for left, right in named:
        if left not in given and right not in given:
            names = (skeleton.keypoints[left], skeleton.keypoints[right])
            message, advice = (
                f"{names[0]} and {names[1]} are in no pair",
                "add the pair: without it left and right get mixed up in mirrored people",
            )
            findings.append(records.about_file("flip pairs", "error", message, advice=advice, keypoints=names))
    return findings


def _partners(pairs: tuple[tuple[int, int], ...]) -> Mapping[int, int]:
    return {first: second for both in pairs for first, second in (both, both[::-1])}


def _difference(
    keypoints: Float[np.ndarray, "people keypoints 2"],
    labeled: Bool[np.ndarray, "people keypoints"],
    skeleton: Skeleton,
    pair: tuple[int, int],
) -> tuple[float, str]:
    """How many times farther the second keypoint is than the first, as a logarithm, and from which keypoints.

    Measured from each keypoint in the middle, and from both keypoints of each other pair, as the median over people who
    have all of them; the largest difference counts. 0 where there are too few people.
    """
    partners = _partners(skeleton.flip_pairs or ())
    best, reference = 0.0, ""
    for other in range(len(skeleton)):
        partner = partners.get(other)
        if other in pair or (partner is not None and partner < other) or (partner is None and skeleton.side(other)):
            continue
        ends = [other] if partner is None else [other, partner]
        known = labeled[:, [*pair, *ends]].all(axis=1)
        if known.sum() < FEWEST:
            continue
        from_ends = keypoints[:, ends][known]
        far = [np.linalg.norm(keypoints[known, end][:, None] - from_ends, axis=-1).sum(1) for end in pair]
        difference = float(np.median(np.log(np.maximum(far[1], 1e-6)) - np.log(np.maximum(far[0], 1e-6))))
        if abs(difference) > abs(best):
            best, reference = difference, " and ".join(skeleton.keypoints[end] for end in ends)
    return best, reference
