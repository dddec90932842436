"""The kinds of label files that can be read, and which of them a file or folder is."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenpose.data.formats.coco_export import read_coco_export
from tokenpose.data.formats.cvat import read_cvat
from tokenpose.data.formats.deeplabcut import read_deeplabcut
from tokenpose.data.formats.label_studio import read_label_studio
from tokenpose.data.formats.labelme import read_labelme
from tokenpose.data.formats.mpii import read_mpii
from tokenpose.data.formats.sleap import read_sleap
from tokenpose.data.formats.via import read_via
from tokenpose.data.formats.wholebody import read_coco_wholebody
from tokenpose.data.formats.yolo import read_yolo

logger = logging.getLogger(__name__)

_HEAD = 1 << 16
"""Of a file's bytes: what kind it is shows there."""


@dataclass(frozen=True)
class Kind:
    """A reader, and which arguments it takes beside the path."""

    read: Callable[..., dict[str, Any]]
    takes: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "cvat": Kind(read_cvat, ("keypoints",)),
    "label-studio": Kind(read_label_studio, ("images", "keypoints")),
    "labelme": Kind(read_labelme, ("images", "keypoints")),
    "via": Kind(read_via, ("images", "keypoints", "attribute")),
    "yolo": Kind(read_yolo, ("split", "keypoints")),
    "deeplabcut": Kind(read_deeplabcut, ("images",)),
    "sleap": Kind(read_sleap, ("images", "frames")),
    "coco-wholebody": Kind(read_coco_wholebody),
    "mpii": Kind(read_mpii, ("images",)),
    "coco": Kind(read_coco_export, ("images",)),
}

_OTHER_NAMES = {"ultralytics": "yolo", "roboflow": "yolo", "dlc": "deeplabcut", "wholebody": "coco-wholebody"}
_BY_SUFFIX = {".slp": "sleap", ".xml": "cvat", ".yaml": "yolo", ".yml": "yolo", ".mat": "mpii"}
_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"}
_ADVICE = f"say which it is: --from KIND, in Python kind=KIND, one of {', '.join(KINDS)}"


def read_labels(path: str | Path, kind: str | None = None, **arguments: Any) -> dict[str, Any]:
    """The content of a COCO keypoint file, from a file or folder of a labeling tool.

    ``kind``: one of `KINDS`; None: what `guess_kind` says. ``arguments``: those of the kind's reader; one that is None
    isn't given. Raises LookupError for another kind, TypeError for an argument that the kind doesn't take, and what
    the reader raises.
    """
    chosen = choose_kind(path, kind)
    given = {name: value for name, value in arguments.items() if value is not None}
    if unknown := [name for name in given if name not in KINDS[chosen].takes]:
        takes = ", ".join(KINDS[chosen].takes) or "nothing"
        raise TypeError(f"files of the kind {chosen} are read without {unknown[0]}; beside the path they take {takes}")
    return KINDS[chosen].read(path, **given)


def choose_kind(path: str | Path, name: str | None = None) -> str:
    """The kind of that name, which may be another name for one of `KINDS`; None: what `guess_kind` says, with a line.

    Raises LookupError for another name, and what `guess_kind` raises.
    """
    if name is None:
        guessed = guess_kind(path)
        logger.info("%s is read as %s", path, guessed)
        return guessed
    return _find_kind(name, Path(path))


def _find_kind(name: str, path: Path) -> str:
    if name in ("cvat", "roboflow") and path.suffix.lower() == ".json":
        return "coco"
    chosen = _OTHER_NAMES.get(name, name)
    if chosen not in KINDS:
        raise LookupError(f"there is no kind {name!r} of label files; there are {', '.join(KINDS)}")
    return chosen


def guess_kind(path: str | Path) -> str:
    """Which of `KINDS` a file or folder is, by its name and its beginning.

    Raises FileNotFoundError, and ValueError that lists the kinds where it isn't plain.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.suffix.lower() in _ARCHIVES:
        raise ValueError(f"{path} is an archive: unpack it, and give the file or folder of labels in it")
    kind = _guess_folder(path) if path.is_dir() else _BY_SUFFIX.get(path.suffix.lower()) or _guess_content(path)
    if kind is None:
        raise ValueError(f"{path}: what kind of label file this is isn't plain; {_ADVICE}")
    return kind


def _guess_folder(path: Path) -> str | None:
    if any((path / name).is_file() for name in ("data.yaml", "data.yml")):
        return "yolo"
    if next(path.rglob("CollectedData_*"), None) is not None:
        return "deeplabcut"
    first = next(iter(sorted(path.rglob("*.json"))), None)
    return "labelme" if first is not None and _guess_json(first) == "labelme" else None


def _guess_content(path: Path) -> str | None:
    suffix = path.suffix.lower()
    if suffix == ".json":
        return _guess_json(path)
    if suffix == ".csv":
        return _guess_csv(_read_head(path))
    if suffix in (".h5", ".hdf5"):
        from tokenpose.data.formats.hdf5 import open_hdf5

        with open_hdf5(path) as file:
            return "sleap" if "track_occupancy" in file else "deeplabcut" if "df_with_missing" in file else None
    return None


def _read_head(path: Path) -> str:
    with path.open("rb") as opened:
        return opened.read(_HEAD).decode("utf-8-sig", errors="replace")


def _guess_csv(head: str) -> str | None:
    first = head.splitlines()[0].split(",") if head.strip() else []
    if first[:1] == ["scorer"]:
        return "deeplabcut"
    return "via" if "region_shape_attributes" in first else None


_MARKS: Sequence[tuple[str, Sequence[str]]] = (
    ("coco-wholebody", ("_kpts",)),
    ("labelme", ('"shapes"',)),
    ("via", ('"_via_',)),
    ("via", ('"shape_attributes"',)),
    ("label-studio", ('"keypointlabels"',)),
    ("label-studio", ('"data"', '"annotations"', '"result"')),
    ("mpii", ('"joints_vis"',)),
    ("mpii", ('"center"', '"scale"')),
)
"""What stands in the beginning of JSON files of each kind."""


def _guess_json(path: Path) -> str | None:
    head = _read_head(path)
    for kind, marks in _MARKS:
        if all(mark in head for mark in marks):
            return kind
    if head.lstrip().startswith("{") and any(f'"{name}"' in head for name in ("images", "annotations", "categories")):
        return "coco-wholebody" if "wholebody" in path.name.lower() else "coco"
    return None
