"""Several datasets as one: one vocabulary of keypoints by name, each dataset with its own images."""

import logging
import os
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenpose.data.annotations import read_annotations
from tokenpose.data.samples import Samples
from tokenpose.data.sources import CheckedSource, ImageSource, Source
from tokenpose.skeletons import IndexPairs, Skeleton, normalize_name

logger = logging.getLogger(__name__)

Places = str | Path | Iterable[str | Path]


def read_datasets(
    annotations: str | Path | Sequence[str | Path],
    images: Places | None,
    *,
    rename: Mapping[str, str] | None = None,
    must_rename: bool = True,
    category: str | None = None,
) -> tuple[Samples, Source]:
    """Read one annotation file, or several as one, and where their images are; logs a line for each file.

    A file may bring its own places, "lsp.json=lsp/*.tar" (several: with ``os.pathsep`` between them, as in PATH); the
    images of the others are in ``images``. A path that exists as it stands is taken as it is. ``rename``: other names
    for keypoints, {"upper_neck": "neck"}, in each file that has them: keypoints of one name are one. A name that no
    file has is refused, unless ``must_rename`` is off. ``category``: which one, where several have keypoints.

    People without a visible keypoint are left out. Raises FileNotFoundError, LookupError for names to rename that no
    file has, and ValueError.
    """
    given = [annotations] if isinstance(annotations, str | Path) else list(annotations)
    shared = None if images is None else ImageSource(images)
    parts: list[tuple[Samples, Source]] = []
    for path, places in map(split_places, given):
        samples = _labelled(read_annotations(path, category))
        source = ImageSource(places) if places else shared
        if source is None:
            raise ValueError(f"where are the images of {path}? give images, or {path}=PLACE")
        logger.info("%s", samples.describe())
        parts.append((samples, source))
    if must_rename:
        _check_names(parts, rename or {})
    return combine(list(_renamed(parts, rename or {})))


def split_places(text: str | Path) -> tuple[Path, list[str]]:
    """ "FILE=PLACE" or "FILE=PLACE:PLACE" -> the file and its places; none for a path that exists as it stands."""
    if Path(text).exists() or "=" not in str(text):
        return Path(text), []
    pieces = str(text).split("=")
    cuts = [("=".join(pieces[:count]), "=".join(pieces[count:])) for count in range(1, len(pieces))]
    file, places = next(((file, places) for file, places in cuts if Path(file).is_file()), cuts[0])
    several = [places] if Path(places).exists() else places.split(os.pathsep)
    return Path(file), [place for place in several if place]


def combine(parts: Sequence[tuple[Samples, Source]]) -> tuple[Samples, Source]:
    """Several datasets as one; keypoints are those of all by name, in the order in which they first appear.

    A keypoint that a dataset doesn't have is not visible there. Limbs, flip pairs and sigmas are put together; sigmas
    are None where a keypoint has none. Images are numbered anew, from 0; annotations keep the ids of their files.
    Raises ValueError that names both files where they contradict each other.
    """
    if not parts:
        raise ValueError("there are no data to combine: give at least one annotation file")
    if len(parts) == 1:
        return parts[0]
    people = [samples for samples, _ in parts]
    _warn_of_spellings(people)
    skeleton = _merge_skeletons(people)
    spread = [_spread(samples, skeleton) for samples in people]
    starts = np.cumsum([0, *(len(samples.files) for samples in people)])
    files = tuple(f"{part}:{file}" for part, samples in enumerate(people) for file in samples.files)
    skipped: Counter[str] = Counter()
    for samples in people:
        skipped.update(samples.skipped)
    combined = Samples(
        skeleton=skeleton,
        files=files,
        image_ids=np.arange(len(files)),
        image_index=np.concatenate([start + part.image_index for start, part in zip(starts, people, strict=False)]),
        boxes=np.concatenate([samples.boxes for samples in people]),
        keypoints=np.concatenate([samples.keypoints for samples in spread]),
        visible=np.concatenate([samples.visible for samples in spread]),
        skipped=dict(skipped),
        annotation_ids=_concatenate_ids(people),
        areas=_concatenate_known([samples.areas for samples in people], people),
        head_sizes=_concatenate_known([samples.head_sizes for samples in people], people),
        origin=" + ".join(samples.origin for samples in people),
        outside=sum(samples.outside for samples in people),
    )
    return combined, CombinedSource([source for _, source in parts])


class CombinedSource:
    """The images of combined data: "1:a.jpg" is a.jpg of the second dataset."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def read(self, name: str) -> UInt8[Tensor, "3 height width"]:
        """The image of that name. Raises what the dataset's own source raises."""
        source, file = self._part(name)
        return source.read(file)

    def check(self, name: str) -> None:
        """Raise what reading raises where the dataset's own source knows that there is no such image."""
        source, file = self._part(name)
        if isinstance(source, CheckedSource):
            source.check(file)

    def _part(self, name: str) -> tuple[Source, str]:
        part, colon, file = name.partition(":")
        if not colon or not part.isdecimal() or int(part) >= len(self.sources):
            raise FileNotFoundError(f"there is no image {name} in the combined data: its names are like 0:a.jpg")
        return self.sources[int(part)], file


def rename_keypoints(samples: Samples, names: Mapping[str, str]) -> Samples:
    """Other names for keypoints, {"upper_neck": "neck"}; all else stays.

    Flip pairs that the old names didn't tell are told by the new ones, if these do. Raises LookupError for keypoints
    that the data don't have, ValueError where two get one name, and for a new name that is none.
    """
    skeleton = samples.skeleton
    nameless = [old for old, new in names.items() if not isinstance(new, str) or not new]
    if nameless:
        raise ValueError(f"the new name of {nameless[0]!r} must be text; got {names[nameless[0]]!r:.80}")
    unknown = [name for name in names if name not in skeleton.keypoints]
    if unknown:
        raise LookupError(
            f"{samples.origin} has no keypoint {unknown[0]!r} to rename; it has {', '.join(skeleton.keypoints)}"
        )
    keypoints = tuple(names.get(name, name) for name in skeleton.keypoints)
    try:
        return replace(samples, skeleton=replace(skeleton, keypoints=keypoints))
    except ValueError as error:
        raise ValueError(f"{samples.origin}: {error}") from error


def _labelled(samples: Samples) -> Samples:
    """Without the people of whom no keypoint is visible, whom MPII's files have."""
    kept = np.flatnonzero(samples.visible.any(axis=1))
    if len(kept) == len(samples):
        return samples
    skipped = {**samples.skipped, "no visible keypoint": len(samples) - len(kept)}
    return replace(samples.take(kept), skipped=skipped)


def _check_names(parts: Sequence[tuple[Samples, Source]], names: Mapping[str, str]) -> None:
    known = {name for samples, _ in parts for name in samples.skeleton.keypoints}
    unknown = [name for name in names if name not in known]
    if unknown:
        files = ", ".join(samples.origin for samples, _ in parts)
        raise LookupError(f"none of {files} has a keypoint {unknown[0]!r} to rename")


def _renamed(parts: Sequence[tuple[Samples, Source]], names: Mapping[str, str]) -> Iterator[tuple[Samples, Source]]:
    for samples, source in parts:
        yield rename_keypoints(samples, {a: b for a, b in names.items() if a in samples.skeleton.keypoints}), source


def _concatenate_ids(people: Sequence[Samples]) -> Int[np.ndarray, " all"] | None:
    """The ids that the records have in their own files; None where a file has none."""
    ids = [samples.annotation_ids for samples in people if samples.annotation_ids is not None]
    return np.concatenate(ids) if len(ids) == len(people) else None


def _spread(samples: Samples, skeleton: Skeleton) -> Samples:
    """The samples with the keypoints of a larger skeleton."""
    columns = [skeleton.index(name) for name in samples.skeleton.keypoints]
    keypoints = np.zeros((len(samples), len(skeleton), 2), dtype=np.float32)
    visible = np.zeros((len(samples), len(skeleton)), dtype=bool)
    keypoints[:, columns], visible[:, columns] = samples.keypoints, samples.visible
    return replace(samples, skeleton=skeleton, keypoints=keypoints, visible=visible)


def _concatenate_known(
    columns: Sequence[Float[np.ndarray, " _"] | None], people: Sequence[Samples]
) -> Float[np.ndarray, " all"] | None:
    """A column of all people, NaN for those whose data don't have it; None where none has."""
    if all(column is None for column in columns):
        return None
    unknown = [np.full(len(samples), np.nan, dtype=np.float32) for samples in people]
    return np.concatenate([full if column is None else column for column, full in zip(columns, unknown, strict=True)])


def _warn_of_spellings(people: Sequence[Samples]) -> None:
    """Log which keypoints of two files read the same and are not spelled so, a line for each two files."""
    alike: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for origin, name, other_origin, other in _alike(people):
        alike.setdefault((origin, other_origin), []).append((name, other))
    for (origin, other_origin), names in alike.items():
        own, others = (", ".join(map(repr, column)) for column in zip(*names, strict=True))
        renames = " ".join(f"--rename {shlex.quote(f'{name}={other}')}" for name, other in names)
        logger.warning(
            "%s has %s, %s %s: they read the same, and become different keypoints; if they are not, give %s",
            *(origin, own, other_origin, others, renames),
        )


def _alike(people: Sequence[Samples]) -> Iterator[tuple[str, str, str, str]]:
    """File and name, and an earlier file and its name that reads the same; those that one file has both are no such."""
    known: dict[tuple[str, ...], dict[str, str]] = {}
    together = [set(samples.skeleton.keypoints) for samples in people]
    for samples in people:
        for name in samples.skeleton.keypoints:
            spelled = known.setdefault(normalize_name(name) or (name,), {})
            if name in spelled:
                continue
            other = next(iter(spelled), name)
            if not any({name, other} <= names for names in together):
                yield samples.origin, name, spelled[other], other
            spelled[name] = samples.origin


def _merge_skeletons(people: Sequence[Samples]) -> Skeleton:
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
    """The pairs that the data have; for keypoints whose data don't know theirs, what all names together tell."""
    known: dict[str, tuple[str, str]] = {}
    for samples in people:
        for name, partner in _partners(samples.skeleton).items():
            other, origin = known.setdefault(name, (partner, samples.origin))
            if other != partner:
                raise ValueError(f"{origin} mirrors {name} to {other}, {samples.origin} to {partner}")
    told = _partners(Skeleton(name="all", keypoints=names))
    partners = told | {name: partner for name, (partner, _) in known.items()}
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
