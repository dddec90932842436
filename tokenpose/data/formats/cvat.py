"""CVAT's files: XML "for images", with skeletons or points -> COCO."""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from tokenpose.data.formats.grouping import PERSON, LooseBox, LooseImage, LoosePoint, gather
from tokenpose.data.formats.labels import (
    HIDDEN,
    VISIBLE,
    Box,
    Category,
    Keypoint,
    Pairs,
    Person,
    Photograph,
    counted,
    to_coco,
)
from tokenpose.data.formats.reading import show, take_number, take_size
from tokenpose.data.formats.xml_elements import parse_fragment, read_elements

logger = logging.getLogger(__name__)

_SHAPES = {"skeleton", "points", "box"}


def read_cvat(path: str | Path, *, keypoints: Sequence[str] | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from CVAT's export "CVAT for images 1.1" (annotations.xml).

    Skeletons are people with the keypoints and limbs of their label; one that is occluded has v = 1, one outside
    v = 0. Boxes of the same group are their boxes. Without skeletons, points are gathered to people as
    `tokenpose.data.formats.grouping.gather` says; a shape of several points counts as one point for each, called
    "label_0", "label_1", and so on. ``keypoints``: names and order of such points; None: as they first appear. CVAT's
    export "COCO Keypoints 1.0" is read by `read_coco_export`.

    Raises FileNotFoundError, and ValueError that names file and image; for "CVAT for video", which has tracks, too.
    """
    path = Path(path)
    labels, images = list[Element](), list[Element]()
    for element in read_elements(path, ("label", "image", "track")):
        if element.tag == "track":
            raise ValueError(f'{path} is "CVAT for video"; export the task as "CVAT for images 1.1"')
        (labels if element.tag == "label" else images).append(element)
    if not images:
        raise ValueError(f"{path} is not CVAT's annotations.xml: it has no <image>")
    shapes = Counter(shape.tag for image in images for shape in image)
    ignored = {name: count for name, count in shapes.items() if name not in _SHAPES and name != "tag"}
    if ignored:
        words = ", ".join(f"{count} {name}" for name, count in ignored.items())
        logger.info("%s: left out: %s; skeletons, points and boxes are read", path, words)
    if not shapes["skeleton"]:
        photographs, categories = gather([_loose(image, path) for image in images], str(path), keypoints)
        return to_coco(photographs, categories, path)
    if shapes["points"]:
        logger.info("%s: left out: %s outside skeletons", path, counted(shapes["points"], "point", "points"))
    if keypoints is not None:
        raise ValueError(f"{path} has skeletons, whose keypoints have an order; give no keypoints")
    categories = list(_categories(labels, images))
    known = {category.name for category in categories}
    return to_coco([_photograph(image, known, path) for image in images], categories, path)


def _categories(labels: Sequence[Element], images: Sequence[Element]) -> Iterator[Category]:
    """A category for each skeleton's label, with limbs; a label that the file doesn't describe has what people have."""
    described = {label.findtext("name", ""): label for label in labels if label.findtext("type") == "skeleton"}
    used = dict[str, dict[str, None]]()
    for image in images:
        for skeleton in image.iter("skeleton"):
            names = used.setdefault(skeleton.get("label", PERSON), {})
            names.update(dict.fromkeys(point.get("label", "") for point in skeleton.iter("points")))
    for name, found in used.items():
        keypoints, limbs = _read_svg(described.get(name))
        order = tuple(dict.fromkeys([*keypoints, *(_children(labels, name) if not keypoints else ()), *found]))
        yield Category(name=name, keypoints=order, limbs=limbs)


def _children(labels: Sequence[Element], parent: str) -> list[str]:
    return [label.findtext("name", "") for label in labels if label.findtext("parent") == parent]


def _read_svg(label: Element | None) -> tuple[list[str], Pairs]:
    """Keypoints and limbs of a skeleton's drawing: circles by their labels, lines by the circles that they join."""
    text = "" if label is None else label.findtext("svg", "")
    nodes, lines = dict[str, str](), list[tuple[str, str]]()
    for shape in _read_fragment(text):
        if shape.tag == "circle" and "data-label-name" in shape.attrib:
            nodes[shape.get("data-node-id", "")] = shape.attrib["data-label-name"]
        elif shape.tag == "line":
            lines.append((shape.get("data-node-from", ""), shape.get("data-node-to", "")))
    names = list(dict.fromkeys(nodes[node] for node in sorted(nodes, key=_by_number)))
    index = {node: names.index(name) for node, name in nodes.items()}
    limbs = tuple((index[a], index[b]) for a, b in lines if a in index and b in index and index[a] != index[b])
    return names, limbs


def _by_number(node: str) -> tuple[int, str]:
    return (int(node), node) if node.isdecimal() else (1 << 30, node)


def _read_fragment(text: str) -> list[Element]:
    """The elements of an SVG fragment; none where it isn't one: the people's own keypoints then count."""
    try:
        return parse_fragment(text)
    except ValueError:
        logger.info("the drawing of a skeleton can't be read: it has no limbs")
        return []


def _photograph(image: Element, known: set[str], path: Path) -> Photograph:
    where = f"{path}: image {show(image.get('name'))}"
    width, height = take_size(image.attrib, ("width", "height"), where)
    boxes = {box.get("group_id"): _read_box(box, where) for box in image.iter("box") if _group(box) is not None}
    people = [
        Person(
            category=skeleton.get("label", PERSON),
            keypoints=_read_skeleton(skeleton, where),
            box=boxes.get(skeleton.get("group_id")),
        )
        for skeleton in image.iter("skeleton")
        if skeleton.get("label", PERSON) in known
    ]
    return Photograph(file=_name(image, path), width=width, height=height, people=people)


def _name(image: Element, path: Path) -> str:
    name = image.get("name")
    if not name:
        raise ValueError(f"{path}: image {show(image.get('id'))} has no name")
    return name


def _read_skeleton(skeleton: Element, where: str) -> dict[str, Keypoint]:
    keypoints = dict[str, Keypoint]()
    for point in skeleton.iter("points"):
        label = point.get("label", "")
        positions = _read_points(point, where)
        if len(positions) != 1 or label in keypoints:
            raise ValueError(f"{where}: a skeleton must have one point {label!r}; it has another")
        keypoints[label] = Keypoint(*positions[0], _visibility(point.attrib))
    return keypoints


def _visibility(point: Mapping[str, str]) -> int:
    if point.get("outside") == "1":
        return 0
    return HIDDEN if point.get("occluded") == "1" else VISIBLE


def _read_points(shape: Element, where: str) -> list[tuple[float, float]]:
    """ "x,y;x,y" as positions."""
    positions = []
    for text in filter(None, shape.get("points", "").split(";")):
        x, _, y = text.partition(",")
        point = {"x": x, "y": y}
        positions.append((take_number(point, "x", f"{where}: points"), take_number(point, "y", f"{where}: points")))
    return positions


def _read_box(box: Element, where: str) -> Box:
    left, top, right, bottom = (take_number(box.attrib, name, f"{where}: box") for name in ("xtl", "ytl", "xbr", "ybr"))
    return left, top, right - left, bottom - top


def _group(shape: Element) -> str | None:
    """The shape's group; CVAT writes 0 for none."""
    group = shape.get("group_id")
    return None if group in (None, "", "0") else group


def _loose(image: Element, path: Path) -> LooseImage:
    where = f"{path}: image {show(image.get('name'))}"
    width, height = take_size(image.attrib, ("width", "height"), where)
    points = [point for shape in image.iter("points") for point in _loose_points(shape, where)]
    boxes = [LooseBox(box.get("label", PERSON), _read_box(box, where), _group(box)) for box in image.iter("box")]
    return LooseImage(file=_name(image, path), width=width, height=height, points=points, boxes=boxes)


def _loose_points(shape: Element, where: str) -> Iterator[LoosePoint]:
    """One point, or several in one shape: a whole person, whose points have the shape for a group."""
    label, positions = shape.get("label", "point"), _read_points(shape, where)
    group = _group(shape)
    for index, position in enumerate(positions):
        keypoint = Keypoint(*position, _visibility(shape.attrib))
        if len(positions) == 1:
            yield LoosePoint(label, keypoint, group)
        else:
            yield LoosePoint(f"{label}_{index}", keypoint, id(shape) if group is None else group)
