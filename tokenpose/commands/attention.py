"""`tokenpose attention`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import Command, app, count
from tokenpose.commands.choices import choose_device, choose_named_model
from tokenpose.commands.options import (
    MODEL,
    OUTPUT,
    BoxesOption,
    BoxOption,
    DecoderOption,
    DetectionThresholdOption,
    DetectOption,
    DetectorOption,
    DeviceOption,
    ModelOption,
    WeightsOption,
    check_suffix,
    complete_model,
    find_image_files,
    read_box_options,
)

PageOption = Annotated[
    Path, typer.Option("--output", metavar="FILE.html", help="HTML file to write.", rich_help_panel=OUTPUT)
]
MapsOption = Annotated[
    Path | None,
    typer.Option(
        "--maps", metavar="DIR", help="Folder for the numbers: a .npz file for each panel.", rich_help_panel=OUTPUT
    ),
]
CompareModelOption = Annotated[
    str | None,
    typer.Option(
        "--compare-model",
        metavar="NAME",
        help="Second model, to show beside the first.",
        autocompletion=complete_model,
        rich_help_panel=MODEL,
    ),
]
CompareWeightsOption = Annotated[
    Path | None,
    typer.Option("--compare-weights", metavar="FILE", help="The second model's weights file.", rich_help_panel=MODEL),
]


@app.command("attention", cls=Command, short_help="Write a page that shows what each keypoint attends to.")
def attention_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files.")],
    output: PageOption,
    detect: DetectOption = False,
    detector: DetectorOption = None,
    detection_threshold: DetectionThresholdOption = None,
    box: BoxOption = None,
    boxes: BoxesOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    compare_model: CompareModelOption = None,
    compare_weights: CompareWeightsOption = None,
    decoder: DecoderOption = "dark",
    device: DeviceOption = None,
    maps: MapsOption = None,
) -> None:
    """Write a page that shows what each keypoint attends to, block by block and head by head.

    The page is one HTML file for any browser, with the photograph, the skeleton and the numbers in it; it needs no
    server and no network. Each person has a panel, and a page has room for four: several people, photographs or models
    side by side. People's boxes come from the same options as in `tokenpose predict`; without any, each whole image is
    one person.

    --maps writes the numbers of panel 1 to IMAGE.1.npz, which `AttentionMaps.load` reads.

    \b
    Examples:
      tokenpose attention photo.jpg --box 48,20,310,620 --output report.html
      tokenpose attention before.jpg after.jpg --detect --output report.html
      tokenpose attention photo.jpg --compare-weights run/model.safetensors --output report.html
    """
    check_suffix(output, (".html", ".htm"), "a page is", "--output")
    choice = read_box_options(box, boxes, detect, detector, detection_threshold)
    target = choose_device(device)

    from tokenpose.jobs.box_source import choose_box_source
    from tokenpose.jobs.pages import choose_people, write_attention

    paths = find_image_files(images, choice)
    source = choose_box_source(*choice, target)
    chosen = [(model, weights), (compare_model, compare_weights)][: 2 if compare_model or compare_weights else 1]
    people = choose_people(paths, source.file, source.given, source.find, len(chosen))
    models = [choose_named_model(*names, target) for names in chosen]
    write_attention(people, models, output, maps=maps, decoder=decoder)
    typer.echo(f"{count(len(people), 'person', 'people')} in {count(len(paths), 'image', 'images')}: {output}")
