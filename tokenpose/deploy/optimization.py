"""optimize: a copy of a model for inference, whose outputs are the model's."""

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

from tokenpose.deploy.comparison import TOLERANCE, largest_difference, require_finite, require_plain, some_crops
from tokenpose.deploy.fusion import FusedBackbone
from tokenpose.deploy.lean_blocks import LeanVitBlock
from tokenpose.models.attention import PATHS, Attention
from tokenpose.models.recording import attentions_of
from tokenpose.models.tokenpose import TokenPose

logger = logging.getLogger(__name__)

_CHUNKS = (1, 2, 4, 8, 16, 32, 64)
_CLEARLY, _SLIGHTLY = 0.95, 0.98  # of another's time: what counts as faster
_LONGEST_EXPLICIT = 512  # tokens: beyond, a matrix of tokens by tokens is never the faster way


def optimize(model: TokenPose) -> TokenPose:
    """A copy of a model for inference, on the device and in the precision that it has: the same outputs, sooner.

    Batch norms are folded into the convolutions before them, and these take along the additions and ReLUs after them;
    maps lie channels last; attention goes the way, and on a CPU a batch is split into chunks of the size, that are
    measured to be the fastest here, which takes some seconds. Whatever takes a model for inference takes the copy:
    `predict`, `attention_maps`, `evaluate`. Optimise last: moved to another device or precision, a copy works but isn't
    made for it. The folded copy is compared with the model in float32 on the CPU before it returns: heatmaps are within
    1e-4 of the largest value. On a CPU glibc is led to keep up to 64 MB of freed memory, for the whole process.

    A backbone that torch.fx can't follow, or whose fused form gives another map, stays as it is; a warning is logged.
    Raises TypeError for what is no TokenPose; ValueError for a compiled or an optimised model, for one that is being
    recorded, pruned, has hooks, is on the meta device or whose weights aren't finite, and where the outputs differ.
    """
    require_plain(model, "optimise", "optimised")
    _require_no_hooks(model)
    require_finite(model)
    weights = next(model.parameters())
    device, dtype = weights.device, weights.dtype
    with torch.inference_mode(False), torch.no_grad():  # whose tensors could be neither trained nor given other values
        fast = _make_copy(model, packed=device.type == "cpu" and dtype == torch.float32)
        fast.to(device, dtype)
        _choose_attention(fast)
        if device.type == "cpu":
            fast.chunk = _choose_chunk(fast)
    return fast


def _make_copy(model: TokenPose, packed: bool) -> TokenPose:
    """The copy, on the CPU, its parts exchanged and its heatmaps compared; ``packed``: for float32 on a CPU."""
    exact = torch.float64 if next(model.parameters()).dtype == torch.float64 else torch.float32
    with torch.autocast("cpu", enabled=False):  # products that are rounded more couldn't be compared
        reference = copy.deepcopy(model).eval().requires_grad_(False).to("cpu", exact)
        fast = copy.deepcopy(reference)
        fast.is_optimized = True
        _fuse_backbone(fast, some_crops(fast, batch=1), packed)
        if packed:
            _prepare_for_cpu(fast)
        _compare(fast, reference)
    return fast


def _require_no_hooks(model: TokenPose) -> None:
    """Raise ValueError for hooks, which a copy might pass by, other than those by which timm collects maps."""
    for name, module in model.named_modules():
        kinds: Any = (
            module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks
        )  # fmt: skip
        for hook in itertools.chain.from_iterable(kind.values() for kind in kinds):
            if isinstance(hook, BasePruningMethod):
                raise ValueError(
                    f"{name!r} is pruned by a hook, which a copy would lose: make it permanent with "
                    f"torch.nn.utils.prune.remove(module, {hook._tensor_name!r}), then optimise"
                )
            if not (isinstance(hook, partial) and isinstance(getattr(hook.func, "__self__", None), FeatureHooks)):
                raise ValueError(
                    f"{repr(name) if name else 'the model'} has a hook, which the copy's parts might pass by: "
                    "remove it before you optimise, or use the model as it is"
                )


def _fuse_backbone(fast: TokenPose, images: Float[Tensor, "batch 3 height width"], packed: bool) -> None:
    """Exchange the backbone for its fused form, if it has convolutions, torch.fx can follow it and the map is its own.

    ``packed``: with oneDNN's fused convolutions, in float32 on a CPU.
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
            raise ValueError(f"fused its map would differ by {error:.1e} of the largest value")
        fast.backbone = fused
    except Exception as error:  # of a backbone of one's own: anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("backbone %r stays as it is: %s", fast.spec.backbone, reason)


def _prepare_for_cpu(fast: TokenPose) -> None:
    """What is faster on a CPU in float32, the backbone aside: blocks with fewer passes over memory."""
    # glibc gives memory of the size of our maps back to the system when it is freed, and the system has to clear it for
    # the next map. Once it has freed a block of nearly 32 MB, it keeps what is smaller.
    torch.empty(8_300_000)
    for group in fast.encoder.groups:
        for index, block in enumerate(group):
            if LeanVitBlock.suits(block):
                group[index] = LeanVitBlock(block)


def _choose_attention(fast: TokenPose) -> None:
    """Set the path that is the fastest for this sequence length and head width, measured on the first block."""
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
    """What the module is given in a pass, which need not be the model's own tokens: a block may narrow or join them."""
    given: list[Tensor] = []
    handle = attention.qkv.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    try:
        fast(some_crops(fast, batch=1))
    finally:
        handle.remove()
    return given[0] if given else None


def _choose_chunk(fast: TokenPose) -> int | None:
    """How many images at once take the least time each: twice as many, until that takes no less two times in a row.
    One step alone may gain nothing, and a moment's disturbance of the machine is not to end it."""
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
    """The shortest of some calls, in seconds, after one to warm up."""
    best = float("inf")
    for number in range(calls + 1):
        started = time.perf_counter()
        run()
        if torch.accelerator.is_available():
            torch.accelerator.synchronize()
        if number:
            best = min(best, time.perf_counter() - started)
    return best


def _compare(fast: TokenPose, reference: TokenPose) -> None:
    """Raise ValueError where the copy's heatmaps aren't the model's."""
    images = some_crops(reference, batch=2)
    expected, found = reference(images), fast(images)
    if not expected.isfinite().all():
        raise ValueError(
            "the model's own heatmaps aren't finite, though its weights are: there is nothing to compare with"
        )
    error = largest_difference(found, expected)
    if not error <= TOLERANCE:  # NaN too
        raise ValueError(
            f"the optimised copy's heatmaps differ from the model's by {error:.1e} of the largest value, more than "
            f"{TOLERANCE:.0e}: a part of the model is not what it is taken for; use the model as it is"
        )


def _milliseconds(seconds: Mapping[Any, float]) -> str:
    return ", ".join(f"{name} {1000 * spent:.2f} ms" for name, spent in seconds.items())
