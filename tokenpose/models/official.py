"""Published checkpoints: reading them, and renaming their parameters to ours."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenpose.files import expand, foreign, listed, shown
from tokenpose.pickles import check_pickles, plain_numpy

_PLACES = ("state_dict", "model_state_dict", "best_state_dict", "model")
"""Where training code puts the state dict."""
_WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "network.")
"""What DataParallel, torch.compile and Lightning modules put before all names."""

_TOKEN_PART = re.compile(r"(keypoint_token|pos_embedding|patch_to_embedding|mlp_head|transformer\d?)(\.|$)")
_BLOCK = re.compile(r"transformer(\d?)\.layers\.(\d+)\.([01])\.fn\.(.+)")
_DTYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64}
_INSIDE_BLOCK = {
    ("0", "norm"): "attention_norm",
    ("0", "fn.to_qkv"): "attention.qkv",
    ("0", "fn.to_out.0"): "attention.output",
    ("1", "norm"): "mlp_norm",
    ("1", "fn.net.0"): "mlp.0",
    ("1", "fn.net.3"): "mlp.2",
}


def read_published_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a PyTorch checkpoint with published parameter names or ours; the tensors by our names. Runs no code in it.

    The state dict is the file's whole content or what it has as "state_dict", "model_state_dict", "best_state_dict" or
    "model". Prefixes of wrappers before all names, as "module." and Lightning's "model.", are removed. Raises
    FileNotFoundError, and ValueError for anything but tensors by names.
    """
    path = expand(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    check_pickles(path)
    refusal = f"{path} is not a PyTorch checkpoint that holds nothing but tensors and plain values"
    with foreign(refusal, errors=(Exception,)), plain_numpy():  # damaged bytes make an unpickler raise anything
        content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = _find_state_dict(content)
    if tensors is None:
        raise ValueError(
            f"{path} holds no state dict: a mapping from names to tensors is needed, at the top or as "
            f"{', '.join(_PLACES)}; it holds {_describe(content)}"
        )
    _check_tensors(tensors, path)
    ours = _without_wrappers(tensors)
    if "tokenizer.keypoint_tokens" in ours:
        return ours
    try:
        return convert_official(ours)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _find_state_dict(content: Any) -> Mapping[str, Tensor] | None:
    """The tensors by name in a checkpoint's content."""
    if not isinstance(content, Mapping):
        return None
    candidates = (content, *(content.get(place) for place in _PLACES))
    return next((candidate for candidate in candidates if _is_state_dict(candidate)), None)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    )


def _describe(content: Any) -> str:
    if isinstance(content, Mapping):
        return shown(", ".join(str(name) for name in content)) if content else "nothing"
    return f"a {type(content).__name__}"


def _without_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without the prefixes that wrappers put before all names."""
    found = dict(tensors)
    while prefix := next((prefix for prefix in _WRAPPERS if all(name.startswith(prefix) for name in found)), None):
        found = {name.removeprefix(prefix): tensor for name, tensor in found.items()}
    return found


def _check_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError for types and layouts that weights don't have, and for small tensors that claim to be huge."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES or tensor.layout != torch.strided or tensor.is_meta:
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device.type}"
            raise ValueError(f"{path} holds tensors that weights don't have: {name} is {kind}")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise ValueError(f"{path}: {name} of {tuple(tensor.shape)} holds fewer values than it claims")


def convert_official(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a published state dict's parameters so that a model of the same variant loads them strictly.

    Takes T, S, B and L, with or without ``module.`` before all names. Drops the stored sine table, which models
    compute, and keeps a learnable table. Raises ValueError that lists the unknown names.
    """
    converted: dict[str, Tensor] = {}
    unknown = []
    for published, tensor in state_dict.items():
        name = _strip(published)
        ours = _convert_name(name)
        if ours is None:
            unknown.append(published)
        elif not (name == "pos_embedding" and _is_sine_table(tensor)):
            converted[ours] = tensor
    if unknown:
        raise ValueError(
            f"not a published TokenPose state dict: {len(unknown)} of {len(state_dict)} names unknown: "
            f"{listed(unknown[:5])}{', ...' if len(unknown) > 5 else ''}"
        )
    return converted


def _strip(name: str) -> str:
    """Remove the prefixes in which the variants differ; backbone names then start with "pre_feature."."""
    name = name.removeprefix("module.")
    if name.startswith("features."):
        name = name.removeprefix("features.")
        return name if _TOKEN_PART.match(name) else f"pre_feature.{name}"
    return name.removeprefix("transformer.")


def _convert_name(name: str) -> str | None:
    if name == "keypoint_token":
        return "tokenizer.keypoint_tokens"
    if name == "pos_embedding":
        return "tokenizer.positions"
    if name.startswith("pre_feature."):
        return name.replace("pre_feature", "backbone", 1)
    if name.startswith("patch_to_embedding."):
        return name.replace("patch_to_embedding", "tokenizer.patch_embedding", 1)
    if name.startswith("mlp_head."):
        return name.replace("mlp_head", "head", 1)
    block = _BLOCK.fullmatch(name)
    if block is None:
        return None
    group, index, half, rest = block.groups()
    module, _, parameter = rest.rpartition(".")
    inside = _INSIDE_BLOCK.get((half, module))
    return inside and f"encoder.groups.{int(group or 1) - 1}.{index}.{inside}.{parameter}"


def _is_sine_table(positions: Tensor) -> bool:
    """Whether these are sine positions: sine and cosine of an angle are neighbors, so their squares add up to 1."""
    if positions.ndim != 3 or positions.shape[-1] % 2:
        return False
    axes = positions.double().unflatten(-1, (2, -1))
    pairs = axes.shape[-1] // 2
    sine, cosine = axes[..., : 2 * pairs : 2], axes[..., 1 : 2 * pairs : 2]
    return bool(torch.allclose(sine.square() + cosine.square(), torch.ones_like(sine), atol=1e-2))
