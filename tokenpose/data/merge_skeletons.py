"""The skeletons of several datasets as one: keypoints of one name are one keypoint."""

import logging
import shlex
from collections.abc import Iterator, Sequence

from tokenpose.data.samples import Samples
from tokenpose.skeletons import IndexPairs, Skeleton, read_names

logger = logging.getLogger(__name__)


def warn_of_spellings(people: Sequence[Samples]) -> None:
    """Log keypoints of two files whose names differ only in spelling, a line for each two files."""
    alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for origin, name, other_origin, other in _alike(people):
        alike.setdefault((origin, other_origin), []).append((name, other))
    for (origin, other_origin), names in alike.items():
        own, others = (", ".join(map(repr, column)) for column in zip(*names, strict=True))
        renames = " ".join(f"--rename {shlex.quote(f'{name}={other}')}" for name, other in names)
        logger.warning(
            "%s has %s, %s has %s: names that differ only in spelling are different keypoints; to join them, give %s",
            *(origin, own, other_origin, others, renames),
        )


def _alike(people: Sequence[Samples]) -> Iterator[tuple[str, str, str, str]]:
    """File and name, and an earlier file with another spelling of that name; not where one file has both spellings."""
    known: dict[tuple[str, ...], dict[str, str]] = {}
    together = [set(samples.skeleton.keypoints) for samples in people]
    for samples in people:
        names = samples.skeleton.keypoints
        for name, read in zip(names, read_names(names), strict=True):
            spelled = known.setdefault(read.words or (name,), {})
            if name in spelled:
                continue
            other = next(iter(spelled), name)
            if not any({name, other} <= names for names in together):
                yield samples.origin, name, spelled[other], other
            spelled[name] = samples.origin


def merge_skeletons(people: Sequence[Samples]) -> Skeleton:
    """All keypoints by name, in the order in which they first appear, with all limbs, flip pairs and sigmas.

    Raises ValueError that names both files where they contradict each other.
    """
    names = tuple(dict.fromkeys(name for samples in people for name in samples.skeleton.keypoints))
    position = {name: index for index, name in enumerate(names)}
    limbs: dict[frozenset[int], tuple[int, int]] = {}
    for samples in people:
        keypoints = samples.skeleton.keypoints
        for first, second in samples.skeleton.limbs:
            limb = position[keypoints[first]], position[keypoints[second]]
            limbs.setdefault(frozenset(limb), limb)
    sigmas = _merge_sigmas(people)
    return Skeleton(
        name="+".join(dict.fromkeys(samples.skeleton.name for samples in people)),
        keypoints=names,
        limbs=tuple(limbs.values()),
        flip_pairs=_merge_flip_pairs(people, names),
        sigmas=tuple(sigmas[name] for name in names) if len(sigmas) == len(names) else None,
    )


def _merge_sigmas(people: Sequence[Samples]) -> dict[str, float]:
    known: dict[str, tuple[float, str]] = {}
    for samples in people:
        for name, sigma in zip(samples.skeleton.keypoints, samples.skeleton.sigmas or (), strict=False):
            other, origin = known.setdefault(name, (sigma, samples.origin))
            if other != sigma:
                raise ValueError(f"{origin} has the sigma {other} for {name}, {samples.origin} {sigma}")
    return {name: sigma for name, (sigma, _) in known.items()}


def _merge_flip_pairs(people: Sequence[Samples], names: tuple[str, ...]) -> IndexPairs | None:
    """The pairs of the data; for keypoints whose data have no pairs, those that all names together give."""
    known: dict[str, tuple[str, str]] = {}
    for samples in people:
        for name, partner in _partners(samples.skeleton).items():
            other, origin = known.setdefault(name, (partner, samples.origin))
            if other != partner:
                raise ValueError(f"{origin} mirrors {name} to {other}, {samples.origin} to {partner}")
    by_name = _partners(Skeleton(name="all", keypoints=names))
    partners = by_name | {name: partner for name, (partner, _) in known.items()}
    if len(partners) < len(names):
        return None
    for name, partner in partners.items():
        other = partners[partner]
        if other != name:
            raise ValueError(
                f"{known[partner][1]} mirrors {partner} to {other}, and by its name {name} goes to {partner}"
            )
    skeletons = [*(samples.skeleton for samples in people), Skeleton(name="all", keypoints=names)]
    ordered = dict.fromkeys(pair for skeleton in skeletons for pair in _named_pairs(skeleton))
    pairs = {frozenset(pair): pair for pair in reversed(ordered) if partners[pair[0]] == pair[1]}
    return tuple(sorted((names.index(first), names.index(second)) for first, second in pairs.values()))


def _named_pairs(skeleton: Skeleton) -> list[tuple[str, str]]:
    names = skeleton.keypoints
    return [(names[first], names[second]) for first, second in skeleton.flip_pairs or ()]


def _partners(skeleton: Skeleton) -> dict[str, str]:
    """Whose place each keypoint takes in a mirrored image, its own among them; nothing where the pairs are unknown."""
    if skeleton.flip_pairs is None:
        return {}
    pairs = _named_pairs(skeleton)
    return {name: name for name in skeleton.keypoints} | dict(pairs) | {second: first for first, second in pairs}
