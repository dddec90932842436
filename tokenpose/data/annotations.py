"""Annotation files of either format -> samples."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenpose.data.coco import read_columns, to_samples
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.faults import log_notes
from tokenpose.data.json_records import JsonRecords
from tokenpose.data.mpii import read_mpii
from tokenpose.data.samples import Samples


def read_annotations(
    path: str | Path,
    category: str | Sequence[str] | None = None,
    ground_truth: str | Path | None = None,
    *,
    unlabeled: bool = False,
    boxes_from_keypoints: float | None = None,
) -> Samples:
    """The people of a COCO keypoint file (a JSON object) or of an MPII file (a JSON list).

    ``category`` is for COCO files, see `read_coco`, and ``ground_truth`` for MPII's, see `read_mpii`; each is refused
    for a file of the other format. ``unlabeled``: with people of a COCO file who have no labeled keypoint (an MPII
    file always gives them). ``boxes_from_keypoints``: for people of COCO files without a box, see `read_columns`.
    Raises FileNotFoundError, and ValueError that names file and record.
    """
    options: dict[str, Any] = {"unlabeled": unlabeled, "boxes_from_keypoints": boxes_from_keypoints}
    return read_with_columns(path, category, ground_truth, **options)[0]


def read_with_columns(
    path: str | Path,
    category: str | Sequence[str] | None = None,
    ground_truth: str | Path | None = None,
    *,
    annotated: bool = True,
    unlabeled: bool = False,
    boxes_from_keypoints: float | None = None,
) -> tuple[Samples, CocoColumns | None]:
    """The people as `read_annotations` gives them, and the columns that they come from; None for an MPII file.

    Unless it must be ``annotated``, a COCO file may list images only, see `read_columns`. Lines of the log say what
    is read in another way than the file has it.
    """
    path = Path(path)
    if is_mpii(path):
        if category is not None:
            raise ValueError(f"{path} is an MPII file and has no categories; got category {category!r}")
        return read_mpii(path, ground_truth), None
    if ground_truth is not None:
        raise ValueError(f"{path} is a COCO file; {ground_truth} goes with MPII's JSON files, which are lists")
    columns = read_columns(path, category, annotated=annotated, boxes_from_keypoints=boxes_from_keypoints)
    samples = to_samples(columns, unlabeled=unlabeled)
    log_notes(columns.notes, path)
    return samples, columns


def is_mpii(path: Path) -> bool:
    """Whether the file holds a JSON list, as MPII's files do, and not an object. Raises as `read_annotations` does."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    with JsonRecords(path, chunk=64) as content:
        return content.kind == "list"
