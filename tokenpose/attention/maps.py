"""Attention maps: what each keypoint attends to and how its heatmap forms; reading, plotting and saving them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional

from tokenpose.files import FOREIGN_ERRORS, written_whole
from tokenpose.geometry.affine import compose, invert, transform_points
from tokenpose.geometry.crops import crop_image
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton

if TYPE_CHECKING:
    import matplotlib.figure

Heads = Literal["mean", "max", "rollout"]
Plot = Literal["layers", "matrix", "constraints", "heatmaps"]

FORMAT_VERSION = 1  # of the npz file
MOST_BYTES = 500_000_000
"""How much a file of maps may unpack to."""


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
    """Attention followed through all blocks up to each (rollout): means over heads, half for each block's residual."""
    rollout_to_keypoints: Float[np.ndarray, "layers queries keypoints"]
    heatmaps: Float[np.ndarray, "layers queries height width"]
    """The heatmaps that the head makes of the keypoint tokens after each block; the last are the model's own."""
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
    """What the single head that `reduce` leaves stands for, in words; empty for maps with all heads."""

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
        """The block that is shown if none is chosen: the last but one, see `docs/attention.md`."""
        return max(0, self.layers - 2)

    def find_layer(self, layer: int | None) -> int:
        """A block's number, 0 or more, of one that may count from the end; None: `default_layer`. Raises TypeError and
        ValueError for what isn't a block's number."""
        index = self.default_layer if layer is None else layer
        if not isinstance(index, Integral):
            raise TypeError(f"a layer is a block's number; got {layer!r}")
        if not -self.layers <= index < self.layers:
            raise ValueError(f"there are {self.layers} blocks, 0 to {self.layers - 1}; got {layer}")
        return int(index) % self.layers

    def select(self, keypoints: str | Iterable[str]) -> "AttentionMaps":
        """The same maps with the rows of some keypoints only, by name. Raises LookupError with the closest names."""
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
        """The same maps with a single head: the mean or the maximum over heads, the rollout, or one head by its number.

        Maxima are not normalized again. Reduced maps are returned unchanged for "mean". Raises ValueError for a head
        that doesn't exist, and for another reduction of reduced maps.
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
        """A keypoint's attention to the image, in the photograph's pixels; 0 outside the crop.

        Values are those of the visual tokens, bilinear between the centers of their patches. ``layer`` counts from 0,
        or from the end if negative; None: `default_layer`.
        """
        maps = self.reduce(heads).to_image[self.find_layer(layer), 0, self._row(keypoint)]
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
        """For each keypoint, the other keypoints that it attends to most, with their shares of its attention in order.

        Raises ValueError for a ``count`` below 1 and for a layer or head that isn't there.
        """
        if count < 1:
            raise ValueError(f"count, the constraints of a keypoint, must be at least 1; got {count}")
        reduced, index = self.reduce(heads), self.find_layer(layer)
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
        row, index = self._row(keypoint), self.find_layer(layer)
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
        """A matplotlib figure, which ``figure.savefig("maps.png")`` writes; nothing is shown or written by this call.

        "layers": a keypoint's attention to the image and its heatmap, block by block. "matrix": keypoints' attention to
        keypoints. "constraints": arrows over the person, from each keypoint to the ``count`` others that it attends to
        most. "heatmaps": the pose, and each keypoint's heatmap.

        ``keypoint``: show this one only; required for "layers". ``layer``: as for `in_image`; None means the last for
        "heatmaps", and "layers" shows all. ``image``: the photograph that `attention_maps` was called with, to draw on
        it instead of the crop, which has the network's low resolution.

        Raises ModuleNotFoundError without the `plot` extra, LookupError with the closest names, and ValueError for
        another kind, a layer or head that isn't there, a count below 1 and an image of another size.
        """
        from tokenpose.attention import plots

        return plots.plot(self, kind, keypoint=keypoint, layer=layer, heads=heads, image=image, count=count)

    def save(self, path: str | Path) -> None:
        """Write everything to a compressed npz file without pickles, which `load` reads."""
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
                if sum(entry.file_size for entry in file.zip.infolist()) > MOST_BYTES:
                    raise ValueError("it unpacks to more than maps have")
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
        except (OSError, *FOREIGN_ERRORS) as error:
            raise ValueError(f"{path} holds no attention maps that AttentionMaps.save wrote") from error

    def _row(self, keypoint: str) -> int:
        if not isinstance(keypoint, str):
            raise TypeError(f"a keypoint is chosen by its name; got {keypoint!r}")
        if keypoint not in self.names:
            closest = get_close_matches(keypoint, self.names, n=3, cutoff=0.4) or self.names
            raise LookupError(f"there is no keypoint {keypoint!r} in these maps; did you mean {', '.join(closest)}?")
        return self.names.index(keypoint)

    def _head(self, head: int | str) -> int:
        count = self.to_image.shape[1]
        if not isinstance(head, Integral) or isinstance(head, bool) or not -count <= head < count:
            raise ValueError(f'heads must be "mean", "max", "rollout" or a number in 0..{count - 1}; got {head!r}')
        return int(head) % count

    def _describe(self, heads: Heads | int) -> str:
        """The choice of heads, in words."""
        words = {"mean": "mean over heads", "max": "maximum over heads", "rollout": "rollout through all before"}
        return words[heads] if heads in words else f"head {self._head(heads) + 1}"

    def _own_place(self, keypoint: str) -> np.ndarray:
        """The patch in which the keypoint was found, and its neighbors; none where it lies outside the crop."""
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
