"""The optimizer, its schedule, and the moving average."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel

from tokenpose.training.settings import TrainingSettings


def make_optimizer(network: nn.Module, settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW; matrices and kernels decay, everything else (norms, biases, tokens, positions) does not."""
    modules = dict(network.named_modules())
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        owner = modules[name.rpartition(".")[0]]
        is_kernel = isinstance(owner, nn.Linear | nn.Conv2d) and name.endswith("weight")
        (decayed if is_kernel else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def make_schedule(optimizer: torch.optim.Optimizer, settings: TrainingSettings, steps: int) -> LambdaLR:
    """Linear warm-up, then a cosine to zero over all ``steps``."""
    warmup = min(settings.warmup_steps, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return LambdaLR(optimizer, factor)


def make_average(network: nn.Module, decay: float) -> AveragedModel:
    """A moving average of the weights; early on it forgets faster, so that the start doesn't linger."""
    return AveragedModel(network, multi_avg_fn=_decaying(decay))


def _decaying(decay: float) -> Callable[..., None]:
    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - keep)

    return update
