"""The categories of a COCO file: the one that is read, and its keypoints."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenpose.data.faults import Fault, Note, is_id, name_record, whole_id
from tokenpose.files import cut, listed
from tokenpose.skeletons import COCO, Skeleton

Chosen = tuple[int, Mapping[str, Any]]
"""A category's place in the file's list, and its record."""


def choose_categories(categories: Sequence[Any], names: str | Sequence[str] | None, path: str | Path) -> list[Chosen]:
    """The categories of those names, or all with keypoints; they must have the very same keypoints.

    Raises ValueError that names those with keypoints, where a name is unknown or keypoints differ.
    """
    with_keypoints = [row for row, entry in enumerate(categories) if isinstance(entry, dict) and entry.get("keypoints")]
    names_listed = listed(cut(str(categories[row].get("name"))) for row in with_keypoints) or "none"
    wanted = [names] if isinstance(names, str) else names
    found = [name for row in with_keypoints if isinstance(name := categories[row].get("name"), str)]
    for name in wanted or ():
        if name not in found:
            raise ValueError(
                f"{path} must have one category {name!r} with keypoints; with keypoints it has: {names_listed}"
            )
    fitting = [row for row in with_keypoints if wanted is None or categories[row].get("name") in wanted]
    if len({repr((categories[row]["keypoints"], categories[row].get("flip_pairs"))) for row in fitting}) != 1:
        if fitting and wanted is not None:
            raise ValueError(_explain_difference([categories[row] for row in fitting], path))
        advice = "; say which: --category NAME, in Python category=NAME" if fitting else ""
        raise ValueError(
            f"{path} must have exactly one category with keypoints; with keypoints it has: {names_listed}{advice}"
        )
    for row in fitting:
        if "id" not in categories[row]:
            raise ValueError(f"{path}: category {cut(str(categories[row].get('name')))} has no id")
    return [(row, {**categories[row], "id": whole_id(categories[row]["id"])}) for row in fitting]


def _explain_difference(categories: Sequence[Mapping[str, Any]], path: str | Path) -> str:
    """Why categories can't be read together, and what to do."""
    field = "keypoints" if len({repr(one["keypoints"]) for one in categories}) > 1 else "flip_pairs"
    first = categories[0]
    other = next(one for one in categories if one.get(field) != first.get(field))
    return (
        f"{path}: categories must have the same {field} to be read together; {first.get('name')!s:.40} has "
        f"{first.get(field)!r:.60} and {other.get('name')!s:.40} {other.get(field)!r:.60}; read one of them, or write "
        "a file for each: keypoints of several files are one if they have the same name"
    )


def choose_predicted_categories(
    categories: Sequence[Any], names: str | Sequence[str] | None, path: str | Path
) -> list[Chosen]:
    """The same for a file that only lists images: if no category has keypoints, "person" has COCO's.

    COCO's own lists of images, image_info_test-dev2017.json for example, don't have the keypoints of their categories.
    """
    people = [row for row, entry in enumerate(categories) if isinstance(entry, dict) and entry.get("name") == "person"]
    has_keypoints = any(isinstance(entry, dict) and entry.get("keypoints") for entry in categories)
    if has_keypoints or names not in (None, "person", ["person"]) or len(people) != 1:
        return choose_categories(categories, names, path)
    (row,) = people
    completed = list(categories)
    completed[row] = {**categories[row], "keypoints": list(COCO.keypoints), "skeleton": []}
    return choose_categories(completed, "person", path)


def number_keypoints(
    categories: Sequence[Any],
    names: str | Sequence[str] | None,
    count_numbers: Callable[[], Mapping[Any, Counter[int]]],
    path: str | Path,
) -> tuple[list[Any], list[Note]]:
    """The categories with numbered keypoints where they have none, but their annotations do; and notes that say so.

    Where a category has keypoints, only those of ``names`` get them. ``count_numbers`` gives how many annotations of a
    category, by its id, have how many numbers as their keypoints. Raises ValueError for more than a skeleton can have.
    """
    nameless = _find_nameless(categories, [names] if isinstance(names, str) else names)
    counts = count_numbers() if nameless else {}
    numbered, notes = list(categories), list[Note]()
    for position in nameless:
        category = categories[position]
        numbers, people = next(iter(counts.get(category["id"], Counter[int]()).most_common(1)), (0, 0))
        if not numbers or numbers % 3:
            continue
        try:
            keypoints = Skeleton.from_count(numbers // 3).keypoints
        except ValueError as error:
            raise ValueError(f"{path}: {category.get('name')!s:.40} has no names of keypoints: {error}") from error
        numbered[position] = {**category, "keypoints": list(keypoints)}
        called = keypoints[0] if len(keypoints) == 1 else f"{keypoints[0]} to {keypoints[-1]}"
        have = f"{people} annotation has" if people == 1 else f"{people} annotations have"
        name = f"{category.get('name')!s:.40}"
        message = f"category {name} has no names of keypoints, and {have} {len(keypoints)}: they are {called}"
        advice = "list the names in the category's keypoints: left and right, and starting from known ones, need them"
        notes.append(Note(field="keypoints", message=message, advice=advice))
    return numbered, notes


def _find_nameless(categories: Sequence[Any], names: Sequence[str] | None) -> list[int]:
    """The places of the categories without keypoints that are asked for, or of all where no category has any."""
    sound = [row for row, entry in enumerate(categories) if isinstance(entry, dict) and is_id(entry.get("id"))]
    nameless = [row for row in sound if not categories[row].get("keypoints")]
    if names is not None:
        return [row for row in nameless if categories[row].get("name") in names]
    has_keypoints = any(isinstance(entry, dict) and entry.get("keypoints") for entry in categories)
    return [] if has_keypoints else nameless


def name_categories(categories: Iterable[Any]) -> str:
    """Their ids, as the file has them, with names: "1 (person), '2' (fly)", at most ten."""
    named = [
        f"{entry['id']!r:.40} ({cut(str(entry.get('name')))})"
        for entry in categories
        if isinstance(entry, Mapping) and "id" in entry
    ]
    return ", ".join(named[:10]) + (", ..." if len(named) > 10 else "")


def read_skeleton(
    category: Mapping[str, Any], position: int, path: str | Path
) -> tuple[Skeleton, list[Fault], list[Note]]:
    """The category's skeleton: without limbs that can't be used, and with a number behind repeated names.

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
    record = name_record("categories", position, category["id"], None)
    limbs, notes = _read_limbs(category.get("skeleton"), len(names) if isinstance(names, list) else 0, record)
    try:
        return Skeleton.from_coco_category({**category, "keypoints": names, "skeleton": limbs}), faults, notes
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_limbs(stated: Any, count: int, record: str) -> tuple[list[list[int]], list[Note]]:
    """The limbs that can be drawn, counted from 1, of a category with so many keypoints; notes on the others."""
    entries = (stated if isinstance(stated, list) else [stated]) if stated else []
    pairs = [_read_limb(entry) for entry in entries]
    zeros = [pair for pair in pairs if pair is not None and 0 in pair]
    start, notes = 0 if zeros else 1, list[Note]()
    if zeros:
        message = f"{record}: skeleton holds a 0, in {zeros[0]}: its numbers are read as counted from 0"
        notes.append(Note(field="skeleton", message=message, advice="count keypoints from 1, as COCO does"))
    is_usable = [pair is not None and _is_limb(pair, start, count) for pair in pairs]
    useless = [entry for entry, usable in zip(entries, is_usable, strict=True) if not usable]
    if useless:
        example = f"1 limb of skeleton, {useless[0]!r:.60}," if len(useless) == 1 else (
            f"{len(useless)} limbs of skeleton, for example {useless[0]!r:.60},"
        )  # fmt: skip
        message = f"{record}: {example} can't be drawn and counts as missing"
        advice = f"a limb is two different keypoints, counted from {start} to {start + count - 1}"
        notes.append(Note(field="skeleton", message=message, advice=advice))
    used = [pair for pair, usable in zip(pairs, is_usable, strict=True) if pair is not None and usable]
    return [[first + 1 - start, second + 1 - start] for first, second in used], notes


def _read_limb(entry: Any) -> list[int] | None:
    """Two whole numbers; None for anything else."""
    if not isinstance(entry, list) or len(entry) != 2:
        return None
    whole = [whole_id(end) for end in entry]
    return whole if all(type(end) is int for end in whole) else None


def _is_limb(pair: Sequence[int], start: int, count: int) -> bool:
    return pair[0] != pair[1] and all(start <= end < start + count for end in pair)


def _number_repeated(names: Sequence[str]) -> list[str]:
    """The names; a name that was used before gets the next free number: a, a -> a, a (2)."""
    given, distinct = set(names), dict[str, None]()
    for name in names:
        numbered = (f"{name} ({number})" for number in itertools.count(2))
        free = (new for new in numbered if new not in given and new not in distinct)
        distinct[next(free) if name in distinct else name] = None
    return list(distinct)
