"""The people to train on and to validate on, and their images."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from tokenpose.data.annotations import is_mpii
from tokenpose.data.coco import read_columns
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.combine import Places, check_image_of, read_datasets
from tokenpose.data.samples import Samples
from tokenpose.data.shares import Mixture, check_shares, mix, split_share
from tokenpose.data.sources import CheckedSource, Source
from tokenpose.evaluation.ground_truth import GroundTruth, make_ground_truth
from tokenpose.evaluation.units import choose_unit
from tokenpose.jobs.held_out import choose_images, log_split, read_validation, take_images, take_labeled
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton, read_flip_pairs
from tokenpose.training.recipes import Recipe

logger = logging.getLogger(__name__)

Annotations = str | Path | Sequence[str | Path]
Validation = Annotations | float | int
"""Files, or the share of the training files' images to hold out."""

READING = ("category", "boxes_from_keypoints")
"""What of `TrainingData.given` says how a COCO file is read."""


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The people to train on, the people held out for validation, and the sources of their images."""

    people: Samples
    source: Source
    held_out: Samples
    held_out_source: Source
    shares: Sequence[float | None] = ()
    """Of every batch, for each of the files of ``people``; empty: no file has one."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """What the data was read from, as plain values, for settings.json."""
    held_out_images: Bool[np.ndarray, " images"] | None = None
    """Which images of the training files are held out; None: those held out have files of their own."""

    def __post_init__(self) -> None:
        for samples in (self.people, self.held_out):
            if not len(samples):
                raise ValueError(f"{samples.origin} has no labeled people; left out: {samples.left_out}")

    @property
    def mixture(self) -> Mixture | None:
        """The shares of the people's files; None if no file has one. Raises what `tokenpose.data.shares.mix` raises."""
        return mix(self.people, self.shares)

    @property
    def skeleton(self) -> Skeleton:
        """The keypoints that are trained."""
        return self.people.skeleton

    def check_model(self, model: TokenPose) -> None:
        """Raise ValueError if the model has other keypoints than the data, or shares none with the held-out people."""
        keypoints = model.spec.skeleton.keypoints
        if self.skeleton.keypoints != keypoints:
            raise ValueError(
                f"{self.people.origin} has the keypoints {', '.join(self.skeleton.keypoints)}; the model has "
                f"{', '.join(keypoints)}: create the model with keypoints=[...] of the data"
            )
        if not set(keypoints) & set(self.held_out.skeleton.keypoints):
            raise ValueError(
                f"{self.people.origin} and {self.held_out.origin} share no keypoint name: the first has "
                f"{', '.join(keypoints)}, the second {', '.join(self.held_out.skeleton.keypoints)}"
            )

    def coco_truth(self, model: TokenPose) -> GroundTruth | None:
        """What AP of the held-out people is measured against. None, with a line in the log, if AP doesn't apply."""
        skeleton, columns = self.held_out.skeleton, None
        missing = [name for name in skeleton.keypoints if name not in model.spec.skeleton.keypoints]
        if skeleton.sigmas is None:
            reason = "it needs keypoints with known sigmas, which the validation data don't have"
        elif missing:
            reason = f"the model has no {', '.join(missing)}, which the validation data have"
        elif find_spec("pycocotools") is None:
            reason = "pycocotools is not installed"
        else:
            reason = "the validation data are not one COCO file"
            columns = self._read_held_out()
        if columns is None:
            logger.info("the best validation is chosen by PCK, not AP: %s", reason)
            return None
        return self._of_held_out(make_ground_truth(columns))

    def _of_held_out(self, truth: GroundTruth) -> GroundTruth:
        """The annotations in the held-out images."""
        if self.held_out_images is None:
            return truth
        kept = self.held_out_images[truth.columns.image_index[truth.rows]]
        return replace(truth, rows=truth.rows[kept], areas=truth.areas[kept], num_keypoints=truth.num_keypoints[kept])

    def _read_held_out(self) -> CocoColumns | None:
        """What the held-out people were made from, if that is one COCO file."""
        if len(self.held_out.origins) > 1 or not Path(self.held_out.origin).is_file():
            return None
        path = Path(self.held_out.origin)
        reading: dict[str, Any] = {name: self.given.get(name) for name in READING}
        return None if is_mpii(path) else read_columns(path, **reading)

    def check_images(self) -> None:
        """Raise FileNotFoundError for the first missing image, in sources that know their images."""
        for samples, source in ((self.people, self.source), (self.held_out, self.held_out_source)):
            if isinstance(source, CheckedSource):
                _check_images(samples, source)

    def describe_validation(self) -> str:
        """Say in one line which people PCK counts. Raises ValueError if it counts nobody."""
        unit, samples = choose_unit(self.held_out), self.held_out
        shared = [name in self.skeleton.keypoints for name in samples.skeleton.keypoints]
        counted = np.isfinite(unit.lengths) & samples.visible[:, shared].any(axis=1)
        if not counted.any():
            raise ValueError(
                f"nobody in {samples.origin} has both a {unit.name} and a labeled keypoint that is trained, and PCK "
                "needs both: validate on other people"
            )
        line = f"validating on {len(samples)} people, by their {unit.name}"
        if counted.all():
            return line
        by_file = _by_file(samples, counted)
        return f"{line}: {counted.sum()} count, the others have no {unit.name} or no trained keypoint{by_file}"


def read_training_data(
    train: Annotations,
    val: Validation,
    images: Places | None,
    *,
    rename: Mapping[str, str] | None = None,
    flip_pairs: str | None = None,
    category: str | Sequence[str] | None = None,
    boxes_from_keypoints: float | None = None,
    teacher: str | None = None,
) -> TrainingData:
    """Read one or several annotation files each for training and validation. Images are opened when they are needed.

    A file can name its own images, "FILE=PLACE"; ``images`` holds those of the other files. A training file can take a
    share of every batch, "FILE@0.5" or "FILE=PLACE@0.5"; those without one divide the rest by their people. Keypoints
    with the same name are the same keypoint; ``rename`` gives keypoints of the training files other names, and also
    those of the validation files if they have them. ``flip_pairs``: left and right keypoints,
    "left_a:right_a,left_b:right_b" or "none", needed if the names don't tell. ``category``: one name or several;
    required if categories of a COCO file have different keypoints. ``boxes_from_keypoints``: people without a box get
    that of their labeled keypoints, grown by this share of its width and height on each side. ``teacher``: what a
    teacher was read from: with one, people without a labeled keypoint are trained on too.

    ``val`` may be a number, 0.2 or "0.2": this share of the training files' images is held out, the same as
    `tokenpose split` holds out, and the same each time.
    Raises ValueError for shares that don't add up, and what `tokenpose.data.combine.read_datasets` raises.
    """
    if images is not None:
        images = [images] if isinstance(images, str | Path) else list(images)  # an iterator can be read only once
    given = {
        "train": _plain_paths(train),
        "val": [str(val)] if isinstance(val, int | float) else _plain_paths(val),
        "images": None if images is None else _plain_paths(images),
        "rename": dict(rename or {}),
        "flip_pairs": flip_pairs,
        "category": category if isinstance(category, str | None) else list(category),
        **({} if boxes_from_keypoints is None else {"boxes_from_keypoints": boxes_from_keypoints}),
        **({} if teacher is None else {"teacher": teacher}),
    }
    files, shares = _split_shares(train)
    validation, chosen = read_validation(val), None
    reading: dict[str, Any] = {"category": category, "boxes_from_keypoints": boxes_from_keypoints}
    people, source = read_datasets(files, images, rename=rename, unlabeled=teacher is not None, **reading)
    if isinstance(validation, float):
        chosen, held_out_source = choose_images(people, validation), source
        held_out, people = take_labeled(people, chosen), take_images(people, ~chosen)
        log_split(validation, chosen, people, held_out)
    else:
        _refuse_shares(validation)
        held_out, held_out_source = read_datasets(validation, images, rename=rename, must_rename=False, **reading)
    if flip_pairs is not None:
        pairs = read_flip_pairs(flip_pairs, people.skeleton.keypoints)
        people = replace(people, skeleton=replace(people.skeleton, flip_pairs=pairs))
    return TrainingData(
        people=people,
        source=source,
        held_out=held_out,
        held_out_source=held_out_source,
        shares=shares,
        given=given,
        held_out_images=chosen,
    )


def _split_shares(train: Annotations) -> tuple[list[str | Path], list[float | None]]:
    """The training files without their shares, and the shares. Raises ValueError for shares that don't add up."""
    texts = [train] if isinstance(train, str | Path) else list(train)
    files, shares = zip(*map(split_share, texts), strict=True) if texts else ((), ())
    if any(share is not None for share in shares):
        check_shares(list(map(str, files)), shares)
        _log_shares(files, shares)
    return list(files), list(shares)


def _log_shares(files: Sequence[str | Path], shares: Sequence[float | None]) -> None:
    known = [f"{file} {share:.3g}" for file, share in zip(files, shares, strict=True) if share is not None]
    rest = " and the others the rest" if None in shares else ""
    logger.info("shares of every batch: %s%s", ", ".join(known), rest)


def _refuse_shares(val: Sequence[str | Path]) -> None:
    for text in val:
        if split_share(text)[1] is not None:
            raise ValueError(f"only people to train on can have a share of every batch; got {text} to validate on")


def choose_reading(recipe: Recipe, **given: Any) -> dict[str, Any]:
    """The recipe's ``data`` for `read_training_data`, "rename" for example, where None is given."""
    return {name: recipe.data.get(name) if value is None else value for name, value in given.items()}


def digest(samples: Samples) -> str:
    """A hash of files, boxes and keypoints, which tells data sets apart."""
    files = samples.files
    if samples.origin_index is not None:  # datasets may have different images of one name
        files = tuple(f"{number}:{file}" for number, file in zip(samples.origin_index, files, strict=True))
    whole = hashlib.sha256("\n".join((*files, *samples.skeleton.keypoints)).encode())
    weights = [] if samples.weights is None else [samples.weights]
    for values in (samples.image_index, samples.boxes, samples.keypoints, samples.visible, *weights):
        whole.update(np.ascontiguousarray(values).tobytes())
    return whole.hexdigest()


def _plain_paths(places: Places) -> list[str]:
    return [str(place) for place in ([places] if isinstance(places, str | Path) else places)]


def _check_images(samples: Samples, source: CheckedSource) -> None:
    failures = []
    for index in np.unique(samples.image_index, return_index=True)[1].tolist():
        try:
            check_image_of(source, samples, int(samples.image_index[index]))
        except OSError as error:
            failures.append(type(error)(f"{error} ({samples.name_of(index)})"))
    if failures:
        count = len(failures) - 1
        others = f"; {count} other image{' is' if count == 1 else 's are'} also missing" if count else ""
        raise type(failures[0])(f"{failures[0]}{others}") from failures[0]


def _by_file(samples: Samples, counted: Bool[np.ndarray, " people"]) -> str:
    """The number of people that count in each file, if there are several files."""
    if samples.origin_index is None or len(samples.origins) == 1:
        return ""
    origin_index = samples.origin_index[samples.image_index]
    counts = [
        f"{origin} {counted[origin_index == number].sum()} of {(origin_index == number).sum()}"
        for number, origin in enumerate(samples.origins)
    ]
    return f" ({', '.join(counts)})"
