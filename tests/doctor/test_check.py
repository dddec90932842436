"""The data doctor on drawn people, whose labels are right, with one fault planted at a time."""

import io
import json
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tokenpose.doctor import swap_scores, swaps
from tokenpose.doctor.check import check_data
from tokenpose.doctor.findings import CHECKS, Finding
from tokenpose.skeletons import LSP, Skeleton

from ..drawing import draw_people

PEOPLE = 40
HERE = 7  # the row of the annotation and of the image that a fault is planted in: annotation 7, image 17, 007.png
Content = dict[str, Any]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return draw_people(tmp_path_factory.mktemp("drawn"), PEOPLE)


@pytest.fixture
def content(drawn) -> Content:
    return json.loads(drawn.read_text())


@pytest.fixture
def check(drawn, tmp_path) -> Callable[..., tuple[Finding, ...]]:
    """Findings about a content, saved as people.json; with the drawn images, or those of another folder."""

    def run(content: Content, images: Path | None = None, **options: Any) -> tuple[Finding, ...]:
        path = tmp_path / "people.json"
        path.write_text(json.dumps(content))
        return check_data(path, images or drawn.parent / "images", **options).findings

    return run


def keypoint(content: Content, name: str, *values: float, row: int = HERE) -> None:
    start = 3 * LSP.index(name)
    content["annotations"][row]["keypoints"][start : start + len(values)] = values


def exchange(content: Content, *names: str, row: int = HERE) -> None:
    numbers = content["annotations"][row]["keypoints"]
    for name in names:
        left, right = 3 * LSP.index(f"left_{name}"), 3 * LSP.index(f"right_{name}")
        numbers[left : left + 3], numbers[right : right + 3] = numbers[right : right + 3], numbers[left : left + 3]


def test_drawn_people_have_no_fault(drawn):
    diagnosis = check_data(drawn, drawn.parent / "images")
    assert diagnosis.findings == ()
    (summary,) = diagnosis.files
    assert (summary.people, summary.images, len(summary.keypoints)) == (PEOPLE, PEOPLE, 14)
    assert summary.labels == dict.fromkeys(LSP.keypoints, PEOPLE)
    assert ("left_hip", "right_hip") in (summary.flip_pairs or ())
    assert summary.sigmas["left_hip"] == 0.107
    assert (summary.sigma_origins["left_hip"], summary.sigma_origins["neck"]) == ("named", "estimated")
    assert diagnosis.skipped == ("train and validation",)


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


KEYPOINTS = "keypoints must be 42 finite numbers, x, y, v of 14 keypoints; got"
BOX = "bbox must be 4 finite numbers, x, y, width, height; got"
LISTED = "image_id must be that of a listed image; got"
CATEGORIES = "category_id must be one of 1 (person); got"
COUNT = "num_keypoints must be a whole number, at least 0; got"
SIZE = "width and height must be numbers of pixels, at least 1; got"
ONE_FAULT = {
    "short list": (change(keypoints=[1, 2, 2] * 13), "records", "error", f"{KEYPOINTS} 39 numbers"),
    "no list": (change(keypoints="abc"), "records", "error", f"{KEYPOINTS} 'abc'"),
    "text in list": (put("neck", "x"), "records", "error", f"{KEYPOINTS} 'x'"),
    "nan": (put("neck", float("nan")), "records", "error", f"{KEYPOINTS} nan"),
    "huge": (put("neck", 10**400), "records", "error", f"{KEYPOINTS} 1000"),
    "no box": (drop("annotations", "bbox"), "records", "error", f"{BOX} None"),
    "three numbers": (change(bbox=[1, 2, 3]), "records", "error", f"{BOX} [1, 2, 3]"),
    "unlisted": (change(image_id=999), "records", "error", f"{LISTED} 999"),
    "image id is a list": (change(image_id=[1]), "records", "error", f"{LISTED} [1]"),
    "no category": (drop("annotations", "category_id"), "records", "error", f"{CATEGORIES} None"),
    "null as category": (change(category_id=None), "records", "error", f"{CATEGORIES} None"),
    "unlisted category": (
        change(category_id="1"), "records", "error",
        f"{CATEGORIES} '1'",
    ),
    "category is a list": (change(category_id=[1]), "records", "error", f"{CATEGORIES} [1]"),
    "no id": (change(id=[7]), "records", "error", "id must be a number or text; got [7]"),
    "id twice": (change(id=8), "records", "error", "id must be unique; annotations[7] has 8 too"),
    "image id twice": (
        several(change_image(id=16), change(image_id=16)), "records", "error",
        "id must be unique; images[6] (006.png) has 16 too",
    ),
    "no file name": (drop("images", "file_name"), "records", "error", "file_name must be a name; got None"),
    "no width": (drop("images", "width"), "records", "error", f"{SIZE} None and 150"),
    "listed twice": (repeat("images"), "duplicate images", "error", "its file is listed already, as image 17"),
    "missing": (change_image(file_name="x.png"), "missing images", "error", "there is no image x.png in "),
    "size": (change_image(width=240, height=300), "image sizes", "error", "it is 120 x 150, and the file says 240"),
    "other size": (change_image(width=100), "image sizes", "error", "it is 120 x 150, and the file says 100 x 150"),
    "crowd as text": (change(iscrowd="0"), "records", "error", "iscrowd must be 0 or 1; got '0'"),
    "area": (change(area=-1), "records", "error", "area must be a number of square pixels, at least 0; got -1"),
    "count as text": (change(num_keypoints="3"), "records", "error", f"{COUNT} '3'"),
    "flat box": (change(bbox=[20, 30, 0, 50]), "boxes", "error", "its box 0 x 50 at (20, 30) has no area"),
    "box elsewhere": (
        change(bbox=[200, 30, 50, 50]), "boxes", "error",
        "its box 50 x 50 at (200, 30) has no area within the image of 120 x 150",
    ),
    "box on the edge": (change(bbox=[60, 20, 90, 125]), "boxes", "warning", "at (60, 20) reaches 30 pixels out of the"),
    "box of somebody else": (change(bbox=[2, 2, 20, 20]), "boxes", "warning", "pixels outside its box, and "),
    "outside": (put("neck", 140, 70), "keypoints outside", "warning", "its neck at (140, 70) lies outside the image"),
    "one spot": (change(keypoints=[60, 70, 2] * 14), "repeated keypoints", "error", "its 14 keypoints all lie within"),
    "v 3": (put("neck", 60.5, 70.5, 3), "visibility flags", "error", "v is 3 for its neck"),
    "origin": (put("neck", 0, 0), "visibility flags", "warning", "its neck is labelled, v 2, at (0, 0)"),
    "leftover": (
        several(put("neck", 60.5, 70.5, 0), change(num_keypoints=13)), "visibility flags", "warning",
        "its neck has v 0 at (60.5, 70.5)",
    ),
    "count": (change(num_keypoints=3), "visibility flags", "warning", "its num_keypoints is 3, and v is above"),
    "hips": (lambda content: exchange(content, "hip"), "left and right", "warning", "left_hip and right_hip look swap"),
    "legs": (
        lambda content: exchange(content, "hip", "knee", "ankle"), "left and right", "warning",
        "left_hip and right_hip, left_knee and right_knee, left_ankle and right_ankle look swapped: swapped they are",
    ),
    "twice": (
        several(repeat("annotations"), lambda content: content["annotations"][-1].update(id=99)), "duplicate people",
        "warning", "it is the same person as annotation 7: the boxes overlap by 100%, the keypoints differ by 0.0",
    ),
}  # fmt: skip


RECORDS = {
    "unlisted": "annotation 7",
    "image id is a list": "annotation 7",
    "no id": "annotations[7] in 007.png",
    "id twice": "annotation 8 in 008.png",
    "image id twice": "image 16 (007.png)",
    "no file name": "image 17",
    "no width": "image 17 (007.png)",
    "listed twice": "image 17 (007.png)",
    "missing": "image 17 (x.png)",
    "size": "image 17 (007.png)",
    "other size": "image 17 (007.png)",
    "twice": "annotation 99 in 007.png",
}  # all others: annotation 7 in 007.png


@pytest.mark.parametrize("fault", ONE_FAULT)
def test_each_planted_fault_is_found_where_it_is(content, check, fault):
    plant, name, severity, message = ONE_FAULT[fault]
    plant(content)
    found = [finding for finding in check(content) if finding.check == name]
    assert [(finding.severity, message in finding.message) for finding in found] == [(severity, True)], found
    assert found[0].record == RECORDS.get(fault, "annotation 7 in 007.png")


def test_repeated_keypoint_is_named_with_its_twin(content, check):
    x, y = content["annotations"][HERE]["keypoints"][3 * LSP.index("neck") :][:2]
    keypoint(content, "left_wrist", x, y)
    (found,) = (finding for finding in check(content) if finding.check == "repeated keypoints")
    assert found.message == f"left_wrist and neck lie at the very same spot, ({x:g}, {y:g})"
    assert found.record == "annotation 7 in 007.png"
    assert found.keypoints == ("left_wrist", "neck")


def test_keypoints_in_whole_pixels_may_fall_together_in_small_people(content, check):
    numbers = content["annotations"][HERE]["keypoints"]
    numbers[:] = [round(number / 3) for number in numbers]
    numbers[2::3] = [2] * 14
    numbers[:3] = numbers[3:6]
    assert not [finding for finding in check(content) if finding.check == "repeated keypoints"]


def test_loose_box_is_told_from_one_that_fits(content, check):
    for annotation in content["annotations"][:2]:
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        x, y = numbers[:, :2].min(axis=0)
        numbers[:, :2] = (numbers[:, :2] - (x, y)) / 4 + (50, 50)
        annotation["keypoints"] = numbers.ravel().tolist()
    content["annotations"][0]["bbox"] = [5, 5, 110, 140]  # about 6 times as long as a figure of 15 x 25
    content["annotations"][1]["bbox"] = [45, 45, 35, 55]
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.record == "annotation 0 in 000.png"
    assert "times as long as its keypoints' extent" in found.message


def test_loose_box_is_told_from_what_is_usual_in_the_file(content, check):
    """Of faces in boxes around whole people: a box eight times as long as its keypoints' extent is like the others."""
    for row, annotation in enumerate(content["annotations"]):
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        top = numbers[-1, :2]
        numbers[:, :2] = top + (numbers[:, :2] - top) / (32 if row == HERE else 8)
        annotation["keypoints"] = numbers.ravel().round(3).tolist()
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.record == "annotation 7 in 007.png"
    assert re.search(r"is 3\d\.\d times as long as its keypoints' extent, where \d\.\d is usual$", found.message)
    del content["annotations"][HERE]
    assert not [finding for finding in check(content) if finding.check == "boxes"]


def test_of_few_people_nothing_is_usual(content, check):
    content["annotations"] = content["annotations"][:4]
    for annotation in content["annotations"]:
        numbers = np.array(annotation["keypoints"]).reshape(-1, 3)
        numbers[:, :2] = numbers[-1, :2] + (numbers[:, :2] - numbers[-1, :2]) / 8
        annotation["keypoints"] = numbers.ravel().round(3).tolist()
    found = [finding for finding in check(content) if finding.check == "boxes"]
    assert len(found) == 4
    assert found[0].message.endswith("times as long as its keypoints' extent")


def test_each_annotation_of_an_unlisted_category_is_a_finding_and_those_of_others_are_none(content, check):
    content["categories"].append({"id": 2, "name": "dog"})
    for row in (0, 1, 2):
        content["annotations"][row]["category_id"] = 2
    for row in (3, 4, 5):
        content["annotations"][row]["category_id"] = 0
    found = check(content)
    assert [(one.check, one.severity, one.annotations) for one in found] == [
        ("records", "error", (row,)) for row in (3, 4, 5)
    ]
    assert found[0].message == "category_id must be one of 1 (person), 2 (dog); got 0"
    assert found[0].advice == "correct the record or remove it"


def test_one_of_several_categories_has_to_be_named(content, check):
    content["categories"].append({"id": 2, "name": "dog", "keypoints": ["nose"]})
    with pytest.raises(ValueError, match=r"it has: person, dog; say which: --category NAME, in Python category=NAME$"):
        check(content)
    assert check(content, category="person") == ()


def test_one_fault_does_not_hide_another(content, check):
    for plant, *_ in (ONE_FAULT["short list"], ONE_FAULT["missing"]):
        plant(content)
    keypoint(content, "neck", 140, 70, row=3)
    assert [finding.check for finding in check(content)] == ["records", "missing images", "boxes", "keypoints outside"]


# Of the file as a whole


def test_file_that_marks_the_unlabelled_by_the_origin_is_told_once(content, check):
    for row in range(0, PEOPLE, 2):
        keypoint(content, "neck", 0, 0, row=row)
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("visibility flags", "error", "")
    assert found.message == "v is never 0, yet 20 keypoints lie at (0, 0)"


def test_flags_that_only_say_labelled_or_not_are_noted(content, check):
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = [1] * 13 + [0]
        annotation["keypoints"][-3:] = [0, 0, 0]
        annotation["num_keypoints"] = 13
    found = check(content)
    assert [(finding.check, finding.severity) for finding in found] == [
        ("visibility flags", "note"),
        ("never labelled", "warning"),
    ]
    assert found[1].message == f"head_top is never labelled in {PEOPLE} people"


def test_boxes_as_corners_are_told_once(content, check):
    for annotation in content["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    (found,) = (finding for finding in check(content) if finding.check == "boxes")
    assert found.severity == "error"
    assert "make sense as x1, y1, x2, y2" in found.message


def test_pair_that_is_named_the_other_way_in_the_whole_file_is_found_and_nobody_is_suspected(content, check):
    names = content["categories"][0]["keypoints"]
    left, right = names.index("left_elbow"), names.index("right_elbow")
    names[left], names[right] = names[right], names[left]
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("left and right", "error", "")
    assert "left_elbow is on the side of the other right keypoints" in found.message


def test_exchanges_among_many_pairs_are_found_by_the_nearest_pairs_alone(monkeypatch):
    count, random = 40, np.random.default_rng(0)
    left = random.uniform((0.05, 0), (0.5, 1), (count, 2))
    keypoints = 300 * np.concatenate((left, left * (-1, 1))) + random.normal(0, 5, (60, 2 * count, 2))
    keypoints[7, [3, 3 + count]] = keypoints[7, [3 + count, 3]]
    skeleton = Skeleton.from_names([f"{side}_{index}" for side in ("left", "right") for index in range(count)])
    widths, learn = [], swap_scores._learn
    monkeypatch.setattr(swap_scores, "_learn", lambda values, prior: widths.append(len(prior)) or learn(values, prior))
    suspicions, exchanged = swaps.find_swaps(keypoints, np.ones(keypoints.shape[:2], dtype=bool), skeleton)
    assert ([(one.person, one.pairs) for one in suspicions], exchanged) == ([(7, (3,))], ())
    assert max(widths) == 5 * swaps.NEAREST  # of 400 pairs of pairs that touch one half of them


def test_names_in_another_order_than_the_keypoints_give_pairs_that_are_none(content, check):
    names = content["categories"][0]["keypoints"]
    knee, ankle = names.index("left_knee"), names.index("left_ankle")
    names[knee], names[ankle] = names[ankle], names[knee]
    found = [finding for finding in check(content) if finding.check == "flip pairs"]
    assert {frozenset(finding.keypoints) for finding in found} >= {frozenset({"left_ankle", "right_ankle"})}
    assert all("don't look like a pair" in finding.message for finding in found)


def rename(content: Content, **names: str) -> None:
    category = content["categories"][0]
    category["keypoints"] = [names.get(name, name) for name in category["keypoints"]]


def test_name_without_partner_is_an_error_that_tells_it(content, check):
    rename(content, left_hip="left_hipbone")
    (found,) = (finding for finding in check(content) if finding.check == "flip pairs")
    assert (found.severity, found.keypoints) == ("error", ("right_hip", "left_hipbone"))
    assert found.message == "right_hip, left_hipbone have no partner of the other side by name"


def test_names_without_sides_are_an_error_and_given_pairs_take_their_place(content, check):
    rename(content, **{name: f"point_{index}" for index, name in enumerate(LSP.keypoints)})
    (found,) = check(content)
    assert (found.check, found.severity) == ("flip pairs", "error")
    assert found.message == "the names don't say which keypoints change sides: no name has a side, left or right"
    assert "--flip-pairs left_a:right_a" in found.advice
    assert "--flip 0" in found.advice
    assert check(content, flip_pairs=()) == ()
    pairs = [(f"point_{left}", f"point_{right}") for left, right in LSP.flip_pairs or ()]
    assert check(content, flip_pairs=pairs) == ()
    exchange(content, "elbow")
    assert [finding.check for finding in check(content, flip_pairs=pairs)] == ["left and right"]
    with pytest.raises(LookupError, match="has no keypoint 'left_hip'"):
        check(content, flip_pairs=[("left_hip", "right_hip")])


def test_given_pairs_that_contradict_the_names_are_errors(content, check):
    pairs = [("left_hip", "right_knee"), *((f"left_{name}", f"right_{name}") for name in ("ankle", "elbow", "wrist"))]
    messages = [finding.message for finding in check(content, flip_pairs=pairs) if finding.severity == "error"]
    assert messages == [
        "left_hip is paired with right_knee; by the names it should be paired with right_hip",
        "left_shoulder and right_shoulder are in no pair",
    ]


def test_repeated_name_is_an_error_of_the_category_and_the_rest_is_looked_at(content, check):
    rename(content, left_hip="neck", head_top="neck (2)")
    content["annotations"][HERE]["bbox"] = [20, 30, 0, 50]
    found = check(content)
    (first,) = (finding for finding in found if finding.check == "records")
    assert (first.severity, first.record) == ("error", "category 1")
    assert first.message == "the names of keypoints must differ; repeated: neck"
    assert first.advice == "give each keypoint its own name; in a report of the check the later one is 'neck (3)'"
    assert [finding.record for finding in found if finding.check == "boxes"] == ["annotation 7 in 007.png"]
    assert {"right_hip"} <= {name for finding in found if finding.check == "flip pairs" for name in finding.keypoints}


def test_names_that_are_repeated_several_times_stay_apart(content, check):
    rename(content, **dict.fromkeys(("left_hip", "right_hip", "neck"), "spot"), left_knee="top", head_top="top")
    (first,) = (finding for finding in check(content) if finding.check == "records")
    assert first.message == "the names of keypoints must differ; repeated: spot, top"
    assert first.advice == (
        "give each keypoint its own name; in a report of the check the later ones are 'spot (2)', 'spot (3)', 'top (2)'"
    )


def test_limbs_that_count_from_0_are_told_and_left_out(content, check):
    content["categories"][0]["skeleton"] = [
        [first - 1, second - 1] for first, second in content["categories"][0]["skeleton"]
    ]
    (found,) = check(content)
    assert (found.check, found.record) == ("records", "category 1")
    assert found.message.endswith("skeleton holds [0, 1]; a limb is two different keypoints, counted from 1 to 14")
    assert found.advice == "give pairs of keypoint numbers that count from 1"


def test_file_without_people_is_an_error(content, check):
    content["annotations"] = []
    (found,) = check(content)
    assert (found.check, found.message) == ("never labelled", "it has no people with labelled keypoints")


def test_file_in_which_nobody_is_labelled_is_an_error(content, check):
    for annotation in content["annotations"]:
        annotation["keypoints"][2::3] = [0] * 14
    (found,) = (finding for finding in check(content) if finding.severity == "error")
    assert (found.check, found.message) == ("never labelled", "it has no people with labelled keypoints")
    assert found.advice == "set v to 1 or 2 where a keypoint is labelled: there is no one to train on"


def test_category_that_is_no_record_is_an_error(content, check):
    content["categories"].insert(0, None)
    (found,) = check(content)
    assert (found.check, found.severity, found.record) == ("records", "error", "categories[0]")
    assert found.message == "a category must be an object; got None"


def test_images_without_people_are_one_note_and_crowds_are_passed_over(content, check):
    del content["annotations"][:4]
    content["annotations"][0] = {"id": 4, "image_id": 14, "category_id": 1, "iscrowd": 1, "segmentation": {}}
    (found,) = check(content)
    assert (found.check, found.severity) == ("images without people", "note")
    assert found.message == "4 of 40 images have no annotations: 000.png, 001.png, 002.png and 1 more"
    assert found.images == ("000.png", "001.png", "002.png", "003.png")


# Images


def test_images_that_are_cut_short_or_no_images_cannot_be_read(content, check, drawn, tmp_path):
    whole = (drawn.parent / "images" / "007.png").read_bytes()
    (tmp_path / "short.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no image")
    for row, name in ((HERE, "short.png"), (HERE + 1, "text.png")):
        content["images"][row]["file_name"] = name
    found = check(content, [drawn.parent / "images", tmp_path])  # type: ignore[arg-type]
    assert [(finding.check, finding.images) for finding in found] == [
        ("unreadable images", ("short.png",)),
        ("unreadable images", ("text.png",)),
    ]
    assert "short.png can't be decoded" in found[0].message
    assert "text.png is not an image that can be read" in found[1].message


@pytest.mark.parametrize(("size", "severity"), [((150, 120), "error"), ((120, 150), "note")])
def test_image_that_exif_turns_is_an_error_only_where_the_labels_were_made_on_the_turned_one(
    content, check, drawn, tmp_path, size, severity
):
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(drawn.parent / "images" / "007.png") as picture:
        picture.save(tmp_path / "turned.png", exif=exif)
    content["images"][HERE].update(file_name="turned.png", width=size[0], height=size[1])
    found = check(content, [drawn.parent / "images", tmp_path])  # type: ignore[arg-type]
    assert [(one.severity, one.images) for one in found if one.check == "image sizes"] == [(severity, ("turned.png",))]


def shrink(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def compress(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


COPIES = {"shrink": shrink, "compress": compress, "grey": lambda picture: picture.convert("L")}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_an_image_are_found_in_the_file_and_across_train_and_validation(
    content, check, drawn, tmp_path, copy
):
    with Image.open(drawn.parent / "images" / "007.png") as picture:
        COPIES[copy](picture).save(tmp_path / "copy.png")
    with Image.open(tmp_path / "copy.png") as picture:
        record = {"id": 99, "file_name": "copy.png", "width": picture.width, "height": picture.height}
    places = [drawn.parent / "images", tmp_path]
    val = deepcopy(content)
    content["images"].append(record)
    found = [one for one in check(content, places) if one.check == "duplicate images"]  # type: ignore[arg-type]
    assert [(one.severity, one.images) for one in found] == [("warning", ("copy.png", "007.png"))]
    assert "it looks like 007.png (correlation 0.9" in found[0].message or "(correlation 1.0" in found[0].message
    del content["images"][-1]
    val["images"] = [record]
    val["annotations"] = [{**val["annotations"][HERE], "image_id": 99}]
    (tmp_path / "val.json").write_text(json.dumps(val))
    found = [one for one in check(content, places, val=tmp_path / "val.json") if "validation" in one.check]  # type: ignore[arg-type]
    assert [(one.severity, one.images, Path(one.file).name) for one in found] == [
        ("warning", ("copy.png", "007.png"), "val.json")
    ]


def test_images_of_training_in_validation_are_errors_where_the_bytes_are_the_same(content, check, drawn, tmp_path):
    val = {**content, "images": content["images"][:3], "annotations": content["annotations"][:3]}
    (tmp_path / "val.json").write_text(json.dumps(val))
    found = check(content, val=tmp_path / "val.json")
    assert [(one.check, one.severity, one.record) for one in found if one.check == "train and validation"] == [
        ("train and validation", "error", f"image {10 + row} ({row:03}.png)") for row in range(3)
    ]
    assert f"it is the same as 000.png of {tmp_path / 'people.json'}, byte for byte" in {one.message for one in found}


def test_without_images_only_labels_are_looked_at(drawn):
    diagnosis = check_data(drawn)
    assert diagnosis.findings == ()
    assert diagnosis.skipped == ("missing images", "unreadable images", "image sizes", "train and validation")


# The report


def test_report_is_json_with_every_finding(content, drawn, tmp_path):
    exchange(content, "hip")
    content["annotations"][3]["id"] = [1]
    (tmp_path / "a.json").write_text(json.dumps(content))
    diagnosis = check_data(tmp_path / "a.json", drawn.parent / "images")
    report = json.loads(json.dumps(diagnosis.to_dict(), allow_nan=False))
    assert list(report["counts"]) == list(CHECKS)
    assert report["counts"]["left and right"] == {"error": 0, "warning": 1, "note": 0}
    assert [finding["annotations"] for finding in report["findings"]] == [["[1]"], [7]]
    assert report["files"][0]["flip_pairs"][0] == ["left_hip", "right_hip"]
    assert report["files"][0]["sigmas"]["left_wrist"] == 0.062
    assert str(diagnosis.findings[1]).startswith(
        f"{tmp_path / 'a.json'}: annotation 7 in 007.png: left_hip and right_hip"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.json is not JSON: "),
        ("[1", r"a\.json is not JSON: it ends in the middle of record 0"),
        ("3", r"a\.json holds neither a JSON object nor a list, but '3'"),
        (
            '{"images": [], "annotations": {}, "categories": []}',
            r"a\.json: annotations must be a list of records; it is {}$",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1}]}',
            r"a\.json must have exactly one category with keypoints; with keypoints it has: none",
        ),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "fly", "keypoints": ["a", 3]}]}',
            r"a\.json: category 'fly': keypoints must be a list of names; got \['a', 3\]$",
        ),
    ],
)
def test_what_is_no_keypoint_file_is_refused_in_one_line(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        check_data(tmp_path / "a.json")
    assert "\n" not in str(error.value)


def test_missing_and_repeated_files_are_refused(drawn, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        check_data(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match=r"people\.json is given twice"):
        check_data(drawn, val=drawn)


@pytest.mark.parametrize("kind", ["images", "annotations"])
@pytest.mark.parametrize("value", [None, 3, "x", [], {}])
def test_records_of_any_kind_are_findings_not_errors(content, check, kind, value):
    content[kind][HERE] = value
    assert "records" in {finding.check for finding in check(content)}
