"""Computing attention maps, and the similarity that keypoint tokens have learned."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from tokenpose.attention.maps import AttentionMaps
from tokenpose.boxes import BoxFormat
from tokenpose.geometry.crops import crop_image
from tokenpose.geometry.decode import decode
from tokenpose.models.recording import attentions_of, observe_attention
from tokenpose.models.tokenpose import TokenPose, activate, find_score_map
from tokenpose.poses import Poses
from tokenpose.transforms import create_transform

Similarity = Float[np.ndarray, "keypoints keypoints"]


@torch.no_grad()
def attention_maps(
    model: TokenPose, image: Any, box: Any = None, box_format: BoxFormat = "xyxy", decoder: str = "dark"
) -> AttentionMaps:
    """What each keypoint of the person in the box attends to, in every block and head, and how its heatmap forms.

    ``image`` and ``box_format`` as for `tokenpose.predict`; ``box``: one person's (4,), None for the whole image. The
    model runs in eval mode and is left as it was; its outputs are those of a plain forward pass. In a model whose head
    reads the exits of several groups (L), the latest tokens stand in for the exits that a block comes before: this is
    our choice, not the paper's, and only the last block of the last group has the heatmaps that were trained.

    Raises what `predict` and `tokenpose.record_attention` raise, and ValueError for more than one box and for blocks
    without or with several of the library's Attention modules.
    """
    transform = create_transform(model)
    _require_one_attention_a_block(model)
    pixels, xyxy, matrices = transform.frame(image, _one_box(box), box_format)
    skeleton, keypoints = model.spec.skeleton, len(model.spec.skeleton)
    tokens: list[Tensor] = []
    with _in_eval_mode(model), observe_attention(model, queries=None) as recording:
        features = model.backbone(transform.crop(pixels, matrices))
        logits = model.read(features, watch=lambda _, after: tokens.append(after))
    heatmaps = activate(logits, model.spec)
    cells, peaks = decode(heatmaps, decoder)
    score_map = find_score_map(model)
    attention = torch.stack([rows[0, :, :keypoints] for rows in recording.rows])
    rollout = _roll_out([rows[0].mean(dim=0) for rows in recording.rows])[:, :keypoints]
    formed = torch.cat([*_heatmaps_of(model, tokens[:-1]), heatmaps.float()])
    crop = crop_image(pixels, matrices, model.spec.image_size, model.spec.crop_filter)[0]
    return AttentionMaps(
        to_image=_numpy(attention[..., keypoints:].unflatten(-1, model.spec.grid_size)),
        to_keypoints=_numpy(attention[..., :keypoints]),
        rollout_to_image=_numpy(rollout[..., keypoints:].unflatten(-1, model.spec.grid_size)),
        rollout_to_keypoints=_numpy(rollout[..., :keypoints]),
        heatmaps=_numpy(formed),
        names=skeleton.keypoints,
        skeleton=skeleton,
        groups=model.spec.groups,
        pose=Poses(
            keypoints=_numpy(transform.from_heatmaps(cells, matrices)),
            scores=_numpy(peaks) if score_map is None else score_map.apply(_numpy(peaks), skeleton.keypoints),
            boxes=_numpy(xyxy),
            skeleton=skeleton,
        ),
        crop=crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy(),
        matrix=_numpy(matrices[0]),
        image_size=(pixels.shape[1], pixels.shape[2]),
    )


@torch.no_grad()
def keypoint_similarity(
    model: TokenPose, kind: Literal["inner", "cosine"] = "inner", depth: int = 0, image: Any = None, box: Any = None
) -> Similarity:
    """The similarity of the keypoint tokens, (K, K), float32: the constraints that they have learned.

    ``kind``: "inner", as in the paper's figure, inner products scaled by the square root of the width, then a softmax
    along each row; or "cosine". ``depth``: 0 for the learned tokens that enter the first block, the same for every
    image; otherwise the tokens after that many blocks, for which an ``image`` is needed (and a ``box``, as for
    `attention_maps`).

    Raises ValueError for another kind, for a depth beyond the model's blocks and for a depth without an image.
    """
    blocks, keypoints = model.spec.groups * model.spec.depth, len(model.spec.skeleton)
    if kind not in ("inner", "cosine"):
        raise ValueError(f'kind must be "inner" or "cosine"; got {kind!r}')
    if not 0 <= depth <= blocks:
        raise ValueError(f"the model has {blocks} blocks: depth must be in 0..{blocks}; got {depth}")
    if (depth > 0) != (image is not None) or (box is not None and image is None):
        raise ValueError(
            "the tokens that leave a block depend on an image: give image=... with a depth, and only with one"
        )
    tokens = model.tokenizer.keypoint_tokens[0].detach().float()
    if depth:
        people = create_transform(model)(image, _one_box(box))
        after: list[Tensor] = []
        with _in_eval_mode(model):
            model.read(model.backbone(people.crops), watch=lambda _, found: after.append(found))
        tokens = after[depth - 1][0, :keypoints].float()
    if kind == "cosine":
        tokens = functional.normalize(tokens, dim=-1)
        return _numpy(tokens @ tokens.T)
    return _numpy((tokens @ tokens.T / model.spec.width**0.5).softmax(dim=-1))


def _require_one_attention_a_block(model: TokenPose) -> None:
    for number, found in enumerate(attentions_of(model)):
        if len(found) != 1:
            raise ValueError(
                f"attention maps need blocks with one tokenpose.Attention each; block {number} of this model has "
                f"{len(found)}: tokenpose.record_attention records such a model"
            )


def _roll_out(means: list[Float[Tensor, "tokens tokens"]]) -> Float[Tensor, "layers tokens tokens"]:
    """Attention rollout (Abnar and Zuidema, 2020): the product of (attention + identity) / 2 up to each block."""
    identity = torch.eye(len(means[0]), device=means[0].device)
    passed, rolled = identity, []
    for mean in means:
        passed = (mean + identity) / 2 @ passed
        rolled.append(passed)
    return torch.stack(rolled)


def _heatmaps_of(
    model: TokenPose, tokens: list[Float[Tensor, "1 tokens width"]]
) -> list[Float[Tensor, "1 keypoints rows columns"]]:
    """The heatmaps that the head makes of the keypoint tokens after each of these blocks."""
    keypoints, spec = len(model.spec.skeleton), model.spec
    exits: list[Tensor] = []
    formed = []
    for number, after in enumerate(tokens):
        latest = after[:, :keypoints]
        read = torch.cat([*exits, *[latest] * (spec.groups - len(exits))], dim=-1)
        formed.append(activate(model.head(read), spec).float())
        if (number + 1) % spec.depth == 0:
            exits.append(latest)
    return formed


def _one_box(box: Any) -> np.ndarray | None:
    """One person's box as (1, 4), or None."""
    if box is None:
        return None
    boxes = np.asarray(box.detach().cpu() if isinstance(box, Tensor) else box)
    if boxes.shape not in ((4,), (1, 4)):
        raise ValueError(
            f"attention is shown for one person at a time: give one box of four numbers; got shape {boxes.shape}"
        )
    return boxes.reshape(1, 4)


@contextmanager
def _in_eval_mode(model: TokenPose) -> Iterator[None]:
    """Eval mode while the context lasts, and the model's own mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
