"""`tokenpose calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import Command, app, show_log
from tokenpose.commands.choices import choose_device, choose_model
from tokenpose.commands.options import (
    DATA,
    DEFAULT_MODEL,
    MODEL,
    OUTPUT,
    BatchSizeOption,
    BoxesFromKeypointsOption,
    CategoryOption,
    DeviceOption,
    ImagesOption,
    ModelOption,
    RenameOption,
    WeightsOption,
    check_suffix,
    one_or_several,
    read_renames,
    read_size,
)


@app.command("calibrate", cls=Command, short_help="Make a model's scores probabilities.")
def calibrate_command(
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="JSON",
            help="COCO or MPII file of labeled people that the model was not trained on.",
            rich_help_panel=DATA,
        ),
    ],
    images: ImagesOption,
    model: ModelOption = None,
    weights: WeightsOption = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option("--ground-truth", metavar="FILE.mat", help="MPII's MATLAB file.", rich_help_panel=DATA),
    ] = None,
    category: CategoryOption = None,
    boxes_from_keypoints: BoxesFromKeypointsOption = None,
    rename: RenameOption = None,
    image_size: Annotated[
        list[str] | None,
        typer.Option(
            "--image-size",
            metavar="HEIGHTxWIDTH",
            help="Image size to calibrate for. Repeatable.",
            show_default="the model's",
            rich_help_panel=MODEL,
        ),
    ] = None,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE.safetensors",
            help="Weights file to write. Required for bundled weights.",
            show_default="the file of --weights",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Make a model's scores probabilities, and keep that in its weights file.

    Without this, a score is the peak of a heatmap. Afterwards it is the probability that the keypoint lies within 0.2
    torso diameters of its place (for people whose torso isn't labeled: that its similarity is above 0.5). Each image
    size is calibrated on its own, with and without the flip test. The weights themselves stay as they are.

    \b
    Examples:
      tokenpose calibrate --weights run/model.safetensors --data val.json --images photographs/
      tokenpose calibrate --data val.json --images photographs/ --image-size 256x192 --image-size 128x96 \\
          --output calibrated.safetensors
    """
    target = output or weights
    if target is None:
        raise typer.BadParameter("bundled weights stay as they are: give a file to write", param_hint="--output")
    check_suffix(output, (".safetensors",), "weights are written to", "--output")
    names, sizes = read_renames(rename), [read_size(text) for text in image_size or ()]

    from tokenpose.evaluation.processes import join_processes
    from tokenpose.jobs.calibration import calibrate, write_calibrated

    processes = join_processes()  # before the model is made: each has a device of its own
    network = choose_model(model, weights, choose_device(device))
    show_log()
    result = calibrate(
        network, data, images, image_sizes=sizes or None, ground_truth=ground_truth, category=one_or_several(category),
        rename=names, boxes_from_keypoints=boxes_from_keypoints, batch_size=batch_size,
    )  # fmt: skip
    if processes.is_main:
        write_calibrated(network, weights, model or DEFAULT_MODEL, target)
        typer.echo(str(result))
        typer.echo(f"\n{target}")
