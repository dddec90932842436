"""Options that several commands take, and what is made of them."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tokenpose.boxes import Box
    from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "tokenpose_s_v1"
DEFAULT_DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help=f"A name that `tokenpose list` shows. Default: what the weights file holds, else {DEFAULT_MODEL}.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="FILE", help="Safetensors file that tokenpose wrote. Default: the weights that ship."
    ),
]
Device = Annotated[
    str | None, typer.Option("--device", help='"cpu", "cuda", "cuda:1", "mps". Default: cuda where there is one.')
]
BoxesFile = Annotated[
    Path | None,
    typer.Option(
        "--boxes", metavar="FILE", help="JSON file of the people's boxes, in a form that predict's help names."
    ),
]
SingleBoxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X1,Y1,X2,Y2", help="A person's box in a single image, in pixels; repeatable."),
]
Detected = Annotated[
    bool, typer.Option("--detect", help="Find the people with a detector, instead of --box or --boxes.")
]
Detector = Annotated[
    str | None,
    typer.Option(
        "--detector", metavar="NAME", help=f"One of torchvision's detection models. Default: {DEFAULT_DETECTOR}."
    ),
]
DetectionThreshold = Annotated[
    float | None,
    typer.Option("--detection-threshold", min=0, max=1, help="People of a lower score are left out. Default: 0.5."),
]
Decoder = Annotated[str, typer.Option("--decoder", help='"dark", "shifted", "argmax" or "soft-argmax".')]
FlipTest = Annotated[
    bool, typer.Option("--flip-test", help="Average with the mirrored crop: twice the time, a little better.")
]
Optimized = Annotated[
    bool,
    typer.Option("--optimize", help="Prepare the network for this machine first: some seconds, then faster."),
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="People that go through the network at once.")]
Places = Annotated[
    list[str], typer.Option("--images", metavar="PLACE", help="Folder, tar or zip file, or quoted pattern; repeatable.")
]
Rename = Annotated[
    list[str] | None,
    typer.Option(
        "--rename",
        metavar="OLD=NEW",
        help="Give a keypoint of the files another name, that of the weights: throat=neck; repeatable.",
    ),
]


def read_box(text: str) -> "Box":
    """ "x1,y1,x2,y2"."""
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise typer.BadParameter(f"a box is four numbers x1,y1,x2,y2; got {text!r}", param_hint="--box")
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def read_boxes(
    box: list[str] | None, boxes: Path | None, detected: bool, detector: str | None, threshold: float | None
) -> "list[Box]":
    """The boxes of --box, after a look at what contradicts it."""
    if box and boxes:
        raise typer.BadParameter("give --boxes or --box, not both", param_hint="--box")
    if detected and (box or boxes):
        raise typer.BadParameter("give --detect, --box or --boxes, only one of them", param_hint="--detect")
    if not detected and (detector is not None or threshold is not None):
        raise typer.BadParameter("--detector and --detection-threshold need --detect", param_hint="--detect")
    return [read_box(text) for text in box or ()]


def find_image_files(places: list[Path], boxes: "list[Box]") -> list[Path]:
    """The images in the places; one only where boxes are given."""
    from tokenpose.jobs.photographs import find_images

    paths = find_images(places)
    if boxes and len(paths) != 1:
        raise typer.BadParameter(
            f"--box is for a single image, and there are {len(paths)}; use --boxes", param_hint="--box"
        )
    return paths


def read_size(text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(
            f"a size is HEIGHTxWIDTH, 256x192 for example; got {text!r}", param_hint="--image-size"
        )
    return int(height), int(width)


def split_change(text: str, option: str) -> tuple[str, str]:
    """FIELD=VALUE, or OLD=NEW."""
    name, _, value = text.partition("=")
    if not name or not value:
        form = {"--spec": "FIELD=VALUE, depth=6", "--rename": "OLD=NEW, throat=neck"}[option]
        raise typer.BadParameter(f"a change is {form} for example; got {text!r}", param_hint=option)
    return name, value


def refuse_without(needed: Any, options: Mapping[str, Any], name: str = "--sheet") -> None:
    """Options that were given, and have no effect without another one."""
    given = [option for option, value in options.items() if value is not None]
    if needed is None and given:
        raise typer.BadParameter(f"it needs {name}", param_hint=given[0])


def read_renames(texts: list[str] | None) -> dict[str, str]:
    """OLD=NEW of --rename, each OLD once."""
    pairs = [split_change(text, "--rename") for text in texts or ()]
    twice = [old for old, count in Counter(old for old, _ in pairs).items() if count > 1]
    if twice:
        raise typer.BadParameter(f"{twice[0]!r} gets two new names; give one", param_hint="--rename")
    return dict(pairs)


def read_value(text: str) -> Any:
    """JSON where it is JSON, lists as tuples; else the text itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def choose_device(name: str | None) -> str:
    """The device of that name, which must be here; None: cuda where there is one."""
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(name).type
    except RuntimeError as error:
        raise typer.BadParameter(f"there is no kind of device {name!r}", param_hint="--device") from error
    missing = {"cuda": not torch.cuda.is_available(), "mps": not torch.backends.mps.is_available()}
    if missing.get(kind):
        raise typer.BadParameter(f"there is no {kind} device on this machine; use cpu", param_hint="--device")
    return name


def load_model(name: str | None, weights: Path | None, device: str, optimized: bool = False) -> "TokenPose":
    """A pretrained model by name, or the one in a weights file, which a name only confirms."""
    from tokenpose.deploy.optimization import optimize
    from tokenpose.models.create import create_model, read_model

    if weights is None:
        network = create_model(name or DEFAULT_MODEL, pretrained=True, device=device)
    else:
        network = read_model(weights, device) if name is None else create_model(name, weights=weights, device=device)
    return optimize(network) if optimized else network


def load_named(name: str | None, weights: Path | None, device: str) -> "tuple[str, TokenPose]":
    """A model, and what to call it beside another: by its weights file, else by its name."""
    network = load_model(name, weights, device)
    return str(weights or network.card.get("name") or name or DEFAULT_MODEL), network


def box_finder(
    known: bool, detected: bool, detector: str | None, threshold: float | None, device: str
) -> Callable[[Any], Any]:
    """From an image to its people's boxes, where they aren't known: a detector, or the whole image."""
    from tokenpose.jobs.photographs import whole_image

    if detected:
        return load_detector(detector or DEFAULT_DETECTOR, threshold, device)
    if not known:
        logger.warning("no boxes given: the whole image is taken as one person; give --detect, --box or --boxes")
    return whole_image


def load_detector(name: str, threshold: float | None, device: str) -> Callable[[Any], Any]:
    """From an image to its people's boxes."""
    from tokenpose.detection import detect, load_detector

    load_detector(name, device)  # which `detect` then has at hand: what is wrong with it shows before anything is done
    options = {} if threshold is None else {"threshold": threshold}
    return partial(detect, detector=name, device=device, **options)
