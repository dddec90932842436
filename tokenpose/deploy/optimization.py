"""optimize: a faster copy of a model for inference, with the same outputs."""

import copy
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from timm.models import FeatureHooks
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from tokenpose.deploy.chunks import ChunkRunner
from tokenpose.deploy.comparison import (
    TOLERANCE,
    largest_difference,
    require_finite,
    require_plain,
    require_same_heatmaps,
    some_crops,
)
from tokenpose.deploy.fusion import FusedBackbone
from tokenpose.deploy.lean_blocks import LeanVitBlock
from tokenpose.models.attention import PATHS, Attention
from tokenpose.models.recording import attentions_of
from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

_CHUNKS = (1, 2, 4, 8, 16, 32, 64)
_CLEARLY, _SLIGHTLY = 0.95, 0.98  # below this share of another's time, a way counts as faster
_LONGEST_EXPLICIT = 512  # tokens; for longer sequences a matrix of tokens by tokens is never faster


def optimize(model: TokenPose) -> TokenPose:
    """A faster copy of a model for inference, on the same device and in the same precision, with the same outputs.

    Batch norms are folded into the convolutions before them, additions and ReLUs are fused into the convolutions, and
    feature maps are stored channels-last. The way of computing attention and, on a CPU, the size of the chunks that a
    batch is split into are measured on this machine, which takes some seconds. The copy works wherever a model for
    inference does: in `predict`, `attention_maps`, `evaluate`. Optimize last: after a move to another device or
    precision, the copy still works but isn't tuned for it. Before it is returned, it is compared with the model in
    float32 on the CPU: heatmaps are within 1e-4 of the largest value. On a CPU, glibc then keeps up to 64 MB of freed
    memory, for the whole process.

    A backbone that torch.fx can't follow, or whose fused form gives another map, is left unfused; a warning is logged.
    Raises TypeError for anything but a TokenPose; ValueError for a model that is compiled, optimized, being recorded
    or pruned, that has hooks or weights that aren't finite, or that is on the meta device, and where outputs differ.
    """
    require_plain(model, "optimize", "optimized")
    _require_no_hooks(model)
    require_finite(model)
    weights = next(model.parameters())
    device, dtype = weights.device, weights.dtype
    with torch.inference_mode(False), torch.no_grad():  # inference tensors could be neither trained nor changed
        fast = _make_copy(model, packed=device.type == "cpu" and dtype == torch.float32)
        fast.to(device, dtype)
        _choose_attention(fast)
        if device.type == "cpu":
            fast.runner = ChunkRunner(_choose_chunk(fast))
    return fast


def _make_copy(model: TokenPose, packed: bool) -> TokenPose:
    """The copy on the CPU, with faster parts and its heatmaps compared; ``packed``: for float32 on a CPU."""
    exact = torch.float64 if next(model.parameters()).dtype == torch.float64 else torch.float32
    with torch.autocast("cpu", enabled=False):  # rounded products couldn't be compared
        reference = copy.deepcopy(model).eval().requires_grad_(False).to("cpu", exact)
        fast = copy.deepcopy(reference)
        fast.runner = ChunkRunner()
        _fuse_backbone(fast, some_crops(fast, batch=1), packed)
        if packed:
            _prepare_for_cpu(fast)
        require_same_heatmaps(
            reference,
            fast,
            "the optimized copy",
            "a part of the model doesn't work as tokenpose.optimize expects; use the model as it is",
            batches=(2,),
        )
    return fast


def _require_no_hooks(model: TokenPose) -> None:
    """Raise ValueError for hooks, which a copy might bypass, except those with which timm collects feature maps."""
    for name, module in model.named_modules():
        kinds: Any = (
            module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
        )  # fmt: skip
        for hook in itertools.chain.from_iterable(kind.values() for kind in kinds):
            if isinstance(hook, BasePruningMethod):
                raise ValueError(
                    f"{name!r} is pruned by a hook, which the copy would lose: make the pruning permanent with "
                    f"torch.nn.utils.prune.remove(module, {hook._tensor_name!r}), then optimize"
                )
            if not (isinstance(hook, partial) and isinstance(getattr(hook.func, "__self__", None), FeatureHooks)):
                raise ValueError(
                    f"{repr(name) if name else 'the model'} has a hook, which the copy might bypass: "
                    "remove it before you optimize, or use the model as it is"
                )


def _fuse_backbone(fast: TokenPose, images: Float[Tensor, "people 3 height width"], packed: bool) -> None:
    """Replace the backbone by its fused form, if it has convolutions, torch.fx can follow it and the map is the same.

    ``packed``: use oneDNN's fused convolutions, for float32 on a CPU.
    """
    backbone = fast.backbone
    if not any(isinstance(module, nn.Conv2d) for module in backbone.modules()):
        return
    try:
        fused = FusedBackbone(backbone, images)
        if packed:
            fused.pack(images)
        error = largest_difference(fused(images.clone()), backbone(images.clone()))
        if not error <= TOLERANCE:
            raise ValueError(f"the fused backbone's map would differ by {error:.1e} of the largest value")
        fast.backbone = fused
    except Exception as error:  # a user's backbone may raise anything, and the model works without fusion
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("backbone %r is left unfused: %s", fast.spec.backbone, reason)


def _prepare_for_cpu(fast: TokenPose) -> None:
    """Replace blocks by those with fewer passes over memory, for float32 on a CPU."""
    # glibc returns freed memory of the size of our maps to the system, which has to clear it for the next map. Once a
    # block of nearly 32 MB has been freed, glibc keeps smaller ones.
    torch.empty(8_300_000)
    for group in fast.encoder.groups:
        for index, block in enumerate(group):
            if LeanVitBlock.suits(block):
                group[index] = LeanVitBlock(block)


def _choose_attention(fast: TokenPose) -> None:
    """Set the attention path that is fastest for this sequence length and head width, measured on the first block."""
    attentions = [attention for block in attentions_of(fast) for attention in block]
    if not attentions:
        return
    tokens = _tokens_that_reach(attentions[0], fast)
    if tokens is None:
        return
    explicit = tokens.is_cpu and tokens.shape[1] <= _LONGEST_EXPLICIT
    seconds = {}
    for path in PATHS:
        if path != "explicit" or explicit:
            attentions[0].path = path
            seconds[path] = _time(lambda: attentions[0](tokens), calls=15)
    fastest = min(seconds, key=seconds.__getitem__)
    chosen = fastest if seconds[fastest] < _CLEARLY * seconds["fused"] else "fused"
    for attention in attentions:
        attention.path = chosen
    logger.info("attention: %s; %s", chosen, _milliseconds(seconds))


def _tokens_that_reach(attention: Attention, fast: TokenPose) -> Tensor | None:
    """The module's input in a pass, which may differ from the model's tokens: a block may narrow or join them."""
    inputs: list[Tensor] = []
    handle = attention.qkv.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    try:
        fast(some_crops(fast, batch=1))
    finally:
        handle.remove()
    return inputs[0] if inputs else None


def _choose_chunk(fast: TokenPose) -> int | None:
    """The number of images at once with the least time per image; None: all. Doubles it until two doublings in a row
    gain nothing: a single one may gain nothing by chance, or because the machine was disturbed."""
    seconds: dict[int, float] = {}
    best = _CHUNKS[0]
    for chunk, before in zip(_CHUNKS, (0, 0, *_CHUNKS), strict=False):
        some = some_crops(fast, chunk)
        seconds[chunk] = _time(partial(fast, some), calls=3) / chunk
        if seconds[chunk] < _SLIGHTLY * seconds[best]:
            best = chunk
        elif best <= before:
            break
    logger.info("images at once: %d; %s", best, _milliseconds(seconds))
    return None if best == _CHUNKS[-1] else best


def _time(run: Callable[[], object], calls: int) -> float:
    """The shortest time of some calls, in seconds, after one warm-up call."""
    best = float("inf")
    for number in range(calls + 1):
        started = time.perf_counter()
        run()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        if number:
            best = min(best, time.perf_counter() - started)
    return best


def _milliseconds(seconds: Mapping[Any, float]) -> str:
    return ", ".join(f"{name} {1000 * spent:.2f} ms" for name, spent in seconds.items())
