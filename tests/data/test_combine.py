import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tokenpose.data.coco import read_coco
from tokenpose.data.combine import check_image_of, combine, read_datasets, read_image_of, rename_keypoints
from tokenpose.data.sources import ImageSource, Source
from tokenpose.skeletons import COCO, LSP, MPII

from .parts import Grey, named, people_of


def test_keypoints_of_one_name_are_one_and_absent_ones_are_not_visible():
    first = people_of(named("head", "left_eye", "right_eye"), count=2)
    second = people_of(named("tail", "right_eye", "left_eye"))
    samples, _ = combine([(first, Grey(1)), (second, Grey(2))])
    assert samples.skeleton.keypoints == ("head", "left_eye", "right_eye", "tail")
    assert samples.visible.tolist() == [[True, True, True, False]] * 2 + [[False, True, True, True]]
    assert samples.keypoints[0].tolist() == [[1, 2], [3, 4], [5, 6], [0, 0]]
    assert samples.keypoints[2].tolist() == [[0, 0], [5, 6], [3, 4], [1, 2]]
    assert samples.skeleton.flip_pairs == ((1, 2),)
    assert samples.boxes.shape == (3, 4)


def test_images_of_one_name_stay_those_of_their_data():
    first, second = people_of(named("a"), count=2), people_of(named("b"))
    samples, source = combine([(first, Grey(1)), (second, Grey(2))])
    assert isinstance(source, Source)
    assert samples.image_index.tolist() == [0, 0, 1]
    assert samples.files == ("a.png", "a.png")
    assert grays(samples, source) == [1, 1, 2]
    with pytest.raises(FileNotFoundError, match=r"there is no image z\.png"):
        source.read("z.png", 1)
    with pytest.raises(ValueError, match=r"z\.png may be in any of 2 datasets: give the number of one as origin"):
        source.read("z.png")


def test_images_count_from_0_and_annotations_keep_the_ids_of_their_files():
    first, second = people_of(named("a"), count=2), people_of(named("b"))
    samples, _ = combine([(first, Grey(1)), (second, Grey(2))])
    assert samples.image_ids.tolist() == [0, 1]
    assert samples.annotation_ids.tolist() == [*first.annotation_ids, *second.annotation_ids]
    origins = samples.origins
    assert samples.name_of(2) == f"annotation {second.annotation_ids[0]} of {origins[1]}"
    nameless, _ = combine([(first, Grey(1)), (replace(second, annotation_ids=None), Grey(2))])
    assert nameless.name_of(2) == f"person 2 of {origins[1]}"


def test_one_part_is_itself():
    part = people_of(named("a")), Grey(1)
    assert combine([part]) == part
    with pytest.raises(ValueError, match="no data to combine"):
        combine([])


def test_areas_head_sizes_and_counts_are_put_together():
    first = people_of(named("a"), areas=np.array([9], dtype=np.float32), skipped={"crowd": 1}, outside=2)
    second = people_of(named("a"), head_sizes=np.array([4], dtype=np.float32), skipped={"crowd": 2, "x": 3}, outside=1)
    samples, _ = combine([(first, Grey(1)), (second, Grey(1))])
    np.testing.assert_array_equal(samples.areas, np.array([9, np.nan], dtype=np.float32))
    np.testing.assert_array_equal(samples.head_sizes, np.array([np.nan, 4], dtype=np.float32))
    assert (samples.skipped, samples.outside) == ({"crowd": 3, "x": 3}, 3)
    assert (samples.origin, samples.origins) == ("people.json + people.json", ("people.json", "people.json"))
    assert combine([(people_of(named("a")), Grey(1))] * 2)[0].areas is None


def test_mpii_and_leeds_sports_poses_share_14_keypoints_once_the_neck_is_renamed():
    mpii = rename_keypoints(people_of(MPII), {"upper_neck": "neck"})
    assert mpii.skeleton.limbs == MPII.limbs
    samples, _ = combine([(mpii, Grey(1)), (people_of(LSP), Grey(2))])
    assert samples.skeleton.keypoints == tuple("neck" if name == "upper_neck" else name for name in MPII.keypoints)
    assert samples.visible[1].sum() == 14
    assert samples.skeleton.flip_pairs == MPII.flip_pairs
    assert samples.skeleton.name == "mpii+lsp"
    names = samples.skeleton.keypoints
    limbs = {frozenset((names[a], names[b])) for a, b in samples.skeleton.limbs}
    assert len(limbs) == len(samples.skeleton.limbs)  # each once, though both have it
    assert {frozenset(("neck", "head_top")), frozenset(("right_shoulder", "thorax"))} <= limbs


def test_order_of_names_does_not_matter_to_the_result():
    samples, _ = combine([(people_of(LSP), Grey(1)), (people_of(COCO), Grey(2))])
    assert len(samples.skeleton) == 14 + 5  # nose, two eyes, two ears
    assert samples.skeleton.sigmas is None  # nobody has estimated those of neck and head_top
    points = dict(zip(samples.skeleton.keypoints, samples.keypoints[1].tolist(), strict=True))
    assert points["left_wrist"] == [19, 20]  # COCO's tenth
    assert not samples.visible[1, samples.skeleton.index("neck")]


def test_names_that_are_not_there_cannot_be_renamed():
    with pytest.raises(LookupError, match=r"people\.json has no keypoint 'nek' to rename; it has a, b"):
        rename_keypoints(people_of(named("a", "b")), {"nek": "neck"})
    with pytest.raises(ValueError, match=r"people\.json: .*names must differ; repeated: b"):
        rename_keypoints(people_of(named("a", "b")), {"a": "b"})


def test_renaming_can_exchange_names_and_lets_names_tell_their_sides():
    swapped = rename_keypoints(people_of(named("a", "b")), {"a": "b", "b": "a"})
    assert swapped.skeleton.keypoints == ("b", "a")
    sided = rename_keypoints(people_of(named("a", "b")), {"a": "left_eye", "b": "right_eye"})
    assert sided.skeleton.flip_pairs == ((0, 1),)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """one.json and two=2.json of one person each; one/, two/ and six/ have an a.png each, of gray 10, 20 and 60."""
    for name, gray in (("one", 10), ("two", 20), ("six", 60)):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((50, 50, 3), gray, dtype=np.uint8)).save(tmp_path / name / "a.png")
    for name, keypoints in (("one.json", ["head", "tail"]), ("two=2.json", ["tail", "paw"])):
        annotation = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "keypoints": [6, 7, 2, 8, 9, 2]}
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 50, "width": 50}],
            "annotations": [annotation],
            "categories": [{"id": 1, "name": "fox", "keypoints": keypoints}],
        }
        (tmp_path / name).write_text(json.dumps(content))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def grays(samples, source):
    return [int(read_image_of(source, samples, image)[0, 0, 0]) for image in samples.image_index.tolist()]


def test_one_file_is_read_with_its_images(folder):
    for annotations, images in (("one.json", "one"), (folder / "one.json", [folder / "one"]), ("one.json=one", None)):
        samples, source = read_datasets(annotations, images)
        assert samples.skeleton.keypoints == ("head", "tail")
        assert grays(samples, source) == [10]
        assert isinstance(source, ImageSource)


def test_several_files_are_read_with_places_of_their_own(folder):
    samples, source = read_datasets(["one.json", "two=2.json=two"], "six")
    assert samples.skeleton.keypoints == ("head", "tail", "paw")
    assert grays(samples, source) == [60, 20]
    samples, source = read_datasets(["one.json=one", "two=2.json=two"], None)
    assert grays(samples, source) == [10, 20]
    samples, source = read_datasets(["one.json", "two=2.json"], "six")
    assert grays(samples, source) == [60, 60]


def test_several_places_and_patterns_may_stand_behind_a_file(folder):
    (folder / "none").mkdir()
    samples, source = read_datasets(f"one.json=none{os.pathsep}two", "six")
    assert grays(samples, source) == [20]
    samples, source = read_datasets("one.json=tw[o]", None)
    assert grays(samples, source) == [20]


def test_a_path_that_exists_is_no_pair(folder):
    samples, source = read_datasets("two=2.json", "two")
    assert grays(samples, source) == [20]
    (folder / f"odd{os.pathsep}name").mkdir()
    Image.fromarray(np.full((50, 50, 3), 30, dtype=np.uint8)).save(folder / f"odd{os.pathsep}name" / "a.png")
    assert grays(*read_datasets(f"one.json=odd{os.pathsep}name", None)) == [30]


def test_each_file_is_described_in_a_line_of_the_log(folder, caplog):
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        read_datasets(["one.json", "two=2.json=two"], "one")
    assert [record.message for record in caplog.records] == [
        "one.json: 1 annotation: 1 person; left out: none",
        "two=2.json: 1 annotation: 1 person; left out: none",
    ]


def test_keypoints_are_renamed_in_the_files_that_have_them(folder):
    samples, _ = read_datasets(["one.json", "two=2.json"], "six", rename={"paw": "head"})
    assert samples.skeleton.keypoints == ("head", "tail")
    with pytest.raises(LookupError, match=r"none of one\.json, two=2\.json has a keypoint 'leg' to rename"):
        read_datasets(["one.json", "two=2.json"], "six", rename={"leg": "head"})


def test_people_of_whom_nothing_is_visible_are_left_out(folder, caplog):
    record = {"image": "a.png", "center": [50.0, 50.0], "scale": 0.5, "joints": [[9.0, 9.0]] * 16}
    people = [{**record, "joints_vis": [visible] * 16} for visible in (1, 0, 1)]
    Path("mpii.json").write_text(json.dumps(people))
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        samples, _ = read_datasets("mpii.json", "one")
    assert samples.annotation_ids.tolist() == [0, 2]
    assert caplog.messages == ["mpii.json: 3 annotations: 2 people; left out: 1 no visible keypoint"]


def test_missing_things_are_refused(folder):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file three\.json$"):
        read_datasets("three.json=three", None)
    with pytest.raises(FileNotFoundError, match=r"there is no folder, tar or zip of images three"):
        read_datasets("one.json=three", None)
    with pytest.raises(ValueError, match=r"where are the images of one\.json\? give images, or one\.json=PLACE"):
        read_datasets("one.json", None)
    with pytest.raises(ValueError, match=r"where are the images of one\.json\?"):
        read_datasets("one.json=", None)
    with pytest.raises(ValueError, match="no data to combine"):
        read_datasets([], "one")


def test_leeds_sports_poses_and_coco_are_read_together(data_folder):
    lsp, coco = data_folder / "lspet", data_folder / "coco-mini"
    samples, source = read_datasets(
        [f"{lsp / 'person_keypoints_val.json'}={lsp / 'val*.tar'}", coco / "person_keypoints.json"], coco / "images"
    )
    assert len(samples) == 500 + 86
    assert len(samples.skeleton) == 19
    assert samples.visible[500:, samples.skeleton.index("head_top")].sum() == 0
    assert [read_image_of(source, samples, int(samples.image_index[person])).shape[0] for person in (0, 585)] == [3, 3]
    alone = read_coco(coco / "person_keypoints.json")
    columns = [samples.skeleton.index(name) for name in COCO.keypoints]
    shown = samples.visible[500:, columns]
    assert (shown == alone.visible).all()
    assert (samples.keypoints[500:, columns][shown] == alone.keypoints[alone.visible]).all()


@pytest.fixture
def oddly_named(folder):
    """ "train + val.json" and "0: + 1:.json", each with an image "0:a.jpg" of its own in "train + val" and "0:"."""
    for name, place, gray in (("train + val.json", "train + val", 30), ("0: + 1:.json", "0:", 40)):
        content = json.loads((folder / "one.json").read_text())
        content["images"][0]["file_name"] = "0:a.jpg"
        (folder / name).write_text(json.dumps(content))
        (folder / place).mkdir()
        Image.fromarray(np.full((50, 50, 3), gray, dtype=np.uint8)).save(folder / place / "0:a.jpg")
    return ["train + val.json", "0: + 1:.json"]


def test_names_of_files_and_images_are_never_taken_apart(oddly_named):
    shared = ["train + val", "0:"]
    alone, source = read_datasets(oddly_named[0], shared)
    assert (alone.name_of(0), grays(alone, source)) == ("annotation 1 of train + val.json", [30])
    samples, source = read_datasets([f"{oddly_named[0]}=train + val", f"{oddly_named[1]}=0:"], None)
    assert samples.origins == tuple(oddly_named)
    assert samples.files == ("0:a.jpg", "0:a.jpg")
    assert grays(samples, source) == [30, 40]
    assert [samples.name_of(person) for person in (0, 1)] == [f"annotation 1 of {name}" for name in oddly_named]
    check_image_of(source, samples, 1)
    os.remove("0:/0:a.jpg")
    with pytest.raises(FileNotFoundError, match=r"there is no image 0:a\.jpg in 0:$"):
        check_image_of(source, samples, 1)


def test_combined_data_can_be_combined_again(oddly_named):
    both = read_datasets(["one.json=one", "two=2.json=two"], None)
    samples, source = combine([read_datasets("one.json", "six"), both])
    assert samples.origins == ("one.json", "one.json", "two=2.json")
    assert grays(samples, source) == [60, 10, 20]


def test_scores_of_one_dataset_leave_the_weights_of_the_other_at_1():
    first = people_of(named("a", "b"), 2, "one.json", weights=np.array([[0.5, 1], [0, 0.25]], dtype=np.float32))
    second = people_of(named("b", "c"), 1, "two.json")
    combined, _ = combine([(first, Grey(1)), (second, Grey(2))])
    assert combined.weights.tolist() == [[0.5, 1, 1], [0, 0.25, 1], [1, 1, 1]]
    assert combine([(second, Grey(1)), (second, Grey(2))])[0].weights is None
