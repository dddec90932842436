"""ModelSpec: everything that is needed to rebuild a model, as plain values."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from difflib import get_close_matches
from typing import Any

from tokenpose.files import foreign, shown
from tokenpose.models.spec_checks import AttentionScale, CropFilter, HeatmapActivation, PositionMode, Size, check_spec
from tokenpose.skeletons import COCO, Skeleton

FORMAT_VERSION = 1  # of the JSON; raised when a reader of today could misread a file of tomorrow


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """A TokenPose model as plain values, checked when made. Sizes are (height, width).

    ``image_size`` in pixels; ``patch_size`` in cells of the backbone's map, whose stride is ``backbone_stride``;
    ``heatmap_size`` in cells (None: a quarter of the image); ``sigma`` of the target Gaussians in heatmap cells;
    ``depth`` in blocks per group. ``heatmap_activation`` says what the head's outputs are: heatmaps ("identity", as
    published), or logits of a distribution over the cells ("softmax"), which becomes a heatmap whose peak is 1 where
    the distribution is the target Gaussian. ``crop_filter`` says how people larger than the crop are made smaller:
    sampled between pixels ("bilinear", as published) or averaged over the pixels that a crop's pixel covers ("area").

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
    crop_filter: CropFilter = "bilinear"  # published weights were trained on such crops

    def __post_init__(self) -> None:
        check_spec(self)

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
        with foreign(f"a model spec must be JSON; got {shown(text)}"):
            values = _tuples(json.loads(text))
        if not isinstance(values, dict):
            raise ValueError(f"a model spec must be a JSON object; got {shown(text)}")
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION:
            raise ValueError(
                f"this spec has format_version {shown(version)}; this tokenpose reads {FORMAT_VERSION}: upgrade "
                "tokenpose"
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
            raise TypeError(f"ModelSpec has no field {shown(name)}; did you mean {', '.join(closest)}?")
