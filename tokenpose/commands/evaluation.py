"""`tokenpose evaluate`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenpose.commands.app import Command, app, show_log
from tokenpose.commands.choices import choose_device, choose_model
from tokenpose.commands.options import (
    BatchSizeOption,
    DecoderOption,
    DeviceOption,
    FlipTestOption,
    ImagesOption,
    ModelOption,
    OptimizeOption,
    RenameOption,
    WeightsOption,
    read_renames,
    refuse_without,
)
from tokenpose.files import write_text

if TYPE_CHECKING:
    from tokenpose.data.samples import Samples

FIGURES, PICTURES = (".json", ".csv"), (".png", ".jpg", ".jpeg")


class Metric(StrEnum):
    """What can be measured."""

    COCO = "coco"
    PCK = "pck"
    PCKH = "pckh"
    EPE = "epe"


class Part(StrEnum):
    """What distances are measured by."""

    TORSO = "torso"
    HEAD = "head"
    BOX = "box"


class SheetOrder(StrEnum):
    """Who comes first."""

    FILE = "file"
    WORST = "worst"


@app.command("evaluate", cls=Command, short_help="Measure AP, PCK and errors on labelled people, and draw them.")
def evaluate_command(
    data: Annotated[
        list[Path], typer.Option("--data", metavar="JSON", help="COCO or MPII file of labelled people, one.")
    ],
    images: ImagesOption,
    model: ModelOption = None,
    weights: WeightsOption = None,
    boxes: Annotated[
        Path | None,
        typer.Option("--boxes", metavar="FILE", help="A detector's boxes, COCO results. Default: the labelled boxes."),
    ] = None,
    ground_truth: Annotated[
        Path | None,
        typer.Option("--ground-truth", metavar="FILE.mat", help="MPII's head sizes, for the published PCKh."),
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="Which one, where several have keypoints.")
    ] = None,
    rename: RenameOption = None,
    box_threshold: Annotated[
        float | None, typer.Option("--box-threshold", help="Of --boxes those of a lower score are left out.")
    ] = None,
    metric: Annotated[
        list[Metric] | None, typer.Option("--metric", help="Measure this; repeatable. Default: all that apply.")
    ] = None,
    threshold: Annotated[
        list[float] | None,
        typer.Option("--threshold", help="Of PCK, in units; repeatable. Default: 0.2, of the head 0.5."),
    ] = None,
    unit: Annotated[
        Part | None,
        typer.Option("--unit", help="What PCK and errors are relative to. Default: torso, box where there is none."),
    ] = None,
    nms: Annotated[
        float | None,
        typer.Option(
            "--nms", help="Of two poses in an image with a higher OKS the worse goes, before AP. Default: 0.9."
        ),
    ] = None,
    soft_nms: Annotated[
        float | None, typer.Option("--soft-nms", help="Threshold of soft suppression, instead of --nms.")
    ] = None,
    decoder: DecoderOption = "dark",
    flip_test: FlipTestOption = False,
    batch_size: BatchSizeOption = 64,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write the figures here too: .json, or .csv, a row a keypoint."),
    ] = None,
    sheet: Annotated[
        Path | None,
        typer.Option("--sheet", metavar="FILE.png", help="Draw people, labels left and prediction right."),
    ] = None,
    sheet_order: Annotated[
        SheetOrder | None,
        typer.Option("--sheet-order", help="The first of the file (default), or those with the largest mean error."),
    ] = None,
    sheet_count: Annotated[
        int | None, typer.Option("--sheet-count", min=1, help="How many people are drawn. Default: 30.")
    ] = None,
    sheet_threshold: Annotated[
        float | None, typer.Option("--sheet-threshold", help="Keypoints of a lower score are not drawn. Default: 0.")
    ] = None,
    device: DeviceOption = None,
    optimized: OptimizeOption = False,
) -> None:
    """Measure a model on labelled people, and print a table.

    coco: AP and AR, by pycocotools, on all that it counts. It needs a model with all the data's keypoints; where the
    skeleton has no sigmas they are estimated, and the table says so. pck: percentage of labelled keypoints found within
    a share of the person's torso, head or box. pckh: the same at half the head, and the area under its curve. epe: mean
    and median error in pixels.

    People are cropped by their labelled boxes, or by a detector's, of which only coco can be told. Under
    `accelerate launch` or `torchrun` the processes share the images and give the same figures.

    \b
    Examples:
      tokenpose evaluate --data val.json --images photographs/ --output figures.csv
      tokenpose evaluate --data val.json --images photographs/ --boxes detections.json --flip-test
      tokenpose evaluate --data val.json --images photographs/ --sheet worst.png --sheet-order worst
    """
    _check_suffix(output, FIGURES, "figures go to", "--output")
    _check_suffix(sheet, PICTURES, "a sheet is", "--sheet")
    if sheet is not None and boxes is not None:
        raise typer.BadParameter("people are drawn in their labelled boxes; leave --boxes out", param_hint="--sheet")
    if box_threshold is not None and boxes is None:
        raise typer.BadParameter("labelled boxes have no scores; it goes with --boxes", param_hint="--box-threshold")
    if nms is not None and soft_nms is not None:
        raise typer.BadParameter("it is instead of --nms; give one of them", param_hint="--soft-nms")
    refuse_without(
        sheet, {"--sheet-order": sheet_order, "--sheet-count": sheet_count, "--sheet-threshold": sheet_threshold}
    )
    _refuse_unmeasured(boxes, metric or list(Metric), threshold, unit)
    names, file = read_renames(rename), _only(data)

    from tokenpose.evaluation.processes import join_processes
    from tokenpose.jobs.evaluation import evaluate, read_people

    processes = join_processes()  # before the model is made: each has a device of its own
    network = choose_model(model, weights, choose_device(device), optimized)
    show_log()
    result = evaluate(
        network,
        file,
        images,
        metrics=None if not metric else [entry.value for entry in metric],
        thresholds=threshold or None,
        unit=None if unit is None else unit.value,
        boxes=boxes,
        box_threshold=box_threshold or 0.0,
        nms=0.9 if nms is None else nms,
        soft_nms=soft_nms,
        flip_test=flip_test,
        decoder=decoder,
        batch_size=batch_size,
        ground_truth=ground_truth,
        category=category,
        rename=names,
    )
    if not processes.is_main:
        return
    typer.echo(str(result))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_text(output, result.to_csv() if output.suffix.lower() == ".csv" else result.to_json())
    if sheet is not None:
        from tokenpose.data.sources import ImageSource
        from tokenpose.images import write_image
        from tokenpose.jobs.sheets import draw_sheet
        from tokenpose.predictor import PosePredictor

        people, source = read_people(file, category, ground_truth, names), ImageSource(images)
        if sheet_order is SheetOrder.WORST:
            people = _worst_first(people, result.person_errors)
        predictor = PosePredictor(network, decoder, flip_test)
        write_image(draw_sheet(predictor, people, source, sheet_count or 30, sheet_threshold or 0.0), sheet)


def _refuse_unmeasured(
    boxes: Path | None, metrics: list[Metric], thresholds: list[float] | None, unit: Part | None
) -> None:
    """Options of figures that aren't measured."""
    for given, option, needed in (
        (thresholds, "--threshold", [Metric.PCK]),
        (unit, "--unit", [Metric.PCK, Metric.EPE]),
    ):
        if given and boxes is not None:
            raise typer.BadParameter("with --boxes only coco is measured, which has no use for it", param_hint=option)
        if given and not set(needed) & set(metrics):
            raise typer.BadParameter(f"it goes with --metric {' or '.join(needed)}", param_hint=option)


def _only(data: list[Path]) -> Path:
    if len(data) > 1:
        files = ", ".join(map(str, data))
        raise typer.BadParameter(f"one file is measured at a time; got {files}", param_hint="--data")
    return data[0]


def _check_suffix(path: Path | None, known: tuple[str, ...], what: str, option: str) -> None:
    if path is not None and path.suffix.lower() not in known:
        raise typer.BadParameter(f"{what} a {' or '.join(known[:2])} file; got {path}", param_hint=option)


def _worst_first(people: "Samples", errors: Any) -> "Samples":
    """Those who can't be compared come last."""
    import numpy as np

    return people.take(np.argsort(np.nan_to_num(-errors, nan=np.inf), kind="stable"))
