"""`tokenpose list`, `tokenpose convert` and `tokenpose export`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import Command, app
from tokenpose.commands.choices import choose_model
from tokenpose.commands.options import ModelOption, WeightsOption, complete_model


@app.command("list", cls=Command, short_help="List model names.")
def list_command(
    pattern: Annotated[
        str, typer.Argument(metavar="PATTERN", help='Names to list, where "*" stands for any letters and "?" for one.')
    ] = "*",
    pretrained: Annotated[bool, typer.Option("--pretrained", help="List only models with bundled weights.")] = False,
) -> None:
    """List model names, one per line.

    A name is architecture.tag, and the architecture alone means its default tag.

    \b
    Examples:
      tokenpose list
      tokenpose list --pretrained
      tokenpose list "tokenpose_l*"
    """
    from tokenpose.models.zoo import list_models

    names = list_models(pattern, pretrained)
    if not names:
        kind = "model with bundled weights" if pretrained else "model"
        raise LookupError(f"no {kind} matches {pattern!r}; see: tokenpose list")
    typer.echo("\n".join(names))


@app.command("convert", cls=Command, short_help="Convert a published checkpoint to a weights file.")
def convert_command(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT.pth", help="Published PyTorch checkpoint.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="NAME",
            help="The checkpoint's model; `tokenpose list` shows the names.",
            autocompletion=complete_model,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", metavar="FILE.safetensors", help="Weights file to write.")],
) -> None:
    """Convert a published checkpoint to a weights file for --weights.

    Every parameter has to fit; none is skipped or invented. No code from the checkpoint is run.

    \b
    Example:
      tokenpose convert tokenpose_base.pth --model tokenpose_b.coco_256x192 --output tokenpose_b.safetensors
    """
    from tokenpose.jobs.conversion import convert_checkpoint

    convert_checkpoint(checkpoint, model, output)
    typer.echo(output)


@app.command("export", cls=Command, short_help="Export a model to ONNX.")
def export_command(
    output: Annotated[Path, typer.Option("--output", metavar="FILE.onnx", help="ONNX file to write.")],
    model: ModelOption = None,
    weights: WeightsOption = None,
) -> None:
    """Export a model to ONNX: normalized crops in, heatmaps out, in batches of any size.

    The file is written once ONNX Runtime's heatmaps agree with the model's. Requires: pip install "tokenpose[export]".

    \b
    Example:
      tokenpose export --model tokenpose_s_v1 --output tokenpose_s_v1.onnx
    """
    from tokenpose.deploy.export import export_onnx

    export_onnx(choose_model(model, weights, "cpu"), output)
    typer.echo(output)
