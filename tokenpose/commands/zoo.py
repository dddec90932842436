"""`tokenpose list`, `tokenpose convert` and `tokenpose export`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import app
from tokenpose.commands.options import Model, Weights, load_named


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


@app.command("export", short_help="Write the network as an ONNX file.")
def export_command(
    output: Annotated[Path, typer.Option("--output", metavar="FILE.onnx", help="Where the network goes.")],
    model: Model = None,
    weights: Weights = None,
) -> None:
    """Write the network as an ONNX file: normalised crops in, heatmaps out, any batch.

    What ONNX Runtime computes from it is compared with the model before it is there. Needs: pip install
    "tokenpose[export]".

    \b
    Example:
      tokenpose export --model tokenpose_s_v1 --output tokenpose_s_v1.onnx
    """
    from tokenpose.deploy.export import export_onnx

    _, network = load_named(model, weights, "cpu")
    export_onnx(network, output)
    typer.echo(output)
