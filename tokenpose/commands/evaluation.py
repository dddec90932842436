"""`tokenpose evaluate`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenpose.commands.app import Command, app, show_log
from tokenpose.commands.choices import choose_device, choose_model
from tokenpose.commands.generated import split_settings, with_settings
from tokenpose.commands.options import (
    BoxesFromKeypointsOption,
    CategoryOption,
    DeviceOption,
    ImagesOption,
    ModelOption,
    OptimizeOption,
    RenameOption,
    WeightsOption,
    check_suffix,
    one_or_several,
    read_renames,
)
from tokenpose.evaluation.settings import EvaluationSettings, SheetSettings
from tokenpose.files import write_text

FIGURES, PICTURES = (".json", ".csv"), (".png", ".jpg", ".jpeg")


PANELS = {
    "Data": ("data", "images", "ground_truth", "category", "boxes_from_keypoints", "rename"),
    "Model": ("model", "weights", "device", "optimized"),
    "Metrics": (),
    "Boxes": (),
    "Prediction": (),
    "Output": ("output",),
}


@app.command("evaluate", cls=Command, short_help="Measure AP, PCK and errors on labeled people.")
@with_settings(EvaluationSettings, SheetSettings, panels=PANELS)
def evaluate_command(
    data: Annotated[
        list[Path], typer.Option("--data", metavar="JSON", help="COCO or MPII file of the labeled people.")
    ],
    images: ImagesOption,
    settings: Mapping[str, Any],
    model: ModelOption = None,
    weights: WeightsOption = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option("--ground-truth", metavar="FILE.mat", help="File with MPII's head sizes, for the published PCKh."),
    ] = None,
    category: CategoryOption = None,
    boxes_from_keypoints: BoxesFromKeypointsOption = None,
    rename: RenameOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Also write the metrics to this .json or .csv file; CSV has a row per keypoint.",
        ),
    ] = None,
    device: DeviceOption = None,
    optimized: OptimizeOption = False,
) -> None:
    """Evaluate a model on labeled people, and print a table.

    coco: AP and AR, computed by pycocotools. The model must have all keypoints of the data; sigmas that the skeleton
    lacks are estimated, and the table says so. pck: percentage of labeled keypoints found within a share of the
    person's torso, head or box. pckh: the same at half the head, and the area under its curve. epe: mean and median
    error in pixels. ece: how far the scores of a calibrated model are from the shares of correct keypoints.

    People are cropped by their labeled boxes. With --boxes they are cropped by a detector's boxes, and only coco can be
    reported. With --results the predictions are written, too, in the form that COCO's and MPII's evaluations read, also
    for files without labels. Under `accelerate launch` or `torchrun` the processes share the images and report the same
    metrics.

    \b
    Examples:
      tokenpose evaluate --data val.json --images photographs/ --output figures.csv
      tokenpose evaluate --data val.json --images photographs/ --boxes detections.json --flip-test
      tokenpose evaluate --data val.json --images photographs/ --sheet worst.png --sheet-order worst
      tokenpose evaluate --data image_info.json --images test2017/ --boxes boxes.json --results keypoints.json
    """
    complete, sheet = split_settings(settings, EvaluationSettings, SheetSettings)
    check_suffix(output, FIGURES, "metrics are written to", "--output")
    if output is not None and output == complete.results:
        raise typer.BadParameter(f"metrics and results need a file each; got {output} for both", param_hint="--output")
    check_suffix(sheet.sheet, PICTURES, "a sheet is", "--sheet")
    check_suffix(complete.plot, (".png",), "a plot is", "--plot")
    names, file = read_renames(rename), _only(data)

    from tokenpose.evaluation.processes import join_processes
    from tokenpose.jobs.evaluation import evaluate_with

    processes = join_processes()  # before the model is made: each has a device of its own
    network = choose_model(model, weights, choose_device(device), optimized)
    show_log()
    result = evaluate_with(
        complete, network, file, images, ground_truth=ground_truth, category=one_or_several(category),
        rename=names, sheet=sheet, boxes_from_keypoints=boxes_from_keypoints,
    )  # fmt: skip
    if not processes.is_main:
        return
    typer.echo(str(result))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, result.to_csv() if output.suffix.lower() == ".csv" else result.to_json())


def _only(data: list[Path]) -> Path:
    if len(data) > 1:
        files = ", ".join(map(str, data))
        raise typer.BadParameter(f"give one file; got {files}", param_hint="--data")
    return data[0]
