"""COCO keypoint JSON as CVAT, Roboflow and other tools export it -> what training takes."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import Keypoint, counted, grow_box, log_grown
from tokenpose.data.formats.reading import read_json, show, take, take_size
from tokenpose.files import is_number

logger = logging.getLogger(__name__)


def read_coco_export(path: str | Path, *, images: Places | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from a COCO file of another tool.

    Categories without keypoints are left out with their annotations. A missing box, or one without area, becomes the
    keypoints' extent, grown by 15 % on each side; missing image sizes are read from the images; limbs that count from 0
    count from 1 afterwards, and those that name no keypoint are left out. Everything else stays as it is. A line in the
    log counts each. Raises FileNotFoundError, and ValueError that names file and record.
    """
    path = Path(path)
    content = read_json(path)
    images_in, people, kinds = (
        take(content, name, list, str(path)) for name in ("images", "annotations", "categories")
    )
    categories = [_category(kind, path) for kind in kinds if isinstance(kind, Mapping) and kind.get("keypoints")]
    if not categories:
        raise ValueError(f"{path} has no category with keypoints; export it as COCO keypoints")
    chosen = {category["id"]: len(category["keypoints"]) for category in categories}
    sizes = ImageSizes(images, path.parent)
    records = [_image(record, sizes, f"{path}: images[{place}]") for place, record in enumerate(images_in)]
    size_of = {record["id"]: (record["width"], record["height"]) for record in records}
    kept, grown = list[dict[str, Any]](), 0
    for position, person in enumerate(people):
        where = f"{path}: annotations[{position}]"
        if not isinstance(person, Mapping):
            raise ValueError(f"{where} must be an object; got {show(person)}")
        if _key(person.get("category_id")) in chosen:
            boxed = _with_box(person, size_of, where)
            grown += boxed is not person
            kept.append(dict(boxed))
    if len(kept) < len(people):
        others = counted(len(people) - len(kept), "annotation", "annotations")
        logger.info("%s: left out: %s of categories without keypoints", path, others)
    log_grown(path, grown)
    return {"images": records, "annotations": kept, "categories": categories}


def _key(identity: Any) -> Any:
    """An id that can be looked up; what can't be an id is none."""
    return identity if isinstance(identity, str | int | float) else None


def _category(category: Mapping[str, Any], path: Path) -> dict[str, Any]:
    if not isinstance(category.get("id"), int | str):
        raise ValueError(f"{path}: category {show(category.get('name'))} has no id")
    names = take(category, "keypoints", list, f"{path}: category {show(category['id'])}")
    limbs = category.get("skeleton") or []
    sound = [limb for limb in limbs if _is_limb(limb)] if isinstance(limbs, list) else []
    start = 0 if any(0 in limb for limb in sound) else 1
    if not start:
        logger.info("%s: the limbs of %s count from 0", path, show(category.get("name")))
    inside = [
        [end - start + 1 for end in limb] for limb in sound if all(start <= end < len(names) + start for end in limb)
    ]
    if isinstance(limbs, list) and len(inside) < len(limbs):
        others = counted(len(limbs) - len(inside), "limb", "limbs")
        logger.info("%s: left out: %s outside the list of keypoints", path, others)
    return {**category, "skeleton": inside}


def _is_limb(limb: Any) -> bool:
    return isinstance(limb, list) and len(limb) == 2 and all(type(end) is int for end in limb) and limb[0] != limb[1]


def _image(record: Any, sizes: ImageSizes, where: str) -> dict[str, Any]:
    name = take(record, "file_name", str, where)
    if not isinstance(record.get("id"), int | str):
        raise ValueError(f"{where} has no id")
    if record.get("width") and record.get("height"):
        width, height = take_size(record, ("width", "height"), where)
    else:
        width, height = sizes.find(name)
    return {**record, "width": width, "height": height}


def _with_box(person: Mapping[str, Any], size_of: Mapping[Any, tuple[int, int]], where: str) -> Mapping[str, Any]:
    """The person itself, or with a box from keypoints, where it has none."""
    box, values = person.get("bbox"), person.get("keypoints")
    if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)) and box[2] > 0 and box[3] > 0:
        return person
    if not isinstance(values, list) or len(values) % 3 or not all(map(is_number, values)):
        return person
    triples = zip(values[::3], values[1::3], values[2::3], strict=True)
    labeled = [Keypoint(float(x), float(y), int(v)) for x, y, v in triples if v > 0]
    if not labeled:
        return person
    if _key(person.get("image_id")) not in size_of:
        raise ValueError(f"{where}: image_id must be that of a listed image; got {show(person.get('image_id'))}")
    return {**person, "bbox": list(grow_box(labeled, *size_of[person["image_id"]]))}
