"""export_onnx: the network as one ONNX file, compared with the live model before it returns."""

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokenpose.deploy.comparison import TOLERANCE, largest_difference, require_finite, require_plain, some_crops
from tokenpose.files import named
from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

INPUT, OUTPUT, SPEC = "crops", "heatmaps", "tokenpose.spec"

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(model: nn.Module, file: str | Path) -> None:
    """Write the network to an ONNX file: normalised crops (batch, 3, height, width) in, heatmaps (batch, keypoints,
    rows, columns) out, any batch, float32.

    Inputs and outputs are called "crops" and "heatmaps"; the model's spec is in the file's metadata as JSON, under
    "tokenpose.spec". ONNX Runtime computes two batches from the file before it takes its place, and where they aren't
    the live model's (1e-4 of the largest heatmap value) there is no file. While torch writes it, what any thread prints
    and warns of is swallowed, and what torch, onnx_ir and onnxscript log.

    Raises ModuleNotFoundError without the ``export`` extra; TypeError for what is no TokenPose; ValueError for an
    optimised or compiled model, for one that is being recorded, for other precisions than float32 and weights that
    aren't finite, for parts that ONNX can't express and for a file that disagrees; OSError where it can't be written.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'ONNX files need {", ".join(missing)}: pip install "tokenpose[export]"')
    network = _exportable(model)
    path = Path(file).expanduser()
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the ONNX file, {path / 'model.onnx'} for example")
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        partial = Path(folder) / "model.onnx"
        _write(network, partial)
        error = _compare(network, partial)
        partial.replace(path)
    logger.info("wrote %s, within %.1e of the live model", path, error)


def _exportable(model: Any) -> TokenPose:
    """A copy on the CPU, in eval mode and of plain parts. Raises TypeError and ValueError for what can't be one."""
    model = require_plain(model, "export", "exported")
    others = sorted({str(parameter.dtype) for parameter in model.parameters()} - {"torch.float32"})
    if others:
        raise ValueError(f"ONNX files are written in float32; the model has {', '.join(others)}: model.float() first")
    require_finite(model)
    return copy.deepcopy(model).cpu().eval()


def _write(network: TokenPose, path: Path) -> None:
    """Raises ValueError, with the first line of what torch says, for parts that can't be expressed."""
    try:
        with _silence(), torch.inference_mode():
            program = torch.onnx.export(
                network,
                (some_crops(network, batch=2),),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.TorchDynamoException) as error:
        raise ValueError(
            f"a model of backbone {network.spec.backbone!r} and block {network.spec.block!r} can't be written as ONNX: "
            f"{_reason(error)}; its parts must consist of operations that torch.onnx.export knows"
        ) from error
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    program.model.metadata_props[SPEC] = network.spec.to_json()
    program.save(path, external_data=False)


@contextmanager
def _silence() -> Iterator[None]:
    """What exporters say is about themselves; where torch fails, it prints whole graphs before the error."""
    loggers, said = [logging.getLogger(name) for name in ("torch", "onnx_ir", "onnxscript")], io.StringIO()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _compare(network: TokenPose, path: Path) -> float:
    """The largest difference between file and model, as a share of the largest value, over two sizes of batch."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a dozen kinds of its own, without a common one
        raise ValueError(f"ONNX Runtime can't read the file, so it was not written: {_reason(error)}") from error
    errors = []
    for batch in (1, 3):
        crops = some_crops(network, batch)
        with torch.inference_mode():
            expected = network(crops)
        found = torch.from_numpy(session.run([OUTPUT], {INPUT: crops.numpy()})[0])
        errors.append(largest_difference(found, expected))
    worst = max(errors)
    if not all(error <= TOLERANCE for error in errors):  # NaN too
        raise ValueError(
            f"the ONNX file disagrees with the model by {worst:.1e} of the largest heatmap value, more than "
            f"{TOLERANCE:.0e}, so it was not written: a part of the model does not survive torch.onnx.export"
        )
    return worst


def _reason(error: BaseException) -> str:
    """The first sentence of the innermost cause: torch wraps it in advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
