"""Why a loss is not finite."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tokenpose.data.augment import Crops


@torch.no_grad()
def find_nonfinite(network: nn.Module, crops: Crops) -> str:
    """Name the first thing that is not finite: weights, the crops, or a module's output. If everything is finite, name
    the largest output. Batch-norm statistics are not checked: the pass that failed has already changed them."""
    broken = [name for name, values in network.named_parameters() if not _finite(values)]
    if broken:
        return f"weights are not finite: {', '.join(broken[:3])}{', ...' if len(broken) > 3 else ''}"
    if not _finite(crops):
        return "the crops are not finite"
    outputs = _watch(network, crops)
    for name, finite, _ in outputs:
        if not finite:
            return f"the output of {name} is not finite"
    name, _, largest = max(outputs, key=lambda output: output[2])
    return f"weights, crops and outputs are finite; the largest output is {largest:.3g}, of {name}"


def _watch(network: nn.Module, crops: Crops) -> list[tuple[str, bool, float]]:
    """(module, whether its output is finite, its largest absolute value), in execution order; leaf modules only."""
    seen: list[tuple[str, bool, float]] = []

    def hook(name: str) -> Callable[[nn.Module, object, object], None]:
        def look(_module: nn.Module, _inputs: object, output: object) -> None:
            if isinstance(output, Tensor):
                seen.append((name, _finite(output), output.abs().max().item()))

        return look

    leaves = [(name, module) for name, module in network.named_modules() if not any(True for _ in module.children())]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    statistics = {name: values.clone() for name, values in network.named_buffers()}
    try:
        network(crops)
    finally:
        for handle in handles:
            handle.remove()
        for name, values in network.named_buffers():
            values.copy_(statistics[name])
    return seen


def _finite(values: Tensor) -> bool:
    return bool(values.isfinite().all())
