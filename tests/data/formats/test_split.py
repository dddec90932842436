import json
import logging
from pathlib import Path

import numpy as np
import pytest

from tokenpose.data.formats.split import choose_groups, group_by_image, split_labels

from .exports import write


def coco(count: int = 20, **fields) -> dict:
    images = [
        {"id": 100 + index, "file_name": f"day{index // 5}/{index}.jpg", "width": 9, "height": 9, "video": index // 10}
        for index in range(count)
    ]
    people = [{"id": index, "image_id": 100 + index // 2, "category_id": 1} for index in range(2 * count)]
    return {"info": {"year": 2026}, "images": images, "annotations": people, "categories": [{"id": 1}]} | fields


def names(part: dict) -> set[str]:
    return {image["file_name"] for image in part["images"]}


def test_a_fifth_of_the_images_is_held_out_with_its_people(tmp_path, caplog):
    caplog.set_level(logging.INFO, "tokenpose")
    path = write(tmp_path / "a.json", coco())
    train, val = split_labels(path, 0.2)
    assert (len(train["images"]), len(val["images"])) == (16, 4)
    assert names(train) | names(val) == names(coco())
    assert names(train).isdisjoint(names(val))
    for part in (train, val):
        identities = {image["id"] for image in part["images"]}
        assert {person["image_id"] for person in part["annotations"]} == identities
        assert (part["info"], part["categories"]) == ({"year": 2026}, [{"id": 1}])
    assert len(train["annotations"]) + len(val["annotations"]) == 40
    assert caplog.messages == [f"{path}: 4 of 20 images to validate on"]


def test_a_split_depends_on_names_and_seed_alone(tmp_path):
    turned = coco()
    turned["images"].reverse()
    first, second = write(tmp_path / "a.json", coco()), write(tmp_path / "b.json", turned)
    assert names(split_labels(first)[1]) == names(split_labels(second)[1])
    assert names(split_labels(first, seed=1)[1]) != names(split_labels(first)[1])
    # As it came out when this was written: later versions must not mix what was trained on with what is validated on.
    assert sorted(names(split_labels(first)[1])) == EXPECTED


EXPECTED = ["day0/1.jpg", "day0/4.jpg", "day1/8.jpg", "day2/11.jpg"]


@pytest.mark.parametrize(("by", "size"), [("folder", 5), ("video", 10)])
def test_no_group_is_on_both_sides(tmp_path, by, size):
    train, val = split_labels(write(tmp_path / "a.json", coco()), 0.3, by)
    groups = [
        {Path(image["file_name"]).parent if by == "folder" else image["video"] for image in part["images"]}
        for part in (train, val)
    ]
    assert groups[0].isdisjoint(groups[1])
    assert len(val["images"]) == size


def test_an_image_that_is_listed_twice_stays_together(tmp_path):
    content = coco(4)
    content["images"].append({**content["images"][0], "id": 7, "file_name": "./day0\\0.jpg"})
    for seed in range(10):
        train, val = split_labels(write(tmp_path / "a.json", content), 0.5, seed=seed)
        spelled = [set(group_by_image(names(part))) for part in (train, val)]
        assert spelled[0].isdisjoint(spelled[1])


def test_mpii_files_are_split(tmp_path):
    records = [{"image": f"{index // 2}.jpg", "center": [1, 2], "scale": 1} for index in range(20)]
    train, val = split_labels(write(tmp_path / "a.json", records), 0.2)
    assert (len(train), len(val)) == (16, 4)
    assert {record["image"] for record in train}.isdisjoint(record["image"] for record in val)


def test_both_parts_have_something_however_small_the_share():
    for share in (0.001, 0.999):
        held_out = choose_groups(["a", "b", "b"], share, 0, "x")
        assert 0 < held_out.sum() < 3


def test_large_groups_come_as_near_to_the_share_as_they_can():
    groups = [name for name, count in (("a", 50), ("b", 30), ("c", 20)) for _ in range(count)]
    for seed in range(5):
        assert np.isin(choose_groups(groups, 0.2, seed, "x").sum(), [20, 30])


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (coco(), {"val": 1.0}, "the share to validate on must be between 0 and 1; got 1"),
        (coco(), {"by": "camera"}, r"a\.json: images\[0\] has no 'camera' to split by; it has id, file_name, width"),
        (coco(5), {"by": "folder"}, r"a\.json can't be split by folder: all images are of one group, 'day0'; split by"),
        (coco(images=[{"id": 1}]), {}, r"images\[0\]: file_name must be a name; got None"),
        (coco(images=[7]), {}, r"images\[0\] must be an object; got 7"),
        ({"images": []}, {}, "is neither a COCO file, with images and annotations, nor MPII's list"),
        (coco(0), {}, "all images are of one group"),
    ],
)
def test_what_cannot_be_split_is_refused(tmp_path, content, arguments, message):
    with pytest.raises(ValueError, match=message):
        split_labels(write(tmp_path / "a.json", json.dumps(content)), **arguments)
