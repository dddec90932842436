"""Pages of attention: from photographs in files and models to one HTML file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tokenpose.attention.page import MOST_PANELS, Person, look_inside, write_attention_page
from tokenpose.boxes import Box, read_boxes
from tokenpose.data.box_files import ImageBoxes, read_boxes_file
from tokenpose.files import make_folder
from tokenpose.images import read_image
from tokenpose.models.tokenpose import TokenPose
from tokenpose.shapes import RgbImage


def choose_people(
    paths: Sequence[Path],
    boxes_file: Path | None,
    boxes: Sequence[Box],
    find_boxes: Callable[[RgbImage], Any],
    models: int = 1,
) -> list[Person]:
    """The people of these photographs: from a boxes file, by the same boxes in each, or by ``find_boxes``.

    Raises ValueError if there is nobody, if a box can't be cropped and if people times ``models`` exceed `MOST_PANELS`,
    and what reading images and boxes files raises.
    """
    known = read_boxes_file(boxes_file).of_images(paths) if boxes_file else [ImageBoxes(boxes=list(boxes))] * len(paths)
    people = []
    for path, given in zip(paths, known, strict=True):
        pixels = read_image(path)
        found = given.boxes if boxes_file or boxes else find_boxes(pixels)
        people += _people_of(path, pixels, found)
    if not people:
        raise ValueError(f"there is nobody to show in {', '.join(map(str, paths))}; give a box with --box")
    if len(people) * models > MOST_PANELS:
        times = "" if models == 1 else f" times {models} models"
        raise ValueError(
            f"a page has room for {MOST_PANELS} panels, and there are {len(people)} people{times}; "
            "choose some with --box or --boxes"
        )
    return people


def _people_of(path: Path, pixels: RgbImage, boxes: Any) -> list[Person]:
    try:
        xyxy = read_boxes(boxes, "xyxy", (pixels.shape[1], pixels.shape[2])).numpy()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    titles = [f"{path.name}, person {number} of {len(xyxy)}" for number in range(1, len(xyxy) + 1)]
    titles = titles if len(xyxy) > 1 else [path.name]
    return [Person(path=path, pixels=pixels, box=box, title=title) for box, title in zip(xyxy, titles, strict=False)]


def write_attention(
    people: Sequence[Person],
    models: Sequence[tuple[str, TokenPose]],
    page: Path,
    *,
    maps: Path | None = None,
    decoder: str = "dark",
) -> None:
    """Write a page with a panel for each person and model. ``models`` are (name, model).

    ``maps``: a folder for the `AttentionMaps` of each panel, PHOTO.1.npz for panel 1.
    """
    for folder in filter(None, (page.parent, maps)):
        make_folder(folder)
    panels = look_inside(people, models, decoder)
    write_attention_page(panels, page)
    if maps is not None:
        stems = [person.path.stem for person in people for _ in models]
        for number, (stem, panel) in enumerate(zip(stems, panels, strict=True), 1):
            panel.maps.save(maps / f"{stem}.{number}.npz")
