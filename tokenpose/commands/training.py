"""`tokenpose train`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tokenpose.commands.app import Command, app, is_main_process, show_log
from tokenpose.commands.generated import with_settings
from tokenpose.commands.options import (
    BoxesFromKeypointsOption,
    CategoryOption,
    RenameOption,
    one_or_several,
    read_renames,
    read_size,
    read_value,
    split_change,
)
from tokenpose.data.settings import Augmentation
from tokenpose.training.settings import TrainingSettings

PANELS = {
    "Data": ("train", "val", "images", "rename", "flip_pairs", "category", "boxes_from_keypoints"),
    "Model": ("model", "weights", "pretrained", "grow", "teacher", "image_size", "spec"),
    "Optimization": (),
    "Augmentation": (),
    "Run": ("output", "recipe", "preview", "resume", "extend"),
}


@app.command("train", cls=Command, short_help="Train or fine-tune a model on COCO or MPII files.")
@with_settings(TrainingSettings, Augmentation, panels=PANELS)
def train_command(
    train: Annotated[
        list[str],
        typer.Option(
            "--train",
            metavar="JSON[=PLACE][@SHARE]",
            help="COCO or MPII file of the people to train on. PLACE: where its images are, if not in --images. SHARE: "
            "how much of every batch is from this file, 0.5 for example; files without one share the rest. Repeatable.",
        ),
    ],
    val: Annotated[
        list[str],
        typer.Option(
            "--val",
            metavar="JSON[=PLACE]|SHARE",
            help="Like --train, for the people to validate on (PCK@0.2). Or the share of the training images to hold "
            "out, 0.2 for example: the same as `tokenpose split` gives.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Folder for the weights, the log and the checkpoint.")
    ],
    settings: Mapping[str, Any],
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--images", metavar="PLACE", help="Folder, tar file, zip file or quoted pattern of images. Repeatable."
        ),
    ] = None,
    rename: RenameOption = None,
    flip_pairs: Annotated[
        str | None,
        typer.Option(
            metavar="A:B,C:D",
            help='Left and right keypoints, which trade places in a mirrored image, or "none". Needed if the names of '
            "the keypoints don't tell.",
        ),
    ] = None,
    category: CategoryOption = None,
    boxes_from_keypoints: BoxesFromKeypointsOption = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help='Recipe with settings and model: "coco", "mpii", "lsp", "tokens", "finetune", a .toml file, or the '
            "settings.json of a run.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME",
            help="A name that `tokenpose list` shows. Default: the model of --weights, else of the recipe.",
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Start from this weights file. Without --model, the model is that of the file.",
        ),
    ] = None,
    pretrained: Annotated[
        bool | None, typer.Option(help="Start from the bundled weights of the model. Default: as the recipe says.")
    ] = None,
    grow: Annotated[
        Path | None,
        typer.Option(
            "--grow",
            metavar="FILE",
            help="Start from the weights file of a smaller model: what fits is copied, and the new backbone first "
            "learns its visual tokens.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="FILE|NAME",
            help="Learn the heatmaps of this trained model beside the labels: a weights file or a name that `tokenpose "
            "list` shows. People without a labeled keypoint are then trained on too.",
        ),
    ] = None,
    image_size: Annotated[
        str | None, typer.Option("--image-size", metavar="HEIGHTxWIDTH", help="Crop size, for example 256x192.")
    ] = None,
    spec: Annotated[
        list[str] | None,
        typer.Option(
            "--spec", metavar="FIELD=VALUE", help="Change a field of the model's spec, for example depth=6. Repeatable."
        ),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Draw the first batch with its targets, as the network sees it, and exit."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the checkpoint in the output folder.")
    ] = False,
    extend: Annotated[
        int,
        typer.Option(
            "--extend",
            metavar="N",
            min=0,
            help="With --resume: continue a finished run for N more epochs, from the full learning rate again.",
        ),
    ] = 0,
) -> None:
    """Train or fine-tune a model on COCO keypoint files. It learns the keypoints of the files.

    Options override the recipe, and the recipe overrides the defaults below. The output folder gets model.safetensors
    (weights with their spec, for `--weights` of every command), with --keep best also best.safetensors, log.jsonl,
    curve.png, predictions/, settings.json and checkpoint.pt. Under `torchrun -m tokenpose train` or `accelerate launch
    -m tokenpose train` all processes train together. Requires: pip install "tokenpose[train]".

    \b
    Examples:
      tokenpose train --train train.json --val val.json --images photographs/ \\
          --output run/ --recipe finetune
      tokenpose train --train train.json --val val.json --images photographs/ \\
          --output run/ --recipe lsp --image-size 128x96 --epochs 100
    """
    show_log()
    names = read_renames(rename)
    model_changes = _read_spec(spec or ())
    if image_size is not None:
        model_changes["image_size"] = read_size(image_size)
    if preview is not None and preview.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise typer.BadParameter(f"a preview is a .png or .jpg file; got {preview}", param_hint="--preview")
    if extend and not resume:
        raise typer.BadParameter("it continues a finished run, and needs --resume", param_hint="--extend")
    if weights is not None and pretrained:
        raise typer.BadParameter("give --weights or --pretrained, not both", param_hint="--weights")
    if grow is not None and (weights is not None or pretrained):
        raise typer.BadParameter("give neither --weights nor --pretrained with it", param_hint="--grow")

    from tokenpose.jobs.growing import learn_trunk_first
    from tokenpose.jobs.teaching import read_teacher
    from tokenpose.jobs.training import train_model
    from tokenpose.jobs.training_data import choose_reading, read_training_data
    from tokenpose.jobs.training_model import choose_start, make_trainee
    from tokenpose.training.folder import check_output
    from tokenpose.training.recipes import Recipe, read_recipe

    chosen = Recipe() if recipe is None else read_recipe(recipe)
    chosen.settings(settings)  # before files are read
    if preview is None:
        check_output(output, resume)
    of_data = choose_reading(
        chosen, rename=names or None, flip_pairs=flip_pairs, category=one_or_several(category),
        boxes_from_keypoints=boxes_from_keypoints,
    )  # fmt: skip
    taught_by = None if teacher is None else read_teacher(teacher)
    data = read_training_data(train, val, images, **of_data, teacher=teacher)
    own = {"name": model, "pretrained": pretrained, "weights": weights, "grow": grow}
    given: dict[str, Any] = {**own, **model_changes}
    network, complete = make_trainee(chosen, settings, data.skeleton, **given)
    if preview is not None:
        from tokenpose.images import write_image
        from tokenpose.jobs.sheets import draw_first_batch

        write_image(draw_first_batch(data, network.spec, complete), preview)
        typer.echo(preview)
        return
    card = {"recipe": chosen.name} if chosen.name else {}
    start = choose_start(chosen, **given)
    learn_trunk_first(network, data, output, complete, resume, start)
    written = train_model(network, data, output, complete, resume, card, start, extend, taught_by)
    if is_main_process():
        typer.echo(written)


INSTEAD_OF_SPEC = {
    "name": "use --model",
    "pretrained": "use --pretrained",
    "grow": "use --grow",
    "weights": "use --weights",
    "skeleton": "the keypoints are those of the files; --rename gives them other names",
    "keypoints": "the keypoints are those of the files; --rename gives them other names",
}


def _read_spec(changes: Iterable[str]) -> dict[str, Any]:
    """FIELD=VALUE of --spec, as arguments of `tokenpose.create_model`."""
    texts = dict(split_change(change, "--spec") for change in changes)
    for name in texts:
        if name in INSTEAD_OF_SPEC:
            raise typer.BadParameter(f"can't set {name}: {INSTEAD_OF_SPEC[name]}", param_hint="--spec")
    return {name: read_value(text) for name, text in texts.items()}
