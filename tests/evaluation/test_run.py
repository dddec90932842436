import numpy as np
import pytest
from PIL import Image

from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.run import predict_samples
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton


@pytest.fixture
def source(tmp_path) -> ImageSource:
    """Two pictures whose grey says which they are: 1 and 2."""
    for grey, name in ((1, "a.png"), (2, "b.png")):
        Image.fromarray(np.full((8, 8, 3), grey, dtype=np.uint8)).save(tmp_path / name)
    return ImageSource(tmp_path)


def labelled(names: list[str], image_index: list[int]) -> Samples:
    count = len(image_index)
    return Samples(
        skeleton=Skeleton.from_names(names, name="data"),
        files=("a.png", "b.png"),
        image_ids=np.array([10, 20]),
        image_index=np.array(image_index, dtype=np.int64),
        boxes=np.arange(4 * count, dtype=np.float32).reshape(count, 4),
        keypoints=np.zeros((count, len(names), 2), dtype=np.float32),
        visible=np.ones((count, len(names)), dtype=bool),
        skipped={},
    )


def tell_who(skeleton: Skeleton):
    """A predictor that says of each keypoint: x = 100 image + first number of the box, y = the keypoint's number."""

    def many(images, boxes):
        for image, own in zip(images, boxes, strict=True):
            keypoints = np.zeros((len(own), len(skeleton), 2), dtype=np.float32)
            keypoints[..., 0] = 100 * int(image[0, 0, 0]) + own[:, :1]
            keypoints[..., 1] = np.arange(len(skeleton))
            yield Poses(
                keypoints=keypoints, scores=np.ones(keypoints.shape[:2], dtype=np.float32), boxes=own, skeleton=skeleton
            )

    return many


def test_keypoints_are_matched_by_name_and_unknown_ones_are_nan(source):
    model = Skeleton.from_names(["foot", "nose", "head"], name="model")
    samples = labelled(["head", "tail", "foot"], [0])
    (person,) = predict_samples(tell_who(model), samples, source, model)
    assert person[0].tolist() == [100, 2]  # the model's third
    assert np.isnan(person[1]).all()  # no tail
    assert person[2].tolist() == [100, 0]


def test_people_of_one_image_are_predicted_together_and_come_back_in_their_order(source):
    model = Skeleton.from_names(["head"])
    samples = labelled(["head"], [1, 0, 1, 0])
    calls = []

    def many(images, boxes):
        for image, own in zip(images, boxes, strict=True):
            calls.append((int(image[0, 0, 0]), own[:, 0].tolist()))
            yield from tell_who(model)([image], [own])

    predicted = predict_samples(many, samples, source, model)
    assert calls == [(1, [4, 12]), (2, [0, 8])]
    assert predicted[:, 0, 0].tolist() == [200, 104, 208, 112]
    assert predicted.dtype == np.float32


def test_nobody_is_predicted_of_nobody(source):
    model = Skeleton.from_names(["head"])
    assert predict_samples(tell_who(model), labelled(["head"], []), source, model).shape == (0, 1, 2)


def test_skeletons_without_a_common_name_are_refused(source):
    model = Skeleton.from_names(["wing"], name="bird")
    with pytest.raises(ValueError, match="the model's skeleton 'bird' and the data's 'data' share no keypoint name"):
        predict_samples(tell_who(model), labelled(["head"], [0]), source, model)
