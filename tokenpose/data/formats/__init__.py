"""Label files of other tools: read to COCO keypoint JSON, and written from it."""

from tokenpose.data.formats.coco_export import read_coco_export
from tokenpose.data.formats.cvat import read_cvat
from tokenpose.data.formats.deeplabcut import read_deeplabcut
from tokenpose.data.formats.kinds import KINDS, guess_kind, read_labels
from tokenpose.data.formats.label_studio import read_label_studio
from tokenpose.data.formats.label_studio_export import write_label_studio
from tokenpose.data.formats.labelme import read_labelme
from tokenpose.data.formats.mpii import read_mpii
from tokenpose.data.formats.sleap import read_sleap
from tokenpose.data.formats.split import split_labels
from tokenpose.data.formats.via import read_via
from tokenpose.data.formats.wholebody import read_coco_wholebody
from tokenpose.data.formats.yolo import read_yolo
from tokenpose.data.formats.yolo_export import write_yolo

__all__ = [
    "KINDS",
    "guess_kind",
    "read_coco_export",
    "read_coco_wholebody",
    "read_cvat",
    "read_deeplabcut",
    "read_label_studio",
    "read_labelme",
    "read_labels",
    "read_mpii",
    "read_sleap",
    "read_via",
    "read_yolo",
    "split_labels",
    "write_label_studio",
    "write_yolo",
]
