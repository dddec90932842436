"""Fusion: a backbone for inference. Batch norms are folded into the convolutions before them, and additions and ReLUs
after a convolution are done while it writes its map."""

import operator
import threading
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from timm.layers import BatchNormAct2d
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tokenpose.shapes import Crops

_RELUS = {
    "call_function": (functional.relu, functional.relu_, torch.relu, torch.relu_),
    "call_method": ("relu", "relu_"),
}
_ADDITIONS = {"call_function": (operator.add, operator.iadd, torch.add), "call_method": ("add", "add_")}

_ONE_TRACE = (
    threading.Lock()
)  # a trace patches torch and restores what it found, which must not be another trace's patch


class FusedConvolution(nn.Module):
    """A convolution, then the addition of a map, if one is given, and a ReLU, if ``relu``.

    After `pack`, oneDNN's kernels do all three in one pass over memory; before it, PyTorch's do them one by one.
    """

    def __init__(self, convolution: nn.Conv2d, relu: bool) -> None:
        super().__init__()
        self.convolution, self.relu = convolution, relu
        self.packed: Tensor | None = None
        self.packed_from: tuple[Tensor, int | None] | None = None  # the weights, and how often they had changed
        self.packed_for: torch.Size | None = None
        self.may_overwrite = False  # nothing reads the added map afterwards
        padding: Any = convolution.padding
        self.register_load_state_dict_post_hook(FusedConvolution._repack)
        self.geometry = list(padding), list(convolution.stride), list(convolution.dilation), convolution.groups

    def pack(self, size: torch.Size) -> None:
        """Lay the weights out for maps of that size (batch, channels, rows, columns), if oneDNN is available."""
        weight = self.convolution.weight.detach()
        self.packed_for = size
        if torch.backends.mkldnn.is_available() and weight.is_cpu and weight.dtype == torch.float32:
            self.packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *self.geometry, list(size))
            self.packed_from = self.convolution.weight, _version(self.convolution.weight)

    def _repack(self, _keys: object = None) -> None:
        """Pack again after other weights were loaded and in a copy: oneDNN's packed weights are not copied."""
        if self.packed_for is not None:
            self.pack(self.packed_for)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "packed": None, "packed_from": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._repack()

    def forward(self, maps: Tensor, other: Tensor | None = None) -> Tensor:
        """(batch, channels, rows, columns) -> the convolution's map; ``other`` has that map's shape."""
        convolution = self.convolution
        if self.packed is None or not maps.is_cpu or maps.dtype != torch.float32 or self._needs_plain_path(maps):
            maps = convolution(maps)
            maps = maps if other is None else maps.add_(other)
            return maps.relu_() if self.relu else maps
        operation: Any = torch.ops.mkldnn._convolution_pointwise
        bias, relu = convolution.bias, "relu" if self.relu else None
        if other is None:
            return operation.default(maps, self.packed, bias, *self.geometry, relu or "none", [], "")
        if self.may_overwrite:
            operation = torch.ops.mkldnn._convolution_pointwise_
            return operation.binary(other, maps, self.packed, bias, *self.geometry, "add", None, relu, [], None)
        return operation.binary(maps, other, self.packed, bias, *self.geometry, "add", None, relu, [], None)

    def _needs_plain_path(self, maps: Tensor) -> bool:
        """Whether the weights have changed since they were packed, or gradients are needed, which oneDNN lacks."""
        parameters: Any = self.convolution._parameters
        weight, bias = parameters.get("weight"), parameters.get("bias")
        if self.packed_from is None or weight is not self.packed_from[0] or _version(weight) != self.packed_from[1]:
            return True
        if not torch.is_grad_enabled():
            return False
        return maps.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)


def _version(weight: Tensor) -> int | None:
    """How often a tensor was changed in place; None for inference tensors, which don't count it."""
    return None if weight.is_inference() else weight._version


class FusedBackbone(nn.Module):
    """A backbone as a graph of FusedConvolutions and its other operations, in eval mode; maps are channels-last.

    Unchanged parameters are shared with the backbone, and laid out channels-last. ``images``: an example, for the sizes
    of its maps. Raises ValueError where torch.fx can't follow the backbone's forward: at a branch on values, say.
    """

    def __init__(self, backbone: Any, images: Crops) -> None:
        super().__init__()
        self.channels, self.stride = backbone.channels, backbone.stride
        self.graph = _fuse(backbone, images)
        for tensor in (*self.graph.parameters(), *self.graph.buffers()):
            if tensor.ndim == 4:  # PyTorch can't for five dimensions, which timm's Swin has
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
        self.owns_map = self._owns_its_map(images.contiguous(memory_format=torch.channels_last))

    def forward(self, images: Crops) -> Float[Tensor, "people channels rows columns"]:
        """(batch, 3, height, width) -> (batch, channels, height / stride, width / stride)."""
        features = self.graph(images.contiguous(memory_format=torch.channels_last))
        if features.is_cpu and features.dtype == torch.float32 and not features.requires_grad:
            mark = 0 * images.sum(dim=(1, 2, 3), keepdim=True)  # oneDNN's ReLU turns NaN into 0
            if not self.owns_map:
                return features + mark
            features[:, :1].add_(mark)
        return features

    def _owns_its_map(self, images: Tensor) -> bool:
        """Whether its map may be written to: it is neither the images nor a weight, nor expanded from fewer values."""
        features = self.graph(images)
        place = features.untyped_storage().data_ptr()
        others = (images, *self.graph.parameters(), *self.graph.buffers())
        dense = features.is_contiguous() or features.is_contiguous(memory_format=torch.channels_last)
        return dense and all(other.untyped_storage().data_ptr() != place for other in others)

    def pack(self, images: Crops) -> None:
        """Let oneDNN do the convolutions, with weights laid out for images of that size; for float32 on a CPU."""
        hooks = [
            module.register_forward_pre_hook(lambda module, inputs: module.pack(inputs[0].shape))
            for module in self.graph.modules()
            if isinstance(module, FusedConvolution)
        ]
        self(images)
        for hook in hooks:
            hook.remove()


class _Tracer(fx.Tracer):
    """Traces one thread only: torch.fx intercepts the calls of all modules in the process, even in other threads."""

    def trace(self, *arguments: Any, **options: Any) -> fx.Graph:
        self.thread = threading.get_ident()
        with _ONE_TRACE:
            return super().trace(*arguments, **options)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, fx.Proxy]) -> Any:
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, BatchNormAct2d) or super().is_leaf_module(m, module_qualified_name)


def _fuse(backbone: nn.Module, images: Crops) -> fx.GraphModule:
    traced = _trace(backbone, images)
    for node in list(traced.graph.nodes):
        if type(_called(traced, node)) is nn.Conv2d:  # no subclass, which may pad or scale in its own way
            _fuse_convolution(traced, node)
    _mark_last_readers(traced)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.eval()


def _trace(backbone: nn.Module, images: Crops) -> fx.GraphModule:
    """The backbone as a graph with the shapes of its maps, without Identities."""
    try:
        traced = fx.GraphModule(backbone, _Tracer().trace(backbone))
        for node in list(traced.graph.nodes):
            node.type = None  # annotations of shapes can't be pickled
            if type(_called(traced, node)) is nn.Identity:
                node.replace_all_uses_with(_input_of(node))
                traced.graph.erase_node(node)
        ShapeProp(traced).propagate(images)
    except Exception as error:  # the backbone's code runs with stand-ins for tensors and may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"torch.fx can't follow it ({reason})") from error
    return traced


def _fuse_convolution(traced: fx.GraphModule, node: fx.Node) -> None:
    """Replace a convolution and what follows it by one FusedConvolution, up to the first map that others read too."""
    convolution: Any = _called(traced, node)
    if convolution.padding_mode != "zeros" or isinstance(convolution.padding, str):
        return
    done, other, activation = [node], None, None
    norm: Any = _called(traced, _only_reader(node))
    if _is_fixed_batch_norm(norm):
        convolution = fuse_conv_bn_eval(convolution, norm)
        done.append(_only_reader(node))
        activation = getattr(norm, "act", None)  # timm's norms with an activation
    if activation is None:
        other = _added_map(_only_reader(done[-1]), done[-1])
        if other is not None:
            done.append(_only_reader(done[-1]))
        follower = _only_reader(done[-1])
        if _is_relu(traced, follower):
            activation = nn.ReLU()
            done.append(follower)
    name = f"{str(node.target).replace('.', '_')}_{node.name}"
    traced.add_module(name, FusedConvolution(convolution, relu=type(activation) is nn.ReLU))
    maps: Any = _input_of(node)
    with traced.graph.inserting_before(done[-1]):
        fused = traced.graph.call_module(name, (maps,) if other is None else (maps, other))
        fused.meta = done[-1].meta
        if activation is not None and type(activation) is not nn.ReLU:
            traced.add_module(f"{name}_activation", activation)
            fused = traced.graph.call_module(f"{name}_activation", (fused,))
            fused.meta = done[-1].meta
    done[-1].replace_all_uses_with(fused)
    for replaced in reversed(done):
        traced.graph.erase_node(replaced)


def _mark_last_readers(traced: fx.GraphModule) -> None:
    """Let a FusedConvolution write into the map that it adds, if another one made that map, only FusedConvolutions read
    it (others might pass on a view of it), none of them later, and it isn't this one's input as well."""
    place = {node: index for index, node in enumerate(traced.graph.nodes)}

    def is_fused(node: fx.Node) -> bool:
        return isinstance(_called(traced, node), FusedConvolution)

    for node in traced.graph.nodes:
        if is_fused(node) and len(node.args) == 2:
            other = node.args[1]
            readers_done = all(is_fused(reader) and place[reader] <= place[node] for reader in other.users)
            module: Any = _called(traced, node)
            module.may_overwrite = is_fused(other) and readers_done and other is not node.args[0]


def _called(traced: fx.GraphModule, node: Any) -> nn.Module | None:
    """The module that a node calls, if it calls one."""
    return traced.get_submodule(str(node.target)) if node is not None and node.op == "call_module" else None


def _input_of(node: fx.Node) -> Any:
    """The argument of a module with one input, given by position or by name."""
    (given,) = (*node.args, *node.kwargs.values())
    return given


def _only_reader(node: fx.Node) -> Any:
    """The node that reads this one's result, if there is exactly one."""
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_fixed_batch_norm(module: Any) -> bool:
    kinds = (nn.BatchNorm2d, nn.SyncBatchNorm, BatchNormAct2d)
    return type(module) in kinds and module.running_mean is not None and not module.training


def _is_relu(traced: fx.GraphModule, node: Any) -> bool:
    if node is None:
        return False
    return node.target in _RELUS.get(node.op, ()) or type(_called(traced, node)) is nn.ReLU


def _added_map(node: Any, to: fx.Node) -> fx.Node | None:
    """What an addition adds to a map, if it is another map of the same shape and type."""
    if node is None or node.target not in _ADDITIONS.get(node.op, ()) or len(node.args) != 2 or node.kwargs:
        return None
    other = node.args[1] if node.args[0] is to else node.args[0]
    if not isinstance(other, fx.Node) or other is to:
        return None
    if other is node.args[0] and node.target in (
        operator.iadd,
        "add_",
    ):  # an in-place addition, which other readers of that map would see
        return None
    kinds = [_kind(part) for part in (to, other, node)]  # equal, so neither is broadcast
    return other if kinds[0] is not None and kinds[0] == kinds[1] == kinds[2] else None


def _kind(node: fx.Node) -> tuple[torch.Size, torch.dtype] | None:
    """Shape and type of a node's result, if that is a tensor."""
    found = node.meta.get("tensor_meta")
    return (found.shape, found.dtype) if isinstance(found, TensorMetadata) else None
