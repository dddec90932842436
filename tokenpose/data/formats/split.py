"""A file of labels in two: to train on and to validate on, with no group of images on both sides."""

import hashlib
import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool

from tokenpose.data.formats.reading import read_json, show

logger = logging.getLogger(__name__)

IMAGE, FOLDER = "image", "folder"


def split_labels(
    path: str | Path, val: float = 0.2, by: str = IMAGE, seed: int = 0
) -> tuple[dict[str, Any] | list[Any], dict[str, Any] | list[Any]]:
    """The content of a COCO or MPII file in two: to train on, and to validate on with that share of the images.

    ``by``: what stays together: "image" (an image, also if the file lists it twice), "folder" (the images of a folder)
    or a field of the image records, such as "video"; in an MPII file, of all records. The same file, share and seed
    give the same split, on any machine and whatever the order of the records. Everything else in the file is in both
    parts. Raises FileNotFoundError, and ValueError for a share that isn't between 0 and 1, for images without the
    field and for a file that is one single group.
    """
    path = Path(path)
    content = read_json(path)
    if isinstance(content, list):
        groups = [_group(record, "image", by, f"{path}: record {place}") for place, record in enumerate(content)]
        held_out = choose_groups(groups, val, seed, f"{path} can't be split by {by}")
        _log(path, by, groups, held_out)
        return _rows(content, ~held_out), _rows(content, held_out)
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name), list) for name in ("images", "annotations")
    ):
        raise ValueError(f"{path} is neither a COCO file, with images and annotations, nor MPII's list of records")
    images = content["images"]
    groups = [_group(record, "file_name", by, f"{path}: images[{place}]") for place, record in enumerate(images)]
    held_out = choose_groups(groups, val, seed, f"{path} can't be split by {by}")
    _log(path, by, groups, held_out)
    identities = {_key(image.get("id")) for image in _rows(images, held_out)}
    in_val = np.array([_is_of(record, identities) for record in content["annotations"]], dtype=bool)
    people = content["annotations"]
    train = {**content, "images": _rows(images, ~held_out), "annotations": _rows(people, ~in_val)}
    return train, {**content, "images": _rows(images, held_out), "annotations": _rows(people, in_val)}


def choose_groups(groups: Sequence[str], share: float, seed: int, what: str) -> Bool[np.ndarray, " images"]:
    """Which images are held out: those of some groups, together as close to the share as groups in a fixed order get.

    The order is that of the groups' hashes, so that it depends on names and seed alone. Raises ValueError that begins
    with ``what``.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share to validate on must be between 0 and 1; got {share:g}")
    sizes = Counter(groups)
    if len(sizes) < 2:
        raise ValueError(
            f"{what}: all images are of one group, {show(next(iter(sizes), ''))}; split by something finer"
        )
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"{seed}\0{group}".encode(errors="replace")).digest())
    wanted, count, chosen = share * len(groups), 0, set[str]()
    for group in order:
        if abs(count + sizes[group] - wanted) < abs(count - wanted):
            chosen.add(group)
            count += sizes[group]
    if not chosen:
        chosen = {min(order, key=lambda group: sizes[group])}
    if len(chosen) == len(sizes):
        chosen.remove(min(order, key=lambda group: sizes[group]))
    return np.array([group in chosen for group in groups], dtype=bool)


def group_by_image(files: Iterable[str]) -> list[str]:
    """The group of each file where an image is a group: its name, in one spelling."""
    return [_clean(file) for file in files]


def _clean(name: str) -> str:
    return unicodedata.normalize("NFC", PurePosixPath(name.replace("\\", "/")).as_posix())


def _group(record: Any, name_field: str, by: str, where: str) -> str:
    """The group of an image's record."""
    if not isinstance(record, Mapping):
        raise ValueError(f"{where} must be an object; got {show(record)}")
    if by in (IMAGE, FOLDER):
        name = record.get(name_field)
        if not isinstance(name, str) or not name:
            raise ValueError(f"{where}: {name_field} must be a name; got {show(name)}")
        return _clean(name) if by == IMAGE else PurePosixPath(_clean(name)).parent.as_posix()
    if not isinstance(record.get(by), str | int | float):
        fields = ", ".join(map(str, record))
        raise ValueError(f"{where} has no {by!r} to split by; it has {fields[:80]}; others are image and folder")
    return str(record[by])


def _rows(records: Sequence[Any], taken: Bool[np.ndarray, " records"]) -> list[Any]:
    return [record for record, is_taken in zip(records, taken.tolist(), strict=True) if is_taken]


def _key(identity: Any) -> Any:
    """An id that can be looked up: 1 and 1.0 are one, and what can't be an id is none."""
    return identity if isinstance(identity, str | int | float) else None


def _is_of(record: Any, identities: set[Any]) -> bool:
    identity = _key(record.get("image_id")) if isinstance(record, Mapping) else None
    return identity is not None and identity in identities


def _log(path: Path, by: str, groups: Sequence[str], held_out: Bool[np.ndarray, " images"]) -> None:
    chosen = len({group for group, is_taken in zip(groups, held_out.tolist(), strict=True) if is_taken})
    of_groups = "" if by == IMAGE else f", of {chosen} of {len(set(groups))} groups by {by}"
    logger.info("%s: %d of %d images to validate on%s", path, held_out.sum(), len(groups), of_groups)
