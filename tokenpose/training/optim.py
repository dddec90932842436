"""The optimizer, its schedule, and the moving average."""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tokenpose.training.settings import TrainingSettings


def make_optimizer(network: nn.Module, backbone: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW with weight decay on matrices and kernels only (not on norms, biases, tokens, positions), or Adam with
    weight decay on everything. Backbone and keypoint tokens have their own learning rates; frozen parameters are left
    out."""
    its_own = {id(parameter) for parameter in backbone.parameters()}
    modules = dict(network.named_modules())
    shares = {"": 1.0, "backbone": settings.backbone_rate, "tokens": settings.token_rate}
    groups: dict[tuple[str, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        owner = modules[name.rpartition(".")[0]]
        is_kernel = isinstance(owner, nn.Linear | nn.Conv2d) and name.endswith("weight")
        decays = is_kernel or settings.optimizer == "adam"
        of_others = "tokens" if name.rpartition(".")[2] == "keypoint_tokens" else ""
        groups.setdefault(("backbone" if id(parameter) in its_own else of_others, decays), []).append(parameter)
    arguments: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": settings.learning_rate * shares[part],
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (part, decays), parameters in sorted(groups.items())
    ]
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    on_gpu = all(parameter.is_cuda for group in arguments for parameter in group["params"])
    return kind(arguments, fused=on_gpu)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, annealings: Sequence[int], done: int = 0
) -> LambdaLR:
    """A cosine to zero, or a division of the learning rate by 10 at each milestone, after ``done`` steps.

    ``annealings``: the steps of the run, and those of each extension, which starts again from the full learning rate.
    The milestones are for ``settings.epochs``; an extension has them at the same shares of its steps.
    """

    def factor(step: int) -> float:
        *earlier, steps = annealings
        start = 0
        for length in earlier:
            if step < start + length:
                steps = length
                break
            start += length
        if settings.schedule == "multi_step":
            return 0.1 ** sum((step - start) * settings.epochs >= epoch * steps for epoch in settings.milestones)
        return 0.5 * (1 + math.cos(math.pi * (step - start) / max(1, steps)))

    return LambdaLR(optimizer, factor, last_epoch=done - 1)


class MovingAverage(nn.Module):
    """A moving average of a network's weights, in ``module``. Early updates use a smaller decay, so that the initial
    weights are soon forgotten.

    Batch-norm statistics are copied from the network. No operation waits for the device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._weights: tuple[list[Tensor], list[Tensor]] = list(self.module.parameters()), list(network.parameters())
        self._statistics: tuple[list[Tensor], list[Tensor]] = list(self.module.buffers()), list(network.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Update the average with the network's weights. ``step``: the number of earlier updates."""
        keep = min(self.decay, (1 + step) / (10 + step)) if step else 0.0
        torch._foreach_lerp_(*self._weights, 1 - keep)
        if self._statistics[0]:
            torch._foreach_copy_(*self._statistics)
