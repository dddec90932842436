"""`tokenpose import`, `tokenpose export-labels` and `tokenpose split`."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenpose.commands.app import Command, app, count, show_log
from tokenpose.commands.options import DATA, OUTPUT, check_suffix
from tokenpose.files import make_folder, write_text


class Target(StrEnum):
    """The kinds that labels are exported to."""

    YOLO = "yolo"
    LABEL_STUDIO = "label-studio"


class Role(StrEnum):
    """What exported labels are in Label Studio."""

    PREDICTIONS = "predictions"
    ANNOTATIONS = "annotations"


PlacesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--images",
        metavar="PLACE",
        help="Folder, tar or zip file, or quoted pattern of the images. Repeatable.",
        rich_help_panel=DATA,
    ),
]
CategoryOption = Annotated[
    str | None,
    typer.Option(
        "--category",
        metavar="NAME",
        help="Category to export, required if several have keypoints.",
        rich_help_panel=DATA,
    ),
]


@app.command("import", cls=Command, short_help="Convert labels of CVAT, Label Studio, DeepLabCut and others.")
def import_command(
    labels: Annotated[
        Path, typer.Argument(metavar="FILE", help="File of labels, or folder of a labelme, YOLO or DeepLabCut project.")
    ],
    *,
    kind: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KIND",
            help='"cvat", "label-studio", "labelme", "via", "yolo" (Ultralytics, Roboflow), "deeplabcut", "sleap", '
            '"coco-wholebody", "mpii", or "coco" for COCO files of other tools.',
            show_default="as the file looks",
            rich_help_panel=DATA,
        ),
    ] = None,
    images: PlacesOption = None,
    keypoints: Annotated[
        str | None,
        typer.Option(
            "--keypoints",
            metavar="A,B,C",
            help="Names of the keypoints in their order, for kinds that have none.",
            show_default="as they first appear",
            rich_help_panel=DATA,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="NAME",
            help='Split of a YOLO data set to read: "train", "val" or "test".',
            show_default="all",
            rich_help_panel=DATA,
        ),
    ] = None,
    attribute: Annotated[
        str | None,
        typer.Option(
            "--attribute",
            metavar="NAME",
            help="Attribute of VIA's regions that holds the keypoint's name.",
            show_default="the one whose name says so",
            rich_help_panel=DATA,
        ),
    ] = None,
    output: Annotated[
        Path,
        typer.Option("--output", metavar="DATA.json", help="COCO keypoint file to write.", rich_help_panel=OUTPUT),
    ],
) -> None:
    """Convert labels of other tools to a COCO keypoint file, which every command reads.

    People without a box get one from their keypoints: their extent, grown by 15 % on each side. A line on standard
    error says what was left out or added. Images in a SLEAP package, or the labeled frames of a video, are written to a
    folder DATA_images beside the output. SLEAP and h5 files need: pip install "tokenpose[import]".

    \b
    Examples:
      tokenpose import annotations.xml --output data.json
      tokenpose import project.json --from label-studio --images photographs/ --output data.json
      tokenpose import yolo/data.yaml --split train --output train.json
      tokenpose import mice-project/ --from deeplabcut --output mice.json
    """
    show_log()
    check_suffix(output, (".json",), "the output is", "--output")
    if output.exists() and labels.exists() and output.samefile(labels):
        raise typer.BadParameter("it would replace the labels; choose another name", param_hint="--output")

    from tokenpose.data.formats.kinds import KINDS, choose_kind, read_labels

    chosen = choose_kind(labels, kind)
    frames = output.with_name(f"{output.stem}_images") if "frames" in KINDS[chosen].takes else None
    names = None if keypoints is None else [name.strip() for name in keypoints.split(",")]
    given = {"keypoints": names, "split": split, "attribute": attribute, "images": images, "frames": frames}
    content = read_labels(labels, chosen, **given)
    _write(content, output)
    typer.echo(output)


@app.command("export-labels", cls=Command, short_help="Write labels for YOLO or Label Studio.")
def export_labels_command(
    data: Annotated[list[Path], typer.Argument(metavar="DATA.json", help="COCO files, such as `predict` writes.")],
    *,
    val: Annotated[
        Path | None,
        typer.Option(
            "--val", metavar="VAL.json", help="For yolo: file of the people to validate on.", rich_help_panel=DATA
        ),
    ] = None,
    images: PlacesOption = None,
    category: CategoryOption = None,
    kind: Annotated[
        Target,
        typer.Option(
            "--to", metavar="KIND", help='"yolo" (Ultralytics\' pose data) or "label-studio".', rich_help_panel=OUTPUT
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            metavar="PLACE",
            help="New folder for yolo, .json file for label-studio; its .xml is written beside it.",
            rich_help_panel=OUTPUT,
        ),
    ],
    copy: Annotated[
        bool, typer.Option("--copy", help="For yolo: copy the images, not only link them.", rich_help_panel=OUTPUT)
    ] = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="URL",
            help="For label-studio: what comes before file names.",
            show_default="/data/local-files/?d=",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    role: Annotated[
        Role | None,
        typer.Option(
            "--as",
            metavar="ROLE",
            help='For label-studio: "predictions", which people correct, or "annotations", which count as labeled.',
            show_default="predictions",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            metavar="SCORE",
            min=0,
            max=1,
            help="For label-studio: leave out keypoints with a lower score.",
            show_default="0",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Write labels or predictions for YOLO or Label Studio.

    For Label Studio, predictions become pre-labels with their scores, so that people correct instead of draw: paste the
    .xml into the project's labeling interface, and import the .json.

    \b
    Examples:
      tokenpose export-labels poses/*.json --to label-studio --output tasks.json --threshold 0.3
      tokenpose export-labels train.json --val val.json --images photographs/ --to yolo --output yolo/
    """
    show_log()
    if kind is Target.YOLO:
        _refuse({"--prefix": prefix, "--as": role, "--threshold": threshold}, Target.LABEL_STUDIO)
        from tokenpose.data.formats.yolo_export import write_yolo

        typer.echo(write_yolo(data, output, val=val, images=images, copy=copy, category=category))
        return
    _refuse({"--val": val, "--images": images, "--copy": copy or None}, Target.YOLO)
    check_suffix(output, (".json",), "tasks are", "--output")
    from tokenpose.data.formats.label_studio_export import LOCAL_FILES, write_label_studio

    make_folder(output.parent)
    config = write_label_studio(
        data,
        output,
        prefix=LOCAL_FILES if prefix is None else prefix,
        role="predictions" if role is None else role.value,
        threshold=threshold or 0.0,
        category=category,
    )
    typer.echo(f"{output}\n{config}")


@app.command("split", cls=Command, short_help="Split a file of labels for training and validation.")
def split_command(
    data: Annotated[Path, typer.Argument(metavar="DATA.json", help="COCO or MPII file.")],
    val: Annotated[
        float, typer.Option("--val", metavar="SHARE", help="Share of the images to validate on.", rich_help_panel=DATA)
    ] = 0.2,
    by: Annotated[
        str,
        typer.Option(
            "--by",
            metavar="WHAT",
            help='What stays together: "image", "folder", or a field of the image records, such as "video".',
            rich_help_panel=DATA,
        ),
    ] = "image",
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", help="Another number gives another split.", rich_help_panel=DATA)
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="DIR",
            help="Folder for DATA.train.json and DATA.val.json.",
            show_default="that of the file",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
) -> None:
    """Split a file of labels in two, one to train on and one to validate on.

    No image, folder or value of the field is in both. Frames of one video look alike: split them by video, or the
    validation shows how well the model remembers them. The same file, share and seed always give the same split.

    \b
    Examples:
      tokenpose split data.json --val 0.2
      tokenpose split data.json --val 0.2 --by video --output splits/
    """
    show_log()
    from tokenpose.data.formats.split import split_labels

    parts = split_labels(data, val, by, seed)
    folder = data.parent if output is None else output
    for name, content in zip(("train", "val"), parts, strict=True):
        path = folder / f"{data.stem}.{name}.json"
        _write(content, path)
        images = content["images"] if isinstance(content, dict) else {record["image"] for record in content}
        people = content["annotations"] if isinstance(content, dict) else content
        typer.echo(f"{path}: {count(len(people), 'person', 'people')} in {count(len(images), 'image', 'images')}")


def _refuse(options: dict[str, Any], kind: Target) -> None:
    """Refuse options that only the other kind has."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise typer.BadParameter(f"it is for --to {kind.value}", param_hint=given[0])


def _write(content: Any, path: Path) -> None:
    make_folder(path.parent)
    write_text(path, json.dumps(content) + "\n")
