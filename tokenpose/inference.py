"""optimize: a copy of a model for inference, whose outputs are the model's."""

import copy
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tokenpose.models.attention import PATHS, attentions_of
from tokenpose.models.blocks import LeanVitBlock, VitBlock
from tokenpose.models.fusion import FusedBackbone
from tokenpose.models.tokenpose import TokenPose

Name = TypeVar("Name")

logger = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}
"""Largest difference, as a share of the largest heatmap value, at which outputs count as equal."""

_CHUNKS = (1, 2, 4, 8)
_CLEARLY = 0.95  # of the usual way's time: what counts as faster
_LONGEST_EXPLICIT = 512  # tokens: beyond, a matrix of tokens by tokens is never the faster way


def optimize(model: TokenPose) -> TokenPose:
    """A copy of a model for inference, on the device and in the precision that it has: the same outputs, sooner.

    Batch norms are folded into the convolutions before them, and these take along the additions and ReLUs after them;
    maps lie channels last; attention goes the way, and a batch is split into chunks of the size, that are measured to
    be the fastest here, which takes some seconds. Whatever takes a model for inference takes the copy: `predict`,
    `attention_maps`, `evaluate`. Optimise last: moved to another device or precision, a copy works but isn't made for
    it. The two are compared before it returns: in float32 within 1e-4 of the largest heatmap value.

    A backbone that torch.fx can't follow stays as it is, and a warning is logged.
    Raises TypeError for what is no TokenPose; ValueError for a compiled or an optimised model, for one that is being
    recorded, and where the outputs differ.
    """
    _check(model)
    fast = copy.deepcopy(model).eval().requires_grad_(False)
    weights = next(fast.parameters())
    device, dtype = weights.device, weights.dtype
    on_cpu = device.type == "cpu"
    fast.float()  # half precision would round the folded weights twice
    images = _some_images(fast, batch=1)
    with torch.no_grad():
        _fuse_backbone(fast, images)
    fast.to(dtype)
    fast.is_optimized = True
    with torch.no_grad():
        if on_cpu and dtype == torch.float32:
            _prepare_for_cpu(fast, images)
        _choose_attention(fast, images.to(dtype))
        if on_cpu:
            fast.chunk = _choose_chunk(fast)
        _compare(fast, model)
    return fast


def _check(model: Any) -> None:
    if isinstance(model, torch._dynamo.eval_frame.OptimizedModule):
        raise ValueError("a compiled model can't be optimised: optimise the model that was given to torch.compile")
    if not isinstance(model, TokenPose):
        raise TypeError(f"a TokenPose is needed, as tokenpose.create_model makes; got {type(model).__name__}")
    if model.is_optimized:
        raise ValueError("this model is optimised already")
    if any(attention.observer is not None for block in attentions_of(model) for attention in block):
        raise ValueError("this model is being recorded: optimise it before or afterwards")


def _fuse_backbone(fast: TokenPose, images: Float[Tensor, "batch 3 height width"]) -> None:
    """Exchange the backbone for its fused form, if it has convolutions and torch.fx can follow it."""
    if not any(isinstance(module, nn.Conv2d) for module in fast.backbone.modules()):
        return
    try:
        fast.backbone = FusedBackbone(fast.backbone, images)
    except Exception as error:  # torch.fx runs the backbone's own code with stand-ins for tensors: anything may happen
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        logger.warning("backbone %r stays as it is: torch.fx can't follow it (%s)", fast.spec.backbone, reason)


def _prepare_for_cpu(fast: TokenPose, images: Float[Tensor, "batch 3 height width"]) -> None:
    """What is faster on a CPU in float32: oneDNN's fused convolutions, blocks with fewer passes over memory."""
    # glibc gives memory of the size of our maps back to the system when it is freed, and the system has to clear it for
    # the next map. Once it has freed a block of nearly 32 MB, it keeps what is smaller.
    torch.empty(8_300_000)
    if isinstance(fast.backbone, FusedBackbone):
        fast.backbone.pack(images)
    for group in fast.encoder.groups:
        for index, block in enumerate(group):
            if type(block) is VitBlock:
                group[index] = LeanVitBlock(block)


def _choose_attention(fast: TokenPose, images: Float[Tensor, "batch 3 height width"]) -> None:
    """Set the path that is the fastest for this sequence length and head width, measured on the first block."""
    attentions = [attention for block in attentions_of(fast) for attention in block]
    if not attentions:
        return
    tokens = fast.tokenizer(fast.backbone(images))
    paths = [path for path in PATHS if path != "explicit" or tokens.shape[1] <= _LONGEST_EXPLICIT]

    def attend(path: str) -> Callable[[], object]:
        def run() -> object:
            attentions[0].path = path
            return attentions[0](tokens)

        return run

    seconds = _race({path: attend(path) for path in paths}, rounds=15, device=tokens.device)
    fastest = min(seconds, key=seconds.__getitem__)
    chosen = fastest if seconds[fastest] < _CLEARLY * seconds["fused"] else "fused"
    for attention in attentions:
        attention.path = chosen
    logger.info("attention: %s; %s", chosen, _milliseconds(seconds))


def _choose_chunk(fast: TokenPose) -> int:
    """How many images at once take the least time each."""

    def forward(chunk: int) -> Callable[[], object]:
        some = _some_images(fast, chunk)
        return lambda: fast(some)

    seconds = _race({chunk: forward(chunk) for chunk in _CHUNKS}, rounds=3, device=_device(fast))
    each = {chunk: spent / chunk for chunk, spent in seconds.items()}
    logger.info("images at once: %s", _milliseconds(each))
    return min(each, key=each.__getitem__)


def _race(runners: dict[Name, Callable[[], object]], rounds: int, device: torch.device) -> dict[Name, float]:
    """The shortest time of each, in seconds; they take turns, so that a busy moment of the machine meets all."""
    best = dict.fromkeys(runners, float("inf"))
    for number in range(rounds + 1):
        for name, run in runners.items():
            started = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first warms up
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def _compare(fast: TokenPose, model: TokenPose) -> None:
    """Raise ValueError where the copy's heatmaps aren't the model's, over a batch that is split and one that isn't."""
    weights = next(model.parameters())
    was_training = model.training
    model.eval()
    try:
        for batch in (1, (fast.chunk or 1) + 1):
            images = _some_images(fast, batch)
            expected, found = model(images), fast(images)
            error = float((found - expected).abs().max() / expected.abs().max())
            if not error <= TOLERANCE[weights.dtype]:  # NaN too
                raise ValueError(
                    f"the optimised copy's heatmaps differ from the model's by {error:.1e} of the largest value, more "
                    f"than {TOLERANCE[weights.dtype]:.0e}: a part of the model is not what torch.fx takes it for; "
                    "use the model as it is"
                )
    finally:
        model.train(was_training)


def _some_images(model: TokenPose, batch: int) -> Float[Tensor, "batch 3 height width"]:
    weights = next(model.parameters())
    images = torch.randn(batch, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(batch))
    return images.to(weights.device, weights.dtype)


def _device(model: TokenPose) -> torch.device:
    return next(model.parameters()).device


def _milliseconds(seconds: dict[Name, float]) -> str:
    return ", ".join(f"{name} {1000 * spent:.2f} ms" for name, spent in seconds.items())
