"""Several datasets as one: keypoints of one name are one keypoint, and each dataset has its own images."""

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from tokenpose.data.annotations import read_annotations
from tokenpose.data.merge_skeletons import merge_skeletons, warn_of_spellings
from tokenpose.data.samples import Samples
from tokenpose.data.sources import CheckedSource, ImageSource, Source
from tokenpose.skeletons import Skeleton

logger = logging.getLogger(__name__)

Places = str | Path | Iterable[str | Path]


def read_datasets(
    annotations: str | Path | Sequence[str | Path],
    images: Places | None,
    *,
    rename: Mapping[str, str] | None = None,
    must_rename: bool = True,
    category: str | Sequence[str] | None = None,
    unlabeled: bool = False,
    boxes_from_keypoints: float | None = None,
) -> tuple[Samples, Source]:
    """Read one annotation file, or several as one, with the source of their images; logs a line for each file.

    A file may name the places of its own images, "lsp.json=lsp/*.tar" (several places are separated by ``os.pathsep``,
    as in PATH); the images of the other files are in ``images``. A path that exists is used as it is. ``rename``: new
    names for keypoints, {"upper_neck": "neck"}, in each file that has them. A name that no file has is refused, unless
    ``must_rename`` is off. ``category``: the names of those to read, where categories have different keypoints.
    ``boxes_from_keypoints``: for people without a box, see `tokenpose.data.coco.read_columns`.

    People without a visible keypoint are left out, unless ``unlabeled`` people are wanted too. Raises
    FileNotFoundError, LookupError for names to rename that no file has, and ValueError.
    """
    given = [annotations] if isinstance(annotations, str | Path) else list(annotations)
    shared = None if images is None else ImageSource(images)
    parts: list[tuple[Samples, Source]] = []
    for path, places in map(split_places, given):
        samples = read_annotations(path, category, unlabeled=unlabeled, boxes_from_keypoints=boxes_from_keypoints)
        samples = samples if unlabeled else _labeled(samples)
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

    A keypoint that a dataset doesn't have is not visible there. Limbs, flip pairs and sigmas are merged; sigmas are
    None if a keypoint has none. Images get new numbers, from 0; annotations keep the ids of their files. Raises
    ValueError that names both files where they contradict each other.
    """
    if not parts:
        raise ValueError("there are no data to combine: give at least one annotation file")
    if len(parts) == 1:
        return parts[0]
    people = [samples for samples, _ in parts]
    warn_of_spellings(people)
    skeleton = merge_skeletons(people)
    spread = [_spread(samples, skeleton) for samples in people]
    starts = np.cumsum([0, *(len(samples.files) for samples in people)])
    files = tuple(file for samples in people for file in samples.files)
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
        weights=_concatenate_weights(spread),
        skipped=dict(skipped),
        annotation_ids=_concatenate_ids(people),
        areas=_concatenate_known([samples.areas for samples in people], people),
        head_sizes=_concatenate_known([samples.head_sizes for samples in people], people),
        origins=tuple(origin for samples in people for origin in samples.origins),
        origin_index=_concatenate_origins(people),
        outside=sum(samples.outside for samples in people),
    )
    nested = [source.sources if isinstance(source, CombinedSource) else (source,) for _, source in parts]
    return combined, CombinedSource([source for sources in nested for source in sources])


class CombinedSource:
    """The images of several datasets, each in the source of its own."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = tuple(sources)

    def read(self, name: str, origin: int | None = None) -> UInt8[Tensor, "3 height width"]:
        """The image of that name in dataset number ``origin``. Raises what the dataset's own source raises."""
        return self._source(name, origin).read(name)

    def check(self, name: str, origin: int | None = None) -> None:
        """Raise what reading raises where the dataset's own source knows that there is no such image."""
        source = self._source(name, origin)
        if isinstance(source, CheckedSource):
            source.check(name)

    def _source(self, name: str, origin: int | None) -> Source:
        """The dataset's own; a name alone may be that of several images."""
        if origin is None:
            raise ValueError(f"{name} may be in any of {len(self.sources)} datasets: give the number of one as origin")
        return self.sources[origin]


def read_image_of(source: Source, samples: Samples, image: int) -> UInt8[Tensor, "3 height width"]:
    """An image of the samples, by its number among their files. Raises what the source raises."""
    name = samples.files[image]
    return source.read(name, samples.origin_of(image)) if isinstance(source, CombinedSource) else source.read(name)


def check_image_of(source: CheckedSource, samples: Samples, image: int) -> None:
    """Raise OSError where the source knows that it doesn't have an image of the samples."""
    name = samples.files[image]
    if isinstance(source, CombinedSource):
        source.check(name, samples.origin_of(image))
    else:
        source.check(name)


def rename_keypoints(samples: Samples, names: Mapping[str, str]) -> Samples:
    """The same data with new names for keypoints, {"upper_neck": "neck"}.

    Flip pairs that are unknown follow from the new names where these have sides. Raises LookupError for keypoints that
    the data don't have, and ValueError where two get the same name or a new name is empty or not text.
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


def _labeled(samples: Samples) -> Samples:
    """Without the people who have no visible keypoint; MPII's files have some."""
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


def _concatenate_weights(spread: Sequence[Samples]) -> Float[np.ndarray, "all keypoints"] | None:
    """The weights of all keypoints, 1 in data that have none; None where no data have any."""
    if all(samples.weights is None for samples in spread):
        return None
    full = [np.ones(samples.visible.shape, dtype=np.float32) for samples in spread]
    own = [samples.weights for samples in spread]
    return np.concatenate([ones if known is None else known for known, ones in zip(own, full, strict=True)])


def _concatenate_origins(people: Sequence[Samples]) -> Int[np.ndarray, " images"]:
    """Which origin each image has, in the list of all origins."""
    starts = np.cumsum([0, *(len(samples.origins) for samples in people)])
    columns = [
        np.zeros(len(samples.files), dtype=np.int64) if samples.origin_index is None else samples.origin_index
        for samples in people
    ]
    return np.concatenate([start + column for start, column in zip(starts, columns, strict=False)])


def _spread(samples: Samples, skeleton: Skeleton) -> Samples:
    """The samples with the keypoints of a larger skeleton."""
    columns = [skeleton.index(name) for name in samples.skeleton.keypoints]
    keypoints = np.zeros((len(samples), len(skeleton), 2), dtype=np.float32)
    visible = np.zeros((len(samples), len(skeleton)), dtype=bool)
    keypoints[:, columns], visible[:, columns] = samples.keypoints, samples.visible
    weights = None
    if samples.weights is not None:
        weights = np.ones((len(samples), len(skeleton)), dtype=np.float32)
        weights[:, columns] = samples.weights
    return replace(samples, skeleton=skeleton, keypoints=keypoints, visible=visible, weights=weights)


def _concatenate_known(
    columns: Sequence[Float[np.ndarray, " _"] | None], people: Sequence[Samples]
) -> Float[np.ndarray, " all"] | None:
    """A column of all people, NaN for those whose data don't have it; None where none has."""
    if all(column is None for column in columns):
        return None
    unknown = [np.full(len(samples), np.nan, dtype=np.float32) for samples in people]
    return np.concatenate([full if column is None else column for column, full in zip(columns, unknown, strict=True)])
