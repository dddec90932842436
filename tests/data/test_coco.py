import itertools
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenpose.data.coco import read_coco
from tokenpose.skeletons import COCO, LSP

from .fly_files import LEFT_OUT, SEEN, content, record, write_flies


@pytest.fixture
def write(tmp_path) -> Callable[[Any], Path]:
    return partial(write_flies, tmp_path)


def test_people_are_read_with_boxes_keypoints_and_skeleton(write):
    samples = read_coco(write(content(record(), record(id=8, image_id=1, bbox=[0, 0, 10, 20]))))
    assert len(samples) == 2
    assert samples.files == ("a.jpg", "b.jpg")
    assert samples.image_ids.tolist() == [3, 1]
    assert samples.image_index.tolist() == [0, 1]
    assert [samples.file_of(0), samples.file_of(1)] == ["a.jpg", "b.jpg"]
    assert samples.keypoints.tolist() == [[[10, 20], [30, 40], [0, 0]]] * 2
    assert samples.visible.tolist() == [[True, True, False]] * 2  # 1: there but hidden, 2: seen, 0: not labeled
    assert samples.skipped == {}
    assert samples.skeleton.keypoints == ("head", "left_wing", "right_wing")
    assert samples.skeleton.limbs == ((0, 1), (0, 2))
    assert samples.skeleton.flip_pairs == ((1, 2),)
    assert samples.keypoints.dtype == samples.boxes.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ([5, 6, 21, 31], [5, 6, 21, 31]),
        ([-5, -6, 21, 31], [0, 0, 21, 31]),  # as published: the corner moves in, the size stays
        ([70, 90, 50, 50], [70, 90, 10, 10]),  # to pixel 79 and 99
        ([2.5, 3.5, 10, 10], [2.5, 3.5, 10, 10]),
        ([5, 5, 20, 0.5], [5, 5, 20, 1]),  # no box is less than a pixel
        ([79, 5, 20, 20], [79, 5, 1, 20]),
    ],
)
def test_boxes_are_cut_to_their_image_as_published(write, given, read):
    assert read_coco(write(content(record(bbox=given)))).boxes.tolist() == [read]


@pytest.mark.parametrize("reason", LEFT_OUT)
def test_people_that_cannot_train_are_left_out_and_counted(write, reason):
    samples = read_coco(write(content(LEFT_OUT[reason], record(), LEFT_OUT[reason])))
    assert len(samples) == 1
    assert samples.skipped == {reason: 2}


@pytest.mark.parametrize("box", [[81, 5, 20, 20], [5, 101, 20, 20], [5, 5, 20, 0], [5, 5, -3, 20]])
def test_boxes_outside_the_image_have_no_area(write, box):
    assert read_coco(write(content(record(bbox=box)))).skipped == {"box without area": 1}


@pytest.mark.parametrize("keypoints", [[], None])
def test_annotations_without_keypoints_are_left_out(write, keypoints):
    assert read_coco(write(content(record(keypoints=keypoints)))).skipped == {"no labeled keypoint": 1}
    bare = {key: value for key, value in record().items() if key != "keypoints"}
    assert read_coco(write(content(bare))).skipped == {"no labeled keypoint": 1}


def test_crowds_mask_may_stand_in_place_of_everything(write):
    crowd = {"id": 9, "image_id": 3, "category_id": 1, "iscrowd": 1, "segmentation": {"counts": [1], "size": [100, 80]}}
    assert read_coco(write(content(crowd))).skipped == {"crowd": 1}


def test_file_without_people_gives_none(write):
    samples = read_coco(write(content()))
    assert len(samples) == 0
    assert samples.boxes.shape == (0, 4)
    assert samples.keypoints.shape == (0, 3, 2)
    assert samples.visible.shape == (0, 3)


ROCK = {"id": 2, "name": "rock"}
WITH_ROCK = content()["categories"] + [ROCK]


def test_annotations_of_other_categories_are_passed_by_and_counted(write):
    rocks = [record(category_id=2, keypoints=[1, 2, 3, 4])] * 2
    path = write(content(record(), *rocks, categories=WITH_ROCK))
    assert len(read_coco(path)) == 1
    assert read_coco(path).describe() == f"{path}: 3 annotations: 1 person; left out: 2 other category"


@pytest.mark.parametrize("category", [0, 3, "1", "fly", [1], {}, 1.5])
def test_annotation_of_a_category_that_is_not_listed_is_refused_with_those_that_are(write, category):
    path = write(content(record(), record(id=8, category_id=category), categories=WITH_ROCK))
    with pytest.raises(ValueError, match="category_id") as error:
        read_coco(path)
    assert str(error.value) == (
        f"{path}: annotation 8 in a.jpg: category_id must be one of 1 (fly), 2 (rock); got {category!r}; "
        "correct the record or remove it"
    )
    assert len(read_coco(write(content(record(category_id=1.0))))) == 1


def test_of_many_categories_ten_are_named(write):
    many = content()["categories"] + [{"id": index, "name": f"c{index}"} for index in range(2, 90)]
    with pytest.raises(ValueError, match=r"one of 1 \(fly\), 2 \(c2\), .*10 \(c10\), \.\.\.; got 0"):
        read_coco(write(content(record(category_id=0), categories=many)))


def without(mapping: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in mapping.items() if name != key}


IMAGE = content()["images"][0]
FAULTS = {
    "json": ("{", "people.json is not JSON: "),
    "cut off": (
        json.dumps(content(record(), record(id=8)))[:-160],
        r"people\.json is not JSON: it ends in the middle of annotations\[1\]$",
    ),
    "number": ("3", "people.json holds neither a JSON object nor a list, but '3'"),
    "table": (content(annotations={"7": record()}), "annotations must be a list of records; it is {"),
    "null": (content(images=None), "images must be a list of records; it is None"),
    "record": (content(record(), 5), r"annotations\[1\]: an annotation must be an object; got 5"),
    "image record": (content(images=["a.jpg"]), r"images\[0\]: an image must be an object; got 'a\.jpg'"),
    "category record": (content(categories=["fly"]), "with keypoints it has: none"),
    "category record beside": (
        content(categories=["fly", *content()["categories"]]),
        r"categories\[0\]: a category must be an object; got 'fly'",
    ),
    "list": ([1, 2], "people.json is not a COCO keypoint file: it has no images, annotations, categories"),
    "no images": (without(content(), "images"), "people.json is not a COCO keypoint file: it has no images$"),
    "no names": ({}, "it has no images, annotations, categories$"),
    "length": (
        content(record(keypoints=SEEN[:6])),
        "keypoints must be 9 finite numbers, x, y, v of 3 keypoints; got 6 num",
    ),
    "image": (content(record(image_id=99)), "annotation 7: image_id must be that of a listed image; got 99"),
    "box": (
        content(without(record(), "bbox")),
        r"annotation 7 in a\.jpg: bbox must be 4 finite numbers, x, y, width, height; got nothing",
    ),
    "box length": (content(record(bbox=[1, 2, 3])), r"annotation 7 in a\.jpg: bbox must be .*; got \[1, 2, 3\]"),
    "crowd as text": (content(record(iscrowd="0")), r"annotation 7 in a\.jpg: iscrowd must be 0 or 1; got '0'"),
    "width": (
        content(images=[without(IMAGE, "width")]),
        r"image 3 \(a\.jpg\): width and height must be numbers of pixels, at least 1; got None and 100",
    ),
    "file": (content(images=[without(IMAGE, "file_name")]), "image 3: file_name must be a name; got None"),
    "id": (content(images=[without(IMAGE, "id")]), r"images\[0\] \(a\.jpg\): id must be a number or text; got None"),
    "id twice": (
        content(images=[IMAGE, IMAGE | {"file_name": "c.jpg"}]),
        r"image 3 \(c\.jpg\): id must be unique; images\[0\] \(a\.jpg\) has 3 too",
    ),
    "id null": (
        content(images=[IMAGE | {"id": None}]),
        r"images\[0\] \(a\.jpg\): id must be a number or text; got None",
    ),
    "id list": (
        content(images=[IMAGE | {"id": [3]}]),
        r"images\[0\] \(a\.jpg\): id must be a number or text; got \[3\]",
    ),
    "file number": (content(images=[IMAGE | {"file_name": 3}]), "image 3: file_name must be a name; got 3"),
    "width null": (
        content(images=[IMAGE | {"width": None}]),
        r"image 3 \(a\.jpg\): width and height must be .*; got None and 100",
    ),
    "width 0": (content(images=[IMAGE | {"width": 0}]), r"image 3 \(a\.jpg\): width and height .* got 0 and 100"),
    "image text": (content(record(image_id="3")), "annotation 7: image_id must be .*; got '3'"),
    "image list": (content(record(image_id=[3])), r"annotation 7: image_id must be .*; got \[3\]"),
    "no image id": (content(without(record(), "image_id")), "annotation 7: image_id must be .*; got None"),
    "box null": (content(record(bbox=[5, None, 21, 31])), r"bbox must be .*; got \[5, None, 21, 31\]"),
    "box nan": (
        content(record(bbox=[5, float("nan"), 21, 31])),
        r"annotation 7 in a\.jpg: bbox must be .*; got \[5, nan, 21",
    ),
    "box text": (content(record(bbox="5 6 21 31")), r"annotation 7 in a\.jpg: bbox must be .*; got '5 6 21 31'"),
    "text": (
        content(record(keypoints=["10", 20, 2, 30, 40, 1, 0, 0, 0])),
        r"annotation 7 in a\.jpg: keypoints must be 9 finite numbers, x, y, v of 3 keypoints; got '10'",
    ),
    "pairs": (
        content(record(keypoints=[SEEN[:2], SEEN[3:5], SEEN[6:8]])),
        r"annotation 7 in a\.jpg: keypoints must .*; got \[10, 20\] and 2 more",
    ),
    "null inside": (content(record(keypoints=[None, *SEEN[1:]])), r"keypoints must .*; got None;"),
    "nan": (
        content(record(keypoints=[float("nan"), *SEEN[1:]])),
        r"annotation 7 in a\.jpg: keypoints must be 9 finite numbers.*; got nan;",
    ),
    "huge": (
        content(record(keypoints=[1e300, *SEEN[1:]])),
        r"keypoints must be 9 finite numbers.*; got 1e\+300;",
    ),
    "more than huge": (
        content(record(keypoints=[10**400, *SEEN[1:]])),
        "keypoints must be 9 finite numbers.*; got 1000",
    ),
    "area": (content(record(area="large")), "area must be a number of square pixels, at least 0; got 'large'"),
    "nameless": (content(record(), without(record(bbox=[]), "id")), r"annotations\[1\] in a\.jpg: bbox must be"),
    "no category id": (
        content(without(record(), "category_id")),
        r"annotation 7 in a\.jpg: category_id must be one of 1 \(fly\); got None",
    ),
    "names": (
        content(categories=[{"id": 1, "name": "fly", "keypoints": ["a", 1]}]),
        r"category 'fly': keypoints must be a list of names; got \['a', 1\]",
    ),
    "names text": (
        content(categories=[{"id": 1, "name": "fly", "keypoints": "nose"}]),
        "category 'fly': keypoints must be a list of names; got 'nose'",
    ),
    "same names": (
        content(categories=[{"id": 1, "name": "fly", "keypoints": ["a", "a"]}]),
        "category 1: the names of keypoints must differ; repeated: a",
    ),
    "category id": (content(categories=[without(content()["categories"][0], "id")]), "category fly has no id"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faulty_files_are_refused_by_file_and_record(write, fault):
    values, message = FAULTS[fault]
    with pytest.raises(ValueError, match=rf"people\.json.*{message}" if "people" not in message else message):
        read_coco(write(values))


def test_sections_may_come_in_any_order(write):
    values = content(record(), record(id=8, image_id=1)) | {"info": {"year": 2017}, "licenses": [{"id": 1}]}
    expected = read_coco(write(values))
    for names in itertools.permutations(("images", "annotations", "categories", "info")):
        samples = read_coco(write(json.dumps({name: values[name] for name in names}, indent=1)))
        assert samples.files == expected.files
        assert samples.skeleton == expected.skeleton
        assert samples.keypoints.tolist() == expected.keypoints.tolist()
        assert samples.annotation_ids.tolist() == [7, 8]


def test_faults_of_annotations_that_do_not_count_are_no_faults(write):
    faulty = {"keypoints": ["x"], "bbox": None, "image_id": 99, "area": "large"}
    others = record(category_id=2, **faulty), record(iscrowd=1, **faulty)
    samples = read_coco(write(content(*others, record(), categories=WITH_ROCK)))
    assert (len(samples), samples.skipped) == (1, {"crowd": 1, "other category": 1})
    bare = record(keypoints=[0] * 9, bbox=None, image_id=99, area="large")
    assert read_coco(write(content(bare, record()))).skipped == {"no labeled keypoint": 1}


def test_keypoints_outside_their_image_stay_and_are_counted(write):
    keypoints = [-1, 20, 2, 80, 40, 1, 10, 100, 2]  # the image is 80 wide and 100 high: columns 0..79, rows 0..99
    samples = read_coco(
        write(content(record(keypoints=keypoints), record(keypoints=[79.5, 99.5, 2, 0, 0, 1, -5, -5, 0])))
    )
    assert samples.outside == 3
    assert samples.visible.tolist() == [[True] * 3, [True, True, False]]
    assert samples.keypoints[0].tolist() == [[-1, 20], [80, 40], [10, 100]]


@pytest.mark.parametrize("ids", [["x", "y"], ["3", "1"], [3, "y"], [0.5, 1.5]])
def test_images_whose_ids_are_no_whole_numbers_are_numbered(write, ids):
    images = [image | {"id": identity} for image, identity in zip(content()["images"], ids, strict=True)]
    samples = read_coco(write(content(record(image_id=ids[1]), record(image_id=ids[0]), images=images)))
    assert samples.image_ids.tolist() == [0, 1]
    assert samples.image_index.tolist() == [1, 0]


def test_ids_of_records_are_those_of_the_file_where_all_are_whole_numbers(write):
    assert read_coco(write(content(record(id=2**40), record(id=5.0)))).annotation_ids.tolist() == [2**40, 5]
    for other in (None, "a", 2**70, 0.5):
        assert read_coco(write(content(record(), record(id=other)))).annotation_ids is None


def test_areas_are_those_of_the_file_where_any_is(write):
    areas = read_coco(write(content(record(area=12.5), record(area=None), record()))).areas
    assert areas.tolist()[0] == 12.5
    assert np.isnan(areas).tolist() == [False, True, True]
    assert read_coco(write(content(record()))).areas is None


def simple_reader(values: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
    """File, box and keypoints of each person, one record after the other."""
    sizes = {image["id"]: image for image in values["images"]}
    people = []
    for entry in values["annotations"]:
        image, (x, y, width, height) = sizes[entry["image_id"]], entry["bbox"]
        left, top = max(0, x), max(0, y)
        right = min(image["width"] - 1, left + max(0, width - 1))
        bottom = min(image["height"] - 1, top + max(0, height - 1))
        counts = entry["category_id"] == 1 and not entry["iscrowd"] and any(v > 0 for v in entry["keypoints"][2::3])
        if counts and width > 0 and height > 0 and right >= left and bottom >= top:
            people.append((image["file_name"], [left, top, right - left + 1, bottom - top + 1], entry["keypoints"]))
    return people


WHOLE = st.integers(-20, 120)
ANNOTATIONS = st.fixed_dictionaries(
    {
        "category_id": st.sampled_from([1, 1, 2]),
        "image_id": st.sampled_from([1, 3]),
        "iscrowd": st.sampled_from([0, 0, 0, 1]),
        "bbox": st.lists(WHOLE, min_size=4, max_size=4),
        "keypoints": st.lists(st.tuples(WHOLE, WHOLE, st.integers(0, 2)), min_size=3, max_size=3).map(
            lambda triples: [value for triple in triples for value in triple]
        ),
        "segmentation": st.lists(st.lists(WHOLE, max_size=5), max_size=3),
    }
)


@settings(deadline=None)
@given(st.lists(ANNOTATIONS, max_size=8))
def test_columns_give_what_reading_record_by_record_gives(tmp_path_factory, annotations):
    path = tmp_path_factory.mktemp("coco") / "people.json"
    values = content(*annotations, categories=WITH_ROCK)
    path.write_text(json.dumps(values))
    samples, expected = read_coco(path), simple_reader(values)
    assert [samples.file_of(index) for index in range(len(samples))] == [file for file, _, _ in expected]
    assert samples.boxes.tolist() == [box for _, box, _ in expected]
    flat = np.concatenate((samples.keypoints, np.zeros_like(samples.keypoints[..., :1])), axis=-1).reshape(-1, 9)
    assert flat.tolist() == [[0 if i % 3 == 2 else value for i, value in enumerate(k)] for _, _, k in expected]
    assert samples.visible.tolist() == [[v > 0 for v in keypoints[2::3]] for _, _, keypoints in expected]
    assert len(samples) + sum(samples.skipped.values()) == len(annotations)
    assert samples.skipped.get("other category", 0) == sum(entry["category_id"] == 2 for entry in annotations)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        read_coco(tmp_path / "nowhere.json")


@pytest.mark.parametrize(("part", "people"), [("train", 9000), ("val", 500)])
def test_leeds_sports_poses_are_all_there(data_folder, part, people):
    samples = read_coco(data_folder / "lspet" / f"person_keypoints_{part}.json")
    assert len(samples) == people
    assert samples.skeleton == LSP
    assert samples.skipped == {}
    assert samples.visible.any(axis=1).all()


def test_coco_mini_has_86_people_with_keypoints_among_147(data_folder):
    samples = read_coco(data_folder / "coco-mini" / "person_keypoints.json")
    assert len(samples) == 86
    assert len(samples) + sum(samples.skipped.values()) == 147
    assert samples.outside == 0
    assert samples.image_ids[samples.image_index[0]] == int(samples.file_of(0).removesuffix(".jpg"))
    assert samples.skipped["crowd"] == 5
    assert samples.skeleton.keypoints == COCO.keypoints
    assert samples.skeleton.sigmas == COCO.sigmas
    assert (samples.boxes[:, 2:] > 0).all()
