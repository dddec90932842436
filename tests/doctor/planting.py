"""Faults to plant into a file of drawn people."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from tokenpose.skeletons import LSP

PEOPLE = 40
HERE = 7  # the row of the annotation and of the image that a fault is planted in: annotation 7, image 17, 007.png


Content = dict[str, Any]


def keypoint(content: Content, name: str, *values: float, row: int = HERE) -> None:
    start = 3 * LSP.index(name)
    content["annotations"][row]["keypoints"][start : start + len(values)] = values


def exchange(content: Content, *names: str, row: int = HERE) -> None:
    numbers = content["annotations"][row]["keypoints"]
    for name in names:
        left, right = 3 * LSP.index(f"left_{name}"), 3 * LSP.index(f"right_{name}")
        numbers[left : left + 3], numbers[right : right + 3] = numbers[right : right + 3], numbers[left : left + 3]


def change(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["annotations"][HERE].update(values)


def change_image(**values: Any) -> Callable[[Content], None]:
    return lambda content: content["images"][HERE].update(values)


def drop(kind: str, key: str) -> Callable[[Content], None]:
    return lambda content: content[kind][HERE].pop(key)


def repeat(kind: str) -> Callable[[Content], None]:
    return lambda content: content[kind].append(deepcopy(content[kind][HERE]))


def put(name: str, *values: float) -> Callable[[Content], None]:
    return lambda content: keypoint(content, name, *values)


def several(*changes: Callable[[Content], Any]) -> Callable[[Content], None]:
    return lambda content: [one(content) for one in changes] and None


def rename(content: Content, **names: str) -> None:
    category = content["categories"][0]
    category["keypoints"] = [names.get(name, name) for name in category["keypoints"]]
