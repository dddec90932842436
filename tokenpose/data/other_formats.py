"""Files of other formats than COCO's keypoint files and MPII's: which one a file looks like, and what to do with it."""

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

_MPII_FIELDS = {"image", "center", "scale", "joints"}
_LABEL_STUDIO_TASK = {"data"}
_LABEL_STUDIO_ROWS = {"annotation_id", "annotator", "lead_time"}  # of its form JSON-MIN
_COCO_RESULT = {"image_id", "score"}
_OBJECTS = (
    # members of the object: what the file is, and the name that `tokenpose import` has for it
    ({"shapes", "imagePath"}, "labelme's JSON", "labelme"),
    ({"_via_settings"}, "a project of VIA", "via"),
    ({"_via_img_metadata"}, "a project of VIA", "via"),
    ({"data", "annotations"}, "one task of Label Studio's JSON", "label-studio"),
    ({"data", "predictions"}, "one task of Label Studio's JSON", "label-studio"),
)


def explain_list(record: Any, path: Path) -> str:
    """Why a list that starts with this record is not MPII's, and what to do with it; "" where it is or may be."""
    if not isinstance(record, Mapping) or not record:
        return ""
    fields = record.keys()
    refusal = f"{path} is neither a COCO keypoint file nor MPII's"
    if fields >= _LABEL_STUDIO_TASK or _LABEL_STUDIO_ROWS & fields:
        return f"{refusal}: it looks like Label Studio's JSON; {_advise_import(path, 'label-studio')}"
    if fields & _MPII_FIELDS:
        return ""
    if fields >= _COCO_RESULT:
        return (
            f"{refusal}: it looks like COCO results, which are predictions; give the annotation file of their images "
            "(evaluation reads results as boxes: --boxes, in Python boxes=)"
        )
    names = ", ".join(map(repr, list(fields)[:6]))
    return f"{refusal}: MPII's records have {', '.join(sorted(_MPII_FIELDS))}, and the first one here has {names:.200}"


def explain_object(members: Collection[str], path: Path) -> str:
    """What an object with these members looks like, and what to do with it, as the end of a sentence; "" if unknown."""
    for needed, what, kind in _OBJECTS:
        if needed.issubset(members):
            return f"; it looks like {what}: {_advise_import(path, kind)}"
    return ""


def _advise_import(path: Path, kind: str) -> str:
    return f"make a COCO file of it: tokenpose import {shlex.quote(str(path))} --from {kind} --output data.json"
