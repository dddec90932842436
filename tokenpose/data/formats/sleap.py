"""SLEAP's files, .slp and .pkg.slp with images inside, and its analysis .h5 -> COCO."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from PIL import Image

from tokenpose.data.formats.hdf5 import check_hdf5
from tokenpose.data.formats.image_sizes import ImageSizes, Places
from tokenpose.data.formats.labels import Category, Keypoint, Person, Photograph, counted, to_coco
from tokenpose.data.formats.reading import read_by_others
from tokenpose.files import make_folder, written_whole

logger = logging.getLogger(__name__)


def read_sleap(path: str | Path, *, images: Places | None = None, frames: str | Path | None = None) -> dict[str, Any]:
    """The content of a COCO keypoint file, from SLEAP's .slp, .pkg.slp or analysis .h5.

    Labels that people made are read; of a file that has none, the predictions, with their scores. A point that SLEAP
    shows as not visible isn't labeled. Limbs and flip pairs are the skeleton's edges and symmetries. Each frame is an
    image "VIDEO/00000012.png", with the fields "video" and "frame"; people have their "track".

    ``frames``: the folder to write the frames' images to, from the file itself or from the video beside it; None: no
    image is written. ``images``: a folder with frames, for videos that are lists of images.
    Needs ``pip install "tokenpose[import]"``. Raises FileNotFoundError, ModuleNotFoundError, and ValueError.
    """
    path = Path(path)
    labels = _load(path)
    predicted = not any(frame.user_instances for frame in labels.labeled_frames)
    if predicted:
        logger.info("%s has no labels by people: its predictions are read, with their scores", path)
    categories = [_category(skeleton, index) for index, skeleton in enumerate(labels.skeletons)]
    names = {id(skeleton): category.name for skeleton, category in zip(labels.skeletons, categories, strict=True)}
    folders = _name_folders(labels.videos)
    images_of = _Images(images, None if frames is None else Path(frames), path)
    photographs = []
    for frame in labels.labeled_frames:
        instances = frame.predicted_instances if predicted else frame.user_instances
        people = [_person(instance, names[id(instance.skeleton)]) for instance in instances]
        if people:
            photographs.append(images_of.photograph(frame, folders[id(frame.video)], people))
    for video in labels.videos:
        video.close()
    images_of.log()
    return to_coco(photographs, categories, path)


def _load(path: Path) -> Any:
    """The file as `sleap_io.Labels`."""
    try:
        import sleap_io
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'reading {path} needs sleap-io: pip install "tokenpose[import]"') from error
    check_hdf5(path)
    with read_by_others(f"{path} can't be read as SLEAP's file"):
        if path.suffix.lower() == ".slp":
            return sleap_io.load_slp(str(path), open_videos=False)
        return sleap_io.load_analysis_h5(str(path))


def _category(skeleton: Any, index: int) -> Category:
    name = skeleton.name or "animal"
    pairs = tuple(tuple(sorted(pair)) for pair in skeleton.symmetry_inds)
    return Category(
        name=name if not index else f"{name}_{index}",
        keypoints=tuple(skeleton.node_names),
        limbs=tuple((int(first), int(second)) for first, second in skeleton.edge_inds),
        flip_pairs=tuple((int(first), int(second)) for first, second in pairs) or None,
    )


def _person(instance: Any, category: str) -> Person:
    points = instance.points
    scores = points["score"] if "score" in (points.dtype.names or ()) else [None] * len(points)
    keypoints = {
        name: Keypoint(float(x), float(y), score=None if score is None else _clip(score))
        for name, (x, y), visible, score in zip(
            instance.skeleton.node_names, points["xy"], points["visible"], scores, strict=True
        )
        if visible and math.isfinite(x) and math.isfinite(y)
    }
    track = getattr(instance.track, "name", None)
    return Person(category=category, keypoints=keypoints, fields={} if track is None else {"track": str(track)})


def _clip(score: Any) -> float:
    """A score between 0 and 1, as COCO files have them here; a peak may be a little above."""
    return min(max(float(score), 0.0), 1.0) if math.isfinite(score) else 0.0


def _name_folders(videos: Sequence[Any]) -> dict[int, str]:
    """A folder for each video, called as its file; the same name twice gets a number."""
    folders, taken = dict[int, str](), set[str]()
    for index, video in enumerate(videos):
        name = _stem(_source(video)) or f"video{index}"
        folders[id(video)] = name if name not in taken else f"{name}-{index}"
        taken.add(folders[id(video)])
    return folders


def _source(video: Any) -> Any:
    """The video that images in the file are of, or the video itself."""
    return video if video.source_video is None else video.source_video


def _stem(video: Any) -> str:
    """The name of a video's file; none for a list of images, which is written "['a.png', ...]" in packages."""
    name = video.filename if isinstance(video.filename, str) and not video.filename.startswith("[") else ""
    return PurePosixPath(PureWindowsPath(name).as_posix()).name.split(".")[0]


class _Images:
    """The images of frames: their names and sizes, and the files, if they are wanted."""

    def __init__(self, images: Places | None, frames: Path | None, path: Path) -> None:
        self._sizes = ImageSizes(images, path.parent)
        self._frames, self._path = frames, path
        self._written, self._missing = 0, dict[str, str]()

    def photograph(self, frame: Any, folder: str, people: Sequence[Person]) -> Photograph:
        """The frame with its people; its image is written where there is a folder for images."""
        fields = {"video": folder, "frame": int(frame.frame_idx)}
        files = frame.video.filename
        if isinstance(files, list):  # a video that is a list of images
            if not 0 <= frame.frame_idx < len(files):
                raise ValueError(f"{self._path}: there is no frame {frame.frame_idx} among {len(files)} images")
            name, (width, height) = self._find(PureWindowsPath(files[frame.frame_idx]).as_posix())
            return Photograph(file=name, width=width, height=height, people=people, fields=fields)
        name = f"{folder}/{int(frame.frame_idx):08}.png"
        pixels = self._read(frame)
        if pixels is not None and self._frames is not None:
            _write(pixels, self._frames / name)
            self._written += 1
        size = self._size(frame, pixels, name)
        return Photograph(file=name, width=size[0], height=size[1], people=people, fields=fields)

    def log(self) -> None:
        """Say what was written, and what is missing."""
        if self._written:
            logger.info("%s: wrote %s to %s", self._path, counted(self._written, "image", "images"), self._frames)
        for video, reason in self._missing.items():
            logger.warning(
                "%s: %s can't be read (%s): write its frames yourself, frame 12 to %s",
                self._path, video, reason, self._frames and self._frames / "VIDEO" / "00000012.png",
            )  # fmt: skip

    def _find(self, name: str) -> tuple[str, tuple[int, int]]:
        """An image of a list by its name as written, or as the last part of it."""
        for candidate in (name, PurePosixPath(name).name):
            if self._sizes.has(candidate):
                return candidate, self._sizes.find(candidate)
        return name, self._sizes.find(name)

    def _read(self, frame: Any) -> np.ndarray | None:
        """The frame's pixels; None where they aren't wanted or the video isn't there."""
        if self._frames is None:
            return None
        video = frame.video
        try:
            if video.backend is None:
                if not video.exists():
                    raise FileNotFoundError("there is no such file")
                video.open()
            return np.asarray(video[frame.frame_idx])
        except (OSError, ValueError, LookupError, ImportError, RuntimeError) as error:
            self._missing[str(_source(video).filename)[:200]] = " ".join(str(error).split())[:200]
            return None

    def _size(self, frame: Any, pixels: np.ndarray | None, name: str) -> tuple[int, int]:
        if pixels is not None:
            return pixels.shape[1], pixels.shape[0]
        if self._sizes.has(name):
            return self._sizes.find(name)
        shape = frame.video.shape
        if shape is None or len(shape) < 3 or not shape[1] or not shape[2]:
            raise FileNotFoundError(
                f"{self._path} doesn't say how large {name} is, and {str(_source(frame.video).filename)[:200]} isn't "
                "there; put it there, or give a folder with the frames: --images PLACE, in Python images=PLACE"
            )
        return int(shape[2]), int(shape[1])


def _write(pixels: np.ndarray, path: Path) -> None:
    make_folder(path.parent)
    with written_whole(path) as partial:
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(partial, "PNG")
