"""COCO keypoint files -> samples."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.data.samples import Samples
from tokenpose.skeletons import Skeleton


def read_coco(path: str | Path, category: str | None = None) -> Samples:
    """The labelled people of a COCO keypoint JSON; the skeleton is that of its category (None: the one with keypoints).

    As published: crowds and annotations without a labelled keypoint are left out, boxes are cut to their image, and
    those without area are left out. Raises FileNotFoundError, and ValueError that names file and record.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no annotation file {path}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    missing = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise ValueError(f"{path} is not a COCO keypoint file: it has no {', '.join(missing)}")
    chosen = _choose_category(content["categories"], category, path)
    skeleton = Skeleton.from_coco_category(chosen)
    for image in content["images"]:
        _require(image, ("id", "file_name", "width", "height"), "image", path)
    images = {image["id"]: (index, image) for index, image in enumerate(content["images"])}
    skipped: Counter[str] = Counter()
    rows = []
    for annotation in content["annotations"]:
        if annotation.get("category_id") != chosen["id"]:
            continue
        row = _read_annotation(annotation, images, len(skeleton), skipped, path)
        if row is not None:
            rows.append(row)
    index, boxes, keypoints, ids, areas = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    triples = np.array(keypoints, dtype=np.float32).reshape(-1, len(skeleton), 3)
    return Samples(
        skeleton=skeleton,
        files=tuple(image["file_name"] for image in content["images"]),
        image_ids=np.array([image["id"] for image in content["images"]], dtype=np.int64),
        image_index=np.array(index, dtype=np.int64),
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        keypoints=triples[..., :2],
        visible=triples[..., 2] > 0,
        skipped=dict(skipped),
        annotation_ids=np.array(ids, dtype=np.int64),
        areas=np.array(areas, dtype=np.float32),
    )


def _choose_category(categories: list[dict[str, Any]], name: str | None, path: Path) -> dict[str, Any]:
    fitting = [entry for entry in categories if entry.get("keypoints") and name in (None, entry.get("name"))]
    if len(fitting) != 1:
        names = ", ".join(str(entry.get("name")) for entry in categories if entry.get("keypoints")) or "none"
        wanted = "exactly one category with keypoints" if name is None else f"one category {name!r} with keypoints"
        raise ValueError(f"{path} must have {wanted}; with keypoints it has: {names}")
    _require(fitting[0], ("id",), "category", path)
    return fitting[0]


def _require(record: dict[str, Any], keys: tuple[str, ...], kind: str, path: Path) -> None:
    missing = [key for key in keys if key not in record]
    if missing:
        named = record.get("id", record.get("file_name", record.get("name")))
        raise ValueError(f"{path}: {kind} {named} has no {', '.join(missing)}")


def _read_annotation(
    annotation: dict[str, Any],
    images: dict[Any, tuple[int, dict[str, Any]]],
    count: int,
    skipped: Counter[str],
    path: Path,
) -> tuple[int, list[Any], list[Any], int, float] | None:
    """(image index, box, flat keypoints, id, area), or None for one that training leaves out."""
    if annotation.get("iscrowd"):
        skipped["crowd"] += 1
        return None
    keypoints = annotation.get("keypoints") or []
    if len(keypoints) != 3 * count and any(keypoints):
        raise ValueError(
            f"{path}: annotation {annotation.get('id')} has {len(keypoints)} keypoint numbers; "
            f"{count} keypoints need {3 * count}"
        )
    if not any(keypoints[2::3]):
        skipped["no labelled keypoint"] += 1
        return None
    if annotation.get("image_id") not in images:
        raise ValueError(
            f"{path}: annotation {annotation.get('id')} is of image {annotation.get('image_id')}, which is not listed"
        )
    index, image = images[annotation["image_id"]]
    box: list[float] = annotation.get("bbox") or []
    if len(box) != 4:
        raise ValueError(f"{path}: annotation {annotation.get('id')} needs a bbox of x, y, width, height; it has {box}")
    x, y, width, height = box
    x1, y1 = max(0.0, x), max(0.0, y)
    x2, y2 = min(image["width"] - 1.0, x1 + max(0.0, width - 1)), min(image["height"] - 1.0, y1 + max(0.0, height - 1))
    if x2 - x1 < 1 or y2 - y1 < 1:
        skipped["box without area"] += 1
        return None
    identity, area = annotation.get("id", -1), annotation.get("area", float("nan"))
    return index, [x1, y1, x2 - x1, y2 - y1], keypoints, identity, area
