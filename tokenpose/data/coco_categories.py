"""The categories of a COCO file: the one that is read, and its keypoints."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenpose.data.faults import Fault, whole_id
from tokenpose.files import cut, listed
from tokenpose.skeletons import COCO, Skeleton


def choose_category(categories: Sequence[Any], name: str | None, path: str | Path) -> tuple[int, Mapping[str, Any]]:
    """The position and record of the category of that name, or of the only one with keypoints.

    Raises ValueError that names those with keypoints.
    """
    with_keypoints = [row for row, entry in enumerate(categories) if isinstance(entry, dict) and entry.get("keypoints")]
    fitting = [row for row in with_keypoints if name in (None, categories[row].get("name"))]
    if len(fitting) != 1:
        names = listed(cut(str(categories[row].get("name"))) for row in with_keypoints) or "none"
        wanted = "exactly one category with keypoints" if name is None else f"one category {name!r} with keypoints"
        several = name is None and len(fitting) > 1
        advice = "; say which: --category NAME, in Python category=NAME" if several else ""
        raise ValueError(f"{path} must have {wanted}; with keypoints it has: {names}{advice}")
    category = categories[fitting[0]]
    if "id" not in category:
        raise ValueError(f"{path}: category {cut(str(category.get('name')))} has no id")
    return fitting[0], {**category, "id": whole_id(category["id"])}


def choose_predicted_category(
    categories: Sequence[Any], name: str | None, path: str | Path
) -> tuple[int, Mapping[str, Any]]:
    """The same for a file that only lists images: if no category has keypoints, "person" has COCO's.

    COCO's own lists of images, image_info_test-dev2017.json for example, don't have the keypoints of their categories.
    """
    people = [row for row, entry in enumerate(categories) if isinstance(entry, dict) and entry.get("name") == "person"]
    has_keypoints = any(isinstance(entry, dict) and entry.get("keypoints") for entry in categories)
    if has_keypoints or name not in (None, "person") or len(people) != 1:
        return choose_category(categories, name, path)
    (row,) = people
    completed = list(categories)
    completed[row] = {**categories[row], "keypoints": list(COCO.keypoints), "skeleton": []}
    return choose_category(completed, "person", path)


def name_categories(categories: Iterable[Any]) -> str:
    """Their ids, as the file has them, with names: "1 (person), '2' (fly)", at most ten."""
    named = [
        f"{entry['id']!r:.40} ({cut(str(entry.get('name')))})"
        for entry in categories
        if isinstance(entry, Mapping) and "id" in entry
    ]
    return ", ".join(named[:10]) + (", ..." if len(named) > 10 else "")


def read_skeleton(category: Mapping[str, Any], position: int, path: str | Path) -> tuple[Skeleton, list[Fault]]:
    """The category's skeleton: without limbs where they can't be used, and with a number behind repeated names.

    Raises ValueError where the keypoints are not a list of names.
    """
    names, faults = category["keypoints"], list[Fault]()
    where: dict[str, Any] = {"section": "categories", "position": position, "identity": category["id"]}
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        distinct = _number_repeated(names)
        later = [repr(new) for name, new in zip(names, distinct, strict=True) if name != new]
        if later:
            repeated = ", ".join(name for name, times in Counter(names).items() if times > 1)
            message = f"the names of keypoints must differ; repeated: {repeated}"
            here = f"the later one is {later[0]}" if len(later) == 1 else f"the later ones are {', '.join(later)}"
            advice = f"give each keypoint its own name; in a report of the check {here}"
            faults.append(Fault(**where, field="keypoints", kind="repeated", message=message, advice=advice))
        names = distinct
    whole = {**category, "keypoints": names}
    try:
        return Skeleton.from_coco_category(whole), faults
    except (ValueError, TypeError) as error:
        try:
            skeleton = Skeleton.from_coco_category({**whole, "skeleton": []})
        except (ValueError, TypeError) as fault:
            raise ValueError(f"{path}: {fault}") from fault
        advice = "give pairs of keypoint numbers that count from 1"
        limbs = Fault(**where, field="skeleton", kind="invalid", message=str(error), advice=advice)
        return skeleton, [*faults, limbs]


def _number_repeated(names: Sequence[str]) -> list[str]:
    """The names; a name that was used before gets the next free number: a, a -> a, a (2)."""
    given, distinct = set(names), dict[str, None]()
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        free = (new for new in numbered if new not in given and new not in distinct)
        distinct[next(free) if name in distinct else name] = None
    return list(distinct)
