"""The zoo: a table of the published architectures and of the weights trained for this library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from tokenpose.files import shown
from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import COCO, LSP, MPII


@dataclass(frozen=True, kw_only=True)
class Tag:
    """What a tag changes in its architecture's spec, and the bundled weights for it."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None  # file in tokenpose/checkpoints
    sha256: str | None = None
    batch_size: int | None = None
    """People in each step of the published training; None: as the architecture's."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A spec and its tags; a name without a tag stands for ``default_tag``."""

    spec: ModelSpec
    tags: Mapping[str, Tag]
    default_tag: str = "coco_256x192"
    batch_size: int | None = None
    """People in each step of the published training; None where it isn't known."""


_LSP = {"skeleton": LSP, "heatmap_activation": "softmax"}  # trained here with cross-entropy over the cells

_L = ModelSpec(backbone="hrnet_w48", skeleton=COCO, groups=3, depth=8, heads=12, head_layers=1)

architectures: Registry[Architecture] = Registry("model")

architectures.add("tokenpose_t", Architecture(
    spec=ModelSpec(backbone="pixels", backbone_stride=1, patch_size=(16, 12), heads=16),
    batch_size=128,
    tags={"coco_256x192": Tag(), "lsp_256x192": Tag(changes=_LSP)},
))  # fmt: skip
architectures.add("tokenpose_s_v1", Architecture(
    spec=ModelSpec(backbone="stem", attention_scale="model"),
    batch_size=128,
    default_tag="lsp_256x192",
    tags={
        "coco_256x192": Tag(),
        "lsp_256x192": Tag(
            changes=_LSP,
            checkpoint="tokenpose_s_v1.lsp_256x192.safetensors",
            sha256="b8cc4f17ddeffa6ce09c3f11bb027a5dace0f7fbfa045e137202ebbe199c7103",
        ),
    },
))  # fmt: skip
architectures.add("tokenpose_s_v2", Architecture(
    spec=ModelSpec(backbone="stem", attention_scale="model", patch_size=(2, 2)),
    batch_size=48,
    tags={"coco_256x192": Tag()},
))  # fmt: skip
architectures.add("tokenpose_b", Architecture(
    spec=ModelSpec(backbone="hrnet_w32"),
    batch_size=128,
    tags={"coco_256x192": Tag(), "lsp_256x192": Tag(changes=_LSP)},
))  # fmt: skip
architectures.add("tokenpose_l_d6", Architecture(
    spec=_L.replace(depth=2, heads=8),
    tags={
        "coco_256x192": Tag(),
        "mpii_256x256": Tag(
            changes={"skeleton": MPII, "image_size": (256, 256), "patch_size": (4, 4)}, batch_size=64
        ),
        "lsp_256x192": Tag(changes=_LSP),
    },
))  # fmt: skip
architectures.add("tokenpose_l_d24", Architecture(
    spec=_L,
    batch_size=64,
    tags={
        "coco_256x192": Tag(),
        "coco_384x288": Tag(
            changes={"image_size": (384, 288), "patch_size": (6, 4), "sigma": 3.0}, batch_size=256
        ),
    },
))  # fmt: skip


def register_model(name: str, spec: ModelSpec) -> None:
    """Make ``create_model(name)`` build this spec. Raises ValueError for a name that is taken or has a dot or colon."""
    if not name or set(name) & set(".:/\\"):
        raise ValueError(
            f"a model's name must have no dot (which separates the tag), colon or slash; got {shown(name)}"
        )
    if not isinstance(spec, ModelSpec):
        raise TypeError(f"register_model needs a ModelSpec; got {type(spec).__name__}")
    architectures.add(name, Architecture(spec=spec, tags={"custom": Tag()}, default_tag="custom"))


def find_tag(name: str) -> tuple[str, Tag, ModelSpec]:
    """ "architecture" or "architecture.tag" -> (full name, tag, spec). Raises LookupError with the closest names."""
    architecture_name, _, tag_name = name.partition(".")
    architecture = architectures.find(architecture_name)
    tag_name = tag_name or architecture.default_tag
    if tag_name not in architecture.tags:
        closest = get_close_matches(tag_name.lower(), architecture.tags, n=len(architecture.tags), cutoff=0)
        tags = ", ".join(f"{architecture_name}.{tag}" for tag in closest)
        raise LookupError(f"{architecture_name} has no tag {shown(tag_name)}; there are {tags}")
    tag = architecture.tags[tag_name]
    return f"{architecture_name}.{tag_name}", tag, architecture.spec.replace(**tag.changes)


def published_batch_size(name: str) -> int | None:
    """People in each step of the model's published training; None where it isn't known. Raises as `find_tag` does."""
    full_name, tag, _ = find_tag(name)
    return tag.batch_size or architectures.find(full_name.partition(".")[0]).batch_size


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names, "architecture.tag", that match the pattern (``*``, ``?``); ``pretrained``: those with bundled weights."""
    pattern = pattern.lower()
    names = [
        (f"{name}.{tag_name}", tag) for name in architectures for tag_name, tag in architectures.find(name).tags.items()
    ]
    return [
        name
        for name, tag in names
        if (fnmatchcase(name.lower(), pattern) or fnmatchcase(name.lower().partition(".")[0], pattern))
        and (tag.checkpoint is not None or not pretrained)
    ]
