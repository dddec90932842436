"""Carry-over: load weights made for other keypoints, another size or other positions into a new model."""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenpose.files import shown
from tokenpose.models.calibration import Calibration
from tokenpose.models.spec import ModelSpec, Size
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import KEYPOINT_TOKENS, POSITIONS, Weights, head_tensors
from tokenpose.skeletons import read_names

logger = logging.getLogger(__name__)

_ARCHITECTURE = (
    "backbone", "patch_size", "width", "groups", "depth", "heads", "mlp_ratio", "block", "head_layers", "head_hidden",
)  # fmt: skip
"""Fields of the spec in which a model can't differ from the file."""

NEW = "\0"  # in ``sources``: a keypoint that starts from none of the file's; no keypoint can have this name


def load_weights(model: TokenPose, weights: Weights, sources: Mapping[str, str] | None = None) -> None:
    """Load weights into a model whose keypoints, sizes or positions may differ from the file's; the rest must match.

    Keypoint tokens are matched by name: ``sources`` maps the model's keypoint names to the file's (None: the same
    names). Learnable positions and the head's last layer are resampled as the 2-D maps that they are. New parameters
    keep their initial values; they are logged and listed in ``model.newly_initialized``. A calibration is kept where it
    still holds (`carry_over_calibration`).

    Raises ValueError that lists the tensors which don't fit; the model is then unchanged.
    """
    carried, new = carry_over(weights, model.spec, sources)
    expected = model.state_dict()
    wrong = [
        f"{name} is {_describe(carried.get(name))}, expected {_describe(tensor)}"
        for name, tensor in expected.items()
        if name not in new and not _fits(carried.get(name), tensor)
    ]
    wrong += [f"{name} is not part of this model" for name in carried if name not in expected]
    if wrong:
        shown = "; ".join([*_differing(weights.spec, model.spec), *wrong[:4]]) + (" ..." if len(wrong) > 4 else "")
        raise ValueError(f"{weights.origin}: the weights don't fit the model: {shown}")
    for name in (KEYPOINT_TOKENS, POSITIONS):
        if name in carried and carried[name].isnan().any():
            rows = carried[name]
            carried[name] = torch.where(rows.isnan(), expected[name].to(rows), rows)
    model.load_state_dict({**expected, **carried})
    model.newly_initialized, model.card = tuple(new), weights.card
    if new:
        logger.info("newly initialized: %s", ", ".join(new))
    model.calibration = carry_over_calibration(weights, model.spec, sources)
    _warn_of_spellings(new, weights, model.spec)


def _warn_of_spellings(new: Sequence[str], weights: Weights, spec: ModelSpec) -> None:
    """Warn of new keypoints that the file may have under another spelling."""
    names, keypoints = weights.spec.skeleton.keypoints, spec.skeleton.keypoints
    known = {read.words: name for read, name in zip(read_names(names), names, strict=True)}
    alike = {
        name: known[read.words]
        for name, read in zip(keypoints, read_names(keypoints), strict=True)
        if f"{KEYPOINT_TOKENS}[{name}]" in new and read.words and read.words in known
    }
    if alike:
        logger.warning(
            "%s: keypoints %s start at random, though the weights have %s: keypoints=%r starts them from those",
            weights.origin, ", ".join(map(repr, alike)), ", ".join(map(repr, alike.values())), alike,
        )  # fmt: skip


def carry_over(
    weights: Weights, spec: ModelSpec, sources: Mapping[str, str] | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors for a model of another spec, and the names of new parameters; rows of new keypoints hold NaN."""
    names = [(sources or {}).get(name, name) for name in spec.skeleton.keypoints]
    old = weights.spec
    rows = [old.skeleton.keypoints.index(name) if name in old.skeleton.keypoints else None for name in names]
    tensors = dict(weights.tensors)
    new = [f"{KEYPOINT_TOKENS}[{name}]" for name, row in zip(spec.skeleton.keypoints, rows, strict=True) if row is None]
    if KEYPOINT_TOKENS in tensors:
        tensors[KEYPOINT_TOKENS] = _take_rows(tensors[KEYPOINT_TOKENS], rows)
    if POSITIONS in tensors and spec.positions == "learnable":
        count = len(old.skeleton)
        of_keypoints, of_patches = tensors[POSITIONS].split((count, tensors[POSITIONS].shape[1] - count), dim=1)
        of_patches = resample_rows(of_patches[0], old.grid_size, spec.grid_size).unsqueeze(0)
        tensors[POSITIONS] = torch.cat((_take_rows(of_keypoints, rows), of_patches), dim=1)
    elif POSITIONS in tensors:
        del tensors[POSITIONS]
    elif spec.positions == "learnable":
        new.append(POSITIONS)
    if old.output_size != spec.output_size and old.head_layers == spec.head_layers:
        for name in tensors.keys() & set(head_tensors(old)):
            cells = tensors[name].reshape(len(tensors[name]), -1)
            cells = resample_rows(cells, old.output_size, spec.output_size)
            tensors[name] = cells.reshape(-1, *tensors[name].shape[1:])
    return tensors, new


def carry_over_calibration(
    weights: Weights, spec: ModelSpec, sources: Mapping[str, str] | None = None
) -> Calibration | None:
    """The file's calibration for a model of another spec, of the keypoints that tokens start from.

    It is dropped, with a warning, if a keypoint has none, or if anything but keypoints and image size differs:
    heatmaps then have other peaks.
    """
    if weights.calibration is None:
        return None
    names = {name: (sources or {}).get(name, name) for name in spec.skeleton.keypoints}
    reason = ""
    if missing := weights.calibration.missing([*names.values()]):
        lacking = [name for name, source in names.items() if source in missing]
        reason = f"it has none for {', '.join(lacking)}"
    elif _but_for_data(weights.spec, spec) != spec:
        reason = "the model differs from the file's in more than keypoints and image size"
    if reason:
        logger.warning(
            "%s: the calibration is dropped, and scores are peaks of heatmaps: %s; calibrate the model again",
            weights.origin, reason,
        )  # fmt: skip
        return None
    return weights.calibration.rename(names)


def _but_for_data(old: ModelSpec, new: ModelSpec) -> ModelSpec:
    """The old spec with the new one's keypoints and image size, and its way to write the width of the head."""
    return old.replace(skeleton=new.skeleton, image_size=new.image_size, head_hidden=new.head_hidden)


def _differing(old: ModelSpec, new: ModelSpec) -> list[str]:
    """The fields of the architecture that differ from the file's."""
    pairs = ((name, getattr(old, name), getattr(new, name)) for name in _ARCHITECTURE)
    return [f"{name} is {shown(ours)}, the file's {shown(theirs)}" for name, theirs, ours in pairs if theirs != ours]


def _fits(found: Tensor | None, expected: Tensor) -> bool:
    if found is None or found.shape != expected.shape:
        return False
    return found.is_floating_point() == expected.is_floating_point()


def _describe(tensor: Tensor | None) -> str:
    if tensor is None:
        return "missing"
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else ' of whole numbers'}"


def _take_rows(tokens: Float[Tensor, "1 old width"], rows: list[int | None]) -> Float[Tensor, "1 new width"]:
    """Rows by index; None gives NaN."""
    missing = tokens.new_full((1, 1, tokens.shape[2]), math.nan)
    return torch.cat([missing if row is None else tokens[:, row : row + 1] for row in rows], dim=1)


def resample_rows(rows: Float[Tensor, "old width"], old: Size, new: Size) -> Float[Tensor, "new width"]:
    """Rows that are the cells of a map, resampled bilinearly between cell centers, corners on corners."""
    if old == new:
        return rows
    maps = rows.T.reshape(1, -1, *old)
    return functional.interpolate(maps, size=new, mode="bilinear", align_corners=True).flatten(2)[0].T.contiguous()
