import numpy as np

from tokenpose.data.coco import read_coco

from .fly_files import LEFT_OUT, content, record, write_flies


def test_some_of_the_people_can_be_taken(tmp_path):
    samples = read_coco(write_flies(tmp_path, content(record(), record(image_id=1), record(bbox=[1, 1, 9, 9]))))
    taken = samples.take(np.array([2, 1]))
    assert len(taken) == 2
    assert [taken.file_of(0), taken.file_of(1)] == ["a.jpg", "b.jpg"]
    assert taken.boxes[0].tolist() == [1, 1, 9, 9]
    assert len(samples.take(slice(1))) == 1


def test_what_was_read_is_told_in_one_line(tmp_path):
    path = write_flies(
        tmp_path, content(record(keypoints=[-1, 20, 2] * 3), LEFT_OUT["crowd"], *[LEFT_OUT["no labeled keypoint"]] * 2)
    )
    assert read_coco(path).describe() == (
        f"{path}: 4 annotations: 1 person; left out: 1 crowd, 2 no labeled keypoint; "
        "3 keypoints outside their image, kept"
    )
    assert (
        read_coco(write_flies(tmp_path, content(record()))).describe()
        == f"{path}: 1 annotation: 1 person; left out: none"
    )


def test_people_are_named_by_annotation_or_place_and_by_the_file_they_come_from(tmp_path):
    path = write_flies(tmp_path, content(record(), record(id=8)))
    assert [read_coco(path).name_of(person) for person in (0, 1)] == [
        f"annotation 7 of {path}",
        f"annotation 8 of {path}",
    ]
    path = write_flies(tmp_path, content(record(), record(id="x")))
    assert read_coco(path).name_of(1) == f"person 1 of {path}"


def test_scores_of_a_file_are_the_weights_of_its_keypoints(tmp_path):
    flies = content(record(), record(id=8, scores=[0.25, 1, 0]))
    samples = read_coco(write_flies(tmp_path, flies))
    assert samples.weights.dtype == np.float32
    assert samples.weights.tolist() == [[1, 1, 1], [0.25, 1, 0]]
    assert samples.take(np.array([1])).weights.tolist() == [[0.25, 1, 0]]
    assert read_coco(write_flies(tmp_path, content(record()))).weights is None
