import pytest

from tokenpose.data.formats.label_file import read_people
from tokenpose.data.formats.labels import Keypoint

from .exports import write


def coco(names=("head", "tail"), **fields) -> dict:
    person = {"id": 3, "image_id": 5, "category_id": 1, "bbox": [1, 2, 30.5, 40], "keypoints": [1.5, 2, 2, 7, 8, 0]}
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 80, "height": 60}],
        "annotations": [person | fields, person | {"id": 4, "iscrowd": 1}],
        "categories": [{"id": 1, "name": "fish", "keypoints": [*names], "skeleton": [[1, 2]]}],
    }


def test_people_are_as_the_file_has_them_without_crowds(tmp_path):
    content = read_people([write(tmp_path / "a.json", coco(scores=[0.5, 0]))])
    [photograph] = content.photographs
    [person] = photograph.people
    assert (photograph.file, photograph.width, photograph.height) == ("a.jpg", 80, 60)
    assert person.keypoints == {"head": Keypoint(1.5, 2, 2, 0.5)}
    assert (person.box, person.category) == ((1, 2, 30.5, 40), "fish")
    assert (content.category.keypoints, content.category.limbs) == (("head", "tail"), ((0, 1),))


def test_faults_and_files_with_other_keypoints_are_refused(tmp_path):
    first = write(tmp_path / "a.json", coco())
    with pytest.raises(ValueError, match=r"b\.json has other keypoints than .*a\.json; export them one at a time"):
        read_people([first, write(tmp_path / "b.json", coco(names=("head", "fin")))])
    with pytest.raises(ValueError, match=r"annotation 3 in a\.jpg: bbox must be 4 finite numbers"):
        read_people([write(tmp_path / "c.json", coco(bbox=[1]))])
