"""Files of VIA, the VGG Image Annotator (version 2): project or annotations in JSON, annotations in csv -> COCO."""

import csv
import io
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenpose.data.formats.grouping import PERSON, LooseBox, LooseImage, LoosePoint, gather
from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import HIDDEN, VISIBLE, Keypoint, counted, to_coco
from tokenpose.data.formats.reading import read_json, read_text, show, take, take_number

logger = logging.getLogger(__name__)

NAMES = ("keypoint", "label", "name", "part", "bodypart", "landmark", "class", "type")
"""Attributes of regions that may hold the keypoint's name, the likeliest first."""
GROUPS = ("person", "person_id", "group", "group_id", "instance", "instance_id", "individual", "id", "track")
"""Attributes of regions that may hold whose a region is."""
HIDDEN_ATTRIBUTES = ("hidden", "occluded")
_NO = ("", "0", "no", "false", "none")
"""Values of these attributes that say no, and of a group's, that say none."""

Region = tuple[Mapping[str, Any], Mapping[str, Any]]
"""Shape and attributes."""


def read_via(
    path: str | Path,
    *,
    images: Places | None = None,
    keypoints: Sequence[str] | None = None,
    attribute: str | None = None,
) -> dict[str, Any]:
    """The content of a COCO keypoint file, from VIA's project (JSON) or its exported annotations (JSON or csv).

    Points are keypoints, rectangles people's boxes. The regions' ``attribute`` holds the names; None: "keypoint",
    "label", "name" or the like, or the only attribute. Regions with the same "person", "group", "id" or the like are
    one person; others are gathered as `tokenpose.data.formats.grouping.gather` says. A point whose attribute "hidden"
    or "occluded" says yes has v = 1.

    ``images``: where the images are, since VIA doesn't say their sizes; None: beside the file. ``keypoints``: the
    names in their order; None: as they first appear. Raises FileNotFoundError, and ValueError that names file and
    image.
    """
    path = Path(path)
    records = _read_csv(path) if path.suffix.lower() == ".csv" else _read_records(path)
    attribute = attribute or _choose(records, path)
    sizes = ImageSizes(images, path.parent)
    ignored = Counter(str(shape.get("name")) for regions in records.values() for shape, _ in regions)
    ignored = Counter({name: count for name, count in ignored.items() if name not in ("point", "rect")})
    if ignored:
        words = ", ".join(f"{count} {name}" for name, count in ignored.items())
        logger.info("%s: left out: %s; points and rectangles are read", path, words)
    loose = [_loose(name, regions, attribute, sizes, path) for name, regions in records.items() if regions]
    if len(loose) < len(records):
        empty = counted(len(records) - len(loose), "image", "images")
        logger.info("%s: left out: %s without regions", path, empty)
    photographs, categories = gather(loose, str(path), keypoints)
    return to_coco(photographs, categories, path)


def _read_records(path: Path) -> dict[str, list[Region]]:
    """The regions of each image."""
    content = read_json(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} is not VIA's JSON, which is an object; it holds {show(content)}")
    entries = content.get("_via_img_metadata", content)
    if not isinstance(entries, Mapping):
        raise ValueError(f"{path}: _via_img_metadata must be an object; got {show(entries)}")
    records = dict[str, list[Region]]()
    for key, entry in entries.items():
        where = f"{path}: {key[:60]}"
        name, regions = take(entry, "filename", str, where), entry.get("regions")
        listed = list(regions.values()) if isinstance(regions, Mapping) else regions  # version 1 numbers them
        if not isinstance(listed, list):
            raise ValueError(f"{where}: regions must be a list; got {show(regions)}")
        records.setdefault(name, []).extend(
            (take(region, "shape_attributes", dict, where), take(region, "region_attributes", dict, where))
            for region in listed
        )
    return records


def _read_csv(path: Path) -> dict[str, list[Region]]:
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""))
    needed = {"filename", "region_shape_attributes", "region_attributes"}
    names = {(name or "").lstrip("#").strip() for name in rows.fieldnames or ()}
    if not needed <= names:
        raise ValueError(f"{path} is not VIA's csv: it has no column {', '.join(sorted(needed - names))}")
    records = dict[str, list[Region]]()
    try:
        for row in rows:
            entry = {(name or "").lstrip("#").strip(): value for name, value in row.items()}
            where = f"{path}, line {rows.line_num}"
            regions = records.setdefault(take(entry, "filename", str, where), [])
            shape, attributes = (
                _read_object(entry[name], name, where) for name in ("region_shape_attributes", "region_attributes")
            )
            if shape:
                regions.append((shape, attributes))
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num} is not csv: {error}") from error
    return records


def _read_object(text: str | None, field: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {field} is not JSON: {show(text)}") from error
    return take({field: value}, field, dict, where)


def _choose(records: Mapping[str, Sequence[Region]], path: Path) -> str:
    """The attribute that holds the names of points."""
    points = [
        attributes for regions in records.values() for shape, attributes in regions if shape.get("name") == "point"
    ]
    found = list(dict.fromkeys(name for attributes in points for name in attributes))
    if not points:
        raise ValueError(f"{path} has no points")
    known = {name.lower(): name for name in found}
    chosen = next((known[name] for name in NAMES if name in known), found[0] if len(found) == 1 else None)
    if chosen is None:
        raise ValueError(
            f"{path}: which attribute of its points is the keypoint's name? They have {', '.join(found) or 'none'}; "
            "say which: --attribute NAME, in Python attribute=NAME"
        )
    return chosen


def _loose(name: str, regions: Sequence[Region], attribute: str, sizes: ImageSizes, path: Path) -> LooseImage:
    width, height = sizes.find(name)
    points, boxes = list[LoosePoint](), list[LooseBox]()
    for number, (shape, attributes) in enumerate(regions):
        where = f"{path}: {name}: region {number}"
        if shape.get("name") == "point":
            label = attributes.get(attribute)
            if not isinstance(label, str) or not label:
                raise ValueError(f"{where}: the attribute {attribute!r} must name the point; got {show(label)}")
            position = take_number(shape, "cx", where), take_number(shape, "cy", where)
            points.append(
                LoosePoint(label, Keypoint(*position, _visibility(attributes)), _group(attributes, attribute))
            )
        elif shape.get("name") == "rect":
            left, top, across, down = (take_number(shape, field, where) for field in ("x", "y", "width", "height"))
            label = attributes.get(attribute)
            boxes.append(
                LooseBox(label if isinstance(label, str) and label else PERSON, (left, top, across, down),
                         _group(attributes, attribute))
            )  # fmt: skip
    return LooseImage(file=name, width=width, height=height, points=points, boxes=boxes)


def _group(attributes: Mapping[str, Any], attribute: str) -> str | None:
    values = {key.lower(): value for key, value in attributes.items() if key != attribute}
    found = next((str(values[name]) for name in GROUPS if name in values), "")
    return None if found.lower() in ("", "none") else found


def _visibility(attributes: Mapping[str, Any]) -> int:
    return (
        HIDDEN
        if any(_says_yes(value) for key, value in attributes.items() if key.lower() in HIDDEN_ATTRIBUTES)
        else VISIBLE
    )


def _says_yes(value: Any) -> bool:
    """A text, or the checked entries of a list of boxes: {"yes": true}."""
    if isinstance(value, Mapping):
        return any(checked and str(name).lower() not in _NO for name, checked in value.items())
    return str(value).lower() not in _NO
