"""Files of predictions, in the forms that COCO's and MPII's own evaluations read."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.mpii import to_matlab
from tokenpose.data.samples import Samples
from tokenpose.evaluation.run import PredictedKeypoints
from tokenpose.evaluation.settings import COCO_SUFFIX, MPII_SUFFIX
from tokenpose.files import make_folder, write_text, written_whole
from tokenpose.skeletons import Skeleton


def check_results(path: Path, data: Path, skeleton: Skeleton, shared: Collection[str], is_coco: bool) -> None:
    """Raise, before anything is predicted, what would keep the results from being written; makes the file's folder.

    Raises ValueError for a suffix that doesn't fit the data and for a model that lacks some of their keypoints,
    ModuleNotFoundError without scipy, and OSError where no file can be made.
    """
    kind, suffix = ("a COCO", COCO_SUFFIX) if is_coco else ("an MPII", MPII_SUFFIX)
    if path.suffix.lower() != suffix:
        raise ValueError(f"{data} is {kind} file, whose results are written to a {suffix} file; got {path}")
    missing = [name for name in skeleton.keypoints if name not in shared]
    if missing:
        raise ValueError(f"results need a model with all the data's keypoints; this one has no {', '.join(missing)}")
    if not is_coco:
        _import_savemat(path)
    make_folder(path.parent)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and results are written to a file; choose another name")


def write_results(
    path: Path, records: Sequence[Mapping[str, Any]] | None, predicted: PredictedKeypoints, samples: Samples
) -> None:
    """Write the records of a COCO results file, one in a line; or, where there are none, MPII's pred.mat.

    That file has ``preds``, (people, 16, 2), a row for each record of the data, counted from 1. The row of a record
    without center or scale, in which no one can be predicted, is NaN: no evaluation counts it as found.
    """
    if records is not None:
        lines = (json.dumps(record, allow_nan=False) for record in records)
        write_text(path, "[\n" + ",\n".join(lines) + "\n]\n")
        return
    savemat = _import_savemat(path)
    preds = np.full((len(samples) + _without_box(samples), len(samples.skeleton), 2), np.nan)
    preds[samples.annotation_ids] = to_matlab(predicted.keypoints.astype(np.float64))
    with written_whole(path) as partial, partial.open("wb") as file:
        savemat(file, {"preds": preds})


def describe_results(path: Path, records: Sequence[Mapping[str, Any]] | None, samples: Samples) -> str:
    """What `write_results` writes, in words."""
    if records is not None:
        return f"{len(records)} {'pose is' if len(records) == 1 else 'poses are'} written to {path}"
    people = f"{len(samples)} {'person is' if len(samples) == 1 else 'people are'} written to {path}"
    without = _without_box(samples)
    return f"{people}, with NaN for {without} without center or scale" if without else people


def _without_box(samples: Samples) -> int:
    """How many of MPII's records have no center or scale, and are left out of the samples."""
    return sum(samples.skipped.values())


def _import_savemat(path: Path) -> Callable[..., None]:
    try:
        from scipy.io import savemat
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'writing {path} needs scipy: pip install "tokenpose[mpii]"') from error
    write: Callable[..., None] = savemat
    return write
