"""Annotation files of either format -> samples."""

from pathlib import Path

from tokenpose.data.coco import read_coco
from tokenpose.data.json_records import JsonRecords
from tokenpose.data.mpii import read_mpii
from tokenpose.data.samples import Samples


def read_annotations(path: str | Path, category: str | None = None, ground_truth: str | Path | None = None) -> Samples:
    """The people of a COCO keypoint file (a JSON object) or of an MPII file (a JSON list), told by the content.

    ``category`` is `read_coco`'s and ``ground_truth`` `read_mpii`'s; either is refused for a file of the other format.
    Raises FileNotFoundError, and ValueError that names file and record.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no annotation file {path}")
    with JsonRecords(path, chunk=64) as content:
        kind = content.kind
    if kind == "object":
        if ground_truth is not None:
            raise ValueError(f"{path} is a COCO file; {ground_truth} goes with MPII's JSON files, which are lists")
        return read_coco(path, category)
    if category is not None:
        raise ValueError(f"{path} is an MPII file and has no categories; got category {category!r}")
    return read_mpii(path, ground_truth)
