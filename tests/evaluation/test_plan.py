"""What is refused before anything is predicted, and what is predicted without being measured."""

import json
from pathlib import Path

import pytest

from tokenpose.skeletons import LSP, MPII

from .evaluations import changed, mpii_record, predicted


@pytest.mark.parametrize("given", [{}, {"boxes": "boxes.json"}, {"results": "results.json"}])
def test_list_of_images_needs_boxes_and_a_file_for_the_results(image_list, given):
    message = (
        r"image_info_test\.json only lists images, so nothing can be measured; to predict its people, give the boxes "
        r"of a detector and a file for the results: --boxes FILE --results FILE\.json, in Python boxes= and results="
    )
    with pytest.raises(ValueError, match=message):
        predicted(image_list, **{name: Path(path) for name, path in given.items()})


def test_metrics_of_a_list_of_images_are_refused(image_list, boxes, tmp_path):
    with pytest.raises(ValueError, match=r"metrics can't be used: .*image_info_test\.json has no labels"):
        predicted(image_list, boxes=boxes, results=tmp_path / "results.json", metrics=("coco",))


def test_list_of_images_without_people_among_its_categories_is_refused(image_list):
    image_list.write_text(image_list.read_text().replace('"name": "person"', '"name": "human"'))
    with pytest.raises(ValueError, match="must have exactly one category with keypoints; with keypoints it has: none"):
        predicted(image_list)


def test_mpii_file_without_joints_needs_a_file_for_the_results(write_mpii, tmp_path):
    path = write_mpii(mpii_record())
    with pytest.raises(ValueError, match=r"no labeled keypoints, so nothing can be measured; .*: --results pred\.mat"):
        predicted(path, skeleton=MPII)
    with pytest.raises(ValueError, match=r"boxes go with COCO files; .*valid\.json has a box for each person"):
        predicted(path, skeleton=MPII, boxes=Path("boxes.json"), results=tmp_path / "pred.mat")
    with pytest.raises(ValueError, match=r"unit can't be used: .*valid\.json has no labels"):
        predicted(path, skeleton=MPII, results=tmp_path / "pred.mat", unit="box")


def test_labels_of_crowds_alone_are_no_list_of_images(people, tmp_path):
    path = changed(people, "only_crowds.json", iscrowd=1)
    with pytest.raises(ValueError, match=r"only_crowds\.json has no labeled people; left out: 6 crowd"):
        predicted(path, skeleton=LSP, results=tmp_path / "results.json")


def test_results_of_several_categories_as_one_are_refused(people, tmp_path):
    content = json.loads(people.read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "statue"})
    path = tmp_path / "two.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"two\.json is evaluated with 2 categories as one \(person, statue\): write"):
        predicted(path, skeleton=LSP, results=tmp_path / "results.json")
