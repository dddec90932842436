"""export_onnx: the model as one ONNX file, compared with the live model before it is kept."""

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokenpose.deploy.comparison import require_finite, require_plain, require_same_heatmaps, some_crops
from tokenpose.files import expand, named
from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

INPUT, OUTPUT, SPEC = "crops", "heatmaps", "tokenpose.spec"

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


def export_onnx(model: nn.Module, file: str | Path) -> None:
    """Write the model to an ONNX file: normalized crops (batch, 3, height, width) in, heatmaps (batch, keypoints,
    rows, columns) out, any batch, float32.

    The input is named "crops" and the output "heatmaps"; the file's metadata holds the model's spec as JSON, under
    "tokenpose.spec". ONNX Runtime runs the file on two batches before it is kept: if the heatmaps differ from the live
    model's by more than 1e-4 of the largest value, no file is written. While torch exports, everything that any thread
    prints or warns of, and that torch, onnx_ir and onnxscript log, is suppressed.

    Raises ModuleNotFoundError without the ``export`` extra; TypeError for anything but a TokenPose; ValueError for a
    model that is optimized, compiled or being recorded, for precisions other than float32, for weights that aren't
    finite, for parts that ONNX can't express and for heatmaps that differ; OSError where it can't write.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(f'ONNX files need {", ".join(missing)}: pip install "tokenpose[export]"')
    network = _exportable(model)
    path = expand(file)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name the ONNX file, {path / 'model.onnx'} for example")
    path.parent.mkdir(parents=True, exist_ok=True)
    with named(path), tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        partial = Path(folder) / "model.onnx"
        _write(network, partial)
        difference = require_same_heatmaps(
            network,
            _open(partial),
            "the ONNX file",
            "a part of the model doesn't survive torch.onnx.export; the file was not written",
            batches=(1, 3),  # two sizes, neither of them the one it was exported with
        )
        partial.replace(path)
    logger.info("wrote %s, within %.1e of the live model", path, difference)


def _exportable(model: Any) -> TokenPose:
    """A copy on the CPU, in eval mode. Raises TypeError and ValueError for models that can't be exported."""
    model = require_plain(model, "export", "exported")
    others = sorted({str(parameter.dtype) for parameter in model.parameters()} - {"torch.float32"})
    if others:
        raise ValueError(f"ONNX files are written in float32; the model has {', '.join(others)}: model.float() first")
    require_finite(model)
    return copy.deepcopy(model).cpu().eval()


def _write(network: TokenPose, path: Path) -> None:
    """Raises ValueError, with the first line of torch's message, for parts that ONNX can't express."""
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
    """Suppress what the exporters print and log: progress, and whole graphs before an error."""
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


def _open(path: Path) -> Callable[[Tensor], Tensor]:
    """The file as a function from crops to heatmaps, by ONNX Runtime."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a dozen kinds of errors without a common class
        raise ValueError(f"ONNX Runtime can't read the file, so it was not written: {_reason(error)}") from error

    def run(crops: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: crops.numpy()})[0])

    return run


def _reason(error: BaseException) -> str:
    """The first sentence of the innermost cause: torch wraps it in advice to its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__
