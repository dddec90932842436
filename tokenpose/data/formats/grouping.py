"""Loose points and boxes of an image -> people: by their groups, by the boxes around them, or as the only person."""

import logging
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tokenpose.data.formats.labels import Box, Category, Keypoint, Number, Person, Photograph, counted
from tokenpose.skeletons import COCO, LSP, MPII

logger = logging.getLogger(__name__)

PERSON = "person"
"""The category of people whom no box names."""


class LoosePoint(NamedTuple):
    """A labeled point, and the group that it says it belongs to."""

    label: str
    keypoint: Keypoint
    group: Hashable = None


class LooseBox(NamedTuple):
    """A labeled box, x, y, width, height, and its group."""

    label: str
    box: Box
    group: Hashable = None


@dataclass(frozen=True, kw_only=True)
class LooseImage:
    """An image with points and boxes that may or may not say whose they are."""

    file: str
    width: int
    height: int
    points: Sequence[LoosePoint]
    boxes: Sequence[LooseBox] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


def gather(
    images: Sequence[LooseImage], path: str, keypoints: Sequence[str] | None = None
) -> tuple[list[Photograph], list[Category]]:
    """The people of images, and their categories, which all have the same keypoints.

    The points of one group are a person, whose box is the group's box. A point without a group belongs to the smallest
    box around it that has no point of its label yet. Points outside all boxes are one person, if no label is among
    them twice and the image has no box. A category is called as the boxes are; boxes whose label has no keypoint in
    the whole file (a ball, a car) are left out.

    ``keypoints``: the names in their order; None: all labels, in the order in which they first appear, or in that of
    COCO, MPII or LSP if they are exactly its names. Raises ValueError that names the image where nothing says whose a
    point is, and for labels that ``keypoints`` lacks.
    """
    names = tuple(dict.fromkeys(point.label for image in images for point in image.points))
    if not names:
        raise ValueError(f"{path} has no labeled points in its {counted(len(images), 'image', 'images')}")
    unknown = [name for name in names if keypoints is not None and name not in keypoints]
    if unknown:
        raise ValueError(f"{path} has points labeled {', '.join(unknown)}, which the given keypoints lack")
    photographs = [_photograph(image, path) for image in images]
    has_points = {person.category for photo in photographs for person in photo.people if person.keypoints}
    kept = [_keep(photograph, has_points) for photograph in photographs]
    dropped = sum(len(photo.people) for photo in photographs) - sum(len(photo.people) for photo in kept)
    if dropped:
        boxes = counted(dropped, "box", "boxes")
        logger.info("%s: left out: %s of labels that never have a keypoint", path, boxes)
    order = dict.fromkeys(person.category for photograph in kept for person in photograph.people)
    names = tuple(keypoints) if keypoints is not None else _order(names)
    logger.info("%s: the keypoints are %s", path, ", ".join(names))
    return kept, [Category(name=name, keypoints=names) for name in order]


def _order(names: tuple[str, ...]) -> tuple[str, ...]:
    """The order of COCO, MPII or LSP for exactly their names; other names as they come."""
    known = (skeleton.keypoints for skeleton in (COCO, MPII, LSP))
    return next((keypoints for keypoints in known if set(keypoints) == set(names)), names)


def _keep(photograph: Photograph, categories: set[str]) -> Photograph:
    people = [person for person in photograph.people if person.category in categories]
    return Photograph(
        file=photograph.file, width=photograph.width, height=photograph.height, people=people, fields=photograph.fields
    )


class _Group:
    """A person in the making."""

    def __init__(self, label: str = PERSON, box: Box | None = None) -> None:
        self.label, self.box = label, box
        self.keypoints: dict[str, Keypoint] = {}

    def holds(self, x: Number, y: Number) -> bool:
        if self.box is None:
            return False
        left, top, width, height = self.box
        return left <= x <= left + width and top <= y <= top + height

    @property
    def area(self) -> Number:
        return 0 if self.box is None else self.box[2] * self.box[3]


def _photograph(image: LooseImage, path: str) -> Photograph:
    where = f"{path}: {image.file}"
    groups = _grouped(image, where)
    for box in image.boxes:
        if box.group is None:
            groups.append(_Group(box.label, box.box))
    outside = list(_place(groups, (point for point in image.points if point.group is None)))
    if outside:
        groups.append(_only_person(outside, groups, where))
    people = [Person(category=group.label, keypoints=group.keypoints, box=group.box) for group in groups]
    return Photograph(file=image.file, width=image.width, height=image.height, people=people, fields=image.fields)


def _grouped(image: LooseImage, where: str) -> list[_Group]:
    """A person for each group of points and boxes."""
    groups = dict[Hashable, _Group]()
    for box in image.boxes:
        if box.group is not None and box.group in groups:
            raise ValueError(f"{where}: group {box.group} has two boxes; give each person a group of their own")
        if box.group is not None:
            groups[box.group] = _Group(box.label, box.box)
    for point in image.points:
        if point.group is None:
            continue
        keypoints = groups.setdefault(point.group, _Group()).keypoints
        if point.label in keypoints:
            raise ValueError(
                f"{where}: group {point.group} has two points {point.label!r}; give each person a group of their own"
            )
        keypoints[point.label] = point.keypoint
    return list(groups.values())


def _place(groups: Sequence[_Group], points: Iterable[LoosePoint]) -> Iterable[LoosePoint]:
    """Give points without a group to the smallest box around them that lacks their label; the others are left."""
    by_area = sorted((group for group in groups if group.box is not None), key=lambda group: group.area)
    for point in points:
        x, y = point.keypoint.x, point.keypoint.y
        fitting = (group for group in by_area if group.holds(x, y) and point.label not in group.keypoints)
        group = next(fitting, None)
        if group is None:
            yield point
        else:
            group.keypoints[point.label] = point.keypoint


def _only_person(points: Sequence[LoosePoint], groups: Sequence[_Group], where: str) -> _Group:
    """The points as one person, who is the image's only one."""
    person = _Group()
    for point in points:
        if point.label in person.keypoints or groups:
            why = "there is another person, too" if groups else "there are two points of this label"
            raise ValueError(
                f"{where}: nothing says to which person the point {point.label!r} at {point.keypoint.x:g}, "
                f"{point.keypoint.y:g} belongs: {why}; group the points of each person, or draw a box around them"
            )
        person.keypoints[point.label] = point.keypoint
    return person
