"""The optimizer, its schedule, and the moving average."""

import math
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from tokenpose.training.settings import TrainingSettings


def make_optimizer(network: nn.Module, backbone: nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    """AdamW, of which matrices and kernels decay and everything else (norms, biases, tokens, positions) does not; or
    Adam as published, where everything does. Backbone and keypoint tokens have their shares of the rate, and the
    backbone none if it is frozen."""
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


def make_schedule(optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int) -> LambdaLR:
    """A cosine to zero over all ``steps``, or a tenth of the rate from each milestone on."""
    steps_an_epoch = steps / settings.epochs

    def factor(step: int) -> float:
        if settings.schedule == "multi_step":
            return 0.1 ** sum(step >= milestone * steps_an_epoch for milestone in settings.milestones)
        return 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))

    return LambdaLR(optimizer, factor)


class MovingAverage(nn.Module):
    """A moving average of a network's weights, ``module``; early on it forgets faster: the start doesn't linger.

    Statistics of batch norms are the network's own. Nothing in it waits for the device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self._weights: tuple[list[Tensor], list[Tensor]] = list(self.module.parameters()), list(network.parameters())
        self._statistics: tuple[list[Tensor], list[Tensor]] = list(self.module.buffers()), list(network.buffers())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the network's weights in; ``step``: how many updates were before."""
        keep = min(self.decay, (1 + step) / (10 + step)) if step else 0.0
        torch._foreach_lerp_(*self._weights, 1 - keep)
        if self._statistics[0]:
            torch._foreach_copy_(*self._statistics)
