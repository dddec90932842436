"""`tokenpose train`."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tokenpose.commands.app import app
from tokenpose.commands.options import DEFAULT_MODEL, Places, read_size, read_value, split_change


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
    changes = {name: read_value(value) for name, value in map(split_change, spec or ())}
    if image_size is not None:
        changes["image_size"] = read_size(image_size)

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
