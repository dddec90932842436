"""Weights files: safetensors that carry their spec and card; and weights for another size or other keypoints."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

WEIGHTS_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
KEYPOINT_TOKENS, POSITIONS = "tokenizer.keypoint_tokens", "tokenizer.positions"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A weights file's content: the spec of the model it fits, its card (plain values), and its tensors by name."""

    spec: ModelSpec
    tensors: dict[str, Tensor]
    card: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | Path) -> Weights:
    """Read a file that `write_weights` wrote; half precision becomes float32.

    A folder stands for its model.safetensors. Raises FileNotFoundError, and ValueError where it is not a safetensors
    file with a spec.
    """
    path = Path(path)
    if path.is_dir():
        path = path / WEIGHTS_FILE
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    if "spec" not in metadata:
        raise ValueError(f"{path} carries no model spec in its metadata, so it wasn't written by tokenpose")
    try:
        card = json.loads(metadata.get("card", "{}"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} has a card that is not JSON: {error}") from error
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise ValueError(f"{path} holds values that are not finite, in {', '.join(broken[:3])}")
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return Weights(spec=ModelSpec.from_json(metadata["spec"]), tensors=floats, card=card)


def write_weights(
    model: TokenPose, path: str | Path, card: Mapping[str, Any] | None = None, half: bool = False
) -> None:
    """Write a model's weights with its spec and card. ``half``: float16 but for batch-norm statistics."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if half:
        tensors = {name: tensor.half() if _may_be_half(name, tensor) else tensor for name, tensor in tensors.items()}
    metadata = {"format": "pt", "spec": model.spec.to_json(), "card": json.dumps(dict(card or {}))}
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, metadata)
    partial.replace(path)


def save_pretrained(model: TokenPose, folder: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Write a model into a folder: model.safetensors (with spec and card inside), config.json, README.md.

    ``create_model(name, weights=folder)`` reads it back. ``card``: plain values that say where the weights
    come from; None: those that the model was loaded with.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    card = model.card if card is None else card
    write_weights(model, folder / WEIGHTS_FILE, card)
    (folder / CONFIG_FILE).write_text(json.dumps(json.loads(model.spec.to_json()), indent=2) + "\n")
    (folder / CARD_FILE).write_text(_model_card(model, card))


def _model_card(model: TokenPose, card: Mapping[str, Any]) -> str:
    """The card as Markdown, with the front matter that model hubs read."""
    spec, parameters = model.spec, sum(parameter.numel() for parameter in model.parameters())
    lines = [
        "---", "library_name: tokenpose", "pipeline_tag: keypoint-detection", "---", "",
        f"# TokenPose, {len(spec.skeleton)} keypoints, {spec.image_size[0]}x{spec.image_size[1]}", "",
        f"Backbone {spec.backbone}, {parameters / 1e6:.2f} M parameters.",
        f"Keypoints: {', '.join(spec.skeleton.keypoints)}.", "",
        *(f"- {name}: {value}" for name, value in card.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _may_be_half(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not name.endswith(("running_mean", "running_var"))


def load_weights(model: TokenPose, weights: Weights, sources: Mapping[str, str] | None = None) -> None:
    """Load weights into a model whose keypoints, sizes or positions may differ from the file's; all else strictly.

    Keypoint tokens come by name: ``sources`` maps the model's keypoint names to the file's (None: the same names).
    Learnable positions and the head's last layer are resampled as the 2-D maps that they are. What is new stays as
    initialised, is logged, and is named in ``model.newly_initialised``.

    Raises ValueError that lists the tensors which don't fit.
    """
    carried, new = carry_over(weights, model.spec, sources)
    expected = model.state_dict()
    wrong = [
        f"{name} is {tuple(carried[name].shape) if name in carried else 'missing'}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if (name not in carried and name not in new)
        or (name in carried and name not in (KEYPOINT_TOKENS, POSITIONS) and carried[name].shape != tensor.shape)
    ]
    wrong += [f"{name} is not part of this model" for name in carried if name not in expected]
    if wrong:
        raise ValueError(f"the weights don't fit the model: {'; '.join(wrong[:4])}{' ...' if len(wrong) > 4 else ''}")
    for name in (KEYPOINT_TOKENS, POSITIONS):
        if name in carried and carried[name].isnan().any():
            rows = carried[name]
            carried[name] = torch.where(rows.isnan(), expected[name].to(rows), rows)
    model.load_state_dict({**expected, **carried})
    model.newly_initialised, model.card = tuple(new), weights.card
    if new:
        logger.info("newly initialised: %s", ", ".join(new))


def carry_over(
    weights: Weights, spec: ModelSpec, sources: Mapping[str, str] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors for a model of another spec, and the names of what is new; rows of new keypoints hold NaN."""
    names = [(sources or {}).get(name, name) for name in spec.skeleton.keypoints]
    old = weights.spec
    rows = [old.skeleton.keypoints.index(name) if name in old.skeleton.keypoints else None for name in names]
    tensors = dict(weights.tensors)
    new = [f"{KEYPOINT_TOKENS}[{name}]" for name, row in zip(spec.skeleton.keypoints, rows, strict=True) if row is None]
    if KEYPOINT_TOKENS in tensors:
        tensors[KEYPOINT_TOKENS] = _take_rows(tensors[KEYPOINT_TOKENS], rows)
    if POSITIONS in tensors and spec.positions == "learnable":
        count = len(old.skeleton)
        of_keypoints, of_patches = tensors[POSITIONS].split((count, tensors[POSITIONS].shape[1] - count), dim=1)
        of_patches = _resample_rows(of_patches[0], old.grid_size, spec.grid_size).unsqueeze(0)
        tensors[POSITIONS] = torch.cat((_take_rows(of_keypoints, rows), of_patches), dim=1)
    elif POSITIONS in tensors:
        del tensors[POSITIONS]
    elif spec.positions == "learnable":
        new.append(POSITIONS)
    if old.output_size != spec.output_size and old.head_layers == spec.head_layers:
        last = f"head.{3 if spec.head_layers == 2 else 1}"
        for name in tensors.keys() & {f"{last}.weight", f"{last}.bias"}:
            cells = tensors[name] if tensors[name].ndim == 2 else tensors[name].unsqueeze(-1)
            tensors[name] = _resample_rows(cells, old.output_size, spec.output_size).reshape(
                -1, *tensors[name].shape[1:]
            )
    return tensors, new


def _take_rows(tokens: Tensor, rows: list[int | None]) -> Tensor:
    """(1, old, width) -> (1, new, width) by index; None gives NaN."""
    missing = tokens.new_full((1, 1, tokens.shape[2]), math.nan)
    return torch.cat([missing if row is None else tokens[:, row : row + 1] for row in rows], dim=1)


def _resample_rows(rows: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(old cells, width) -> (new cells, width), bilinear between cell centers, corners on corners."""
    if old == new:
        return rows
    maps = rows.T.reshape(1, -1, *old)
    return functional.interpolate(maps, size=new, mode="bilinear", align_corners=True).flatten(2)[0].T.contiguous()
