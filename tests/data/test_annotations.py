import json

import pytest

from tokenpose.data.annotations import read_annotations
from tokenpose.skeletons import MPII

COCO_FILE = {
    "images": [{"id": 3, "file_name": "a.jpg", "height": 100, "width": 80}],
    "annotations": [
        {"id": 7, "image_id": 3, "category_id": 1, "bbox": [5, 6, 21, 31], "keypoints": [1, 2, 2, 0, 0, 0]}
    ],
    "categories": [{"id": 1, "name": "fly", "keypoints": ["head", "tail"]}],
}
MPII_FILE = [{"image": "a.jpg", "center": [50, 60], "scale": 0.5}]


@pytest.fixture
def write(tmp_path):
    def save(values):
        path = tmp_path / "people.json"
        path.write_text(values if isinstance(values, str) else " \n" + json.dumps(values))
        return path

    return save


def test_format_is_told_by_the_content(write):
    assert read_annotations(write(COCO_FILE)).skeleton.keypoints == ("head", "tail")
    assert read_annotations(str(write(COCO_FILE)), category="fly").boxes.tolist() == [[5, 6, 21, 31]]
    assert read_annotations(write(MPII_FILE)).skeleton == MPII


def test_what_belongs_to_the_other_format_is_refused(write):
    with pytest.raises(ValueError, match=r"people\.json is a COCO file; gt\.mat goes with MPII's JSON files"):
        read_annotations(write(COCO_FILE), ground_truth="gt.mat")
    with pytest.raises(ValueError, match=r"people\.json is an MPII file and has no categories; got category 'fly'"):
        read_annotations(write(MPII_FILE), category="fly")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "people.json is not JSON: it is empty"),
        ("3", "people.json holds neither a JSON object nor a list, but '3'"),
        ("{}", "people.json is not a COCO keypoint file: it has no images, annotations, categories"),
        ('[{"image": ', "people.json is not JSON: it ends in the middle of record 0"),
    ],
)
def test_other_files_are_refused(write, content, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.") + "$"):
        read_annotations(write(content))


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        read_annotations(tmp_path / "nowhere.json")
