"""Weights files: safetensors with their spec and card. Files aren't trusted: they are checked before they are used."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tokenpose.files import check_size, decode, expand, foreign, read_bytes, shown, write_text, written_whole
from tokenpose.models.calibration import Calibration
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
KEYPOINT_TOKENS, POSITIONS = "tokenizer.keypoint_tokens", "tokenizer.positions"
CHECKPOINT_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar")

MOST_CONFIG, MOST_WEIGHTS = 1_000_000, 16_000_000_000
"""How large config.json and a weights file can be, in bytes."""

_DTYPES = {"F16", "BF16", "F32", "I64"}  # I64: how many batches a norm has seen


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A weights file's content: the spec of the model it fits, its card (plain values), its calibration, if it has one,
    and its tensors by name."""

    spec: ModelSpec
    tensors: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)
    calibration: Calibration | None = None
    origin: str = "weights"
    """Where they come from, for errors."""


def read_weights(path: str | Path) -> Weights:
    """Read a file that `write_weights` wrote, or the one in a folder; half precision becomes float32.

    The header is checked against its spec before a tensor is read. Raises FileNotFoundError, and ValueError for
    anything but a complete safetensors file with a spec that its tensors fit and finite values.
    """
    path = expand(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    if path.suffix.lower() in CHECKPOINT_SUFFIXES:
        raise ValueError(f"{path} is a PyTorch checkpoint, which has no spec: give the name of its model too")
    check_size(path, "a weights file", MOST_WEIGHTS)
    try:
        with safe_open(path, framework="pt") as opened:
            metadata, names = opened.metadata() or {}, list(opened.keys())
            slices = {name: opened.get_slice(name) for name in names}
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            spec, card = _read_spec(metadata, path), _read_card(metadata, path)
            calibration = _read_calibration(metadata, spec, path)
            _check_dtypes({name: part.get_dtype() for name, part in slices.items()}, path)
            check_claims(spec, shapes, str(path))
            tensors = {name: opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    check_finite(tensors, str(path))
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return Weights(spec=spec, tensors=floats, card=card, calibration=calibration, origin=str(path))


def head_tensors(spec: ModelSpec) -> tuple[str, str]:
    """Names of the head's last layer's weight and bias, whose rows are the heatmap's cells."""
    layer = 3 if spec.head_layers == 2 else 1
    return f"head.{layer}.weight", f"head.{layer}.bias"


def check_claims(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]], origin: str) -> None:
    """Raise ValueError where a file's tensors don't fit its spec. To be called before a model is built: a small file
    that claims a huge model would otherwise fill the memory."""
    keypoints, cells = len(spec.skeleton), spec.output_size[0] * spec.output_size[1]
    weight, bias = head_tensors(spec)
    features = spec.hidden_width if spec.head_layers == 2 else spec.groups * spec.width
    expected = {
        KEYPOINT_TOKENS: (1, keypoints, spec.width),
        weight: (cells, features),
        bias: (cells,),
    }
    if spec.positions == "learnable":
        expected[POSITIONS] = (1, keypoints + spec.grid_size[0] * spec.grid_size[1], spec.width)
    wrong = [
        f"{name} is {shapes.get(name, 'missing')}, expected {shape}"
        for name, shape in expected.items()
        if shapes.get(name) != shape
    ]
    found = len({tuple(name.split(".")[2:4]) for name in shapes if name.startswith("encoder.groups.")})
    if found != spec.groups * spec.depth:
        wrong.append(f"it has {found} blocks, expected {spec.groups * spec.depth}")
    wrong = wrong or _compare_shapes(spec, shapes)
    if wrong:
        raise ValueError(f"{origin}: the weights don't fit the spec: {'; '.join(wrong[:5])}")


def _compare_shapes(spec: ModelSpec, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What the file lacks of a model of this spec, has in another shape, or has too much. The model is built without
    memory for its weights, and only where the file has as many blocks as it claims."""
    try:
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in TokenPose(spec).state_dict().items()}
    except (RuntimeError, NotImplementedError):  # a part that a user registered needs values while it is built
        return []
    return [
        *(
            f"{name} is {shapes.get(name, 'missing')}, expected {shape}"
            for name, shape in expected.items()
            if shapes.get(name) != shape
        ),
        *(f"{shown(name)} is not part of this model" for name in shapes if name not in expected),
    ]


def check_finite(tensors: Mapping[str, Tensor], origin: str) -> None:
    """Raise ValueError where a value is NaN or infinite."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{origin} holds values that are not finite, in {', '.join(broken[:3])}")


def write_weights(
    model: nn.Module, path: str | Path, card: Mapping[str, Any] | None = None, half: bool = False
) -> None:
    """Write a model's weights with its spec, card and calibration. ``half``: as float16, except batch-norm statistics.

    Of a compiled model, the original is written; float64 is written as float32. Raises TypeError for other modules,
    ValueError for an optimized model and for values that aren't finite (in half precision: beyond 65504), OSError
    where it can't write.
    """
    model = _plain(model)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors = {name: tensor.float() if tensor.dtype == torch.float64 else tensor for name, tensor in tensors.items()}
    if half:
        tensors = {name: tensor.half() if _may_be_half(name, tensor) else tensor for name, tensor in tensors.items()}
    check_finite(tensors, "the model")
    metadata = {"format": "pt", "spec": model.spec.to_json(), "card": json.dumps(dict(card or {}))}
    if model.calibration is not None:
        metadata["calibration"] = model.calibration.to_json()
    _save(tensors, path, metadata)


def copy_with_calibration(source: str | Path, path: str | Path, calibration: Calibration) -> None:
    """Write a copy of a weights file, or of the one in a folder, with another calibration; to the same path if wanted.

    Tensors, spec and card stay as they are. Raises what `read_weights` raises, and OSError where it can't write.
    """
    source = expand(source)
    source = source / WEIGHTS_FILE if source.is_dir() else source
    spec = read_weights(source).spec
    with safe_open(source, framework="pt") as opened:
        metadata = {**opened.metadata(), "calibration": calibration.to_json()}
    Calibration.from_json(metadata["calibration"], spec.skeleton.keypoints)
    _save(load_file(source), path, metadata)


def _save(tensors: dict[str, Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    with written_whole(path) as partial:
        try:
            save_file(tensors, partial, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error


def save_pretrained(model: nn.Module, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a model into a folder: model.safetensors (with spec and card inside), config.json, README.md.

    ``create_model("local-dir:folder")`` reads it back. ``card``: plain values that say where the weights
    come from; None: those that the model was loaded with. Raises TypeError for anything but a TokenPose, and
    ValueError for an optimized model.
    """
    folder = expand(folder)
    write_folder(model, folder, card, f"local-dir:{folder.name}")


def write_folder(model: nn.Module, folder: Path, card: Mapping[str, Any] | None, name: str) -> None:
    """Write the folder of `save_pretrained`; its README calls `create_model` with ``name``."""
    model = _plain(model)
    folder.mkdir(parents=True, exist_ok=True)
    card = model.card if card is None else card
    write_weights(model, folder / WEIGHTS_FILE, card)
    write_text(folder / CONFIG_FILE, json.dumps(json.loads(model.spec.to_json()), indent=2) + "\n")
    write_text(folder / CARD_FILE, _model_card(model, card, name))


def _plain(model: nn.Module) -> TokenPose:
    """The TokenPose itself, or the original of a compiled one. Raises TypeError for anything else, and ValueError for
    an optimized model."""
    plain = model._orig_mod if isinstance(model, torch._dynamo.eval_frame.OptimizedModule) else model
    if not isinstance(plain, TokenPose):
        raise TypeError(
            f"a TokenPose is needed; got {type(plain).__name__}: if it wraps a TokenPose, give the one inside"
        )
    if plain.runner is not None:
        raise ValueError("an optimized model can't be written: write the model that was given to tokenpose.optimize")
    return plain


def _model_card(model: TokenPose, card: Mapping[str, Any], name: str) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    spec, parameters = model.spec, sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---", "library_name: tokenpose", "pipeline_tag: keypoint-detection", "tags: [tokenpose, pose-estimation]",
        "---", "",
        f"# TokenPose, {len(spec.skeleton)} keypoints, {spec.image_size[0]}x{spec.image_size[1]}", "",
        f"Backbone {spec.backbone}, {parameters / 1e6:.2f} M parameters.",
        f"Keypoints: {', '.join(spec.skeleton.keypoints)}.", "",
        *(f"- {key}: {value}" for key, value in card.items()),
        *([f"- scores are probabilities at: {model.calibration.describe()}"] if model.calibration else []), "",
        "```python", "import tokenpose", "",
        f'model = tokenpose.create_model("{name}")',
        'poses = tokenpose.predict(model, "photo.jpg", boxes)    # boxes: (people, 4), x1, y1, x2, y2',
        "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def read_config(path: Path) -> ModelSpec:
    """The spec in a config.json. Raises ValueError."""
    return ModelSpec.from_json(decode(read_bytes(path, f"a {CONFIG_FILE}", MOST_CONFIG)))


def _read_folder(folder: Path) -> Weights:
    """A folder's weights. Raises ValueError where its config.json, which other programs read, says something else."""
    weights = read_weights(folder / WEIGHTS_FILE)
    config = folder / CONFIG_FILE
    if not config.is_file():
        return weights
    try:
        claimed = read_config(config)
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from error
    found, said = weights.spec.to_dict(), claimed.to_dict()
    differing = [f"{name} {shown(said[name])}" for name in said if said[name] != found[name]]
    if differing:
        raise ValueError(f"{config} is not the spec of the weights beside it: it says {'; '.join(differing)[:300]}")
    return weights


def _read_spec(metadata: Mapping[str, str], path: Path) -> ModelSpec:
    if "spec" not in metadata:
        raise ValueError(f"{path} has no model spec in its metadata, so it wasn't written by tokenpose")
    try:
        return ModelSpec.from_json(metadata["spec"])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_card(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    with foreign(f"{path} has a card that is not JSON"):
        card = json.loads(metadata.get("card", "{}"))
    if not isinstance(card, dict):
        raise ValueError(f"{path} has a card that is not a JSON object; it is of type {type(card).__name__}")
    return card


def _read_calibration(metadata: Mapping[str, str], spec: ModelSpec, path: Path) -> Calibration | None:
    if "calibration" not in metadata:
        return None
    try:
        return Calibration.from_json(metadata["calibration"], spec.skeleton.keypoints)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_dtypes(dtypes: Mapping[str, str], path: Path) -> None:
    wrong = [f"{name} is {dtype}" for name, dtype in dtypes.items() if dtype not in _DTYPES]
    if wrong:
        raise ValueError(f"{path} holds types that weights don't have: {'; '.join(wrong[:3])}; expected F16, BF16, F32")


def _may_be_half(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not name.endswith(("running_mean", "running_var"))
