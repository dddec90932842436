"""`tokenpose check`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenpose.commands.app import Command, app, count, progress
from tokenpose.commands.choices import choose_device, choose_model
from tokenpose.commands.options import (
    DATA,
    MODEL,
    OUTPUT,
    BoxesFromKeypointsOption,
    CategoryOption,
    DeviceOption,
    check_suffix,
    one_or_several,
    refuse_without,
)
from tokenpose.files import make_folder, write_text
from tokenpose.skeletons import split_flip_pairs

if TYPE_CHECKING:
    from tokenpose.doctor.check import CheckResult, FileSummary
    from tokenpose.doctor.findings import Finding
    from tokenpose.predictor import PosePredictor

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
WIDTH = 120
"""Of the table where standard output is not a terminal."""

SHEET_COUNT = 24

PlacesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="PLACE",
        help="Folder, tar or zip file, or quoted pattern of the images. Repeatable.",
        show_default="check only the labels",
        rich_help_panel=DATA,
    ),
]
ValOption = Annotated[
    Path | None,
    typer.Option(
        "--val",
        metavar="VAL.json",
        help="Validation file. It is checked as well, and must not share images with the others.",
        rich_help_panel=DATA,
    ),
]
FlipPairsOption = Annotated[
    str | None,
    typer.Option(
        "--flip-pairs",
        metavar="A:B,C:D",
        help='Keypoints that change sides in a mirrored image, or "none".',
        show_default="as their names say",
        rich_help_panel=DATA,
    ),
]
SwapScoreOption = Annotated[
    float,
    typer.Option(
        "--swap-score",
        metavar="SCORE",
        help="Minimum score at which left and right are reported as swapped; a lower one reports more people.",
        rich_help_panel=OUTPUT,
    ),
]
SecondOpinionOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights file of a model that knows the keypoints: report people whose left and right it sees the other "
        "way round.",
        rich_help_panel=MODEL,
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings too.", rich_help_panel=OUTPUT)]
ReportOption = Annotated[
    Path | None,
    typer.Option("--output", metavar="REPORT.json", help="JSON file for every finding.", rich_help_panel=OUTPUT),
]
SheetOption = Annotated[
    Path | None,
    typer.Option(
        "--sheet", metavar="SUSPECTS.html", help="Page that shows the suspicious people.", rich_help_panel=OUTPUT
    ),
]
SheetCountOption = Annotated[
    int | None,
    typer.Option(
        "--sheet-count",
        metavar="N",
        min=1,
        help="Maximum number of people to show for each check.",
        show_default=str(SHEET_COUNT),
        rich_help_panel=OUTPUT,
    ),
]


@app.command("check", cls=Command, short_help="Find faults in keypoint files and their images.")
def check_command(
    data: Annotated[list[Path], typer.Argument(metavar="DATA.json", help="COCO or MPII files.")],
    images: PlacesOption = None,
    val: ValOption = None,
    category: CategoryOption = None,
    boxes_from_keypoints: BoxesFromKeypointsOption = None,
    flip_pairs: FlipPairsOption = None,
    swap_score: SwapScoreOption = 7.0,
    weights: SecondOpinionOption = None,
    device: DeviceOption = None,
    strict: StrictOption = False,
    output: ReportOption = None,
    sheet: SheetOption = None,
    sheet_count: SheetCountOption = None,
) -> None:
    """Find faults in COCO or MPII files and their images, before a model learns them.

    The check looks for images that are missing, unreadable, of another size than stated, duplicated, or in both
    training and validation data; and for boxes and keypoints that don't fit, wrong visibility flags, keypoints that are
    never labeled, swapped left and right, and wrong flip pairs.

    An error stops training or makes its results wrong, a warning needs a look, and a note is good to know. The exit
    code is 1 if there are errors, else 0.

    \b
    Examples:
      tokenpose check data.json --images photographs/
      tokenpose check data.json --images photographs/ --weights run/model.safetensors
      tokenpose check train.json --val val.json --images "photographs/*.tar" --sheet suspects.html --output report.json
    """
    check_suffix(output, (".json",), "a report is", "--output")
    check_suffix(sheet, (".html", ".htm"), "a page of suspects is", "--sheet")
    refuse_without(sheet, {"--sheet-count": sheet_count})
    refuse_without(weights, {"--device": device}, "--weights")
    refuse_without(images, {"--weights": weights}, "--images")
    pairs = _read_pairs(flip_pairs)
    if not math.isfinite(swap_score):
        raise typer.BadParameter(f"a score is a finite number; got {swap_score}", param_hint="--swap-score")

    from tokenpose.data.sources import ImageSource
    from tokenpose.doctor.check import check_records, read_files
    from tokenpose.doctor.page import write_findings_page

    predictor = _make_predictor(weights, device) if weights is not None else None
    source = ImageSource(images) if images else None
    files = read_files([*data, *filter(None, [val])], one_or_several(category), pairs, boxes_from_keypoints)
    with progress(sum(len(records.files) for records in files) if source is not None else 0) as tick:
        result = check_records(files, source, tick=tick, swap_score=swap_score, predictor=predictor)
    _show(result)
    if output is not None:
        make_folder(output.parent)
        write_text(output, json.dumps(result.to_dict(), indent=2) + "\n")
    if sheet is not None:
        make_folder(sheet.parent)
        write_findings_page(result, files, source, sheet, sheet_count or SHEET_COUNT)
    if result.count("error") or (strict and result.count("warning")):
        raise typer.Exit(1)


def _make_predictor(weights: Path, device: str | None) -> "PosePredictor":
    from tokenpose.predictor import PosePredictor

    return PosePredictor(choose_model(None, weights, choose_device(device)))


def _read_pairs(text: str | None) -> list[tuple[str, str]] | None:
    """The names in --flip-pairs, if it is given; whether there are such keypoints, the files say."""
    if text is None:
        return None
    try:
        return split_flip_pairs(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--flip-pairs") from error


def _show(result: "CheckResult") -> None:
    """Print what was found, check by check, and what the files hold."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    for summary in result.files:
        console.print(_describe(summary))
    console.print(_findings(result))
    if result.files[0].sigmas:
        console.print(_keypoints(result.files[0]))
    console.print(
        ", ".join(count(result.count(name), name, f"{name}s") for name in ("error", "warning", "note")),
        style=STYLES["error"] if result.count("error") else "bold",
    )


def _describe(summary: "FileSummary") -> Any:
    pairs = "flip pairs unknown"
    if summary.flip_pairs is not None:
        pairs = count(len(summary.flip_pairs), "flip pair", "flip pairs")
    people, images = count(summary.people, "person", "people"), count(summary.images, "image", "images")
    return _text(f"{summary.file}: {people} in {images}, {len(summary.keypoints)} keypoints, {pairs}")


def _findings(result: "CheckResult") -> Any:
    from rich.table import Table

    from tokenpose.doctor.findings import CHECKS, SEVERITIES

    table = Table("check", "severity", _column("count"), "first examples", expand=False)
    for check in CHECKS:
        findings = result.of_check(check)
        if not findings:
            table.add_row(check, _text("not looked at" if check in result.skipped else "none", "dim"), "", "")
        for severity in SEVERITIES:
            some = [finding for finding in findings if finding.severity == severity]
            if some:
                examples = "\n".join(_example(finding, len(result.files) > 1) for finding in some[:2])
                table.add_row(check, _text(severity, STYLES[severity]), str(len(some)), _text(examples))
    return table


def _example(finding: "Finding", with_file: bool) -> str:
    parts = (Path(finding.file).name if with_file else "", finding.record, finding.message)
    return ": ".join(part for part in parts if part)


def _keypoints(summary: "FileSummary") -> Any:
    """How often each keypoint is labeled, and its estimated sigma."""
    from rich.table import Table

    table = Table("keypoint", _column("labeled"), _column("sigma for OKS"), "from")
    origins = {"named": "COCO, by name", "estimated": "distances, an estimate"}
    for name in summary.keypoints:
        labels, sigma = summary.labels[name], summary.sigmas[name]
        table.add_row(_text(name), str(labels), f"{sigma:.3f}", origins[summary.sigma_origins[name]])
    return table


def _column(name: str) -> Any:
    from rich.table import Column

    return Column(name, justify="right")


def _text(content: str, style: str = "") -> Any:
    """Plain text: a name from a file is never markup and never controls the terminal."""
    from rich.text import Text

    return Text("".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in content), style=style)
