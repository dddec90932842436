"""`tokenpose evaluate`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import app, without_nan
from tokenpose.commands.options import Device, FlipTest, Model, Places, Weights, choose_device, load_model


@app.command("evaluate", short_help="Measure PCK on labelled people, and draw them.")
def evaluate_command(
    data: Annotated[Path, typer.Option("--data", metavar="JSON", help="COCO keypoint file of labelled people.")],
    images: Places,
    model: Model = None,
    weights: Weights = None,
    flip_test: FlipTest = False,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Right is what lies within this share of the torso.")
    ] = 0.2,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE.json", help="Write the figures here too.")
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Draw the first people, labels left and prediction right."),
    ] = None,
    sheet_count: Annotated[int, typer.Option("--sheet-count", min=1, help="How many people are drawn.")] = 30,
    sheet_threshold: Annotated[
        float, typer.Option("--sheet-threshold", help="Keypoints of a lower score are not drawn.")
    ] = 0.0,
    device: Device = None,
) -> None:
    """Measure PCK on labelled people, cropped by their labelled boxes.

    Prints the percentage of labelled keypoints that are found within a share of the person's torso, for each keypoint
    and over all.

    \b
    Example:
      tokenpose evaluate --data val.json --images photographs/ --sheet sheet.png
    """
    target = choose_device(device)
    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter(f"a sheet is a .png or .jpg file; got {sheet}", param_hint="--sheet")

    from tokenpose.data.coco import read_coco
    from tokenpose.data.sources import ImageSource
    from tokenpose.jobs import measure_pck

    samples, source = read_coco(data), ImageSource(images)
    network = load_model(model, weights, target)
    result = measure_pck(network, samples, source, threshold, flip_test)
    typer.echo(str(result))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(without_nan(asdict(result)), indent=2) + "\n", encoding="utf-8")
    if sheet is not None:
        from tokenpose.photographs import draw_sheet, save_picture

        save_picture(draw_sheet(network, samples, source, sheet_count, flip_test, sheet_threshold), sheet)
