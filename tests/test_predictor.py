import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.geometry.flips import flip_order
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor, predict
from tokenpose.skeletons import LSP

HEIGHT, WIDTH = 60, 80
BOXES = [[5.0, 5.0, 50.0, 50.0], [20.0, 10.0, 79.0, 59.0], [0.0, 0.0, 80.0, 60.0]]
CELL = 60 * 1.25 / 16  # image pixels of a heatmap cell, for the largest box


@pytest.fixture(scope="module")
def model() -> TokenPose:
    """16x12 heatmaps that depend on the image, from random weights."""
    torch.manual_seed(0)
    model = create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def assert_equal(first: Poses, second: Poses, tolerance: float = 0.01 * CELL) -> None:
    assert first.keypoints.shape == second.keypoints.shape
    np.testing.assert_allclose(first.keypoints, second.keypoints, atol=tolerance)
    np.testing.assert_allclose(first.scores, second.scores, atol=1e-4)
    np.testing.assert_allclose(first.boxes, second.boxes, atol=1e-3)


def test_poses_have_the_shapes_and_types_of_the_contract(model, pixels):
    poses = predict(model, pixels, BOXES)
    assert (poses.keypoints.shape, poses.scores.shape, poses.boxes.shape) == ((3, 14, 2), (3, 14), (3, 4))
    assert poses.keypoints.dtype == poses.scores.dtype == poses.boxes.dtype == np.float32
    assert poses.skeleton is LSP
    assert poses.boxes.tolist() == BOXES
    assert np.ptp(poses.keypoints, axis=0).min() > 1  # the model of these tests looks at the image


def test_path_pil_array_and_tensor_give_equal_poses(model, pixels, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    expected = predict(model, pixels, BOXES)
    for image in (path, str(path), Image.fromarray(pixels), tensor, tensor / 255):
        assert_equal(predict(model, image, BOXES), expected, tolerance=0)


def test_xywh_gives_the_poses_of_xyxy(model, pixels):
    xywh = [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in BOXES]
    assert_equal(predict(model, pixels, xywh, "xywh"), predict(model, pixels, BOXES))


def test_boxes_may_be_lists_arrays_and_tensors(model, pixels):
    expected = predict(model, pixels, BOXES)
    for boxes in (np.array(BOXES), torch.tensor(BOXES), [tuple(box) for box in BOXES], np.array(BOXES).astype(int)):
        assert_equal(predict(model, pixels, boxes), expected, tolerance=0)


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("boxes", [[], np.zeros((0, 4)), torch.zeros(0, 4)], ids=["list", "array", "tensor"])
def test_zero_boxes_give_empty_poses(model, pixels, boxes, flip_test):
    poses = predict(model, pixels, boxes, flip_test=flip_test)
    assert (poses.keypoints.shape, poses.scores.shape, poses.boxes.shape) == ((0, 14, 2), (0, 14), (0, 4))
    assert poses.keypoints.dtype == poses.scores.dtype == poses.boxes.dtype == np.float32


def test_without_boxes_the_whole_image_is_one_person_and_a_warning_says_so(model, pixels, caplog):
    with caplog.at_level(logging.WARNING, "tokenpose"):
        poses = predict(model, pixels)
    assert caplog.messages == ["no boxes given: the whole image is taken as one person"]
    assert_equal(poses, predict(model, pixels, [[0, 0, WIDTH, HEIGHT]]), tolerance=0)


@pytest.mark.parametrize("decoder", ["argmax", "shifted", "dark", "soft-argmax"])
@pytest.mark.parametrize("flip_test", [False, True])
def test_batch_equals_single(model, pixels, decoder, flip_test):
    predictor = PosePredictor(model, decoder=decoder, flip_test=flip_test)
    together = predictor(pixels, BOXES)
    for index, box in enumerate(BOXES):
        alone = predictor(pixels, [box])
        np.testing.assert_allclose(together.keypoints[index], alone.keypoints[0], atol=0.01 * CELL)
        np.testing.assert_allclose(together.scores[index], alone.scores[0], atol=1e-4)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_batch_size_changes_nothing(model, pixels, batch_size):
    predictor = PosePredictor(model)
    assert_equal(predictor(pixels, BOXES, batch_size=batch_size), predictor(pixels, BOXES))


def test_no_more_people_than_batch_size_go_through_the_network_at_once(model, pixels):
    sizes = []
    hook = model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    PosePredictor(model)(pixels, BOXES * 2, batch_size=4)
    hook.remove()
    assert sizes == [4, 2]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_many_equals_single_calls_in_order_with_an_image_without_people_in_the_middle(model, pixels, batch_size):
    images = [pixels, pixels[:, ::-1].copy(), pixels[:30].copy(), pixels]
    boxes = [BOXES[:2], [], BOXES[:1], BOXES]
    predictor = PosePredictor(model)
    found = list(predictor.many(images, boxes, batch_size=batch_size))
    assert [len(poses) for poses in found] == [2, 0, 1, 3]
    for poses, image, image_boxes in zip(found, images, boxes, strict=True):
        assert_equal(poses, predictor(image, image_boxes))


def test_many_takes_generators_and_reads_only_what_a_batch_needs(model, pixels):
    read = []

    def images():
        for index in range(100):
            read.append(index)
            yield pixels

    found = PosePredictor(model).many(images(), ([BOXES[0]] for _ in range(100)), batch_size=4)
    next(found)
    assert read == [0, 1, 2, 3]


def test_many_without_boxes_takes_each_whole_image_as_one_person(model, pixels):
    found = list(PosePredictor(model).many([pixels, pixels[:30].copy()]))
    assert [poses.boxes.tolist() for poses in found] == [[[0, 0, 80, 60]], [[0, 0, 80, 30]]]


def test_many_of_nothing_is_nothing(model):
    assert list(PosePredictor(model).many([], [])) == []


def test_many_refuses_another_number_of_boxes_than_of_images(model, pixels):
    with pytest.raises(ValueError, match="boxes must be given for each image; there are none for image 1"):
        list(PosePredictor(model).many([pixels, pixels], [BOXES]))
    with pytest.raises(ValueError, match="there are more boxes than images"):
        list(PosePredictor(model).many([pixels], [BOXES, BOXES]))


@pytest.mark.parametrize("decoder", ["argmax", "dark"])
def test_flip_test_finds_the_mirrored_pose_in_the_mirrored_image(model, pixels, decoder):
    mirrored_boxes = [[WIDTH - x2, y1, WIDTH - x1, y2] for x1, y1, x2, y2 in BOXES]
    poses = predict(model, pixels, BOXES, decoder=decoder, flip_test=True)
    mirrored = predict(model, pixels[:, ::-1].copy(), mirrored_boxes, decoder=decoder, flip_test=True)
    order = flip_order(14, LSP.flip_pairs)
    back = mirrored.keypoints[:, order] * [-1, 1] + [WIDTH - 1, 0]
    np.testing.assert_allclose(back, poses.keypoints, atol=0.01 * CELL)
    np.testing.assert_allclose(mirrored.scores[:, order], poses.scores, atol=1e-4)


def test_flip_test_changes_what_an_asymmetric_model_says(model, pixels):
    once, twice = (predict(model, pixels, BOXES, flip_test=flip_test) for flip_test in (False, True))
    assert not np.allclose(once.keypoints, twice.keypoints, atol=1)


def test_shifted_image_and_box_shift_the_pose(model, pixels):
    padded = np.pad(pixels, ((3, 0), (7, 0), (0, 0)))  # black, which is what crops see outside of an image
    poses = predict(model, pixels, [[0, 0, 80, 60]])
    shifted = predict(model, padded, [[7, 3, 87, 63]])
    np.testing.assert_allclose(shifted.keypoints - [7, 3], poses.keypoints, atol=0.01 * CELL)


def test_keypoints_stay_float32_for_a_half_precision_model(model, pixels):
    halved = create_model("tokenpose_t", image_size=(64, 48), depth=1, heads=4, dtype=torch.bfloat16)
    poses = predict(halved, pixels, BOXES)
    assert poses.keypoints.dtype == poses.scores.dtype == np.float32
    assert np.isfinite(poses.keypoints).all()


def test_model_is_put_into_eval_mode_and_gradients_are_off(model, pixels):
    model.train()
    predictor = PosePredictor(model)
    assert not model.training
    with_gradients = []
    hook = model.register_forward_hook(lambda module, inputs, outputs: with_gradients.append(outputs.requires_grad))
    predictor(pixels, BOXES)
    list(predictor.many([pixels], [BOXES]))
    hook.remove()
    assert with_gradients == [False, False]


BOX_ERRORS = {
    "boxes must have shape (people, 4); got (4,); one box is written [[...]]: shape (1, 4)": [0, 0, 10, 10],
    "boxes must have shape (people, 4); got (1, 3)": [[0, 0, 10]],
    "boxes must be numbers of shape (people, 4); got [['a', 'b', 'c', 'd']]": [["a", "b", "c", "d"]],
    "boxes must be numbers of shape (people, 4); got [[0, 0, 10, 10], [0, 0, 10]]": [[0, 0, 10, 10], [0, 0, 10]],
    "box 1 is [10.0, 10.0, 5.0, 20.0] (xyxy)": [[0, 0, 10, 10], [10, 10, 5, 20]],
    "box 0 is [3.0, 3.0, 3.0, 9.0] (xyxy)": [[3, 3, 3, 9]],
    "box 0 is [0.0, 0.0, nan, 9.0] (xyxy)": [[0, 0, float("nan"), 9]],
    "box 0 is [0.0, 0.0, inf, 9.0] (xyxy)": [[0, 0, float("inf"), 9]],
}


@pytest.mark.parametrize("message", BOX_ERRORS)
def test_wrong_boxes_are_refused(model, pixels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        predict(model, pixels, BOX_ERRORS[message])


def test_unknown_box_format_is_refused(model, pixels):
    with pytest.raises((ValueError, TypeError), match="cxcywh"):  # TypeError: the tests' type checker is first
        predict(model, pixels, BOXES, "cxcywh")


def test_unknown_decoder_is_an_error_that_lists_the_known(model):
    with pytest.raises(LookupError, match="there is no decoder 'best'; there are argmax, shifted, dark, soft-argmax"):
        PosePredictor(model, decoder="best")


def test_batch_size_below_1_is_refused(model, pixels):
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        PosePredictor(model)(pixels, BOXES, batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        list(PosePredictor(model).many([pixels], [BOXES], batch_size=0))


def test_flip_test_without_known_pairs_is_refused():
    nameless = create_model("tokenpose_t", keypoints=3, image_size=(64, 48), depth=1, heads=4)
    with pytest.raises(ValueError, match="mirroring needs to know which keypoints change sides"):
        PosePredictor(nameless, flip_test=True)


def test_missing_image_is_an_error_that_names_it(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no image {tmp_path / 'no.jpg'}")):
        predict(model, tmp_path / "no.jpg", BOXES)
