"""`tokenpose check`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenpose.commands.app import app, count, progress
from tokenpose.commands.options import refuse_without
from tokenpose.files import write_text

if TYPE_CHECKING:
    from tokenpose.doctor.check import CheckResult, FileSummary
    from tokenpose.doctor.findings import Finding

STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}
WIDTH = 120
"""Of the table where standard output is no terminal."""


@app.command("check", short_help="Look for faults in a keypoint file and its images.")
def check_command(
    data: Annotated[list[Path], typer.Argument(metavar="DATA.json", help="A COCO or MPII file, or several.")],
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images",
            metavar="PLACE",
            help="Folder, tar or zip file, or quoted pattern; repeatable. Default: only labels are looked at.",
        ),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="VAL.json", help="One more file, whose images must not be in the others."),
    ] = None,
    category: Annotated[
        str | None, typer.Option("--category", metavar="NAME", help="Which one, where several have keypoints.")
    ] = None,
    flip_pairs: Annotated[
        str | None,
        typer.Option(
            "--flip-pairs",
            metavar="A:B,C:D",
            help='Which keypoints change sides, or "none", where the names don\'t tell.',
        ),
    ] = None,
    suspicious: Annotated[
        float | None,
        typer.Option(
            "--suspicious", help="From which score on left and right look exchanged: lower finds more. Default: 7."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="REPORT.json", help="Write every finding here.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", metavar="SUSPECTS.html", help="Write a page that shows the suspects.")
    ] = None,
    sheet_count: Annotated[
        int | None, typer.Option("--sheet-count", min=1, help="How many of a check it shows. Default: 24.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for warnings, too.")] = False,
) -> None:
    """Look for faults in a COCO or MPII file and in its images, before a model learns them.

    Images: missing, unreadable, of another size, twice, in train and validation. Labels: boxes and keypoints that don't
    fit, v-flags, keypoints never labelled, left and right exchanged, flip pairs. An error stops training or falsifies
    its results, a warning is a suspicion, a note is good to know. The exit code is 1 where there are errors, else 0.

    \b
    Examples:
      tokenpose check data.json --images photographs/
      tokenpose check train.json --val val.json --images "photographs/*.tar" --sheet suspects.html --output report.json
    """
    for path, suffixes, option in ((output, (".json",), "--output"), (sheet, (".html", ".htm"), "--sheet")):
        if path is not None and path.suffix.lower() not in suffixes:
            raise typer.BadParameter(f"give a {' or '.join(suffixes)} file; got {path}", param_hint=option)
    refuse_without(sheet, {"--sheet-count": sheet_count})
    if suspicious is not None and not math.isfinite(suspicious):
        raise typer.BadParameter(f"a score is a finite number; got {suspicious}", param_hint="--suspicious")
    pairs = None if flip_pairs is None else _read_pairs(flip_pairs)

    from tokenpose.data.sources import ImageSource
    from tokenpose.doctor.check import check_records, read_files
    from tokenpose.doctor.swaps import SWAP_SCORE

    source = ImageSource(images) if images else None
    files = read_files([*data, *([val] if val is not None else [])], category, pairs)
    with progress(sum(len(records.files) for records in files) if source is not None else 0) as tick:
        diagnosis = check_records(files, source, tick=tick, swap_score=SWAP_SCORE if suspicious is None else suspicious)
    _show(diagnosis)
    for path in (output, sheet):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if output is not None:
        write_text(output, json.dumps(diagnosis.to_dict(), indent=2) + "\n")
    if sheet is not None:
        from tokenpose.doctor.page import write_page

        write_page(diagnosis, files, source, sheet, sheet_count or 24)
    if diagnosis.count("error") or (strict and diagnosis.count("warning")):
        raise typer.Exit(1)


def _read_pairs(text: str) -> list[tuple[str, str]]:
    """Names, as `tokenpose.skeletons.read_flip_pairs` takes them; whether there are such keypoints the files tell."""
    pairs = []
    for written in () if text.strip() == "none" else text.split(","):
        first, colon, second = (part.strip() for part in written.partition(":"))
        if not (first and colon and second) or ":" in second:
            raise typer.BadParameter(
                f"flip pairs are written left_eye:right_eye,left_ear:right_ear, or none; got {written!r}",
                param_hint="--flip-pairs",
            )
        pairs.append((first, second))
    return pairs


def _show(diagnosis: "CheckResult") -> None:
    """What was found, check by check, and what the files hold."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    for summary in diagnosis.files:
        console.print(_describe(summary))
    console.print(_findings(diagnosis))
    if diagnosis.files[0].sigmas:
        console.print(_keypoints(diagnosis.files[0]))
    console.print(
        ", ".join(count(diagnosis.count(name), name, f"{name}s") for name in ("error", "warning", "note")),
        style=STYLES["error"] if diagnosis.count("error") else "bold",
    )


def _describe(summary: "FileSummary") -> Any:
    pairs = "flip pairs unknown"
    if summary.flip_pairs is not None:
        pairs = count(len(summary.flip_pairs), "flip pair", "flip pairs")
    people, images = count(summary.people, "person", "people"), count(summary.images, "image", "images")
    return _text(f"{summary.file}: {people} in {images}, {len(summary.keypoints)} keypoints, {pairs}")


def _findings(diagnosis: "CheckResult") -> Any:
    from rich.table import Table

    from tokenpose.doctor.findings import CHECKS, SEVERITIES

    table = Table("check", "severity", _column("count"), "first examples", expand=False)
    for check in CHECKS:
        findings = diagnosis.of_check(check)
        if not findings:
            table.add_row(check, _text("not looked at" if check in diagnosis.skipped else "none", "dim"), "", "")
        for severity in SEVERITIES:
            some = [finding for finding in findings if finding.severity == severity]
            if some:
                examples = "\n".join(_example(finding, len(diagnosis.files) > 1) for finding in some[:2])
                table.add_row(check, _text(severity, STYLES[severity]), str(len(some)), _text(examples))
    return table


def _example(finding: "Finding", with_file: bool) -> str:
    parts = (Path(finding.file).name if with_file else "", finding.record, finding.message)
    return ": ".join(part for part in parts if part)


def _keypoints(summary: "FileSummary") -> Any:
    """How often each keypoint is labelled, and its estimated sigma."""
    from rich.table import Table

    table = Table("keypoint", _column("labelled"), _column("sigma for OKS"), "from")
    origins = {"named": "COCO, by name", "estimated": "distances, an estimate"}
    for name in summary.keypoints:
        labels, sigma = summary.labels[name], summary.sigmas[name]
        table.add_row(_text(name), str(labels), f"{sigma:.3f}", origins[summary.sigma_origins[name]])
    return table


def _column(name: str) -> Any:
    from rich.table import Column

    return Column(name, justify="right")


def _text(content: str, style: str = "") -> Any:
    """Plain text, in which names from a file can't be markup or steer the terminal."""
    from rich.text import Text

    return Text("".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in content), style=style)
