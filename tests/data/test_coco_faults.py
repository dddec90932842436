"""Training, evaluation and the check never disagree about what a file holds: faults planted one by one, and in pairs.

The table says whom a fault stops. Exceptions from "training <=> evaluation <=> an error of the check" have a reason.
"""

import json
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from tokenpose.data.annotations import read_annotations
from tokenpose.data.coco import read_coco, read_columns
from tokenpose.doctor.check import check_data
from tokenpose.evaluation.ground_truth import make_ground_truth

Content = dict[str, Any]
Plant = Callable[[Content], Any] | partial[Any]
"""Of a partial the first two arguments say where the fault is: section and row."""

PERSON, OTHER, CROWD, UNLABELLED = 0, 1, 2, 3
"""Annotations by position: two labeled people, a crowd, a person without labeled keypoints."""
SEEN = [10, 20, 2, 30, 40, 1, 12, 44, 2]


def whole() -> Content:
    """A file without a fault."""

    def annotation(number: int, **changes: Any) -> dict[str, Any]:
        bare = {"id": 10 + number, "image_id": 1 + number % 2, "category_id": 1, "iscrowd": 0, "area": 400.5}
        return {**bare, "bbox": [5, 6, 31, 42], "num_keypoints": 3, "keypoints": SEEN, **changes}

    nothing = {"num_keypoints": 0, "keypoints": [0] * 9}
    return {
        "images": [{"id": row + 1, "file_name": name, "width": 80, "height": 100} for row, name in enumerate("ab")],
        "annotations": [
            annotation(PERSON),
            annotation(OTHER, keypoints=[11, 20, 2, 33, 40, 1, 52, 7, 2], bbox=[9, 2, 50, 60]),
            annotation(CROWD, iscrowd=1, **nothing),
            annotation(UNLABELLED, **nothing),
        ],
        "categories": [
            {"id": 1, "name": "fly", "keypoints": ["head", "left_wing", "right_wing"], "skeleton": [[1, 2]]},
            {"id": 2, "name": "rock"},
        ],
    }


def put(section: str, row: int, **values: Any) -> Plant:
    return partial(lambda section, row, content: content[section][row].update(values), section, row)


def drop(section: str, row: int, field: str) -> Plant:
    return partial(lambda section, row, content: content[section][row].pop(field), section, row)


def replace(section: str, row: int, value: Any) -> Plant:
    return partial(lambda section, row, content: content[section].__setitem__(row, value), section, row)


BOTH, EVALUATION, NEITHER = {"training", "evaluation"}, {"evaluation"}, set[str]()
NAN = float("nan")

FAULTS: dict[str, tuple[Plant, str, str, set[str]]] = {
    # what is planted: how, the record, the field, whom it stops
    "image is no object": (replace("images", 1, "b"), "images[1]", "", BOTH),
    "image without id": (drop("images", 1, "id"), "images[1] (b)", "id", BOTH),
    "image with true as id": (put("images", 1, id=True), "images[1] (b)", "id", BOTH),
    "image with NaN as id": (put("images", 1, id=NAN), "images[1] (b)", "id", BOTH),
    "image id twice": (put("images", 1, id=1), "image 1 (b)", "id", BOTH),
    "image without name": (drop("images", 1, "file_name"), "image 2", "file_name", BOTH),
    "image with empty name": (put("images", 1, file_name=""), "image 2", "file_name", BOTH),
    "image without width": (drop("images", 1, "width"), "image 2 (b)", "width", BOTH),
    "image of height 0": (put("images", 1, height=0), "image 2 (b)", "width", BOTH),
    "image of infinite width": (put("images", 1, width=float("inf")), "image 2 (b)", "width", BOTH),
    "category is no object": (replace("categories", 1, 3), "categories[1]", "", BOTH),
    "same names": (put("categories", 0, keypoints=["a", "b", "a"], skeleton=[]), "category 1", "keypoints", BOTH),
    "person is no object": (replace("annotations", PERSON, None), "annotations[0]", "", BOTH),
    "person without category": (drop("annotations", PERSON, "category_id"), "annotation 10 in a", "category_id", BOTH),
    "unlisted category": (put("annotations", PERSON, category_id="1"), "annotation 10 in a", "category_id", BOTH),
    "iscrowd as text": (put("annotations", PERSON, iscrowd="0"), "annotation 10 in a", "iscrowd", BOTH),
    "iscrowd 2": (put("annotations", UNLABELLED, iscrowd=2), "annotation 13 in b", "iscrowd", BOTH),
    "unlisted image": (put("annotations", PERSON, image_id=9), "annotation 10", "image_id", BOTH),
    "image id is a list": (put("annotations", PERSON, image_id=[1]), "annotation 10", "image_id", BOTH),
    "without image id": (drop("annotations", PERSON, "image_id"), "annotation 10", "image_id", BOTH),
    "too few numbers": (put("annotations", PERSON, keypoints=SEEN[:6]), "annotation 10 in a", "keypoints", BOTH),
    "NaN as v": (put("annotations", PERSON, keypoints=[1, 2, NAN, *SEEN[3:]]), "annotation 10 in a", "keypoints", BOTH),
    "null as v": (put("annotations", PERSON, keypoints=[[10, 20, None], SEEN[3:6], SEEN[6:]]), "annotation 10 in a",
                  "keypoints", BOTH),
    "text where v is 0": (put("annotations", PERSON, keypoints=["", "", 0, *SEEN[3:]]), "annotation 10 in a",
                          "keypoints", BOTH),
    "pairs": (put("annotations", PERSON, keypoints=[[10, 20]] * 3), "annotation 10 in a", "keypoints", BOTH),
    "text as number": (put("annotations", PERSON, keypoints=["1", *SEEN[1:]]), "annotation 10 in a", "keypoints", BOTH),
    "true in it": (put("annotations", PERSON, keypoints=[True, *SEEN[1:]]), "annotation 10 in a", "keypoints", BOTH),
    "NaN as number": (put("annotations", PERSON, keypoints=[NAN, *SEEN[1:]]), "annotation 10 in a", "keypoints", BOTH),
    "number too far": (put("annotations", PERSON, keypoints=[2e7, *SEEN[1:]]), "annotation 10 in a", "keypoints", BOTH),
    "number too long": (
        put("annotations", PERSON, keypoints=[10**400, *SEEN[1:]]), "annotation 10 in a", "keypoints", BOTH,
    ),
    "keypoints as object": (put("annotations", PERSON, keypoints={"x": 1}), "annotation 10 in a", "keypoints", BOTH),
    "too few scores": (put("annotations", PERSON, scores=[1, 1]), "annotation 10 in a", "scores", BOTH),
    "scores as a number": (put("annotations", PERSON, scores=0.5), "annotation 10 in a", "scores", BOTH),
    "score above 1": (put("annotations", PERSON, scores=[1, 0.5, 1.01]), "annotation 10 in a", "scores", BOTH),
    "score below 0": (put("annotations", PERSON, scores=[1, -0.1, 1]), "annotation 10 in a", "scores", BOTH),
    "NaN as score": (put("annotations", PERSON, scores=[1, NAN, 1]), "annotation 10 in a", "scores", BOTH),
    "text as score": (put("annotations", PERSON, scores=[1, "1", 1]), "annotation 10 in a", "scores", BOTH),
    "true as score": (put("annotations", PERSON, scores=[1, True, 1]), "annotation 10 in a", "scores", BOTH),
    "without box": (drop("annotations", PERSON, "bbox"), "annotation 10 in a", "bbox", BOTH),
    "null as box": (put("annotations", PERSON, bbox=None), "annotation 10 in a", "bbox", BOTH),
    "empty box": (put("annotations", PERSON, bbox=[]), "annotation 10 in a", "bbox", BOTH),
    "box of three": (put("annotations", PERSON, bbox=[1, 2, 3]), "annotation 10 in a", "bbox", BOTH),
    "box with NaN": (put("annotations", PERSON, bbox=[1, NAN, 3, 4]), "annotation 10 in a", "bbox", BOTH),
    "area as text": (put("annotations", PERSON, area="large"), "annotation 10 in a", "area", BOTH),
    "area as true": (put("annotations", PERSON, area=True), "annotation 10 in a", "area", BOTH),
    # Training doesn't read num_keypoints: it counts v above 0.
    "half a keypoint": (
        put("annotations", PERSON, num_keypoints=2.5), "annotation 10 in a", "num_keypoints", EVALUATION,
    ),
    "negative count": (put("annotations", PERSON, num_keypoints=-1), "annotation 10 in a", "num_keypoints", EVALUATION),
    # Training leaves crowds and people without labeled keypoints out; in evaluation predictions may match them.
    "box of a crowd": (put("annotations", CROWD, bbox=5), "annotation 12 in a", "bbox", EVALUATION),
    "image of a crowd": (put("annotations", CROWD, image_id=9), "annotation 12", "image_id", EVALUATION),
    "keypoints of a crowd": (put("annotations", CROWD, keypoints=[1]), "annotation 12 in a", "keypoints", EVALUATION),
    "area of a crowd": (put("annotations", CROWD, area=[1]), "annotation 12 in a", "area", EVALUATION),
    "box without labels": (put("annotations", UNLABELLED, bbox="x"), "annotation 13 in b", "bbox", EVALUATION),
    "image without labels": (put("annotations", UNLABELLED, image_id=9), "annotation 13", "image_id", EVALUATION),
    # Training and evaluation number people themselves; other programs look annotations up by their ids.
    "annotation without id": (drop("annotations", PERSON, "id"), "annotations[0] in a", "id", NEITHER),
    "annotation id twice": (put("annotations", CROWD, id=11), "annotation 11 in a", "id", NEITHER),
}  # fmt: skip

SOUND: dict[str, Plant] = {
    "nothing": lambda content: None,
    "other category": lambda content: content["annotations"].append({"category_id": 2, "bbox": "x", "keypoints": 5}),
    "no area": drop("annotations", PERSON, "area"),
    "no iscrowd": drop("annotations", PERSON, "iscrowd"),
    "true as iscrowd": put("annotations", CROWD, iscrowd=True),
    "no num_keypoints": drop("annotations", PERSON, "num_keypoints"),
    "whole number with a point": put("annotations", PERSON, num_keypoints=3.0),
    "ids as text": lambda content: [content["images"][0].update(id="x"), content["annotations"][0].update(image_id="x"),
                                    content["annotations"][2].update(image_id="x")],
    "half an id": put("annotations", PERSON, id=0.5),
    "crowd without box": drop("annotations", CROWD, "bbox"),
    "nobody in no box, of no image": put("annotations", UNLABELLED, bbox=[], image_id=9, area="x", num_keypoints="x"),
    "nested keypoints": put("annotations", PERSON, keypoints=[SEEN[:3], SEEN[3:6], SEEN[6:]]),
    "NaN where v is 0": put("annotations", PERSON, keypoints=[NAN, NAN, 0, *SEEN[3:]]),
    "null where v is 0": put("annotations", PERSON, keypoints=[None, 3, 0, *SEEN[3:]]),
    "null, null, null": put("annotations", PERSON, keypoints=[None, None, None, *SEEN[3:]]),
    "far away where v is 0": put("annotations", PERSON, keypoints=[10**400, 3, 0.0, *SEEN[3:]]),
    "nested, with null where v is 0": put("annotations", PERSON, keypoints=[[None, None, 0], SEEN[3:6], SEEN[6:]]),
    "NaN in all of nobody": put("annotations", UNLABELLED, keypoints=[NAN, NAN, 0] * 3),
    "ids with a point": lambda content: [one.update(id=float(one["id"])) for section in content.values()
                                         for one in section],
    "ids of others with a point": lambda content: [one.update(image_id=float(one["image_id"]), category_id=1.0)
                                                   for one in content["annotations"]],
    "scores": put("annotations", PERSON, scores=[1, 0, 0.25]),
    "no scores": put("annotations", PERSON, scores=None),
    "empty scores": put("annotations", PERSON, scores=[]),
    "scores of a crowd": put("annotations", CROWD, scores=[7]),
    "scores of nobody": put("annotations", UNLABELLED, scores="x"),
    "nobody with a short list of zeros": put("annotations", UNLABELLED, keypoints=[0, 0, 0]),
}  # fmt: skip


AREA = "area can't belong to the box in 1 annotation, annotation 10 in a with {} in a box of 31 x 42: it counts as mis"
COUNT = "num_keypoints contradicts the labels in 1 annotation, annotation {}: the labels are counted"
NOTED: dict[str, tuple[Plant, str]] = {
    # What stops no one: training, evaluation and the check read it in the same way, and say so.
    **{f"area {area}": (put("annotations", PERSON, area=area), AREA.format(area)) for area in (0, 1, -1, NAN, 2605)},
    "area of two images": (
        put("annotations", OTHER, area=16_000),
        "area can't belong to the box in 1 annotation, annotation 11 in b with 16000 in a box of 50 x 60",
    ),
    "area of a crowd is 0": (put("annotations", CROWD, area=0), "annotation 12 in a with 0 in a box of"),
    "areas of all": (
        lambda content: [one.update(area=0) for one in content["annotations"]],
        "area can't belong to the box in 4 annotations, for example annotation 10 in a with 0 in a box of 31 x 42",
    ),
    "limbs from 0": (put("categories", 0, skeleton=[[0, 1]]), "category 1: skeleton holds a 0, in [0, 1]: its numbers"),
    "limb that reaches too far": (
        put("categories", 0, skeleton=[[1, 4]]), "category 1: 1 limb of skeleton, [1, 4], can't be drawn",
    ),
    "no names": (
        put("categories", 0, keypoints=[]), "category fly has no names of keypoints, and 4 annotations have 3: they",
    ),
    "two categories": (
        lambda content: content["categories"][1].update(keypoints=content["categories"][0]["keypoints"]),
        "2 categories have the same keypoints and are read as one: fly, rock",
    ),
    "v as true and false": (
        put("annotations", PERSON, keypoints=[10, 20, True, 30, 40, True, 0, 0, False]),
        "v is true or false in 1 annotation, annotation 10 in a: true is read as 1, labeled, and false as 0, not",
    ),
    "count of nobody": (
        put("annotations", PERSON, num_keypoints=0), COUNT.format("10 in a with 0 where v is above 0 for 3"),
    ),
    "count of somebody": (
        put("annotations", UNLABELLED, num_keypoints=2), COUNT.format("13 in b with 2 where v is above 0 for 0"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("faults") / "people.json"


def judge(path: Path, *plants: Plant, **reading: Any) -> tuple[dict[str, str], list[str]]:
    """Whom the faults stop, with which message, and the records with errors by the check's "records"."""
    content = deepcopy(whole())
    for plant in plants:
        plant(content)
    path.write_text(json.dumps(content))
    stopped = {}
    uses: dict[str, Callable[[], Any]] = {
        "training": lambda: read_coco(path, **reading),
        "evaluation": lambda: make_ground_truth(read_columns(path, **reading)),
    }
    for use, read in uses.items():
        try:
            read()
        except ValueError as error:
            stopped[use] = str(error)
    return stopped, [str(found) for found in check_data(path, **reading).findings if found.check == "records"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_stops_whom_the_table_says_and_the_check_has_the_same_error(path, fault):
    plant, record, field, stops = FAULTS[fault]
    stopped, errors = judge(path, plant)
    assert stopped.keys() == stops
    assert any(error.startswith(f"{path}: {record}: ") for error in errors)
    assert set(stopped.values()) <= set(errors)  # the very same sentence, file and record first
    assert [(one.field, one.record) for one in read_columns(path).faults][:1] == [(field, record)]
    assert all((one.kind == "not an object") == (one.field == "") for one in read_columns(path).faults)


def test_missing_box_is_refused_with_what_stands_there_and_how_to_take_it_from_the_keypoints(path):
    remedy = "or take boxes from the keypoints: --boxes-from-keypoints 0.15, in Python boxes_from_keypoints=0.15"
    for plant, found in (
        (drop("annotations", PERSON, "bbox"), "nothing"), (put("annotations", PERSON, bbox=None), "null"),
        (put("annotations", PERSON, bbox=[]), "[]"), (put("annotations", PERSON, bbox=""), "''"),
    ):  # fmt: skip
        stopped, _ = judge(path, plant)
        assert f"x, y, width, height; got {found}; give the person one, {remedy}" in stopped["training"]


@pytest.mark.parametrize("case", NOTED)
def test_what_is_read_in_another_way_stops_no_one_and_training_evaluation_and_the_check_say_so(path, caplog, case):
    plant, message = NOTED[case]
    assert judge(path, plant) == ({}, [])
    caplog.set_level("INFO", logger="tokenpose")
    read_annotations(path)
    line = next(line for line in caplog.messages if message in line)
    corrected = [str(found) for found in check_data(path).findings if found.check == "corrected values"]
    assert corrected == caplog.messages
    assert line.startswith(f"{path}: ")


@pytest.mark.parametrize("case", SOUND)
def test_what_nobody_minds_is_no_fault(path, case):
    assert judge(path, SOUND[case]) == ({}, [])
    assert read_columns(path).notes == ()


def test_two_faults_stop_whom_one_of_them_stops_and_neither_hides_the_other(path):
    def interfere(one: str, other: str) -> bool:
        """Whether both are of one record, or one changes what the other's record is called: images name people."""
        places = {FAULTS[name][0].args[:2] for name in (one, other)}
        return len(places) < 2 or (("images", 1) in places and any(row == UNLABELLED for _, row in places))

    pairs = [pair for pair in combinations(FAULTS, 2) if not interfere(*pair)]
    assert len(pairs) > 200
    for one, other in pairs:
        stopped, errors = judge(path, FAULTS[one][0], FAULTS[other][0])
        assert stopped.keys() == FAULTS[one][3] | FAULTS[other][3], (one, other)
        assert set(stopped.values()) <= set(errors), (one, other)
        named = {error.removeprefix(f"{path}: ").split(": ")[0] for error in errors}
        assert named >= {FAULTS[one][1], FAULTS[other][1]}, (one, other)


FILLED = {"without box", "null as box", "empty box"}


@pytest.mark.parametrize("fault", FAULTS)
def test_boxes_from_keypoints_change_what_missing_boxes_do_and_nothing_else(path, fault):
    plant, record, _, stops = FAULTS[fault]
    stopped, errors = judge(path, plant, boxes_from_keypoints=0.15)
    assert stopped.keys() == (set() if fault in FILLED else stops)
    assert any(error.startswith(f"{path}: {record}: ") for error in errors) == (fault not in FILLED)
    assert set(stopped.values()) <= set(errors)


def test_what_is_read_in_another_way_hides_no_fault_and_no_fault_hides_it(path):
    """Faults that change or rename the noted record itself are left out."""

    def is_apart(noted: str, fault: str) -> bool:
        place, other = NOTED[noted][0].args[:2], FAULTS[fault][0].args[:2]
        return place != other and (place[0] != "annotations" or other != ("images", 1))

    noted = ("area 0", "count of nobody", "v as true and false", "limbs from 0", "no names")
    pairs = [pair for pair in product(noted, FAULTS) if is_apart(*pair)]
    assert len(pairs) > 100
    for noted, fault in pairs:
        stopped, errors = judge(path, NOTED[noted][0], FAULTS[fault][0])
        assert stopped.keys() == FAULTS[fault][3], (noted, fault)
        assert any(error.startswith(f"{path}: {FAULTS[fault][1]}: ") for error in errors), (noted, fault)
        notes = [note.message for note in read_columns(path).notes]
        assert sum(NOTED[noted][1].split(",")[0] in message for message in notes) == 1, (noted, fault, notes)


def test_two_faults_of_one_record_are_both_listed_and_the_first_one_stops(path):
    stopped, errors = judge(path, put("annotations", PERSON, bbox=None, area="x", keypoints=SEEN[:6]))
    assert [error.split(": ")[2].split()[0] for error in errors] == ["keypoints", "bbox", "area"]
    assert set(stopped.values()) == {errors[0]}


def test_faults_come_in_the_order_of_categories_images_and_annotations(path):
    planted = ("area of a crowd", "without box", "same names", "image without width")
    stopped, errors = judge(path, *(FAULTS[name][0] for name in planted))
    records = [error.removeprefix(f"{path}: ").split(": ")[0] for error in errors]
    assert records == ["category 1", "image 2 (b)", "annotation 10 in a", "annotation 12 in a"]
    assert set(stopped.values()) == {errors[0]}
