"""Looking inside: what each keypoint attends to, how its heatmap forms, which constraints the tokens have learned."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from tokenpose.boxes import BoxFormat
from tokenpose.files import written_whole
from tokenpose.geometry.affine import compose, invert, resize_matrices, transform_points
from tokenpose.geometry.crops import crop_image
from tokenpose.geometry.decode import decode
from tokenpose.images import read_image
from tokenpose.models.recording import attentions_of, observe_attention
from tokenpose.models.tokenpose import TokenPose, activate
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton
from tokenpose.transforms import create_transform

if TYPE_CHECKING:
    import matplotlib.figure

Heads = Literal["mean", "max", "rollout"]
Plot = Literal["layers", "matrix", "constraints", "heatmaps"]
Similarity = Float[np.ndarray, "keypoints keypoints"]

FORMAT_VERSION = 1  # of the npz file


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionMaps:
    """What each keypoint token of one person attends to, block by block; made by `attention_maps`. Arrays are float32.

    Blocks count through all groups; ``names`` are the keypoints whose rows these are (all of ``skeleton``'s, unless
    `select` chose some). A row, its ``to_image`` and ``to_keypoints`` together, sums to 1.
    """

    to_image: Float[np.ndarray, "layers heads queries rows columns"]
    """Attention to the visual tokens, on their grid over the crop."""
    to_keypoints: Float[np.ndarray, "layers heads queries keypoints"]
    """Attention to the keypoint tokens, in the skeleton's order."""
    rollout_to_image: Float[np.ndarray, "layers queries rows columns"]
    """Attention followed through all blocks up to each (rollout): means of heads, half of each block passing by."""
    rollout_to_keypoints: Float[np.ndarray, "layers queries keypoints"]
    heatmaps: Float[np.ndarray, "layers queries height width"]
    """What the head makes of the keypoint tokens that leave each block; the last are the model's own."""
    names: tuple[str, ...]
    skeleton: Skeleton
    groups: int
    """Groups of blocks, whose exits the head reads."""
    pose: Poses
    """The predicted pose: one person, image pixels."""
    crop: UInt8[np.ndarray, "crop_height crop_width 3"]
    """What the network saw, RGB."""
    matrix: Float[np.ndarray, "2 3"]
    """Image -> crop."""
    image_size: tuple[int, int]
    """(height, width) of the whole image."""
    reduced: str = ""
    """What the single head is that `reduce` left, in words; empty where all heads are there."""

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return len(self.to_image)

    @property
    def grid_size(self) -> tuple[int, int]:
        """(rows, columns) of visual tokens."""
        return self.to_image.shape[-2], self.to_image.shape[-1]

    @property
    def default_layer(self) -> int:
        """The block that is shown where none is named, see `docs/attention.md`: the last but one."""
        return max(0, self.layers - 2)

    def select(self, keypoints: str | Iterable[str]) -> "AttentionMaps":
        """The rows of some keypoints only, by name. Raises LookupError with the closest names."""
        wanted = (keypoints,) if isinstance(keypoints, str) else tuple(keypoints)
        if not wanted:
            raise ValueError("select at least one keypoint; got none")
        rows = [self._row(name) for name in wanted]
        return replace(
            self,
            to_image=self.to_image[:, :, rows],
            to_keypoints=self.to_keypoints[:, :, rows],
            rollout_to_image=self.rollout_to_image[:, rows],
            rollout_to_keypoints=self.rollout_to_keypoints[:, rows],
            heatmaps=self.heatmaps[:, rows],
            names=wanted,
        )

    def reduce(self, heads: Heads | int = "mean") -> "AttentionMaps":
        """The same with a single head: the mean or the maximum over heads, the rollout, or one head by its number.

        Maxima are not normalised again. Maps that are reduced stay as they are when asked for the "mean". Raises
        ValueError for a head that isn't there, and for another reduction of reduced maps.
        """
        if self.reduced:
            if heads != "mean":
                raise ValueError(f"these maps are reduced already ({self.reduced}): reduce those with all heads")
            return self
        if heads == "rollout":
            to_image, to_keypoints = self.rollout_to_image[:, None], self.rollout_to_keypoints[:, None]
        elif heads in ("mean", "max"):
            to_image, to_keypoints = (
                getattr(part, str(heads))(axis=1, keepdims=True) for part in (self.to_image, self.to_keypoints)
            )
        else:
            chosen = self._head(heads)
            to_image, to_keypoints = self.to_image[:, chosen : chosen + 1], self.to_keypoints[:, chosen : chosen + 1]
        return replace(self, to_image=to_image, to_keypoints=to_keypoints, reduced=self._describe(heads))

    def in_image(
        self, keypoint: str, layer: int | None = None, heads: Heads | int = "mean"
    ) -> Float[np.ndarray, "image_height image_width"]:
        """A keypoint's attention to the image, put back where it lies in the photograph; 0 outside the crop.

        Values are those of the visual tokens, bilinear between the centers of their patches. ``layer`` counts from 0,
        or from the end if negative; None: `default_layer`.
        """
        maps = self.reduce(heads).to_image[self._layer(layer), 0, self._row(keypoint)]
        (rows, columns), (height, width) = self.grid_size, self.crop.shape[:2]
        left, top, right, bottom = self._seen()
        shown = np.zeros(self.image_size, dtype=np.float32)
        if left >= right or top >= bottom:
            return shown
        # (column, row) on the grid -> crop pixels, centers of patches; the image's pixels are then a "crop" of the map
        patch = torch.tensor([[width / columns, 0, 0], [0, height / rows, 0]])
        patch[:, 2] = torch.tensor([(width / columns - 1) / 2, (height / rows - 1) / 2])
        to_image = compose(invert(torch.from_numpy(self.matrix)[None]), patch[None])
        padded = functional.pad(torch.from_numpy(maps)[None, None], (1, 1, 1, 1), mode="replicate")[0]
        shift = to_image.clone()
        shift[..., 2:] -= to_image[..., :2].sum(dim=-1, keepdim=True)  # the padding's cell lies at (-1, -1)
        shift[..., 2] -= torch.tensor([left, top])
        drawn = crop_image(padded.expand(3, -1, -1), shift, (bottom - top, right - left))[0, 0]
        shown[top:bottom, left:right] = drawn.numpy()
        return shown

    def top_constraints(
        self, count: int = 2, layer: int | None = None, heads: Heads | int = "mean"
    ) -> dict[str, list[tuple[str, float]]]:
        """For each keypoint the other keypoints it leans on most, with their share of its attention, most first.

        Raises ValueError for a ``count`` below 1 and for a layer or head that isn't there.
        """
        if count < 1:
            raise ValueError(f"count, the constraints of a keypoint, must be at least 1; got {count}")
        reduced, index = self.reduce(heads), self._layer(layer)
        weights = reduced.to_keypoints[index, 0]
        weights = weights / (weights.sum(axis=-1) + reduced.to_image[index, 0].sum(axis=(-2, -1)))[:, None]
        result = {}
        for name, row in zip(self.names, weights, strict=True):
            others = [(other, float(share)) for other, share in zip(self.skeleton.keypoints, row, strict=True)]
            others = [pair for pair in others if pair[0] != name]
            result[name] = sorted(others, key=lambda pair: -pair[1])[:count]
        return result

    def evidence(self, keypoint: str, layer: int | None = None, heads: Heads | int = "mean") -> str:
        """Where a keypoint's attention goes, in one sentence with numbers: its own place (the patch where it was found
        and those around it), elsewhere in the image, itself and other keypoints."""
        row, index = self._row(keypoint), self._layer(layer)
        reduced = self.reduce(heads)
        image, keypoints = reduced.to_image[index, 0, row], reduced.to_keypoints[index, 0, row]
        total = image.sum() + keypoints.sum()
        own = self._own_place(keypoint)
        here, there = float(image[own].sum() / total), float(image[~own].sum() / total)
        itself = float(keypoints[self.skeleton.index(keypoint)] / total)
        others = self.select(keypoint).top_constraints(2, layer, heads)[keypoint]
        named = " and ".join(f"{name} ({share:.0%})" for name, share in others)
        rest = max(0.0, 1 - here - there - itself)
        block = f"block {index + 1} of {self.layers}, {reduced.reduced}"
        return (
            f"{keypoint}, {block}: {here:.0%} of its attention goes to its own place in the image, {there:.0%} "
            f"elsewhere in it, {itself:.0%} to its own token and {rest:.0%} to other keypoints"
            + (f", most to {named}." if named else ".")
        )

    def plot(
        self,
        kind: Plot = "layers",
        keypoint: str | None = None,
        layer: int | None = None,
        heads: Heads | int = "mean",
        image: Any = None,
        count: int = 2,
    ) -> "matplotlib.figure.Figure":
        """A matplotlib figure, which ``figure.savefig("maps.png")`` writes; nothing is shown or written by itself.

        "layers": a keypoint's attention to the image and its heatmap, block by block. "matrix": keypoints' attention to
        keypoints. "constraints": arrows over the person, from each keypoint to the ``count`` others it leans on most.
        "heatmaps": the pose, and each keypoint's heatmap.

        ``keypoint``: this one only; "layers" needs it. ``layer``: as for `in_image`, not for "layers", which shows all;
        None for "heatmaps": the last. ``image``: the photograph that `attention_maps` took, to draw on instead of the
        crop, which is as coarse as what the network saw.

        Raises ModuleNotFoundError without the `plot` extra, LookupError with the closest names, and ValueError for
        another kind, a layer or head that isn't there, a count below 1 and an image of another size.
        """
        if kind not in get_args(Plot):
            raise ValueError(f"kind must be one of {', '.join(get_args(Plot))}; got {kind!r}")
        if count < 1:
            raise ValueError(f"count, the constraints of a keypoint, must be at least 1; got {count}")
        maps = (self if keypoint is None else self.select(keypoint)).reduce(heads)
        if kind == "layers" and len(maps.names) > 1:
            raise ValueError(f'"layers" shows one keypoint: give keypoint=..., one of {", ".join(maps.names)}')
        index = self.layers - 1 if kind == "heatmaps" and layer is None else self._layer(layer)
        block, title = f"block {index + 1} of {self.layers}", maps.reduced

        from tokenpose.attention import figures

        if kind == "matrix":
            return figures.draw_matrix(
                maps.to_keypoints[index, 0],
                maps.names,
                self.skeleton.keypoints,
                title=f"Attention to keypoints, {block}, {title}",
                label="attention",
                row_label="from",
                column_label="to",
            )
        picture, points = self._picture(image, whole=kind == "constraints")
        if kind == "constraints":
            return figures.draw_constraints(
                picture,
                points,
                self.skeleton,
                maps.top_constraints(count, index),
                title=f"Constraints, {block}, {title}",
            )
        if kind == "heatmaps":
            return figures.draw_heatmaps(
                picture, maps.heatmaps[index], maps.names, points, self.skeleton, title=f"Heatmaps after {block}"
            )
        to_image = maps.to_image[:, 0, 0]
        seen, rest = to_image.sum(axis=(1, 2)), maps.to_keypoints[:, 0, 0].sum(axis=1)
        return figures.draw_layers(
            picture,
            to_image,
            seen / (seen + rest),  # maxima over heads don't sum to 1
            maps.heatmaps[:, 0],
            point=points[self.skeleton.index(maps.names[0])],
            title=f"{maps.names[0]}: attention to the image, {title}",
        )

    def save(self, path: str | Path) -> None:
        """Write everything into a compressed npz file, without pickles, which `load` reads."""
        facts = {
            "format_version": FORMAT_VERSION,
            "names": self.names,
            "skeleton": self.skeleton.to_dict(),
            "groups": self.groups,
            "image_size": self.image_size,
            "reduced": self.reduced,
        }
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {"keypoints": self.pose.keypoints, "scores": self.pose.scores, "boxes": self.pose.boxes}
        with written_whole(path) as partial, partial.open("wb") as file:
            np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> "AttentionMaps":
        """The inverse of `save`. Raises FileNotFoundError, and ValueError for any other file."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no file {path}")
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                arrays = {name: file[name] for name in _ARRAYS}
                pose = {name: file[name] for name in ("keypoints", "scores", "boxes")}
            if facts["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {facts['format_version']} is not {FORMAT_VERSION}")
            skeleton = Skeleton.from_dict(facts["skeleton"])
            return cls(
                **arrays,
                names=tuple(facts["names"]),
                skeleton=skeleton,
                groups=facts["groups"],
                pose=Poses(**pose, skeleton=skeleton),
                image_size=tuple(facts["image_size"]),
                reduced=facts["reduced"],
            )
        except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds no attention maps that AttentionMaps.save wrote") from error

    def _row(self, keypoint: str) -> int:
        if not isinstance(keypoint, str):
            raise TypeError(f"a keypoint is chosen by its name; got {keypoint!r}")
        if keypoint not in self.names:
            closest = get_close_matches(keypoint, self.names, n=3, cutoff=0.4) or self.names
            raise LookupError(f"there is no keypoint {keypoint!r} in these maps; did you mean {', '.join(closest)}?")
        return self.names.index(keypoint)

    def _layer(self, layer: int | None) -> int:
        index = self.default_layer if layer is None else layer
        if not isinstance(index, Integral):
            raise TypeError(f"a layer is a block's number; got {layer!r}")
        if not -self.layers <= index < self.layers:
            raise ValueError(f"there are {self.layers} blocks, 0 to {self.layers - 1}; got {layer}")
        return int(index) % self.layers

    def _head(self, head: int | str) -> int:
        count = self.to_image.shape[1]
        if not isinstance(head, Integral) or isinstance(head, bool) or not -count <= head < count:
            raise ValueError(f'heads must be "mean", "max", "rollout" or a number in 0..{count - 1}; got {head!r}')
        return int(head) % count

    def _describe(self, heads: Heads | int) -> str:
        """A choice of heads in words."""
        words = {"mean": "mean over heads", "max": "maximum over heads", "rollout": "rollout through all before"}
        return words[heads] if heads in words else f"head {self._head(heads) + 1}"

    def _picture(self, image: Any, whole: bool) -> tuple[UInt8[np.ndarray, "_ _ 3"], Float[np.ndarray, "keypoints 2"]]:
        """What is drawn on, and where the keypoints lie in it: the crop; or the photograph, all of it or as much of it
        as the crop holds."""
        found, matrix = torch.from_numpy(self.pose.keypoints), torch.from_numpy(self.matrix)[None]
        if image is None:
            return self.crop, _numpy(transform_points(found, matrix)[0])
        pixels = read_image(image)
        if tuple(pixels.shape[1:]) != self.image_size:
            raise ValueError(
                f"these maps are of an image of (height, width) {self.image_size}; got one of {tuple(pixels.shape[1:])}"
            )
        if whole:
            return pixels.permute(1, 2, 0).numpy(), self.pose.keypoints[0]
        height, width = self.crop.shape[:2]
        finer = max(1.0, 512 / max(height, width))
        size = (round(finer * height), round(finer * width))
        matrix = resize_matrices(matrix, (height, width), size)
        picture = crop_image(pixels, matrix, size)[0].round().clamp(0, 255).to(torch.uint8)
        return picture.permute(1, 2, 0).numpy(), _numpy(transform_points(found, matrix)[0])

    def _own_place(self, keypoint: str) -> np.ndarray:
        """The patch in which the keypoint was found, and its neighbours; none where it lies outside the crop."""
        found = torch.from_numpy(self.pose.keypoints[0, self.skeleton.index(keypoint)])
        x, y = transform_points(found.view(1, 1, 2), torch.from_numpy(self.matrix)[None])[0, 0].tolist()
        (rows, columns), (height, width) = self.grid_size, self.crop.shape[:2]
        row, column = (y + 0.5) / height * rows, (x + 0.5) / width * columns
        down, across = np.arange(rows)[:, None] - np.floor(row), np.arange(columns) - np.floor(column)
        return (np.abs(down) <= 1) & (np.abs(across) <= 1)

    def _seen(self) -> tuple[int, int, int, int]:
        """The image's pixels whose centers lie in the crop: left, top, and right, bottom beyond them."""
        edges = torch.tensor([[[-0.5, -0.5], [self.crop.shape[1] - 0.5, self.crop.shape[0] - 0.5]]])
        found = transform_points(edges, invert(torch.from_numpy(self.matrix)[None]))[0]
        (left, top), (right, bottom) = found.ceil().int().tolist()
        height, width = self.image_size
        return max(0, left), max(0, top), min(width, right), min(height, bottom)


_ARRAYS = (
    "to_image", "to_keypoints", "rollout_to_image", "rollout_to_keypoints", "heatmaps", "crop", "matrix",
)  # fmt: skip


@torch.no_grad()
def attention_maps(
    model: TokenPose, image: Any, box: Any = None, box_format: BoxFormat = "xyxy", decoder: str = "dark"
) -> AttentionMaps:
    """What each keypoint of the person in the box attends to, in every block and head, and how its heatmap forms.

    ``image`` and ``box_format`` as for `tokenpose.predict`; ``box``: one person's (4,), None for the whole image. The
    model works in eval mode and is left as it was; its outputs are those of a plain forward pass. In a model whose head
    reads the exits of several groups (L), the exits that a block has not reached yet stand in as the latest tokens,
    repeated: this is ours, not the paper's, and only the last block of the last group has the heatmaps that were
    trained.

    Raises what `predict` and `tokenpose.record_attention` raise, and ValueError for more than one box and for blocks
    without or with several of the library's Attention modules.
    """
    transform = create_transform(model)
    without = [number for number, found in enumerate(attentions_of(model)) if len(found) != 1]
    if without:
        raise ValueError(
            f"attention is shown for blocks with one tokenpose.Attention each; block {without[0]} of this model has "
            f"{len(attentions_of(model)[without[0]])}: record_attention records what there is"
        )
    pixels, xyxy, matrices = transform.frame(image, _one_box(box), box_format)
    people = transform.crop(pixels, matrices)
    tokens: list[Tensor] = []
    with _in_eval_mode(model), observe_attention(model, queries=None) as recording:
        logits = model.read(model.backbone(people), watch=lambda _, after: tokens.append(after))
    heatmaps = activate(logits, model.spec)
    cells, scores = decode(heatmaps, decoder)
    keypoints, (down, across) = len(model.spec.skeleton), model.spec.grid_size
    of_keypoints = torch.stack([block[0, :, :keypoints] for block in recording.rows])
    rollout = _roll_out([block[0].mean(dim=0) for block in recording.rows])[:, :keypoints]
    formed = torch.cat([*_heatmaps_of(model, tokens[:-1]), heatmaps.float()])
    crop = crop_image(pixels, matrices, model.spec.image_size)[0]
    return AttentionMaps(
        to_image=_numpy(of_keypoints[..., keypoints:].unflatten(-1, (down, across))),
        to_keypoints=_numpy(of_keypoints[..., :keypoints]),
        rollout_to_image=_numpy(rollout[..., keypoints:].unflatten(-1, (down, across))),
        rollout_to_keypoints=_numpy(rollout[..., :keypoints]),
        heatmaps=_numpy(formed),
        names=model.spec.skeleton.keypoints,
        skeleton=model.spec.skeleton,
        groups=model.spec.groups,
        pose=Poses(
            keypoints=_numpy(transform.from_heatmaps(cells, matrices)),
            scores=_numpy(scores),
            boxes=_numpy(xyxy),
            skeleton=model.spec.skeleton,
        ),
        crop=crop.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).cpu().numpy(),
        matrix=_numpy(matrices[0]),
        image_size=(pixels.shape[1], pixels.shape[2]),
    )


@torch.no_grad()
def keypoint_similarity(
    model: TokenPose, kind: Literal["inner", "cosine"] = "inner", depth: int = 0, image: Any = None, box: Any = None
) -> Similarity:
    """How alike the keypoint tokens are (K, K), float32: the constraints that they have learned.

    ``kind``: "inner", as in the paper's figure, inner products scaled by the square root of the width, then a softmax
    along each row; or "cosine". ``depth`` 0 takes the learned tokens that enter the first block, the same for every
    image; a larger one the tokens that leave that many blocks, which needs an ``image`` (and a ``box``, as for
    `attention_maps`).

    Raises ValueError for another kind, a depth beyond the model's blocks and one without its image.
    """
    blocks, keypoints = model.spec.groups * model.spec.depth, len(model.spec.skeleton)
    if kind not in ("inner", "cosine"):
        raise ValueError(f'kind must be "inner" or "cosine"; got {kind!r}')
    if not 0 <= depth <= blocks:
        raise ValueError(f"the model has {blocks} blocks: depth must be in 0..{blocks}; got {depth}")
    if (depth > 0) != (image is not None) or (box is not None and image is None):
        raise ValueError("the tokens that leave a block depend on an image: give image=... with a depth, and only then")
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
    """The head's heatmaps of the keypoint tokens after each of these blocks."""
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
    """One person's box as (1, 4), None for none."""
    if box is None:
        return None
    boxes = np.asarray(box.detach().cpu() if isinstance(box, Tensor) else box)
    if boxes.shape not in ((4,), (1, 4)):
        raise ValueError(f"attention is looked at person by person: give one box of four numbers; got {boxes.shape}")
    return boxes.reshape(1, 4)


@contextmanager
def _in_eval_mode(model: TokenPose) -> Iterator[None]:
    """Eval mode for as long as it lasts, and the model's own mode afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _numpy(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
