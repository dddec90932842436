"""What the fields of a ModelSpec may hold."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from tokenpose.files import shown
from tokenpose.skeletons import Skeleton

if TYPE_CHECKING:
    from tokenpose.models.spec import ModelSpec

PositionMode = Literal["sine_every_block", "sine", "learnable", "none"]
AttentionScale = Literal["head", "model"]
HeatmapActivation = Literal["identity", "softmax"]
CropFilter = Literal["bilinear", "area"]  # as in shapes, which imports torch: help and lists of models must be fast
Size = tuple[int, int]

# Far above any sensible value, and low enough that a mistyped or a hostile spec doesn't fill the memory.
_CEILINGS = {
    "width": 16_384, "groups": 64, "depth": 1_024, "backbone_stride": 256, "mlp_ratio": 100.0, "sigma": 1_000.0,
    "box_padding": 100.0, "head_hidden": 1_000_000,
}  # fmt: skip
_MOST_PIXELS, _MOST_TOKENS = 64_000_000, 65_536

_HUGE = 10**12  # every number in a spec must be smaller


def check_spec(spec: "ModelSpec") -> None:
    """Check the fields of a new spec; whole numbers become int, sizes and colors tuples.

    Raises ValueError or TypeError that names the field, what it holds and what would fit.
    """
    for name in ("backbone_stride", "width", "groups", "depth", "heads", "head_layers", "head_hidden"):
        if isinstance(getattr(spec, name), Integral) and not isinstance(getattr(spec, name), bool):
            object.__setattr__(spec, name, int(getattr(spec, name)))  # numpy's too
    for name in ("image_size", "patch_size", "heatmap_size"):
        if getattr(spec, name) is not None or name != "heatmap_size":
            object.__setattr__(spec, name, _size(name, getattr(spec, name)))
    for name in ("mean", "std"):
        object.__setattr__(spec, name, _color(name, getattr(spec, name)))
    _check_types(spec)
    _check_choices(spec)
    _check_numbers(spec)
    _check_ceilings(spec)
    _check_width(spec)
    _check_grid(spec)


def _size(name: str, value: Any) -> Size:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name} must be (height, width); got {shown(value)}")
    if not all(_is_number(side) and side >= 1 and side == side // 1 for side in value):
        raise ValueError(f"{name} must be two positive whole numbers (height, width); got {shown(value)}")
    height, width = value
    return int(height), int(width)


def _color(name: str, value: Any) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or len(value) != 3 or not all(_is_number(channel) for channel in value):
        raise ValueError(f"{name} must be three numbers for red, green and blue in 0..1; got {shown(value)}")
    red, green, blue = (float(channel) for channel in value)
    return red, green, blue


def _is_number(value: Any) -> bool:
    """Whether it is a finite number and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(value) < _HUGE)  # type: ignore[operator]


def _check_types(spec: "ModelSpec") -> None:
    if not isinstance(spec.skeleton, Skeleton):
        raise TypeError(f"skeleton must be a Skeleton; got {type(spec.skeleton).__name__}")
    for name in ("backbone", "block"):
        if not isinstance(getattr(spec, name), str):
            raise TypeError(f"{name} must be a name; got {shown(getattr(spec, name))}")


def _check_choices(spec: "ModelSpec") -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "positions": get_args(PositionMode),
        "attention_scale": get_args(AttentionScale),
        "heatmap_activation": get_args(HeatmapActivation),
        "head_layers": (1, 2),
        "crop_filter": get_args(CropFilter),
    }
    for name, allowed in choices.items():
        if getattr(spec, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {shown(getattr(spec, name))}")


def _check_numbers(spec: "ModelSpec") -> None:
    for name in ("backbone_stride", "width", "groups", "depth", "heads"):
        value = getattr(spec, name)
        if not isinstance(value, int) or not _is_number(value) or value < 1:
            raise ValueError(f"{name} must be a positive whole number; got {shown(value)}")
    for name in ("mlp_ratio", "box_padding", "sigma"):
        value = getattr(spec, name)
        if not _is_number(value) or value <= 0:
            raise ValueError(f"{name} must be a positive number; got {shown(value)}")
    if round(spec.width * spec.mlp_ratio) < 1:
        raise ValueError(f"mlp_ratio {spec.mlp_ratio} makes the hidden width of width {spec.width} zero")
    if min(spec.std) <= 0:
        raise ValueError(f"std must be positive; got {spec.std}")
    hidden = spec.head_hidden
    if hidden is not None and (not isinstance(hidden, int) or not _is_number(hidden) or hidden < 1):
        raise ValueError(
            f"head_hidden must be a positive whole number, or None for an eighth of the cells; got {shown(hidden)}"
        )


def _check_ceilings(spec: "ModelSpec") -> None:
    for name, ceiling in _CEILINGS.items():
        value = getattr(spec, name)
        if value is not None and value > ceiling:
            raise ValueError(f"{name} must be at most {ceiling}; got {value}")
    for name in ("image_size", "heatmap_size"):
        size = getattr(spec, name)
        if size is not None and size[0] * size[1] > _MOST_PIXELS:
            raise ValueError(f"{name} must have at most {_MOST_PIXELS} pixels; got {size}")
    if spec.grid_size[0] * spec.grid_size[1] > _MOST_TOKENS:
        raise ValueError(
            f"image_size {spec.image_size} in patches of {spec.patch_size} x stride {spec.backbone_stride} gives "
            f"{spec.grid_size[0] * spec.grid_size[1]} tokens; at most {_MOST_TOKENS}: use larger patches"
        )


def _check_width(spec: "ModelSpec") -> None:
    if spec.width % spec.heads:
        fitting = [heads for heads in range(1, spec.width + 1) if spec.width % heads == 0]
        nearest = sorted(fitting, key=lambda heads: abs(heads - spec.heads))[:2]
        raise ValueError(
            f"width {spec.width} does not divide into {spec.heads} heads; {' or '.join(map(str, nearest))} would fit"
        )
    if spec.width % 2 and spec.positions.startswith("sine"):
        raise ValueError(f"sine positions need an even width (half for y, half for x); got {spec.width}")


def _check_grid(spec: "ModelSpec") -> None:
    for side, name in enumerate(("height", "width")):
        pixels, patch = spec.image_size[side], spec.patch_size[side]
        step = spec.backbone_stride * patch
        if pixels % step:
            below, above = pixels - pixels % step, pixels - pixels % step + step
            nearest = f"{below} or {above}" if below else f"{above}"
            raise ValueError(
                f"image {name} {pixels} is not a multiple of stride x patch {name} = {spec.backbone_stride} x {patch}; "
                f"use {nearest}, or change patch_size"
            )
    if min(spec.image_size) < 2:
        raise ValueError(f"image_size must be at least 2 pixels a side; got {spec.image_size}")
    if min(spec.output_size) < 2:
        raise ValueError(
            f"heatmaps must have at least 2 cells a side; got {spec.output_size}: give a larger image_size or "
            "heatmap_size"
        )
