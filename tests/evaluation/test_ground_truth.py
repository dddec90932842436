"""Files that have, or lack, what pycocotools needs."""

import json
import math
import re
import tracemalloc

import pytest

from tokenpose.data.coco import read_coco
from tokenpose.evaluation.coco import measure_coco
from tokenpose.evaluation.ground_truth import IGNORED

from .flies import FLY_SIGMAS, SEEN, found, moved, read, record, without


def test_people_of_coco_mini_are_those_that_pycocotools_counts(data_folder):
    from pycocotools.coco import COCO as Annotations

    path = data_folder / "coco-mini" / "person_keypoints.json"
    theirs = Annotations(str(path))
    counted = theirs.loadAnns(theirs.getAnnIds(iscrowd=False))
    truth = read(path)
    assert truth.people == sum(entry["num_keypoints"] > 0 for entry in counted) == len(read_coco(path)) == 86
    assert len(truth.annotations) == len(theirs.anns) == 147
    assert sum(entry["iscrowd"] for entry in truth.annotations) == 5
    assert truth.completed == {}


def test_whole_numbers_may_be_written_with_a_point(write):
    truth = read(write(record(num_keypoints=3.0, iscrowd=0.0)))
    assert [(entry["num_keypoints"], entry["iscrowd"]) for entry in truth.annotations] == [(3, 0)]
    assert truth.people == 1
    for wrong in (2.5, "3", math.nan):
        with pytest.raises(
            ValueError,
            match=r"annotation 0 in 3\.jpg: num_keypoints must be a whole number, at least 0; got",
        ):
            read(write(record(num_keypoints=wrong)))


def test_missing_area_is_053_of_the_box(write):
    truth = read(write(without("area"), record()))
    assert [entry["area"] for entry in truth.annotations] == [pytest.approx(5300), 10_000]
    assert truth.completed == {"area": 1}


@pytest.mark.parametrize("area", [0, 1, 0.4, -1, math.nan, math.inf, 10**400, 9.9, 20_001])
def test_area_that_cannot_belong_to_its_box_counts_as_missing(write, area):
    truth = read(write(record(area=area), record()))
    assert [entry["area"] for entry in truth.annotations] == [pytest.approx(5300), 10_000]
    assert truth.completed == {"area": 1}


@pytest.mark.parametrize(("box", "area"), [([9, 9, 100, 100], 10), ([9, 9, 100, 100], 20_000), ([9, 9, 9, 9], 0.5)])
def test_area_that_may_belong_to_its_box_is_kept(write, box, area):
    assert read(write(record(area=area, bbox=box))).annotations[0]["area"] == area


def test_num_keypoints_that_contradict_the_labels_are_counted_again(write):
    truth = read(write(record(num_keypoints=0), record(num_keypoints=2, keypoints=[0] * 9), record(num_keypoints=1)))
    assert [entry["num_keypoints"] for entry in truth.annotations] == [3, 0, 1]
    assert truth.people == 2


def test_missing_area_of_a_box_without_one_is_none(write):
    bare = without("area")
    bare["bbox"] = [10, 10, -20, 30]
    assert [entry["area"] for entry in read(write(bare, record())).annotations] == [0, 10_000]


def test_category_is_chosen_by_name(write, tmp_path):
    content = json.loads(write(record(), record(category_id=2)).read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "wasp"})
    path = tmp_path / "two.json"
    path.write_text(json.dumps(content))
    assert read(path, "wasp").category["id"] == 2
    assert [entry["category_id"] for entry in read(path, "wasp").annotations] == [2]


def test_missing_counts_are_counted_and_nobody_is_a_crowd(write):
    empty = record(keypoints=[0] * 9)
    del empty["num_keypoints"]
    truth = read(write(without("num_keypoints"), without("iscrowd"), empty))
    assert [entry["num_keypoints"] for entry in truth.annotations] == [3, 3, 0]
    assert truth.people == 2
    assert truth.completed == {"num_keypoints": 2, "iscrowd": 1}
    assert measure_coco(truth, [found(SEEN), found(moved(SEEN, 0.1))], FLY_SIGMAS)["AP"] == pytest.approx(1)


def test_annotation_without_keypoints_and_box_is_left_out(write):
    truth = read(write(record(), record(keypoints=[], num_keypoints=0, bbox=[])))
    assert (len(truth.annotations), truth.completed) == (1, {IGNORED: 1})


WRONG = {
    "annotation 7 in 3.jpg: area must be a number of square pixels, at least 0; got 'big'": record(id=7, area="big"),
    "annotation 7 in 3.jpg: area must be a number of square pixels, at least 0; got [9]": record(id=7, area=[9]),
    "annotation 7 in 3.jpg: keypoints must be 9 finite numbers, x, y, v of 3 keypoints; got 4 numbers": record(
        id=7, keypoints=[1, 2, 2, 3]
    ),
    "annotation 7 in 3.jpg: bbox must be 4 finite numbers, x, y, width, height; got [1, 2]": record(id=7, bbox=[1, 2]),
    "annotation 7 in 3.jpg: bbox must be 4 finite numbers, x, y, width, height; got [1, 2, 3, 'a']": record(
        id=7, bbox=[1, 2, 3, "a"], iscrowd=1
    ),
    "annotation 7 in 3.jpg: bbox must be 4 finite numbers, x, y, width, height; got 5": record(id=7, bbox=5, iscrowd=1),
    "annotation 7 in 3.jpg: keypoints must be 9 finite numbers, x, y, v of 3 keypoints; got 5": record(
        id=7, keypoints=5, iscrowd=1
    ),
    "annotation 7: image_id must be that of a listed image; got [1]": record(id=7, image_id=[1], iscrowd=1),
    "annotation 7 in 3.jpg: keypoints must be 9 finite numbers, x, y, v of 3 keypoints; got nan": record(
        id=7, keypoints=[math.nan, *SEEN[1:]]
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_record_is_refused_with_file_and_record(write, message):
    path = write(record(), WRONG[message])
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        read(path)


def test_many_people_take_a_fraction_of_the_memory_of_their_json(write):
    """Parsed as a whole, such a record takes 3,500 bytes; that of a person of COCO with a polygon 10,000."""
    person = json.dumps(record(keypoints=[1.5, 2.5, 2] * 3, segmentation=[[1.25] * 80]))
    path = write()
    content = path.read_text().replace('"annotations": []', f'"annotations": [{", ".join([person] * 3_000)}]')
    path.write_text(content)
    del content
    tracemalloc.start()
    truth = read(path)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert truth.people == 3_000
    assert kept < 3_000 * 600
    assert peak < 3_000 * 2_500
