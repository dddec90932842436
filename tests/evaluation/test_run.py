import numpy as np
import pytest
from PIL import Image

from tokenpose.data.samples import Samples
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.processes import Processes
from tokenpose.evaluation.run import BoxesToPredict, predict_boxes
from tokenpose.poses import Poses
from tokenpose.skeletons import Skeleton


@pytest.fixture
def source(tmp_path) -> ImageSource:
    """Two pictures whose gray says which they are: 1 and 2."""
    for gray, name in ((1, "a.png"), (2, "b.png")):
        Image.fromarray(np.full((8, 8, 3), gray, dtype=np.uint8)).save(tmp_path / name)
    return ImageSource(tmp_path)


def labeled(names: list[str], image_index: list[int]) -> Samples:
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


def predict(many, samples: Samples, source: ImageSource, skeleton: Skeleton, **options) -> np.ndarray:
    return predict_boxes(many, BoxesToPredict.of_samples(samples), samples, source, skeleton, **options).keypoints


def test_keypoints_are_matched_by_name_and_unknown_ones_are_nan(source):
    model = Skeleton.from_names(["foot", "nose", "head"], name="model")
    samples = labeled(["head", "tail", "foot"], [0])
    (person,) = predict(tell_who(model), samples, source, model)
    assert person[0].tolist() == [100, 2]  # the model's third
    assert np.isnan(person[1]).all()  # no tail
    assert person[2].tolist() == [100, 0]


def test_people_of_one_image_are_predicted_together_and_come_back_in_their_order(source):
    model = Skeleton.from_names(["head"])
    samples = labeled(["head"], [1, 0, 1, 0])
    calls = []

    def many(images, boxes):
        for image, own in zip(images, boxes, strict=True):
            calls.append((int(image[0, 0, 0]), own[:, 0].tolist()))
            yield from tell_who(model)([image], [own])

    predicted = predict(many, samples, source, model)
    assert calls == [(1, [4, 12]), (2, [0, 8])]
    assert predicted[:, 0, 0].tolist() == [200, 104, 208, 112]
    assert predicted.dtype == np.float32


def test_nobody_is_predicted_of_nobody(source):
    model = Skeleton.from_names(["head"])
    assert predict(tell_who(model), labeled(["head"], []), source, model).shape == (0, 1, 2)


def test_skeletons_without_a_common_name_are_refused(source):
    model = Skeleton.from_names(["wing"], name="bird")
    message = "the data and the model share no keypoint name: the file has head, the model wing; .* rename the file's"
    with pytest.raises(ValueError, match=message):
        predict(tell_who(model), labeled(["head"], [0]), source, model)


def test_long_predictions_say_how_far_they_are(source, monkeypatch, caplog):
    monkeypatch.setattr("tokenpose.evaluation.run.SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level("INFO", logger="tokenpose")
    model = Skeleton.from_names(["head"])
    predict(tell_who(model), labeled(["head"], [1, 0, 1, 0]), source, model)
    assert caplog.messages == ["predicted 1 of 2 images"]


def test_keypoint_scores_come_along_and_are_0_where_the_predictor_has_no_such_keypoint(source):
    model = Skeleton.from_names(["head"])
    samples = labeled(["tail", "head"], [0])
    found = predict_boxes(tell_who(model), BoxesToPredict.of_samples(samples), samples, source, model)
    assert found.scores.tolist() == [[0, 1]]


def test_portions_are_whole_images_of_at_least_a_batch(source):
    model = Skeleton.from_names(["head"])
    calls = []

    def many(images, boxes):
        calls.append([len(own) for own in boxes])
        return tell_who(model)(images, boxes)

    samples = labeled(["head"], [0, 0, 0, 1, 1])
    predict(many, samples, source, model, batch_size=3)
    predict(many, samples, source, model, batch_size=4)
    assert calls == [[3], [2], [3, 2]]


def test_processes_share_the_portions_and_each_gets_everybody(source, monkeypatch):
    model = Skeleton.from_names(["head"])
    samples = labeled(["head"], [1, 0, 1, 0])
    alone = predict(tell_who(model), samples, source, model)
    parts = []
    monkeypatch.setattr(Processes, "gather", lambda self, work: parts.append(work()) or parts)
    seen = []

    def many(images, boxes):
        seen.append(len(boxes))
        return tell_who(model)(images, boxes)

    predict(many, samples, source, model, processes=Processes(rank=0, count=2), batch_size=1)
    both = predict(many, samples, source, model, processes=Processes(rank=1, count=2), batch_size=1)
    assert seen == [1, 1]  # an image each
    assert np.array_equal(both, alone)


def test_box_that_cannot_be_cropped_is_refused_with_its_image(source):
    model = Skeleton.from_names(["head"])

    def many(images, boxes):
        yield from tell_who(model)([next(iter(images))], boxes[:1])
        raise ValueError("box 0 is empty")

    with pytest.raises(ValueError, match=r"b\.png: box 0 is empty"):
        predict(many, labeled(["head"], [0, 1]), source, model)
