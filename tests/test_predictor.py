import logging
import re

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.geometry.decode import DECODERS
from tokenpose.geometry.flips import flip_order
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor, predict
from tokenpose.skeletons import LSP
from tokenpose.transforms import create_transform

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


@pytest.mark.parametrize("decoder", list(DECODERS))
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


@pytest.mark.parametrize("decoder", list(DECODERS))
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


@torch.no_grad()
def test_flip_test_is_the_mean_of_both_passes_so_a_peak_that_only_one_of_them_sees_has_half_its_height(pixels):
    blind = create_model("tokenpose_t.coco_256x192", image_size=(64, 48), depth=1)
    last = blind.head[3]
    last.weight.zero_()
    last.bias.zero_()
    last.bias.view(16, 12)[5, 2] = 0.8  # whatever the image; mirrored back it stands in column 11 - 2 = 9
    once, twice = (predict(blind, pixels, BOXES, flip_test=flip_test) for flip_test in (False, True))
    np.testing.assert_allclose(once.scores, 0.8, rtol=1e-6)
    np.testing.assert_allclose(twice.scores, 0.4, rtol=1e-6)


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


def bad_images(pixels, tmp_path) -> list:
    (tmp_path / "text.jpg").write_text("not an image")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    good = str(tmp_path / "a.png")
    return [good, tmp_path / "text.jpg", good, np.zeros((4, 4), np.uint8), good, good, good]


WITH_BAD_BOX = [BOXES, BOXES, BOXES[:1], BOXES, [[0, 0, np.nan, 5]], [], BOXES[:2]]


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("readers", [0, 2])
def test_bad_images_raise_in_their_turn_after_the_results_before_them(model, pixels, tmp_path, batch_size, readers):
    found = PosePredictor(model).many(
        bad_images(pixels, tmp_path), WITH_BAD_BOX, batch_size=batch_size, readers=readers
    )
    assert_equal(next(found), predict(model, pixels, BOXES))
    with pytest.raises(OSError, match=r"text\.jpg is not an image that can be read"):
        next(found)
    assert list(found) == []


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("readers", [0, 2])
def test_bad_images_are_skipped_with_a_word_and_a_none_in_their_place(
    model, pixels, tmp_path, caplog, batch_size, readers
):
    images = bad_images(pixels, tmp_path)
    many = PosePredictor(model).many
    found = list(many(images, WITH_BAD_BOX, batch_size=batch_size, on_error="skip", readers=readers))
    assert [None if poses is None else len(poses) for poses in found] == [3, None, 1, None, None, 0, 2]
    assert_equal(found[6], predict(model, pixels, BOXES[:2]))
    assert [message.split(": ")[0] for message in caplog.messages] == [
        f"image 1 ({tmp_path / 'text.jpg'}) is skipped",
        "image 3 is skipped",
        f"image 4 ({tmp_path / 'a.png'}) is skipped",
    ]


def test_an_error_of_the_network_is_never_skipped(model, pixels):
    hook = model.register_forward_hook(lambda *_: [].pop())
    with pytest.raises(IndexError):
        list(PosePredictor(model).many([pixels] * 3, [BOXES] * 3, on_error="skip"))
    hook.remove()


def test_many_refuses_other_words_and_numbers(model):
    with pytest.raises(ValueError, match='on_error must be "raise" or "skip"; got \'ignore\''):
        PosePredictor(model).many([], [], on_error="ignore")
    with pytest.raises(ValueError, match="readers must be 0 or more; got -1"):
        PosePredictor(model).many([], [], readers=-1)


BOX_ERRORS = {
    "boxes must have shape (people, 4); got (4,); one box is written [[...]]: shape (1, 4)": [0, 0, 10, 10],
    "boxes must have shape (people, 4); got (1, 3)": [[0, 0, 10]],
    "boxes must be numbers of shape (people, 4); got [['a', 'b', 'c', 'd']]": [["a", "b", "c", "d"]],
    "boxes must be numbers of shape (people, 4); got [[0, 0, 10, 10], [0, 0, 10]]": [[0, 0, 10, 10], [0, 0, 10]],
    "box 1 is [10.0, 10.0, 5.0, 20.0] (xyxy)": [[0, 0, 10, 10], [10, 10, 5, 20]],
    "box 0 is [3.0, 3.0, 3.0, 9.0] (xyxy)": [[3, 3, 3, 9]],
    "box 0 is [0.0, 0.0, nan, 9.0] (xyxy)": [[0, 0, float("nan"), 9]],
    "box 0 is [0.0, 0.0, inf, 9.0] (xyxy)": [[0, 0, float("inf"), 9]],
    "box 0 is [0.0, 0.0, 2000000.0, 9.0] (xyxy); it must be finite, x2 and y2 at least 1 pixel beyond": [
        [0, 0, 2e6, 9]
    ],
    "box 0 is [9.0, 3.0, 3.0, 9.0] (xyxy); it must be finite, x2 and y2 at least 1 pixel beyond x1 and y1 (for xywh: "
    "width and height at least 1), and within a million pixels; corners are swapped, or these are x, y, width, height: "
    'box_format="xywh"': [[9, 3, 3, 9]],
    "and within a million pixels; boxes look like fractions of the image: multiply by its width": [
        [0.1, 0.1, 0.9, 0.9]
    ],
    "box 1 is [90.0, 5.0, 99.0, 20.0] (xyxy), wholly outside the image of width 80 and height 60": [
        [0, 0, 10, 10],
        [90, 5, 99, 20],
    ],
    "wholly outside the image of width 80 and height 60; width and height look swapped": [[10, 65, 50, 79]],
    "box 0 is [-50.0, 5.0, -10.0, 20.0] (xyxy), wholly outside the image": [[-50, 5, -10, 20]],
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
    with pytest.raises(ValueError, match="batch_size must be a whole number, at least 1; got 0"):
        PosePredictor(model)(pixels, BOXES, batch_size=0)
    with pytest.raises(ValueError, match="batch_size must be a whole number, at least 1; got 0"):
        list(PosePredictor(model).many([pixels], [BOXES], batch_size=0))


def test_flip_test_without_known_pairs_is_refused():
    nameless = create_model("tokenpose_t", keypoints=3, image_size=(64, 48), depth=1, heads=4)
    with pytest.raises(ValueError, match="mirroring needs to know which keypoints change sides"):
        PosePredictor(nameless, flip_test=True)


def test_missing_image_is_an_error_that_names_it(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"there is no image {tmp_path / 'no.jpg'}")):
        predict(model, tmp_path / "no.jpg", BOXES)


@pytest.mark.parametrize("box", [[-30, -20, 10, 10], [70, 50, 200, 300], [-500, -500, 500, 500], [10, 10, 11, 11]])
def test_boxes_partly_outside_and_of_one_pixel_are_taken(model, pixels, box):
    poses = predict(model, pixels, [box])
    assert np.isfinite(poses.keypoints).all()
    assert poses.boxes.tolist() == [box]


@pytest.mark.parametrize(
    ("outside", "inside"),
    [
        ([-20, 5, 0, 25], [-20, 5, 0.5, 25]),  # ends at the left edge, or half a pixel beyond it
        ([5, -20, 25, 0], [5, -20, 25, 0.5]),
        ([80, 5, 99, 25], [79.5, 5, 99, 25]),  # starts at the right edge of 80 columns
        ([5, 60, 25, 79], [5, 59.5, 25, 79]),
    ],
)
def test_a_box_that_ends_exactly_at_the_images_edge_is_outside(model, pixels, outside, inside):
    with pytest.raises(ValueError, match="wholly outside the image of width 80 and height 60"):
        predict(model, pixels, [outside])
    assert predict(model, pixels, [inside]).boxes.tolist() == [inside]


def test_ten_thousand_boxes_at_once(model, pixels):
    boxes = np.tile(np.array(BOXES, dtype=np.float32), (3334, 1))[:10_000]
    poses = PosePredictor(model)(pixels, boxes, batch_size=256)
    assert len(poses) == 10_000
    np.testing.assert_allclose(poses.keypoints[:3], poses.keypoints[9_996:9_999], atol=0.01 * CELL)


def test_a_padding_below_1_of_a_pixel_is_refused(pixels):
    small = create_model("tokenpose_t", image_size=(64, 48), depth=1, heads=4, box_padding=0.5)
    with pytest.raises(ValueError, match=r"box 0 is .*with box_padding 0\.5 it shows .* a crop needs more than one"):
        predict(small, pixels, [[10, 10, 11, 11.5]])


@pytest.mark.slow
@pytest.mark.parametrize("spread", ["small boxes", "boxes of the whole image"])
def test_100_megapixels_with_200_people_take_less_than_one_and_a_half_gigabytes(tmp_path, run_python, spread):
    Image.new("RGB", (12_500, 8_000), (90, 120, 60)).save(tmp_path / "large.jpg")
    process = run_python(
        f"""
import resource, warnings
import numpy as np, PIL.Image, tokenpose
warnings.simplefilter("ignore", PIL.Image.DecompressionBombWarning)
model = tokenpose.create_model("tokenpose_s_v1", depth=1)  # its stem needs the memory
predictor = tokenpose.PosePredictor(model)
corners = np.random.default_rng(0).uniform((0, 0), (12_000, 7_000), (200, 2))
sizes = (400, 900) if {spread!r} == "small boxes" else (12_500, 8_000)
boxes = np.concatenate((corners if sizes[0] == 400 else 0 * corners, corners + sizes), axis=1)
predictor(np.zeros((99, 99, 3), np.uint8), [[0, 0, 99, 99]])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
poses = predictor({str(tmp_path / "large.jpg")!r}, boxes)
print(len(poses), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 - 300_000_000)
"""
    )
    people, beyond = process.stdout.split()
    assert int(people) == 200
    assert int(beyond) < 1.5e9


def test_decoders_that_raise_their_own_errors_are_skipped_too(model, pixels, tmp_path, monkeypatch):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail_to_decode)
    found = list(PosePredictor(model).many([tmp_path / "a.png", pixels], [BOXES, BOXES], on_error="skip"))
    assert [poses is None for poses in found] == [True, False]


def fail_to_decode(self):
    raise RuntimeError("Failed to decode frame 0")


def test_a_kept_predictor_predicts_in_eval_mode_whatever_was_done_between(model, pixels):
    predictor = PosePredictor(model)
    before = predictor(pixels, BOXES)
    model.train()
    assert_equal(predictor(pixels, BOXES), before, tolerance=0)
    assert not model.training


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_steps_on_their_own_work_in_the_models_precision(pixels, dtype):
    half = create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=1, heads=4, dtype=dtype)
    people = create_transform(half)(pixels, BOXES)
    assert people.crops.dtype == dtype
    assert people.matrices.dtype == torch.float32
    assert half(people.crops).shape == (3, 14, 16, 12)
    assert np.isfinite(predict(half, pixels, BOXES).keypoints).all()
