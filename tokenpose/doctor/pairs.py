"""Flip pairs: whether left and right keypoints are paired, as their names say and their places bear out."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from tokenpose.doctor.findings import Finding
from tokenpose.doctor.records import Records
from tokenpose.skeletons import Skeleton, explain_unknown_flip_pairs, infer_flip_pairs

UNLIKE = 0.3
"""How much farther one keypoint of a pair may be from the rest of the body than the other, as a logarithm: in LSPET the
worst pair differs by 0.03, in COCO's 86 people by 0.12."""

FEWEST = 20
"""People without whom nothing is said about places."""


def check_pairs(records: Records) -> list[Finding]:
    """Flip pairs that are missing, contradict the names, or whose keypoints are not each other's mirror image."""
    skeleton = records.skeleton
    findings = [*_check_names(records), *_contradictions(records)]
    for left, right in skeleton.flip_pairs or ():
        names = (skeleton.keypoints[left], skeleton.keypoints[right])
        difference, reference = _difference(records.keypoints, records.labelled(), skeleton, (left, right))
        if abs(difference) > UNLIKE:
            near, far = names if difference > 0 else names[::-1]
            message = (
                f"{near} and {far} don't look like a pair: {far} is {np.exp(abs(difference)):.1f} times as far from "
                f"{reference} as {near}"
            )
            advice = "see whether the names stand in the order of the keypoints' numbers"
            findings.append(
                records.about_file(
                    "flip pairs", "warning", message, advice=advice, keypoints=names, doubt=abs(difference)
                )
            )
    return findings


def _check_names(records: Records) -> list[Finding]:
    """Names that don't tell the pairs, though no pairs are given."""
    skeleton = records.skeleton
    if skeleton.flip_pairs is not None:
        return []
    lonely = lonely_names(skeleton)
    advice = 'name both "left_..." and "right_...", or give the pairs: --flip-pairs left_a:right_a,left_b:right_b'
    if lonely:
        message = f"{', '.join(lonely)} {'has' if len(lonely) == 1 else 'have'} no partner of the other side by name"
        return [records.about_file("flip pairs", "error", message, advice=advice, keypoints=lonely)]
    message = f"which keypoints change sides can't be told: {explain_unknown_flip_pairs(skeleton.keypoints)}"
    advice += "; --flip-pairs none where nothing changes sides; or train with --flip 0, without mirroring"
    return [records.about_file("flip pairs", "error", message, advice=advice)]


def lonely_names(skeleton: Skeleton) -> tuple[str, ...]:
    """Keypoints whose name has a side, and that no other's name mirrors."""
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
    """Given pairs of which the names tell otherwise."""
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
        by_name = f"{names[0]} with {skeleton.keypoints[meant]}" if meant is not None else f"not {names[0]}"
        message = f"{names[0]} is paired with {names[1]}, the names pair {by_name}"
        findings.append(
            records.about_file("flip pairs", "error", message, advice="correct the pair or the name", keypoints=names)
        )
    given = {index for pair in pairs for index in pair}
    for left, right in named:
        if left not in given and right not in given:
            names = (skeleton.keypoints[left], skeleton.keypoints[right])
            message, advice = (
                f"{names[0]} and {names[1]} are in no pair",
                "add the pair, or a mirrored person has two lefts",
            )
            findings.append(records.about_file("flip pairs", "error", message, advice=advice, keypoints=names))
    return findings


def _partners(pairs: tuple[tuple[int, int], ...]) -> Mapping[int, int]:
    return {first: second for both in pairs for first, second in (both, both[::-1])}


def _difference(
    keypoints: Float[np.ndarray, "people keypoints 2"],
    labelled: Bool[np.ndarray, "people keypoints"],
    skeleton: Skeleton,
    pair: tuple[int, int],
) -> tuple[float, str]:
    """The logarithm of how many times farther the second keypoint is than the first, from what, where that is most.

    From each keypoint in the middle, and from both of each other pair together, as the median over people who have all
    of them. 0 where there are too few.
    """
    partners = _partners(skeleton.flip_pairs or ())
    best, reference = 0.0, ""
    for other in range(len(skeleton)):
        partner = partners.get(other)
        if other in pair or (partner is not None and partner < other) or (partner is None and skeleton.side(other)):
            continue
        ends = [other] if partner is None else [other, partner]
        known = labelled[:, [*pair, *ends]].all(axis=1)
        if known.sum() < FEWEST:
            continue
        from_ends = keypoints[:, ends][known]
        far = [np.linalg.norm(keypoints[known, end][:, None] - from_ends, axis=-1).sum(1) for end in pair]
        difference = float(np.median(np.log(np.maximum(far[1], 1e-6)) - np.log(np.maximum(far[0], 1e-6))))
        if abs(difference) > abs(best):
            best, reference = difference, " and ".join(skeleton.keypoints[end] for end in ends)
    return best, reference
