"""create_model: a name, and whatever should differ from it."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from importlib.resources import files
from numbers import Integral
from pathlib import Path
from typing import Any

import torch

from tokenpose.files import shown
from tokenpose.models.carry_over import NEW, load_weights
from tokenpose.models.hub import find_folder, is_location
from tokenpose.models.official import read_published_checkpoint
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import CHECKPOINT_SUFFIXES, Weights, check_claims, check_finite, read_weights
from tokenpose.models.zoo import Tag, architectures, find_tag, list_models
from tokenpose.skeletons import Skeleton

logger = logging.getLogger(__name__)

KeypointChoice = int | Sequence[str] | Mapping[str, str] | Mapping[str, str | None] | Skeleton

_DATA_FIELDS = {
    "skeleton",
    "image_size",
    "heatmap_size",
    "patch_size",
    "head_hidden",
    "heatmap_activation",
    "sigma",
    "box_padding",
    "crop_filter",
}


def create_model(
    name: str,
    pretrained: bool = False,
    *,
    weights: str | Path | None = None,
    keypoints: KeypointChoice | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    backbone_pretrained: bool = False,
    **spec_changes: Any,
) -> TokenPose:
    """A model by name, in eval mode: "architecture" or "architecture.tag" (`tokenpose.list_models`), or by location:
    "local-dir:folder" or "hf-hub:user/name@revision", as `tokenpose.save_pretrained` and `push_to_hub` wrote it.

    ``pretrained``: load the bundled weights of the name (weights in a folder or on a hub are always loaded).
    ``weights``: load a safetensors file or folder that tokenpose wrote, whose spec must agree with the name, or a
    PyTorch checkpoint (.pth, .pt, .ckpt, .bin, .tar) of the named model, with published parameter names or ours; no
    code in it is run.

    ``keypoints``: a count, a list of names, a dict from new names to the names whose tokens they start from (None: from
    random values), or a Skeleton. ``spec_changes``: any of ModelSpec's fields, ``backbone="timm/resnet18", depth=6``.
    Weights can be loaded with other keypoints (tokens are carried over by name; a count has none), another image size
    (the head and learnable positions are resampled) and other positions; ``model.newly_initialized`` lists the
    parameters that they don't have.
    ``backbone_pretrained`` starts a timm backbone from timm's weights.

    Raises LookupError for unknown names (with the closest) and for ``pretrained`` without bundled weights (with the
    names that have some), ValueError for specs that don't work and weights that don't fit, FileNotFoundError, and what
    `tokenpose.models.hub.find_folder` raises.
    """
    if not isinstance(name, str):
        raise TypeError(f"a model's name must be a string, see tokenpose.list_models(); got {shown(name)}")
    if pretrained and weights is not None:
        raise ValueError("give pretrained=True or weights=..., not both")
    if "skeleton" in spec_changes:
        if keypoints is not None:
            raise ValueError("keypoints=... and skeleton=... mean the same: give one")
        keypoints = spec_changes.pop("skeleton")
    _check_placement(device, dtype)
    source: Weights | None
    if is_location(name):
        if weights is not None:
            raise ValueError(f"{name} has its own weights; give weights=... with an architecture's name")
        source = read_weights(find_folder(name))
        spec, created = source.spec, name
    else:
        source, spec, created = _find_named(name, pretrained, weights, spec_changes)
    model = _build(source, spec, keypoints, device, backbone_pretrained, spec_changes)
    model = model.to(device=device, dtype=dtype).eval()
    logger.info("created %s: %.2f M parameters", created, sum(p.numel() for p in model.parameters()) / 1e6)
    return model


def create_from_weights(
    path: str | Path, *, keypoints: KeypointChoice | None = None, backbone_pretrained: bool = False, **spec_changes: Any
) -> TokenPose:
    """The model of a weights file or of a folder, whose spec says what it is, in eval mode. ``keypoints`` and
    ``spec_changes`` are as in `create_model`. Raises what `create_model` raises."""
    source = read_weights(path)
    model = _build(source, source.spec, keypoints, None, backbone_pretrained, spec_changes).eval()
    logger.info("created the model of %s: %.2f M parameters", path, sum(p.numel() for p in model.parameters()) / 1e6)
    return model


def _build(
    source: Weights | None,
    spec: ModelSpec,
    keypoints: KeypointChoice | None,
    device: torch.device | str | None,
    backbone_pretrained: bool,
    spec_changes: Mapping[str, Any],
) -> TokenPose:
    """The model of a spec with changes, and with the weights of the source if there is one, whose spec then counts."""
    if source is not None:
        spec = source.spec.replace(head_hidden=source.spec.hidden_width if source.spec.head_layers == 2 else None)
    skeleton, sources = _skeleton(keypoints, spec.skeleton)
    spec = spec.replace(skeleton=skeleton, **spec_changes)
    if source is not None:
        _check_meaning(source, spec)
    with torch.device(device or torch.get_default_device()):
        model = TokenPose(spec, backbone_pretrained)
    if source is not None:
        load_weights(model, source, sources)
    return model


def _check_placement(device: Any, dtype: Any) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device {shown(device)} can't be used here: {str(error).splitlines()[0]}") from error
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is one of torch's, torch.float16 for example; got {shown(dtype)}")


def _check_meaning(source: Weights, spec: ModelSpec) -> None:
    """Raise ValueError or warn of changes that leave all shapes the same but give the weights another meaning."""
    for name in ("heads", "attention_scale"):
        made, wanted = getattr(source.spec, name), getattr(spec, name)
        if made != wanted:
            raise ValueError(
                f"{source.origin}: the weights were trained with {name}={shown(made)} and don't work with "
                f"{shown(wanted)}"
            )
    for name in ("heatmap_activation", "mean", "std"):
        made, wanted = getattr(source.spec, name), getattr(spec, name)
        if made != wanted:
            logger.warning("the weights were trained with %s=%r; with %r the model needs training", name, made, wanted)


def _find_named(
    name: str, pretrained: bool, weights: str | Path | None, spec_changes: Mapping[str, Any]
) -> tuple[Weights | None, ModelSpec, str]:
    """For a name of the zoo: its weights, if any are wanted, its spec, and what to call the model in the log."""
    _refuse_paths(name)
    full_name, tag, spec = find_tag(name)
    architecture = full_name.partition(".")[0]
    if weights is None:
        return (read_weights(_shipped(full_name, tag)) if pretrained else None), spec, full_name
    created = f"{architecture} from {weights}"
    if not isinstance(weights, str | Path):
        raise TypeError(f"weights is a file's or folder's path; got {type(weights).__name__}")
    if Path(weights).suffix.lower() in CHECKPOINT_SUFFIXES:
        built = {field: value for field, value in spec_changes.items() if field not in _DATA_FIELDS - {"patch_size"}}
        return _weights_from_checkpoint(weights, spec.replace(**built), full_name), spec, created
    source = read_weights(weights)
    checked = {field for field in spec.to_dict() if "." in name or field not in _DATA_FIELDS} - spec_changes.keys()
    _check_agreement(full_name, spec, source.spec, checked, origin=str(weights))
    if "patch_size" not in spec_changes:
        _check_patch(architecture, source.spec, origin=str(weights))
    return source, spec, created


def read_model(path: str | Path, device: torch.device | str | None = None) -> TokenPose:
    """The model in a weights file, in eval mode. Raises what `read_weights` raises."""
    source = read_weights(path)
    model = TokenPose(source.spec)
    load_weights(model, source)
    logger.info("read %s: %s, image_size %s", path, source.spec.skeleton.name, source.spec.image_size)
    return model.to(device=device).eval()


def _refuse_paths(name: str) -> None:
    """Raise LookupError, with the right call, for a file or folder in place of a name."""
    if name.endswith((".safetensors", *CHECKPOINT_SUFFIXES)) or "/" in name or "\\" in name:
        raise LookupError(
            f"{shown(name)} is not a model's name: for a folder, use 'local-dir:{name}'; for a model on a hub, "
            "'hf-hub:user/name'; for a file, its model's name and the file, create_model(name, weights=file)"
        )


def _weights_from_checkpoint(path: str | Path, spec: ModelSpec, name: str) -> Weights:
    """A PyTorch checkpoint as the weights of a spec. Raises what `read_published_checkpoint` raises, and ValueError."""
    tensors = read_published_checkpoint(path)
    origin = f"{path}, read as a {name}"
    check_claims(spec, {key: tuple(tensor.shape) for key, tensor in tensors.items()}, origin)
    check_finite(tensors, origin)
    floats = {
        key: tensor.long() if key.endswith("num_batches_tracked") else tensor.float() for key, tensor in tensors.items()
    }
    return Weights(spec=spec, tensors=floats, card={"converted_from": Path(path).name}, origin=origin)


def find_bundled_file(name: str) -> Path:
    """The weights file in the package of a model's name. Raises LookupError where there is none."""
    full_name, tag, _ = find_tag(name)
    return _shipped(full_name, tag)


def _shipped(full_name: str, tag: Tag) -> Path:
    """The path of the weights file in the package, after a check of its hash."""
    if tag.checkpoint is None:
        available = ", ".join(list_models(pretrained=True)) or "none yet"
        raise LookupError(f"there are no bundled weights for {full_name}; there are for: {available}")
    path = Path(str(files("tokenpose") / "checkpoints" / tag.checkpoint))
    if hashlib.sha256(path.read_bytes()).hexdigest() != tag.sha256:
        raise ValueError(f"{path} is not the bundled file of {full_name} (SHA-256 differs): reinstall tokenpose")
    return path


def _check_agreement(name: str, named: ModelSpec, found: ModelSpec, checked: set[str], origin: str) -> None:
    """Raise ValueError for weights of another architecture and, if the name has a tag, of another size or skeleton."""
    named_values, found_values = (
        {**spec.to_dict(), "heatmap_size": spec.output_size, "head_hidden": spec.hidden_width}
        for spec in (named, found)
    )
    differing = [
        f"{field} {shown(found_values[field])} instead of {shown(named_values[field])}"
        for field in named_values
        if field in checked and found_values[field] != named_values[field]
    ]
    if differing:
        raise ValueError(f"{origin} is not a {name}: it has {'; '.join(differing)[:600]}")


def _check_patch(architecture: str, found: ModelSpec, origin: str) -> None:
    """Raise ValueError for a patch size that no tag of the architecture has: S-v1 and S-v2 differ only in that."""
    patches = {find_tag(f"{architecture}.{tag}")[2].patch_size for tag in architectures.find(architecture).tags}
    if found.patch_size not in patches:
        raise ValueError(
            f"{origin} is not a {architecture}: its patch_size is {found.patch_size}, "
            f"which none of its tags has: {sorted(patches)}"
        )


def _skeleton(keypoints: KeypointChoice | None, named: Skeleton) -> tuple[Skeleton, dict[str, str] | None]:
    """The model's skeleton, and the keypoints whose tokens its own start from; None: from those of the same name."""
    if keypoints is None:
        return named, None
    if isinstance(keypoints, Skeleton):
        return keypoints, None
    if isinstance(keypoints, bool | str) or not isinstance(keypoints, Integral | Mapping | Sequence):
        raise TypeError(f"keypoints must be a count, a list of names, a dict or a Skeleton; got {shown(keypoints)}")
    if isinstance(keypoints, Integral):
        return Skeleton.from_count(int(keypoints)), None
    if not isinstance(keypoints, Mapping):
        return Skeleton.from_names(keypoints), None
    unknown = [str(source) for source in keypoints.values() if source is not None and source not in named.keypoints]
    if unknown:
        raise LookupError(
            f"there are no keypoints {', '.join(unknown)} to start from; there are {', '.join(named.keypoints)}"
        )
    return Skeleton.from_names(keypoints), {name: source or NEW for name, source in keypoints.items()}
