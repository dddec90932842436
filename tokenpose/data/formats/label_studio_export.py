"""COCO keypoint files -> Label Studio: tasks with pre-labels to correct, and the labeling configuration."""

import colorsys
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from tokenpose.data.formats.label_file import read_people
from tokenpose.data.formats.label_studio import HIDDEN_CHOICE
from tokenpose.data.formats.labels import HIDDEN, Category, Keypoint, Person, Photograph, grow_box
from tokenpose.files import write_text

LOCAL_FILES = "/data/local-files/?d="
"""Before the name of a file in Label Studio's local storage."""
BOX, KEYPOINTS, VISIBILITY, IMAGE = "box", "keypoints", "visibility", "image"
"""The names of the configuration's tags."""


def write_label_studio(
    data: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    prefix: str = LOCAL_FILES,
    role: Literal["predictions", "annotations"] = "predictions",
    threshold: float = 0.0,
    category: str | None = None,
) -> Path:
    """Write COCO keypoint files, such as `tokenpose predict` writes, as tasks of Label Studio; gives the config's path.

    ``output``: the tasks, a .json file; the labeling configuration is written beside it, as .xml. Each person is a
    rectangle with keypoints below it, and the keypoints have their scores. As ``role`` "predictions" they are
    pre-labels, which people accept and correct; as "annotations" they count as labeled. Keypoints with a score below
    the ``threshold`` are left out. ``prefix``: what comes before file names in an image's address; the default is that
    of local storage, relative to its root.

    Raises FileNotFoundError, and ValueError for faults of the files, or files with different keypoints.
    """
    output = Path(output)
    if output.suffix.lower() != ".json":
        raise ValueError(f"tasks are a .json file; got {output}")
    paths = [data] if isinstance(data, str | Path) else list(data)
    content = read_people([Path(path) for path in paths], category)
    tasks = [_task(photograph, prefix, role, threshold) for photograph in content.photographs]
    write_text(output, json.dumps(tasks, indent=1) + "\n")
    config = output.with_suffix(".xml")
    write_text(config, describe_labels(content.category))
    return config


def describe_labels(category: Category) -> str:
    """The labeling configuration: rectangles for people, keypoints in colors, and "hidden" for each keypoint."""
    count = len(category.keypoints)
    labels = "\n".join(
        f"    <Label value={quoteattr(name)} background={quoteattr(_color(index, count))}/>"
        for index, name in enumerate(category.keypoints)
    )
    return f"""<View>
  <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true"/>
  <RectangleLabels name="{BOX}" toName="{IMAGE}">
    <Label value={quoteattr(category.name)}/>
  </RectangleLabels>
  <KeyPointLabels name="{KEYPOINTS}" toName="{IMAGE}" strokeWidth="5">
{labels}
  </KeyPointLabels>
  <Choices name="{VISIBILITY}" toName="{IMAGE}" perRegion="true" whenTagName="{KEYPOINTS}">
    <Choice value="{HIDDEN_CHOICE}"/>
  </Choices>
</View>
"""


def _color(index: int, count: int) -> str:
    red, green, blue = colorsys.hsv_to_rgb(index / count, 0.9, 0.9)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def _task(photograph: Photograph, prefix: str, role: str, threshold: float) -> dict[str, Any]:
    results = [
        result
        for number, person in enumerate(photograph.people)
        for result in _results(person, f"person{number}", photograph, threshold)
    ]
    scores = [result["score"] for result in results if "score" in result]
    entry: dict[str, Any] = {"result": results}
    if role == "predictions":
        entry |= {"model_version": "tokenpose"} | ({"score": sum(scores) / len(scores)} if scores else {})
    name = photograph.file.replace("\\", "/")
    return {"data": {"image": prefix + quote(name)}, role: [entry] if results else []}


def _results(person: Person, identity: str, photograph: Photograph, threshold: float) -> Iterator[dict[str, Any]]:
    """The rectangle, and the keypoints below it."""
    size = {"original_width": photograph.width, "original_height": photograph.height, "image_rotation": 0}
    if person.box is None and not person.keypoints:
        return
    left, top, width, height = person.box or grow_box(person.keypoints.values(), photograph.width, photograph.height)
    value = {
        "x": 100 * left / photograph.width,
        "y": 100 * top / photograph.height,
        "width": 100 * width / photograph.width,
        "height": 100 * height / photograph.height,
        "rotation": 0,
        "rectanglelabels": [person.category],
    }
    yield {"id": identity, "type": "rectanglelabels", "from_name": BOX, "to_name": IMAGE, **size, "value": value}
    for name, point in person.keypoints.items():
        if point.score is None or point.score >= threshold:
            yield from _keypoint(name, point, f"{identity}-{name}", photograph, {**size, "parentID": identity})


def _keypoint(
    name: str, point: Keypoint, identity: str, photograph: Photograph, fields: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    value = {
        "x": 100 * point.x / photograph.width,
        "y": 100 * point.y / photograph.height,
        "width": 0.5,
        "keypointlabels": [name],
    }
    score = {} if point.score is None else {"score": point.score}
    kind = {"type": "keypointlabels", "from_name": KEYPOINTS, "to_name": IMAGE}
    yield {"id": identity, **kind, **fields, "value": value, **score}
    if point.v == HIDDEN:
        choice = {"type": "choices", "from_name": VISIBILITY, "to_name": IMAGE}
        yield {"id": identity, **choice, **fields, "value": {**value, "choices": [HIDDEN_CHOICE]}}
