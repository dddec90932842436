"""`tokenpose attention`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import app, count
from tokenpose.commands.options import (
    BoxesFile,
    Decoder,
    Detected,
    DetectionThreshold,
    Detector,
    Device,
    Model,
    SingleBoxes,
    Weights,
    box_finder,
    choose_device,
    find_image_files,
    load_named,
    read_boxes,
)


@app.command("attention", short_help="Write a page that shows what each keypoint attends to.")
def attention_command(
    images: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="An image file, or several.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.html", help="Where the page goes.")],
    boxes: BoxesFile = None,
    box: SingleBoxes = None,
    detected: Detected = False,
    detector: Detector = None,
    detection_threshold: DetectionThreshold = None,
    model: Model = None,
    weights: Weights = None,
    compare_model: Annotated[
        str | None, typer.Option("--compare-model", metavar="NAME", help="A second model, shown beside the first.")
    ] = None,
    compare_weights: Annotated[
        Path | None, typer.Option("--compare-weights", metavar="FILE", help="The second model's weights file.")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", metavar="DIR", help="Save the numbers here too: an npz file for each panel."),
    ] = None,
    decoder: Decoder = "dark",
    device: Device = None,
) -> None:
    """Write a page that shows what each keypoint attends to, block by block and head by head.

    One HTML file for any browser, with the photograph, the skeleton and the numbers in it: it needs no server and asks
    for nothing from outside. Each person has a panel, and four panels at most fit a page: several people, photographs
    or models side by side. Boxes are given as for `tokenpose predict`; without any the whole image is one person.

    The numbers of panel 1 go to PHOTO.1.npz in --maps, which `AttentionMaps.load` reads.

    \b
    Examples:
      tokenpose attention photo.jpg --box 48,20,310,620 --output report.html
      tokenpose attention before.jpg after.jpg --detect --output report.html
      tokenpose attention photo.jpg --compare-weights run/model.safetensors --output report.html
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"a page is a .html file; got {output}", param_hint="--output")
    wanted = read_boxes(box, boxes, detected, detector, detection_threshold)
    target = choose_device(device)

    from tokenpose.attention.page import choose_people, look_inside, write_page

    paths = find_image_files(images, wanted)
    find_boxes = box_finder(bool(box or boxes), detected, detector, detection_threshold, target)
    sources = [(model, weights), (compare_model, compare_weights)]
    sources = sources if any(sources[1]) else sources[:1]
    people = choose_people(paths, boxes, wanted, find_boxes, len(sources))
    networks = [load_named(*source, target) for source in sources]
    panels = look_inside(people, networks, decoder)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_page(panels, output)
    if maps is not None:
        maps.mkdir(parents=True, exist_ok=True)
        stems = [person.path.stem for person in people for _ in networks]
        for number, (stem, panel) in enumerate(zip(stems, panels, strict=True), 1):
            panel.maps.save(maps / f"{stem}.{number}.npz")
    typer.echo(f"{count(len(people), 'person', 'people')} in {count(len(paths), 'image', 'images')}: {output}")
