"""Options that several commands share, and how their texts are read."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from tokenpose.files import explain, shown

if TYPE_CHECKING:
    from tokenpose.boxes import Box

DEFAULT_MODEL = "tokenpose_s_v1"
DEFAULT_DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"


def complete_model(incomplete: str) -> list[str]:
    """Model names that start so, for the shell's completion."""
    from tokenpose.models.zoo import list_models

    return [name for name in list_models() if name.startswith(incomplete)]


# Headings of groups in --help

DATA, PEOPLE, MODEL, OUTPUT = "Data", "People", "Model", "Output"

# Whose keypoints

BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X1,Y1,X2,Y2",
        help="One person's box in a single image, in pixels. Repeatable.",
        rich_help_panel=PEOPLE,
    ),
]
BoxesOption = Annotated[
    Path | None,
    typer.Option(
        "--boxes",
        metavar="FILE",
        help="JSON file of people's boxes, in a form that `tokenpose predict --help` shows.",
        rich_help_panel=PEOPLE,
    ),
]
DetectOption = Annotated[
    bool, typer.Option("--detect", help="Find the people with a detector.", rich_help_panel=PEOPLE)
]
DetectorOption = Annotated[
    str | None,
    typer.Option(
        "--detector",
        metavar="NAME",
        help="Detection model of torchvision for --detect.",
        show_default=DEFAULT_DETECTOR,
        rich_help_panel=PEOPLE,
    ),
]
DetectionThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--detection-threshold",
        metavar="SCORE",
        min=0,
        max=1,
        help="Minimum score of a person for --detect.",
        show_default="0.5",
        rich_help_panel=PEOPLE,
    ),
]

# Which model, and how it runs

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Model name; `tokenpose list` shows them all.",
        show_default=f"the weights file's, or {DEFAULT_MODEL}",
        autocompletion=complete_model,
        rich_help_panel=MODEL,
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="Weights file (.safetensors) that tokenpose wrote.",
        show_default="the model's bundled weights",
        rich_help_panel=MODEL,
    ),
]
DecoderOption = Annotated[
    str,
    typer.Option(
        "--decoder",
        metavar="NAME",
        help='How keypoints are read from heatmaps: "dark", "shifted", "argmax" or "soft-argmax".',
        rich_help_panel=MODEL,
    ),
]
FlipTestOption = Annotated[
    bool,
    typer.Option(
        "--flip-test",
        help="Average with the mirrored image: slightly more accurate, half as fast.",
        rich_help_panel=MODEL,
    ),
]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", metavar="N", min=1, help="People per batch.", rich_help_panel=MODEL)
]
DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help='Device to run on: "cpu", "cuda", "cuda:1" or "mps".',
        show_default="cuda if available, or cpu",
        rich_help_panel=MODEL,
    ),
]
OptimizeOption = Annotated[
    bool,
    typer.Option(
        "--optimize",
        help="Optimize the model for this machine first: this takes some seconds, prediction is then faster.",
        rich_help_panel=MODEL,
    ),
]

# Which data

ImagesOption = Annotated[
    list[str],
    typer.Option(
        "--images",
        metavar="PLACE",
        help="Folder, tar or zip file, or quoted pattern of the images. Repeatable.",
        rich_help_panel=DATA,
    ),
]
RenameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Rename a keypoint of the files, for example throat=neck. Repeatable.",
        rich_help_panel=DATA,
    ),
]
CategoryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--category",
        metavar="NAME",
        help="Category of the people. Repeatable, for categories with the same keypoints. Required if categories of a "
        "COCO file have different ones.",
        show_default="all with keypoints",
        rich_help_panel=DATA,
    ),
]
BoxesFromKeypointsOption = Annotated[
    float | None,
    typer.Option(
        "--boxes-from-keypoints",
        metavar="SHARE",
        min=0,
        help="Give people without a box that of their labeled keypoints, grown on each side by this share of its width "
        "and height, 0.15 for example.",
        show_default="refuse them",
        rich_help_panel=DATA,
    ),
]


class BoxChoice(NamedTuple):
    """What the options say about boxes; `tokenpose.jobs.box_source.choose_box_source` takes its fields."""

    boxes: "Sequence[Box]"
    file: Path | None
    detector: str | None
    threshold: float | None


def read_box_options(
    box: Sequence[str] | None, boxes: Path | None, detect: bool, detector: str | None, threshold: float | None
) -> BoxChoice:
    """Read --box, --boxes, --detect and what goes with it, and refuse those that contradict each other."""
    if box and boxes:
        raise typer.BadParameter("give --boxes or --box, not both", param_hint="--box")
    if detect and (box or boxes):
        raise typer.BadParameter("give only one of --detect, --box and --boxes", param_hint="--detect")
    if not detect and (detector is not None or threshold is not None):
        raise typer.BadParameter("--detector and --detection-threshold need --detect", param_hint="--detect")
    chosen = (detector or DEFAULT_DETECTOR) if detect else None
    return BoxChoice([_read_box(text) for text in box or ()], boxes, chosen, threshold)


def _read_box(text: str) -> "Box":
    """Read "x1,y1,x2,y2"."""
    try:
        x1, y1, x2, y2 = map(float, text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"a box is four numbers x1,y1,x2,y2; got {text!r}", param_hint="--box") from error
    return x1, y1, x2, y2


def find_image_files(places: Sequence[Path], choice: BoxChoice) -> list[Path]:
    """Find the images in the places, a single one where --box is given."""
    from tokenpose.jobs.photographs import find_images

    paths = find_images(places)
    if choice.boxes and len(paths) != 1:
        raise typer.BadParameter(
            f"--box is for a single image, and there are {len(paths)}; use --boxes", param_hint="--box"
        )
    return paths


def read_size(text: str, option: str = "--image-size") -> tuple[int, int]:
    """Read HEIGHTxWIDTH."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(f"write a size as HEIGHTxWIDTH, for example 256x192; got {text!r}", param_hint=option)
    return int(height), int(width)


def split_change(text: str, option: str) -> tuple[str, str]:
    """Split FIELD=VALUE or OLD=NEW."""
    name, _, value = text.partition("=")
    if not name or not value:
        form = {"--spec": "FIELD=VALUE, for example depth=6", "--rename": "OLD=NEW, for example throat=neck"}[option]
        raise typer.BadParameter(f"write {form}; got {text!r}", param_hint=option)
    return name, value


def refuse_without(needed: Any, options: Mapping[str, Any], name: str = "--sheet") -> None:
    """Refuse options that have no effect without another one, which wasn't given."""
    given = [option for option, value in options.items() if value is not None]
    if needed is None and given:
        raise typer.BadParameter(f"it needs {name}", param_hint=given[0])


def one_or_several(names: list[str] | None) -> str | list[str] | None:
    """A repeatable option's only value as it is; None where there is none."""
    return names[0] if names and len(names) == 1 else names or None


def read_renames(texts: list[str] | None) -> dict[str, str]:
    """Read OLD=NEW of --rename, each OLD once."""
    pairs = [split_change(text, "--rename") for text in texts or ()]
    twice = [old for old, count in Counter(old for old, _ in pairs).items() if count > 1]
    if twice:
        raise typer.BadParameter(f"{twice[0]!r} gets two new names; give one", param_hint="--rename")
    return dict(pairs)


def read_value(text: str) -> Any:
    """Read a text as JSON, with lists as tuples; what isn't JSON is the value itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    except (RecursionError, ValueError) as error:  # ValueError: more digits than Python reads
        raise typer.BadParameter(f"{shown(text)} can't be read: {explain(error)}") from error
    return tuple(value) if isinstance(value, list) else value


def check_suffix(path: Path | None, suffixes: tuple[str, ...], content: str, option: str) -> None:
    """Refuse an output file of another kind than the option writes."""
    if path is not None and path.suffix.lower() not in suffixes:
        raise typer.BadParameter(f"{content} a {' or '.join(suffixes[:2])} file; got {path}", param_hint=option)
