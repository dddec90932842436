"""Label Studio's JSON exports -> COCO: keypoints and rectangles, in percent of the image."""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tokenpose.data.formats.grouping import LooseBox, LooseImage, LoosePoint, gather
from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import DIGITS, HIDDEN, Keypoint, counted, to_coco
from tokenpose.data.formats.reading import read_json, show, take, take_number, take_size
from tokenpose.files import is_number

logger = logging.getLogger(__name__)

HIDDEN_CHOICE = "hidden"
"""Of a region's choices: it makes v = 1."""
_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of an uploaded file."""


class _Region(NamedTuple):
    """A region of a task: its own id, its kind ("keypointlabels"), what it holds, and the region above it."""

    identity: str | None
    kind: str
    value: Mapping[str, Any]
    parent: str | None
    size: tuple[int, int] | None
    score: float | None


def read_label_studio(
    path: str | Path,
    *,
    images: Places | None = None,
    keypoints: Sequence[str] | None = None,
    predictions: bool = False,
) -> dict[str, Any]:
    """The content of a COCO keypoint file, from Label Studio's export "JSON" or "JSON-MIN".

    Keypoint labels are the keypoints, rectangle labels the people's boxes. A keypoint belongs to the rectangle that it
    hangs below in the list of regions, or that it has a relation with, or else as
    `tokenpose.data.formats.grouping.gather` says. A region with the choice "hidden" has v = 1. Tasks that nobody
    annotated are left out; of several annotations of a task the last one counts that wasn't cancelled.
    ``predictions``: read the tasks' predictions with their scores, and not the annotations.

    ``images``: where the images are, needed if the file doesn't say their sizes; it also shows whether names lost the
    eight digits that Label Studio puts before uploaded files. ``keypoints``: the names in their order; None: as they
    first appear. Raises FileNotFoundError, and ValueError that names file and task.
    """
    path = Path(path)
    tasks = read_json(path)
    if not isinstance(tasks, list):
        raise ValueError(f"{path} is not Label Studio's JSON, which is a list of tasks; it holds {show(tasks)}")
    sizes, names = ImageSizes(images, path.parent), _Names(tasks, path)
    if images is not None:
        names.match(ImageSizes(images, path.parent))
    loose, skipped, ignored = list[LooseImage](), 0, Counter[str]()
    for position, task in enumerate(tasks):
        where = f"{path}: task {position}"
        regions = _read_task(task, where, predictions)
        if regions is None:
            skipped += 1
            continue
        ignored.update(region.kind for region in regions if region.kind not in _READ)
        loose.append(_loose(regions, names[position], sizes, where))
    _log(str(path), skipped, ignored, predictions)
    photographs, categories = gather(loose, str(path), keypoints)
    return to_coco(photographs, categories, path)


_READ = {"keypointlabels", "rectanglelabels", "choices"}


def _log(path: str, skipped: int, ignored: Mapping[str, int], predictions: bool) -> None:
    if skipped:
        missing = "predictions" if predictions else "annotations"
        logger.info("%s: left out: %s without %s", path, counted(skipped, "task", "tasks"), missing)
    if ignored:
        words = ", ".join(f"{count} {name}" for name, count in ignored.items())
        logger.info("%s: left out: %s; keypoints and rectangles with labels are read", path, words)


# Tasks and their regions


def _read_task(task: Any, where: str, predictions: bool) -> list[_Region] | None:
    """The regions of a task; None where nobody annotated it."""
    if not isinstance(task, Mapping):
        raise ValueError(f"{where} must be an object; got {show(task)}")
    field = "predictions" if predictions else "annotations"
    if "data" not in task:
        return _read_least(task, where)
    results = task.get(field, task.get("completions")) if field == "annotations" else task.get(field)
    if not (results is None or isinstance(results, list)):
        raise ValueError(f"{where}: {field} must be a list; got {show(results)}")
    done = [entry for entry in results or [] if not (isinstance(entry, Mapping) and entry.get("was_cancelled"))]
    if not done:
        return None
    items = take(done[-1], "result", list, f"{where}: {field}")
    return list(_join(items, where))


def _join(items: Sequence[Any], where: str) -> Iterator[_Region]:
    """The regions, with relations as parents. A rectangle that a relation begins or ends at is the parent."""
    kinds, relations = dict[str, str](), dict[str, list[str]]()
    for item in items:
        kind = take(item, "type", str, f"{where}: result")
        if kind == "relation":
            first, second = (take(item, name, str, f"{where}: relation") for name in ("from_id", "to_id"))
            relations.setdefault(first, []).append(second)
            relations.setdefault(second, []).append(first)
        elif kind != "choices":
            kinds[str(item.get("id"))] = kind
    for item in items:
        if item["type"] == "relation":
            continue
        identity = None if item.get("id") is None else str(item["id"])
        above = [item.get("parentID") or item.get("parent_id"), *relations.get(identity or "", [])]
        parent = next((str(name) for name in above if kinds.get(str(name)) == "rectanglelabels"), None)
        size = None
        if item.get("original_width") is not None:
            size = take_size(item, ("original_width", "original_height"), f"{where}: result")
        score = float(item["score"]) if is_number(item.get("score")) else None
        yield _Region(identity, item["type"], take(item, "value", dict, f"{where}: result"), parent, size, score)


def _read_least(task: Mapping[str, Any], where: str) -> list[_Region] | None:
    """The regions of JSON-MIN, where each control tag has its list of values."""
    regions = []
    for values in task.values():
        for value in values if isinstance(values, list) else ():
            kind = next((name for name in _READ if isinstance(value, Mapping) and name in value), None)
            if kind is not None:
                size = None
                if value.get("original_width") is not None:
                    size = take_size(value, ("original_width", "original_height"), where)
                regions.append(_Region(value.get("id"), kind, value, None, size, None))
    return regions or None


# Images


class _Names:
    """The images' names, by the tasks' positions."""

    def __init__(self, tasks: Sequence[Any], path: Path) -> None:
        self._written = [_find_name(task, f"{path}: task {position}") for position, task in enumerate(tasks)]
        self._short = [_UPLOADED.sub("", name) for name in self._written]
        twice = {name for name, count in Counter(self._short).items() if count > 1}
        self._chosen = [
            name if short in twice else short for name, short in zip(self._written, self._short, strict=True)
        ]
        self._path = path

    def match(self, sizes: ImageSizes) -> None:
        """Take a name as it is written where there is such an image."""
        pairs = zip(self._written, self._chosen, strict=True)
        self._chosen = [name if name != short and sizes.has(name) else short for name, short in pairs]

    def __getitem__(self, position: int) -> str:
        return self._chosen[position]


def _find_name(task: Any, where: str) -> str:
    """The name of a task's image: the last part of an upload's address, the path of a local or stored file."""
    data = task.get("data", task) if isinstance(task, Mapping) else None
    if not isinstance(data, Mapping):
        raise ValueError(f"{where}: data must be an object; got {show(data)}")
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    address = texts.get("image") or next((text for text in texts.values() if _is_image(text)), None)
    if address is None:
        raise ValueError(f"{where} names no image; its data are {show(data)}")
    parts = urlsplit(address)
    if query := parse_qs(parts.query).get("d"):  # /data/local-files/?d=folder/a.jpg
        return query[0].lstrip("/")
    name = unquote(parts.path)
    if "/upload/" in name or parts.scheme in ("http", "https"):
        return PurePosixPath(name).name
    return name.lstrip("/")


def _is_image(text: str) -> bool:
    return urlsplit(text).path.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"))


# Points and boxes


def _loose(regions: Sequence[_Region], name: str, sizes: ImageSizes, where: str) -> LooseImage:
    stated = next((region.size for region in regions if region.size is not None), None)
    width, height = stated or sizes.find(name)
    hidden = {
        region.identity
        for region in regions
        if region.kind == "choices" and HIDDEN_CHOICE in take(region.value, "choices", list, where)
    }
    used = {region.parent for region in regions}
    points, boxes = list[LoosePoint](), list[LooseBox]()
    for region in regions:
        x, y = _position(region, width, height, where) if region.kind in _READ - {"choices"} else (0.0, 0.0)
        if region.kind == "keypointlabels":
            v = {"v": HIDDEN} if region.identity in hidden else {}
            label = _label(region, where)
            points.append(LoosePoint(label, Keypoint(x, y, **v, score=region.score), region.parent))
        elif region.kind == "rectanglelabels":
            extent = (_percent(region, "width", width, where), _percent(region, "height", height, where))
            group = region.identity if region.identity in used else None
            boxes.append(LooseBox(_label(region, where), (x, y, *extent), group))
    return LooseImage(file=name, width=width, height=height, points=points, boxes=boxes)


def _label(region: _Region, where: str) -> str:
    labels = take(region.value, region.kind, list, where)
    if len(labels) != 1 or not isinstance(labels[0], str):
        raise ValueError(f"{where}: a region must have one label; got {show(labels)}")
    return labels[0]


def _position(region: _Region, width: int, height: int, where: str) -> tuple[float, float]:
    return _percent(region, "x", width, where), _percent(region, "y", height, where)


def _percent(region: _Region, field: str, whole: int, where: str) -> float:
    return round(take_number(region.value, field, where) * whole / 100, DIGITS)
