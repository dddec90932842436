"""The published method once more, slow and plain, from its description: what the package's models are held against.

Shares no code with the package, reads the published parameter names, works in float64, computes every row of every
attention, and knows nothing of torch's modules.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Published:
    """A configuration in the published words; sizes are (height, width)."""

    backbone: str = "pixels"  # or "stem"
    image: tuple[int, int] = (256, 192)
    patch: tuple[int, int] = (16, 12)
    heatmap: tuple[int, int] = (64, 48)
    keypoints: int = 17
    width: int = 192
    groups: int = 1
    depth: int = 12
    heads: int = 16
    positions: str = "sine-full"  # or "sine", "learnable", "none"
    model_scale: bool = False
    head_layers: int = 2

    @property
    def grid(self) -> tuple[int, int]:
        stride = 4 if self.backbone == "stem" else 1
        return self.image[0] // stride // self.patch[0], self.image[1] // stride // self.patch[1]

    @property
    def prefix(self) -> str:
        """What stands before the names of the token part."""
        return "features." if self.backbone == "stem" else "transformer."

    def encoder(self, group: int) -> str:
        """What stands before the names of a group's blocks; three encoders are numbered, a single one is not."""
        return f"{self.prefix}transformer{group + 1 if self.groups > 1 else ''}"


def random_weight(name: str, shape: tuple[int, ...], gain: float) -> Tensor:
    """The recipe of tests/golden/README.md; ``gain`` of the query-key-value projections."""
    n = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if name.endswith(("keypoint_token", "pos_embedding")):
        values = 0.5 * n
    elif name.endswith("running_var"):
        values = 0.5 + np.abs(n)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * n
    elif len(shape) == 1:
        values = 1 + 0.1 * n
    elif name.endswith("to_qkv.weight"):
        values = gain * n / math.sqrt(shape[1])
    else:
        values = n / math.sqrt(math.prod(shape[1:]))
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def random_state(published: Published, gain: float = 1.8) -> State:
    """Weights for any configuration."""
    state = {name: random_weight(name, shape, gain) for name, shape in shapes(published).items()}
    name = published.prefix + "pos_embedding"
    if published.positions.startswith("sine"):
        state[name] = sine_table(published.grid, published.width).float()
    return state


def shapes(published: Published) -> dict[str, tuple[int, ...]]:
    """The published names, and their shapes."""
    width, hidden = published.width, 3 * published.width
    patches, cells = math.prod(published.grid), math.prod(published.heatmap)
    channels = 256 if published.backbone == "stem" else 3
    found: dict[str, tuple[int, ...]] = {f"{published.prefix}keypoint_token": (1, published.keypoints, width)}
    if published.positions != "none":
        rows = patches + (published.keypoints if published.positions == "learnable" else 0)
        found[f"{published.prefix}pos_embedding"] = (1, rows, width)
    found |= linear(f"{published.prefix}patch_to_embedding", math.prod(published.patch) * channels, width)
    for group in range(published.groups):
        for index in range(published.depth):
            block = f"{published.encoder(group)}.layers.{index}"
            found |= norm(f"{block}.0.fn.norm", width) | norm(f"{block}.1.fn.norm", width)
            found[f"{block}.0.fn.fn.to_qkv.weight"] = (3 * width, width)
            found |= linear(f"{block}.0.fn.fn.to_out.0", width, width)
            found |= linear(f"{block}.1.fn.fn.net.0", width, hidden) | linear(f"{block}.1.fn.fn.net.3", hidden, width)
    found |= norm(f"{published.prefix}mlp_head.0", published.groups * width)
    if published.head_layers == 2:
        found |= linear(f"{published.prefix}mlp_head.1", published.groups * width, cells // 8)
        found |= norm(f"{published.prefix}mlp_head.2", cells // 8)
        found |= linear(f"{published.prefix}mlp_head.3", cells // 8, cells)
    else:
        found |= linear(f"{published.prefix}mlp_head.1", published.groups * width, cells)
    return found | (stem_shapes(published.prefix) if published.backbone == "stem" else {})


def linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def stem_shapes(prefix: str) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}

    def add(convolution: str, batch_norm: str, shape: tuple[int, int, int, int]) -> None:
        found[f"{prefix}{convolution}.weight"] = shape
        for statistic in ("weight", "bias", "running_mean", "running_var"):
            found[f"{prefix}{batch_norm}.{statistic}"] = shape[:1]
        found[f"{prefix}{batch_norm}.num_batches_tracked"] = ()

    add("conv1", "bn1", (64, 3, 3, 3))
    add("conv2", "bn2", (64, 64, 3, 3))
    for index in range(4):
        bottleneck = f"layer1.{index}"
        add(f"{bottleneck}.conv1", f"{bottleneck}.bn1", (64, 64 if index == 0 else 256, 1, 1))
        add(f"{bottleneck}.conv2", f"{bottleneck}.bn2", (64, 64, 3, 3))
        add(f"{bottleneck}.conv3", f"{bottleneck}.bn3", (256, 64, 1, 1))
    add("layer1.0.downsample.0", "layer1.0.downsample.1", (256, 64, 1, 1))
    return found


def forward(published: Published, state: State, images: Tensor) -> Tensor:
    """Normalised images (batch, 3, height, width) -> heatmaps (batch, keypoints, height, width), float64."""
    weights = {name.removeprefix(published.prefix): tensor.double() for name, tensor in state.items()}
    images = images.double()
    features = stem(weights, images) if published.backbone == "stem" else images
    return torch.stack([heatmaps_of_one(published, weights, feature_map) for feature_map in features])


def heatmaps_of_one(published: Published, weights: State, feature_map: Tensor) -> Tensor:
    keypoints, positions = published.keypoints, weights.get("pos_embedding", torch.zeros(1, 1, 1))[0]
    visual = apply_linear(weights, "patch_to_embedding", patches_of(feature_map, published.patch))
    if published.positions.startswith("sine"):
        visual = visual + positions
    tokens = torch.cat((weights["keypoint_token"][0], visual))
    if published.positions == "learnable":
        tokens = tokens + positions
    exits = []
    for group in range(published.groups):
        for index in range(published.depth):
            if published.positions == "sine-full" and index > 0:
                tokens = torch.cat((tokens[:keypoints], tokens[keypoints:] + positions))
            tokens = block(published, weights, f"{published.encoder(group)}.layers.{index}", tokens)
        exits.append(tokens[:keypoints])
    hidden = apply_norm(weights, "mlp_head.0", torch.cat(exits, dim=1))
    hidden = apply_linear(weights, "mlp_head.1", hidden)
    if published.head_layers == 2:
        hidden = apply_linear(weights, "mlp_head.3", apply_norm(weights, "mlp_head.2", hidden))
    return hidden.reshape(keypoints, *published.heatmap)


def patches_of(feature_map: Tensor, patch: tuple[int, int]) -> Tensor:
    """Row-major patches, each flattened as (row, column, channel)."""
    rows, columns = feature_map.shape[1] // patch[0], feature_map.shape[2] // patch[1]
    flat = []
    for row in range(rows):
        for column in range(columns):
            top, left = row * patch[0], column * patch[1]
            window = feature_map[:, top : top + patch[0], left : left + patch[1]]
            flat.append(torch.stack([window[:, y, x] for y in range(patch[0]) for x in range(patch[1])]).flatten())
    return torch.stack(flat)


def sine_table(grid: tuple[int, int], width: int) -> Tensor:
    """(1, patches, width), number by number."""
    half = width // 2
    table = torch.zeros(1, grid[0] * grid[1], width, dtype=torch.float64)
    for row in range(grid[0]):
        for column in range(grid[1]):
            y = (row + 1) / (grid[0] + 1e-6) * 2 * math.pi
            x = (column + 1) / (grid[1] + 1e-6) * 2 * math.pi
            for i in range(half):
                period = 10000 ** (2 * (i // 2) / half)
                wave = math.sin if i % 2 == 0 else math.cos
                table[0, row * grid[1] + column, i] = wave(y / period)
                table[0, row * grid[1] + column, half + i] = wave(x / period)
    return table


def block(published: Published, weights: State, name: str, tokens: Tensor) -> Tensor:
    name = name.removeprefix(published.prefix)
    normed = apply_norm(weights, f"{name}.0.fn.norm", tokens)
    tokens = tokens + attention(published, weights, f"{name}.0.fn.fn", normed)
    hidden = apply_linear(weights, f"{name}.1.fn.fn.net.0", apply_norm(weights, f"{name}.1.fn.norm", tokens))
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / math.sqrt(2)))
    return tokens + apply_linear(weights, f"{name}.1.fn.fn.net.3", hidden)


def attention(published: Published, weights: State, name: str, tokens: Tensor) -> Tensor:
    width, head_width = published.width, published.width // published.heads
    projected = tokens @ weights[f"{name}.to_qkv.weight"].T
    attended = []
    for head in range(published.heads):
        own = slice(head * head_width, (head + 1) * head_width)
        query, key, value = (projected[:, part * width : (part + 1) * width][:, own] for part in range(3))
        products = query @ key.T / math.sqrt(width if published.model_scale else head_width)
        rows = torch.exp(products - products.max(dim=1, keepdim=True).values)
        attended.append(rows / rows.sum(dim=1, keepdim=True) @ value)
    return apply_linear(weights, f"{name}.to_out.0", torch.cat(attended, dim=1))


def apply_linear(weights: State, name: str, tokens: Tensor) -> Tensor:
    return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def apply_norm(weights: State, name: str, tokens: Tensor) -> Tensor:
    centered = tokens - tokens.mean(dim=1, keepdim=True)
    deviation = (centered.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
    return centered / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def stem(weights: State, images: Tensor) -> Tensor:
    def convolve(maps: Tensor, convolution: str, batch_norm: str, stride: int = 1) -> Tensor:
        kernel = weights[f"{convolution}.weight"]
        maps = functional.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        mean, variance, gain, bias = (
            weights[f"{batch_norm}.{name}"].view(1, -1, 1, 1)
            for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (maps - mean) / (variance + 1e-5).sqrt() * gain + bias

    maps = convolve(images, "conv1", "bn1", stride=2).clamp(min=0)
    maps = convolve(maps, "conv2", "bn2", stride=2).clamp(min=0)
    for index in range(4):
        name = f"layer1.{index}"
        inner = convolve(maps, f"{name}.conv1", f"{name}.bn1").clamp(min=0)
        inner = convolve(inner, f"{name}.conv2", f"{name}.bn2").clamp(min=0)
        inner = convolve(inner, f"{name}.conv3", f"{name}.bn3")
        shortcut = convolve(maps, "layer1.0.downsample.0", "layer1.0.downsample.1") if index == 0 else maps
        maps = (inner + shortcut).clamp(min=0)
    return maps
