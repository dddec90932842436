"""ModelSpec: everything that is needed to rebuild a model, as plain values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any, Literal, get_args

from tokenpose.skeletons import COCO, Skeleton

PositionMode = Literal["sine_every_block", "sine", "learnable", "none"]
AttentionScale = Literal["head", "model"]
HeatmapActivation = Literal["identity", "softmax"]
Size = tuple[int, int]

# Far above any sensible value, and low enough that a mistyped or a hostile spec doesn't fill the memory.
_CEILINGS = {
    "width": 16_384, "groups": 64, "depth": 1_024, "backbone_stride": 256, "mlp_ratio": 100.0, "sigma": 1_000.0,
    "box_padding": 100.0, "head_hidden": 1_000_000,
}  # fmt: skip
_MOST_PIXELS, _MOST_TOKENS = 64_000_000, 65_536

_HUGE = 10**12  # every number in a spec must be smaller

FORMAT_VERSION = 1  # of the JSON; raised when a reader of today could misread a file of tomorrow


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A TokenPose model as plain values, checked when made. Sizes are (height, width).

    ``image_size`` in pixels; ``patch_size`` in cells of the backbone's map, whose stride is ``backbone_stride``;
    ``heatmap_size`` in cells (None: a quarter of the image); ``sigma`` of the target Gaussians in heatmap cells;
    ``depth`` in blocks per group. ``heatmap_activation`` says what the head's outputs are: heatmaps ("identity", as
    published), or logits of a distribution over the cells ("softmax"), which becomes a heatmap whose peak is 1 where
    the distribution is the target Gaussian.

    Raises ValueError or TypeError that names the field, what it holds and what would fit.
    """

    backbone: str
    backbone_stride: int = 4
    image_size: Size = (256, 192)
    patch_size: Size = (4, 3)
    heatmap_size: Size | None = None
    skeleton: Skeleton = field(default=COCO)
    width: int = 192
    groups: int = 1
    depth: int = 12
    heads: int = 8
    mlp_ratio: float = 3.0
    block: str = "vit"
    positions: PositionMode = "sine_every_block"
    attention_scale: AttentionScale = "head"  # S was published with the model's width
    head_layers: int = 2  # a fact of the variant: L reads three groups through one layer
    head_hidden: int | None = None
    heatmap_activation: HeatmapActivation = "identity"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    box_padding: float = 1.25
    sigma: float = 2.0

    def __post_init__(self) -> None:
        for name in ("backbone_stride", "width", "groups", "depth", "heads", "head_layers", "head_hidden"):
            if isinstance(getattr(self, name), Integral) and not isinstance(getattr(self, name), bool):
                object.__setattr__(self, name, int(getattr(self, name)))  # numpy's too
        for name in ("image_size", "patch_size", "heatmap_size"):
            if getattr(self, name) is not None or name != "heatmap_size":
                object.__setattr__(self, name, _size(name, getattr(self, name)))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _color(name, getattr(self, name)))
        _check_types(self)
        _check_choices(self)
        _check_numbers(self)
        _check_ceilings(self)
        _check_width(self)
        _check_grid(self)

    @property
    def grid_size(self) -> Size:
        """Patches (down, across) that become visual tokens."""
        rows, columns = (side // self.backbone_stride for side in self.image_size)
        return rows // self.patch_size[0], columns // self.patch_size[1]

    @property
    def output_size(self) -> Size:
        """The heatmaps' (height, width) in cells."""
        return self.heatmap_size or (self.image_size[0] // 4, self.image_size[1] // 4)

    @property
    def hidden_width(self) -> int:
        """Width of the head's hidden layer; the published one is an eighth of the cells."""
        return self.head_hidden or self.output_size[0] * self.output_size[1] // 8

    @property
    def softmax_scale(self) -> float:
        """What query-key products are multiplied by before the softmax."""
        return (self.width if self.attention_scale == "model" else self.width // self.heads) ** -0.5

    def replace(self, **changes: Any) -> "ModelSpec":
        """The same spec with some fields changed. Raises TypeError with the closest names for an unknown field."""
        _refuse_unknown_fields(changes)
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON that `from_json` reads back."""
        return json.dumps({"format_version": FORMAT_VERSION, **self.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> "ModelSpec":
        """The inverse of `to_json`. Raises ValueError for anything that is not a spec this version can read."""
        try:
            values = _tuples(json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"a model spec must be JSON; got {text[:80]!r}: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"a model spec must be a JSON object; got {text[:80]!r}")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this spec has format_version {version!r}; this tokenpose reads {FORMAT_VERSION}: upgrade tokenpose"
            )
        try:
            _refuse_unknown_fields(values)
            return cls(**{**values, "skeleton": Skeleton.from_dict(values["skeleton"])})
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a valid model spec: {error}") from error
        except KeyError as error:
            raise ValueError(f"not a valid model spec: it has no {error}") from error


def _tuples(value: Any) -> Any:
    """JSON's lists, turned back into tuples."""
    if isinstance(value, dict):
        return {name: _tuples(entry) for name, entry in value.items()}
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value


def _refuse_unknown_fields(values: Mapping[str, Any]) -> None:
    known = [entry.name for entry in fields(ModelSpec)]
    for name in values:
        if name not in known:
            closest = get_close_matches(name, known, n=3) or known
            raise TypeError(f"ModelSpec has no field {name!r}; did you mean {', '.join(closest)}?")


def _size(name: str, value: Any) -> Size:
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != 2:
        raise TypeError(f"{name} must be (height, width); got {value!r}")
    if not all(_is_number(side) and side >= 1 and side == side // 1 for side in value):
        raise ValueError(f"{name} must be two positive whole numbers (height, width); got {value!r:.80}")
    height, width = value
    return int(height), int(width)


def _color(name: str, value: Any) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or len(value) != 3 or not all(_is_number(channel) for channel in value):
        raise ValueError(f"{name} must be three numbers for red, green and blue in 0..1; got {value!r}")
    red, green, blue = (float(channel) for channel in value)
    return red, green, blue


def _is_number(value: Any) -> bool:
    """Whether it is a finite number and not a bool."""
    return isinstance(value, Real) and not isinstance(value, bool) and bool(abs(value) < _HUGE)  # type: ignore[operator]


def _check_types(spec: ModelSpec) -> None:
    if not isinstance(spec.skeleton, Skeleton):
        raise TypeError(f"skeleton must be a Skeleton; got {type(spec.skeleton).__name__}")
    for name in ("backbone", "block"):
        if not isinstance(getattr(spec, name), str):
            raise TypeError(f"{name} must be a name; got {getattr(spec, name)!r}")


def _check_choices(spec: ModelSpec) -> None:
    choices: dict[str, tuple[Any, ...]] = {
        "positions": get_args(PositionMode),
        "attention_scale": get_args(AttentionScale),
        "heatmap_activation": get_args(HeatmapActivation),
        "head_layers": (1, 2),
    }
    for name, allowed in choices.items():
        if getattr(spec, name) not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}; got {getattr(spec, name)!r}")


def _check_numbers(spec: ModelSpec) -> None:
    for name in ("backbone_stride", "width", "groups", "depth", "heads"):
        value = getattr(spec, name)
        if not isinstance(value, int) or not _is_number(value) or value < 1:
            raise ValueError(f"{name} must be a positive whole number; got {value!r:.80}")
    for name in ("mlp_ratio", "box_padding", "sigma"):
        value = getattr(spec, name)
        if not _is_number(value) or value <= 0:
            raise ValueError(f"{name} must be a positive number; got {value!r}")
    if round(spec.width * spec.mlp_ratio) < 1:
        raise ValueError(f"mlp_ratio {spec.mlp_ratio} makes the hidden width of width {spec.width} zero")
    if min(spec.std) <= 0:
        raise ValueError(f"std must be positive; got {spec.std}")
    hidden = spec.head_hidden
    if hidden is not None and (not isinstance(hidden, int) or not _is_number(hidden) or hidden < 1):
        raise ValueError(
            f"head_hidden must be a positive whole number, or None for an eighth of the cells; got {hidden!r}"
        )


def _check_ceilings(spec: ModelSpec) -> None:
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


def _check_width(spec: ModelSpec) -> None:
    if spec.width % spec.heads:
        fitting = [heads for heads in range(1, spec.width + 1) if spec.width % heads == 0]
        nearest = sorted(fitting, key=lambda heads: abs(heads - spec.heads))[:2]
        raise ValueError(
            f"width {spec.width} does not divide into {spec.heads} heads; {nearest[0]} or {nearest[1]} would fit"
        )
    if spec.width % 2 and spec.positions.startswith("sine"):
        raise ValueError(f"sine positions need an even width (half for y, half for x); got {spec.width}")


def _check_grid(spec: ModelSpec) -> None:
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
