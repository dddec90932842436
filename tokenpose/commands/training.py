"""`tokenpose train`."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from tokenpose.commands.app import app, is_main_process, show_log
from tokenpose.commands.options import Rename, read_renames, read_size, read_value, split_change


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


@app.command("train", cls=TrainCommand, short_help="Train or fine-tune a model on COCO keypoint files.")
def train_command(
    train: Annotated[
        list[str],
        typer.Option("--train", metavar="JSON[=PLACE]", help="COCO or MPII file, with its images or not; repeatable."),
    ],
    val: Annotated[list[str], typer.Option("--val", metavar="JSON[=PLACE]", help="The same, to validate on: PCK@0.2.")],
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where weights, log and checkpoint go.")],
    images: Annotated[
        list[str] | None,
        typer.Option("--images", metavar="PLACE", help="Folder, tar or zip file, or quoted pattern; repeatable."),
    ] = None,
    rename: Rename = None,
    flip_pairs: Annotated[
        str | None,
        typer.Option(metavar="A:B,C:D", help='Which keypoints change sides, or "none", where the names don\'t tell.'),
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which one, where several of a COCO file have keypoints.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help='"coco", "mpii", "lsp", "tokens", "finetune", or a .toml or settings.json.'
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="As `tokenpose list` shows. Default: the recipe's."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", metavar="FILE", help="Start from this file, of the same architecture.")
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option(help="Start from the weights that ship for the name. Default: the recipe's.")
    ] = None,
    image_size: Annotated[
        str | None, typer.Option("--image-size", metavar="HEIGHTxWIDTH", help="Crop size, 256x192 for example.")
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option("--spec", metavar="FIELD=VALUE", help="Change a field of the model's spec, depth=6; repeatable."),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the first batch as the network sees it, targets on top, and stop."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in the output folder.")] = False,
    epochs: Annotated[int | None, typer.Option(help="Times through the training people.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="People a step, over all processes.")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts in which a step is done, to save memory.")] = None,
    optimizer: Annotated[str | None, typer.Option(help='"adamw", or "adam" as published.')] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak rate.")] = None,
    backbone_rate: Annotated[float | None, typer.Option(help="The backbone's share of the rate.")] = None,
    token_rate: Annotated[float | None, typer.Option(help="The keypoint tokens' share of the rate.")] = None,
    freeze_backbone: Annotated[bool | None, typer.Option(help="Leave the backbone as it is.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of matrices and kernels (adam: of everything).")] = None,
    schedule: Annotated[str | None, typer.Option(help='"cosine" to zero, or "multi_step" as published.')] = None,
    milestones: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Epochs from which the rate is a tenth, for multi_step.")
    ] = None,
    clip: Annotated[float | None, typer.Option(help="Largest norm of the gradient; 0: any.")] = None,
    average: Annotated[float | None, typer.Option(help="Decay of the moving average of the weights; 0: none.")] = None,
    start: Annotated[str | None, typer.Option(help='Of a new model: "wide" or "published".')] = None,
    loss: Annotated[
        str | None,
        typer.Option(help='"cross_entropy", "squared_error" as published, or "hard_keypoints". Default: the model\'s.'),
    ] = None,
    hardest: Annotated[int | None, typer.Option(help="Keypoints of a person that count for hard_keypoints.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Weight of attention guidance; 0: none.")] = None,
    patches: Annotated[float | None, typer.Option(help="Weight of heatmaps read off visual tokens; 0: none.")] = None,
    precision: Annotated[str | None, typer.Option(help='"fp32", "bf16" or "fp16".')] = None,
    compile: Annotated[bool | None, typer.Option(help="Compile backbone, blocks and heads.")] = None,
    graph: Annotated[bool | None, typer.Option(help="Replay steps as a CUDA graph, on one GPU.")] = None,
    channels_last: Annotated[bool | None, typer.Option(help="Memory order of convolutions.")] = None,
    sync_batch_norm: Annotated[bool | None, typer.Option(help="Batch norms over all processes, on GPUs.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    cache: Annotated[str | None, typer.Option(help='Decoded people: "ram", "device" or "none".')] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that read images that aren't cached.")] = None,
    validate_every: Annotated[int | None, typer.Option(help="Epochs between validations.")] = None,
    checkpoint_seconds: Annotated[float | None, typer.Option(help="Most work that an interruption loses.")] = None,
    predictions: Annotated[int | None, typer.Option(help="People that are drawn after each epoch.")] = None,
    trackers: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Of accelerate: tensorboard, wandb, ...")
    ] = None,
    scale: Annotated[float | None, typer.Option(help="Augmentation: zoom by up to this share.")] = None,
    rotation: Annotated[
        float | None, typer.Option(help="Augmentation: turn by this many degrees, twice that at most.")
    ] = None,
    rotation_probability: Annotated[float | None, typer.Option(help="Augmentation: share of people turned.")] = None,
    flip: Annotated[float | None, typer.Option(help="Augmentation: share of people mirrored.")] = None,
    half_body: Annotated[float | None, typer.Option(help="Augmentation: share of people shown by half.")] = None,
    color: Annotated[
        float | None, typer.Option(help="Augmentation: brightness, contrast, saturation by up to this share.")
    ] = None,
    blur: Annotated[float | None, typer.Option(help="Augmentation: share of crops blurred.")] = None,
) -> None:
    """Train or fine-tune a model on COCO keypoint files; the keypoints are the files'.

    A recipe sets what is not given here; without one the defaults below hold. The output folder gets model.safetensors
    (with its spec, for `--weights` everywhere), log.jsonl, curve.png, predictions/, settings.json and checkpoint.pt.
    Under `torchrun -m tokenpose train` or `accelerate launch -m tokenpose train`, all processes train together.
    Needs: pip install "tokenpose[train]".

    \b
    Examples:
      tokenpose train --train train.json --val val.json --images photographs/ \\
          --output run/ --recipe finetune
      tokenpose train --train train.json --val val.json --images photographs/ \\
          --output run/ --recipe lsp --image-size 128x96 --epochs 100
    """
    changes = _changes(locals())  # which are the options, by the settings' names
    show_log()
    names = read_renames(rename)
    changed_fields = dict(split_change(change, "--spec") for change in spec or ())
    model_changes = {name: read_value(value) for name, value in changed_fields.items()}
    _refuse_parts(model_changes)
    if image_size is not None:
        model_changes["image_size"] = read_size(image_size)
    if preview is not None and preview.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter(f"a preview is a .png or .jpg file; got {preview}", param_hint="--preview")

    if weights is not None and pretrained:
        raise typer.BadParameter("give --weights or --pretrained, not both", param_hint="--weights")

    from tokenpose.jobs.training import check_output, choose_reading, choose_start, make_trainee, train_model
    from tokenpose.jobs.training_data import read_training_data
    from tokenpose.training.recipes import Recipe, read_recipe

    chosen = Recipe() if recipe is None else read_recipe(recipe)
    chosen.settings(changes)  # refuses what makes no sense before files are read
    if preview is None:
        check_output(output, resume)
    of_data = choose_reading(chosen, rename=names or None, flip_pairs=flip_pairs, category=category)
    data = read_training_data(train, val, images, **of_data)
    given: dict[str, Any] = {"name": model, "pretrained": pretrained, "weights": weights, **model_changes}
    network, settings = make_trainee(chosen, changes, data.skeleton, **given)
    if preview is not None:
        from tokenpose.jobs.photographs import save_picture
        from tokenpose.jobs.sheets import draw_first_batch

        save_picture(draw_first_batch(data, network.spec, settings), preview)
        typer.echo(preview)
        return
    card = {"recipe": chosen.name} if chosen.name else {}
    written = train_model(network, data, output, settings, resume, card, choose_start(chosen, **given))
    if is_main_process():
        typer.echo(written)


def _refuse_parts(changes: Mapping[str, Any]) -> None:
    """What is no field of the spec, or not for the command line to say."""
    own = {"name": "give --model", "pretrained": "give --pretrained", "weights": "give --weights"}
    files = "the keypoints are the files'; --rename gives them other names"
    ways = {**own, "skeleton": files, "keypoints": files}
    for name in changes:
        if name in ways:
            raise typer.BadParameter(f"{name} can't be set by it: {ways[name]}", param_hint="--spec")


def _training_defaults() -> dict[str, Any]:
    """The fields of TrainingSettings and of its augmentation, which options are named after."""
    from tokenpose.training.settings import TrainingSettings

    settings = TrainingSettings()
    own = {field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "augmentation"}
    return {**own, **asdict(settings.augmentation)}


def _changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that were given, as values."""
    given = {name: options[name] for name in _training_defaults() if options[name] is not None}
    if "milestones" in given:
        given["milestones"] = _read_numbers(given["milestones"], "--milestones")
    if "trackers" in given:
        given["trackers"] = tuple(filter(None, map(str.strip, given["trackers"].split(","))))
    return given


def _read_numbers(text: str, option: str) -> tuple[int, ...]:
    numbers = [number.strip() for number in text.split(",")]
    if not all(number.isdecimal() for number in numbers):
        raise typer.BadParameter(f"whole numbers are needed, 4,5,6 for example; got {text!r}", param_hint=option)
    return tuple(map(int, numbers))
