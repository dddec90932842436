"""The `tokenpose` command: thin commands over the library. What a command needs is imported when it runs."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from tokenpose.data.boxes import Box
    from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

DEFAULT_MODEL = "tokenpose_s_v1"
DEFAULT_DETECTOR = "fasterrcnn_mobilenet_v3_large_fpn"

EXPECTED = (OSError, ValueError, LookupError, TypeError, ModuleNotFoundError, FloatingPointError)
"""What the library raises for what it was given. Anything else, KeyError and IndexError too, is a bug, and shows."""


class Commands(TyperGroup):
    """Shows the library's log, and turns its errors into one line on standard error and exit code 1, unless --debug."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with _log_to_stderr(logging.INFO if ctx.params["verbose"] else logging.WARNING):
                return super().invoke(ctx)
        except EXPECTED as error:
            if ctx.params["debug"] or isinstance(error, KeyError | IndexError | BrokenPipeError):
                raise
            _report(error)
            raise typer.Exit(1) from error


class TrainCommand(TyperCommand):
    """Shows the defaults of TrainingSettings in --help, which is the only place that holds them."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options."""
        defaults = _training_defaults()
        for option in self.params:
            if option.name in defaults:
                value = defaults[option.name]
                option.default = ",".join(map(str, value)) if isinstance(value, tuple) else value
        super().format_options(ctx, formatter)


app = typer.Typer(
    cls=Commands,
    help="Find the keypoints of people in photographs, and train the models that do.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The console script."""
    app(prog_name="tokenpose")


def _show_version(wanted: bool) -> bool:
    from tokenpose import __version__

    if wanted:
        typer.echo(f"tokenpose {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def _options(
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say on standard error what is done.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the whole traceback of an error.")] = False,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What stands before the command; `Commands` heeds it."""


# What several commands take.
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
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="People that go through the network at once.")]
Places = Annotated[
    list[str], typer.Option("--images", metavar="PLACE", help="Folder, tar or zip file, or quoted pattern; repeatable.")
]


@app.command("list", short_help="List model names.")
def list_command(
    pattern: Annotated[str, typer.Argument(help='"*" and "?" stand for any letters, "*" for none too.')] = "*",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only models whose weights ship with the package.")
    ] = False,
) -> None:
    """List model names, one a line: architecture.tag. The architecture alone means its default tag.

    \b
    Example:
      tokenpose list "tokenpose_l*"
    """
    from tokenpose.models.zoo import list_models

    names = list_models(pattern, pretrained)
    if not names:
        raise LookupError(
            f"no {'model with weights' if pretrained else 'model'} matches {pattern!r}; see: tokenpose list"
        )
    typer.echo("\n".join(names))


@app.command("predict", short_help="Find people's keypoints; write pictures and COCO JSON.")
def predict_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of them.")],
    boxes: BoxesFile = None,
    box: SingleBoxes = None,
    detected: Detected = False,
    detector: Detector = None,
    detection_threshold: DetectionThreshold = None,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where pictures and JSON files go.")] = Path(
        "poses"
    ),
    model: Model = None,
    weights: Weights = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Keypoints of a lower score are not drawn.")] = 0.15,
    draw_boxes: Annotated[bool, typer.Option("--draw-boxes", help="Draw the boxes too.")] = False,
    decoder: Decoder = "dark",
    flip_test: FlipTest = False,
    batch_size: BatchSize = 64,
    device: Device = None,
) -> None:
    """Find people's keypoints; write a picture and a COCO JSON per image.

    For photo.jpg, photo.poses.jpg is the photograph with the skeleton (left blue, right orange), and photo.json holds
    images, categories and annotations as COCO keypoint files do; the third number of each keypoint is its score, and
    all keypoints are there, however low.

    TokenPose reads one box at a time and does not look for people: let a detector do that (its weights are downloaded
    on first use), or give each person's box. Without boxes the whole image is taken as one person. A boxes file is
    JSON, one of

    \b
      {"photo.jpg": [[x1, y1, x2, y2], ...], ...}                   corners, in pixels
      [{"file_name": "photo.jpg", "bbox": [x, y, width, height]}]   or "image_id", as in COCO results:
                                                                    the file's name without suffix
      {"images": [...], "annotations": [...], ...}                  a COCO annotation file; crowds are left out

    Images without boxes in the file get no poses, and a warning.

    \b
    Examples:
      tokenpose predict group.jpg --detect
      tokenpose predict photo.jpg --box 48,20,310,620
      tokenpose predict photographs/ --boxes boxes.json --output poses/
    """
    wanted = _read_boxes(box, boxes, detected, detector, detection_threshold)
    target = _device(device)

    from tokenpose.photographs import Photograph, choose_photographs, predict_photographs, write_poses
    from tokenpose.predictor import PosePredictor

    photographs = choose_photographs(_find_images(images, wanted), boxes, wanted, output)
    find_boxes = _box_finder(bool(box or boxes), detected, detector, detection_threshold, target)
    predictor = PosePredictor(_load_model(model, weights, target), decoder=decoder, flip_test=flip_test)
    output.mkdir(parents=True, exist_ok=True)
    people = 0
    failed: list[Photograph] = []
    with _progress(len(photographs)) as advance:
        for photograph, poses in predict_photographs(predictor, photographs, batch_size, failed, find_boxes):
            write_poses(photograph, poses, threshold, draw_boxes)
            if detected and not len(poses):
                logger.warning("%s: nobody was found", photograph.path)
            people += len(poses)
            advance()
    done = len(photographs) - len(failed)
    where = photographs[0].picture if len(photographs) == done == 1 else output
    typer.echo(f"{_count(people, 'person', 'people')} in {_count(done, 'image', 'images')}: {where}")
    if failed:
        raise typer.Exit(1)


@app.command("train", cls=TrainCommand, short_help="Train a model on a COCO keypoint file.")
def train_command(
    train: Annotated[Path, typer.Option("--train", metavar="JSON", help="COCO keypoint file to train on.")],
    val: Annotated[Path, typer.Option("--val", metavar="JSON", help="COCO keypoint file to validate on: PCK@0.2.")],
    images: Places,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where weights, log and checkpoint go.")],
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="A name that `tokenpose list` shows.")
    ] = DEFAULT_MODEL,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Start from this file, of the same architecture.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from the weights that ship for the name.")
    ] = False,
    image_size: Annotated[
        str | None, typer.Option("--image-size", metavar="HEIGHTxWIDTH", help="Crop size, 256x192 for example.")
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option("--spec", metavar="FIELD=VALUE", help="Change a field of the model's spec, depth=6; repeatable."),
    ] = None,
    start: Annotated[
        str, typer.Option(help='Without weights: "wide" tokens and attention, or the "published" ones.')
    ] = "wide",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Times through the training people.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="People a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate of AdamW.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of matrices and kernels.")] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps until the peak rate; then a cosine to zero.")] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient.")] = None,
    average: Annotated[float | None, typer.Option(help="Decay of the moving average of the weights.")] = None,
    loss: Annotated[str | None, typer.Option(help='"cross_entropy", or "squared_error" as published.')] = None,
    guidance: Annotated[float | None, typer.Option(help="Weight of attention guidance; 0: none.")] = None,
    guided_blocks: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Blocks whose attention is guided.")
    ] = None,
    auxiliary: Annotated[float | None, typer.Option(help="Weight of auxiliary heatmaps; 0: none.")] = None,
    patches: Annotated[float | None, typer.Option(help="Weight of heatmaps read off visual tokens; 0: none.")] = None,
    patch_blocks: Annotated[str | None, typer.Option(metavar="N,N,...", help="Blocks they are read after.")] = None,
    precision: Annotated[str | None, typer.Option(help='"no" (float32), "bf16" or "fp16".')] = None,
    channels_last: Annotated[bool | None, typer.Option(help="Memory order of convolutions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    cache: Annotated[bool | None, typer.Option(help="Keep decoded people in memory.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Epochs between validations.")] = None,
    checkpoint_seconds: Annotated[float | None, typer.Option(help="Most work that an interruption loses.")] = None,
    scale: Annotated[float | None, typer.Option(help="Augmentation: zoom by up to this share.")] = None,
    rotation: Annotated[
        float | None, typer.Option(help="Augmentation: turn by this many degrees, twice that at most.")
    ] = None,
    rotation_probability: Annotated[float | None, typer.Option(help="Augmentation: share of people turned.")] = None,
    flip: Annotated[float | None, typer.Option(help="Augmentation: share of people mirrored.")] = None,
    color: Annotated[
        float | None, typer.Option(help="Augmentation: brightness, contrast, saturation by up to this share.")
    ] = None,
) -> None:
    """Train a model on a COCO keypoint file; the keypoints are the file's.

    The output folder gets model.safetensors (with its spec, for `--weights` everywhere), log.jsonl, settings.json and
    checkpoint.pt. Needs: pip install "tokenpose[train]".

    \b
    Example:
      tokenpose train --train train.json --val val.json --images photographs/ \\
          --output run/ --image-size 128x96 --epochs 100
      tokenpose evaluate --weights run/model.safetensors --data val.json --images photographs/
    """
    settings = _training_settings(locals())  # which are the options, by the settings' names
    changes = {name: _read_value(value) for name, value in map(_split_change, spec or ())}
    if image_size is not None:
        changes["image_size"] = _read_size(image_size)

    import torch

    from tokenpose.data.coco import read_coco
    from tokenpose.jobs import train_model
    from tokenpose.models.create import create_model
    from tokenpose.models.supervised import widen_start

    if start not in ("wide", "published"):
        raise typer.BadParameter(f'a start is "wide" or "published"; got {start!r}', param_hint="--start")
    torch.manual_seed(settings.seed)  # of the weights that start at random
    # Cross-entropy makes the outputs logits, and the spec has to say so.
    changes.setdefault("heatmap_activation", "softmax" if settings.loss == "cross_entropy" else "identity")
    network = create_model(model, pretrained, weights=weights, keypoints=read_coco(train).skeleton, **changes)
    if start == "wide" and weights is None and not pretrained:
        widen_start(network)
    typer.echo(train_model(network, train, val, images, output, settings, resume=resume))


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
    target = _device(device)
    if sheet is not None and sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter(f"a sheet is a .png or .jpg file; got {sheet}", param_hint="--sheet")

    from tokenpose.data.coco import read_coco
    from tokenpose.data.sources import ImageSource
    from tokenpose.jobs import measure_pck

    samples, source = read_coco(data), ImageSource(images)
    network = _load_model(model, weights, target)
    result = measure_pck(network, samples, source, threshold, flip_test)
    typer.echo(str(result))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(_without_nan(asdict(result)), indent=2) + "\n", encoding="utf-8")
    if sheet is not None:
        from tokenpose.photographs import draw_sheet, save_picture

        save_picture(draw_sheet(network, samples, source, sheet_count, flip_test, sheet_threshold), sheet)


@app.command("attention", short_help="Write a page that shows what each keypoint attends to.")
def attention_command(
    images: Annotated[list[Path], typer.Argument(metavar="PHOTO", help="An image file, or several.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.html", help="Where the page goes.")],
    boxes: BoxesFile = None,
    box: SingleBoxes = None,
    detected: Detected = False,
    detector: Detector = None,
    detection_threshold: DetectionThreshold = None,
    model: Model = None,
    weights: Weights = None,
    compare_model: Annotated[
        str | None, typer.Option("--compare-model", metavar="NAME", help="A second model, shown beside the first.")
    ] = None,
    compare_weights: Annotated[
        Path | None, typer.Option("--compare-weights", metavar="FILE", help="The second model's weights file.")
    ] = None,
    maps: Annotated[
        Path | None,
        typer.Option("--maps", metavar="DIR", help="Save the numbers here too: an npz file for each panel."),
    ] = None,
    decoder: Decoder = "dark",
    device: Device = None,
) -> None:
    """Write a page that shows what each keypoint attends to, block by block and head by head.

    One HTML file for any browser, with the photograph, the skeleton and the numbers in it: it needs no server and asks
    for nothing from outside. Each person has a panel, and four panels at most fit a page: several people, photographs
    or models side by side. Boxes are given as for `tokenpose predict`; without any the whole image is one person.

    The numbers of panel 1 go to PHOTO.1.npz in --maps, which `AttentionMaps.load` reads.

    \b
    Examples:
      tokenpose attention photo.jpg --box 48,20,310,620 --output report.html
      tokenpose attention before.jpg after.jpg --detect --output report.html
      tokenpose attention photo.jpg --compare-weights run/model.safetensors --output report.html
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"a page is a .html file; got {output}", param_hint="--output")
    wanted = _read_boxes(box, boxes, detected, detector, detection_threshold)
    target = _device(device)

    from tokenpose.page import choose_people, look_inside, write_page

    paths = _find_images(images, wanted)
    find_boxes = _box_finder(bool(box or boxes), detected, detector, detection_threshold, target)
    sources = [(model, weights), (compare_model, compare_weights)]
    sources = sources if any(sources[1]) else sources[:1]
    people = choose_people(paths, boxes, wanted, find_boxes, len(sources))
    networks = [_load_named(*source, target) for source in sources]
    panels = look_inside(people, networks, decoder)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_page(panels, output)
    if maps is not None:
        maps.mkdir(parents=True, exist_ok=True)
        stems = [person.path.stem for person in people for _ in networks]
        for number, (stem, panel) in enumerate(zip(stems, panels, strict=True), 1):
            panel.maps.save(maps / f"{stem}.{number}.npz")
    typer.echo(f"{_count(len(people), 'person', 'people')} in {_count(len(paths), 'image', 'images')}: {output}")


@app.command("convert", short_help="Convert a published checkpoint to a weights file.")
def convert_command(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pth", help="A published PyTorch checkpoint.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Which variant it is: `tokenpose list`.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.safetensors", help="Where the weights go.")],
) -> None:
    """Convert a published checkpoint to a weights file for `--weights`.

    Every parameter has to fit; nothing is left out or made up. The checkpoint is read without running code from it.

    \b
    Example:
      tokenpose convert tokenpose_base.pth --model tokenpose_b.coco_256x192 --output tokenpose_b.safetensors
    """
    from tokenpose.models.create import create_model
    from tokenpose.models.weights import CHECKPOINT_SUFFIXES, write_weights

    if checkpoint.suffix not in CHECKPOINT_SUFFIXES:
        raise ValueError(
            f"{checkpoint} is no PyTorch checkpoint by its name: one ends in {', '.join(CHECKPOINT_SUFFIXES)}"
        )
    network = create_model(model, weights=checkpoint)
    output.parent.mkdir(parents=True, exist_ok=True)
    write_weights(network, output, network.card)
    typer.echo(output)


# Options -> values


def _read_box(text: str) -> "Box":
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise typer.BadParameter(f"a box is four numbers x1,y1,x2,y2; got {text!r}", param_hint="--box")
    x1, y1, x2, y2 = numbers
    return x1, y1, x2, y2


def _read_boxes(
    box: list[str] | None, boxes: Path | None, detected: bool, detector: str | None, threshold: float | None
) -> "list[Box]":
    """The boxes of --box, after a look at what contradicts it."""
    if box and boxes:
        raise typer.BadParameter("give --boxes or --box, not both", param_hint="--box")
    if detected and (box or boxes):
        raise typer.BadParameter("give --detect, --box or --boxes, only one of them", param_hint="--detect")
    if not detected and (detector is not None or threshold is not None):
        raise typer.BadParameter("--detector and --detection-threshold need --detect", param_hint="--detect")
    return [_read_box(text) for text in box or ()]


def _find_images(places: list[Path], boxes: "list[Box]") -> list[Path]:
    from tokenpose.photographs import find_images

    paths = find_images(places)
    if boxes and len(paths) != 1:
        raise typer.BadParameter(
            f"--box is for a single image, and there are {len(paths)}; use --boxes", param_hint="--box"
        )
    return paths


def _read_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise typer.BadParameter(
            f"a size is HEIGHTxWIDTH, 256x192 for example; got {text!r}", param_hint="--image-size"
        )
    return int(height), int(width)


def _split_change(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise typer.BadParameter(f"a change is FIELD=VALUE, depth=6 for example; got {text!r}", param_hint="--spec")
    return name, value


def _read_value(text: str) -> Any:
    """JSON where it is JSON, lists as tuples; else the text itself."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def _device(name: str | None) -> str:
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


def _load_model(name: str | None, weights: Path | None, device: str) -> "TokenPose":
    """A pretrained model by name, or the one in a weights file, which a name only confirms."""
    from tokenpose.models.create import create_model, load_model

    if weights is None:
        return create_model(name or DEFAULT_MODEL, pretrained=True, device=device)
    return load_model(weights, device) if name is None else create_model(name, weights=weights, device=device)


def _load_named(name: str | None, weights: Path | None, device: str) -> "tuple[str, TokenPose]":
    """A model, and what to call it beside another: by its weights file, else by its name."""
    network = _load_model(name, weights, device)
    return str(weights or network.card.get("name") or name or DEFAULT_MODEL), network


def _box_finder(
    known: bool, detected: bool, detector: str | None, threshold: float | None, device: str
) -> Callable[[Any], Any]:
    """From an image to its people's boxes, where they aren't known: a detector, or the whole image."""
    from tokenpose.photographs import whole_image

    if detected:
        return _load_detector(detector or DEFAULT_DETECTOR, threshold, device)
    if not known:
        logger.warning("no boxes given: the whole image is taken as one person; give --detect, --box or --boxes")
    return whole_image


def _load_detector(name: str, threshold: float | None, device: str) -> Callable[[Any], Any]:
    """From an image to its people's boxes."""
    from tokenpose.detection import detect, load_detector

    load_detector(name, device)  # which `detect` then has at hand: what is wrong with it shows before anything is done
    options = {} if threshold is None else {"threshold": threshold}
    return partial(detect, detector=name, device=device, **options)


def _training_defaults() -> dict[str, Any]:
    """The fields of TrainingSettings and of its augmentation, which options are named after."""
    from tokenpose.training.settings import TrainingSettings

    settings = TrainingSettings()
    own = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "augmentation"}
    return {**own, **asdict(settings.augmentation)}


def _read_blocks(text: str, option: str) -> tuple[int, ...]:
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise typer.BadParameter(f"blocks are whole numbers, 4,5,6 for example; got {text!r}", param_hint=option)
    return tuple(map(int, numbers))


def _training_settings(options: Mapping[str, Any]) -> Any:
    """TrainingSettings from the options that were given."""
    from tokenpose.data.augment import Augmentation
    from tokenpose.training.settings import TrainingSettings

    given = {name: value for name, value in options.items() if value is not None}
    for name in {"guided_blocks", "patch_blocks"} & given.keys():
        given[name] = _read_blocks(given[name], "--" + name.replace("_", "-"))
    augmentation = Augmentation(
        **{field.name: given[field.name] for field in fields(Augmentation) if field.name in given}
    )
    own = {field.name: given[field.name] for field in fields(TrainingSettings) if field.name in given}
    return TrainingSettings(**own, augmentation=augmentation)


# What is said to the user


def _report(error: Exception) -> None:
    typer.echo(f"error: {' '.join(str(error).split())}", err=True)


def _count(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"


def _without_nan(values: Any) -> Any:
    """JSON has no NaN: None instead."""
    if isinstance(values, dict):
        return {name: _without_nan(value) for name, value in values.items()}
    return None if values != values else values


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal and there is more than one thing to do."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=total < 2 or not console.is_terminal) as progress:
        images = progress.add_task("images", total=total)
        yield lambda: progress.update(images, advance=1)


class _StderrHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        typer.echo(level + record.getMessage(), err=True)


@contextmanager
def _log_to_stderr(level: int) -> Iterator[None]:
    """The library's log on standard error, for as long as a command runs."""
    library, handler = logging.getLogger("tokenpose"), _StderrHandler()
    before = library.level
    library.addHandler(handler)
    library.setLevel(level)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(before)
