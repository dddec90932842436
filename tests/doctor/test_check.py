"""The data doctor on drawn people, whose labels are right, with one fault planted at a time."""

import json

import pytest

from tokenpose.doctor.check import check_data
from tokenpose.doctor.findings import CHECKS
from tokenpose.skeletons import LSP

from .planting import PEOPLE, change, change_image, drop, exchange, keypoint, put, repeat, several


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
    "no box": (drop("annotations", "bbox"), "records", "error", f"{BOX} nothing"),
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
    "area": (change(area="9"), "records", "error", "area must be a number of square pixels, at least 0; got '9'"),
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
    "origin": (put("neck", 0, 0), "visibility flags", "warning", "its neck is labeled, v 2, at (0, 0)"),
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


def test_one_fault_does_not_hide_another(content, check):
    for plant, *_ in (ONE_FAULT["short list"], ONE_FAULT["missing"]):
        plant(content)
    keypoint(content, "neck", 140, 70, row=3)
    assert [finding.check for finding in check(content)] == ["records", "missing images", "boxes", "keypoints outside"]


def test_without_images_only_labels_are_looked_at(drawn):
    diagnosis = check_data(drawn)
    assert diagnosis.findings == ()
    assert diagnosis.skipped == ("missing images", "unreadable images", "image sizes", "train and validation")


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
