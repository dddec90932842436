import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from tokenpose.data.augment import Augmentation
from tokenpose.data.batches import TrainingBatches
from tokenpose.data.coco import read_coco
from tokenpose.data.order import ShuffledBatches
from tokenpose.data.sources import ImageSource
from tokenpose.data.windows import WindowDataset
from tokenpose.geometry.decode import decode
from tokenpose.geometry.flips import flip_order
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP, Skeleton
from tokenpose.transforms import create_transform

from ..drawing import draw_people

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(96, 72), patch_size=(16, 12), skeleton=LSP, width=48, heads=4,
    depth=1, heatmap_size=(48, 36), sigma=1.5,
)  # fmt: skip
STILL = Augmentation(scale=0.0, rotation=0.0, flip=0.0)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """(samples, source) of twelve drawn people."""
    path = draw_people(tmp_path_factory.mktemp("drawn"), 12)
    return read_coco(path), ImageSource(path.parent)


def batches(drawn, augmentation=STILL, spec=SPEC, cache="ram", **changes) -> TrainingBatches:
    samples, source = drawn
    dataset = WindowDataset(samples, source, spec, augmentation, cache=cache)
    return TrainingBatches(dataset, augmentation, **{"batch_size": 4, "seed": 5} | changes)


def everyone(drawn, augmentation=STILL, **changes):
    """One batch of all, and who is who in it."""
    made = batches(drawn, augmentation, batch_size=12, **changes)
    (batch,) = made.epoch(0)
    return batch, next(iter(ShuffledBatches(12, 12, 5, 0)))


def test_crops_without_augmentation_are_the_predictors(drawn):
    samples, source = drawn
    batch, order = everyone(drawn)
    transform = create_transform(TokenPose(SPEC))
    std = torch.tensor(SPEC.std).view(3, 1, 1)
    for crop, index in zip(batch.crops, order, strict=True):
        people = transform(source.read(samples.file_of(index)), samples.boxes[index : index + 1], "xywh")
        difference = ((crop - people.crops[0]) * std * 255).abs()  # gray levels
        assert difference.max() < 0.05  # the photograph is sampled once


def test_targets_peak_at_the_keypoints(drawn):
    samples, source = drawn
    batch, order = everyone(drawn)
    transform = create_transform(TokenPose(SPEC))
    inside = ((batch.keypoints > 6) & (batch.keypoints < torch.tensor([29.0, 41.0]))).all(dim=-1)
    assert inside.sum() > 100
    assert (batch.weights == 1).all()
    cells = decode(batch.heatmaps, "dark").keypoints
    assert (cells - batch.keypoints)[inside].abs().max() < 0.05
    for row, index in enumerate(order):
        people = transform(source.read(samples.file_of(index)), samples.boxes[index : index + 1], "xywh")
        in_image = transform.to_image(batch.keypoints[row : row + 1], people)[0]
        torch.testing.assert_close(in_image, torch.from_numpy(samples.keypoints[index]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("color", [0.0, 0.3])
def test_the_pictures_colors_lie_where_the_targets_peak(drawn, color):
    # each keypoint is drawn in a color of its own: under any augmentation the same color must lie under the target
    augmentation = Augmentation(scale=0.2, rotation=40.0, rotation_probability=1.0, flip=0.0, color=color)
    still, order = everyone(drawn)
    moved, again = everyone(drawn, augmentation)
    assert order == again
    assert (moved.keypoints - still.keypoints).abs().amax(dim=(1, 2)).min() > 1

    def colors(batch):
        scale = (SPEC.image_size[1] - 1) / (SPEC.output_size[1] - 1)
        center = torch.tensor([(SPEC.image_size[1] - 1) / 2, (SPEC.image_size[0] - 1) / 2])
        middle = torch.tensor([(SPEC.output_size[1] - 1) / 2, (SPEC.output_size[0] - 1) / 2])
        pixels = ((batch.keypoints - middle) * scale + center).round().long()
        seen = (pixels >= 0).all(dim=-1) & (pixels < torch.tensor([72, 96])).all(dim=-1)
        x, y = pixels.clamp(min=0).unbind(dim=-1)
        rows = torch.arange(len(pixels)).unsqueeze(1)
        found = batch.crops[rows, :, y.clamp(max=95), x.clamp(max=71)]
        return found, seen

    (first, seen), (second, seen_again) = colors(still), colors(moved)
    both = seen & seen_again
    assert both.float().mean() > 0.8
    difference = (first - second).abs().amax(dim=-1)[both]
    assert difference.median() < (0.01 if color == 0 else 0.8)  # 1.0 between one keypoint and the next


def test_mirrored_samples_exchange_left_and_right(drawn):
    still, order = everyone(drawn)
    mirrored, again = everyone(drawn, Augmentation(scale=0.0, rotation=0.0, flip=1.0))
    assert order == again
    sides = flip_order(len(LSP), LSP.flip_pairs)
    torch.testing.assert_close(mirrored.crops, still.crops.flip(-1), rtol=0, atol=1e-3)
    torch.testing.assert_close(mirrored.heatmaps, still.heatmaps.flip(-1)[:, sides], rtol=0, atol=1e-4)
    x, y = still.keypoints[:, sides].unbind(dim=-1)
    torch.testing.assert_close(mirrored.keypoints, torch.stack((35 - x, y), dim=-1), rtol=0, atol=1e-3)
    # the right knee of a person who looks at us stands on our left, mirrored or not
    right, left = LSP.index("right_knee"), LSP.index("left_knee")
    for batch in (still, mirrored):
        assert (batch.keypoints[:, right, 0] < batch.keypoints[:, left, 0]).all()


def test_augmented_people_are_zoomed_and_turned_within_the_limits(drawn):
    augmentation = Augmentation(scale=0.3, rotation=30.0, rotation_probability=1.0, flip=0.0)
    still, order = everyone(drawn)
    made = batches(drawn, augmentation, batch_size=12)
    angles, zooms = [], []
    for epoch in range(40):
        (batch,) = made.epoch(epoch)
        who = next(iter(ShuffledBatches(12, 12, 5, epoch)))
        limb = batch.keypoints[:, LSP.index("head_top")] - batch.keypoints[:, LSP.index("neck")]
        original = still.keypoints[:, LSP.index("head_top")] - still.keypoints[:, LSP.index("neck")]
        original = original[[order.index(person) for person in who]]
        zooms.append(original.norm(dim=-1) / limb.norm(dim=-1))
        cross = original[:, 0] * limb[:, 1] - original[:, 1] * limb[:, 0]
        angles.append(torch.rad2deg(torch.atan2(cross, (original * limb).sum(dim=-1))))
    angles, zooms = torch.cat(angles), torch.cat(zooms)
    assert abs(angles.abs().max() - 60) < 0.1  # clipped at twice the deviation
    assert 26 < angles.std() < 32
    assert (zooms.min() - 0.7).abs() < 0.02
    assert (zooms.max() - 1.3).abs() < 0.02


def test_crops_of_far_zoomed_and_turned_people_stay_inside_their_window(tmp_path):
    # a white picture: whatever is black in a crop has missed the window
    from PIL import Image

    path = draw_people(tmp_path, 1)
    Image.fromarray(np.full((900, 900, 3), 255, dtype=np.uint8)).save(tmp_path / "images" / "000.png")
    samples = read_coco(path)
    samples = samples.take(slice(None))
    samples.boxes[:] = [400, 390, 100, 120]
    white = ((1 - torch.tensor(SPEC.mean)) / torch.tensor(SPEC.std)).view(3, 1, 1)
    for augmentation in (
        Augmentation(scale=0.4, rotation=90.0, rotation_probability=1.0, flip=0.5),
        Augmentation(scale=0.4, rotation=0.0, flip=0.5),
    ):
        made = batches((samples, ImageSource(tmp_path)), augmentation, batch_size=1)
        for epoch in range(60):
            (batch,) = made.epoch(epoch)
            torch.testing.assert_close(batch.crops[0], white.expand(3, 96, 72), rtol=0, atol=1e-3)


def equal(first, second) -> bool:
    return all(
        torch.equal(getattr(first, field), getattr(second, field))
        for field in ("crops", "heatmaps", "weights", "keypoints")
    )


FULL = Augmentation(color=0.3)


def test_same_seed_gives_the_same_batches_and_another_does_not(drawn):
    first, second = (list(batches(drawn, FULL).epoch(3)) for _ in range(2))
    assert len(first) == 3
    assert all(equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(equal(a, b) for a, b in zip(first, batches(drawn, FULL, seed=6).epoch(3), strict=True))
    assert not any(equal(a, b) for a, b in zip(first, batches(drawn, FULL).epoch(4), strict=True))


def test_each_batch_of_an_epoch_draws_its_own_augmentation(drawn):
    samples, source = drawn
    twelve_times = samples.take(np.zeros(12, dtype=np.int64))
    first, second, third = batches((twelve_times, source), Augmentation()).epoch(0)
    assert not torch.equal(first.crops, second.crops)
    assert not torch.equal(second.crops, third.crops)
    assert len({tuple(map(tuple, keypoints.tolist())) for keypoints in first.keypoints}) == 4


def test_batches_do_not_depend_on_the_global_random_state(drawn):
    torch.manual_seed(1)
    first = list(batches(drawn, FULL).epoch(0))
    torch.manual_seed(2)
    assert all(equal(a, b) for a, b in zip(first, batches(drawn, FULL).epoch(0), strict=True))


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_starting_in_the_middle_gives_the_rest_of_the_epoch(drawn, start):
    whole = list(batches(drawn, FULL).epoch(1))
    rest = list(batches(drawn, FULL).epoch(1, start=start))
    assert len(rest) == 3 - start
    assert all(equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["ram", "none"])
def test_batches_are_the_same_with_two_workers(drawn, cache):
    alone = list(batches(drawn, FULL).epoch(2))
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message=".*use of fork.*", category=DeprecationWarning
        )  # Python 3.12 and later
        together = list(batches(drawn, FULL, cache=cache, workers=2).epoch(2))
    assert all(equal(a, b) for a, b in zip(alone, together, strict=True))


FULLER = Augmentation(color=0.3, blur=0.5, half_body=0.5)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(drawn, processes):
    # 12 people in batches of 5: parts of 2 and 3, or of 1, 2 and 2; and the last two people
    *alone, last = batches(drawn, FULLER, batch_size=5).epoch(1)
    alone += [last] if processes == 2 else []
    shared = [
        list(batches(drawn, FULLER, batch_size=5, process=process, processes=processes).epoch(1))
        for process in range(processes)
    ]
    for number, whole in enumerate(alone):
        parts = [batches_of_one[number] for batches_of_one in shared]
        for field in whole._fields:
            together = torch.cat([getattr(part, field) for part in parts])
            torch.testing.assert_close(together, getattr(whole, field), rtol=0, atol=1e-4)


def test_each_process_gets_all_of_a_last_batch_that_has_too_few_people_to_share(drawn):
    *_, whole = batches(drawn, FULLER, batch_size=5).epoch(1)
    assert len(whole.crops) == 2
    for process in range(3):
        *_, part = batches(drawn, FULLER, batch_size=5, process=process, processes=3).epoch(1)
        assert equal(part, whole)


def test_people_of_so_many_steps_are_counted_over_epochs(drawn):
    made = batches(drawn, batch_size=5)
    assert [made.people_until(step) for step in range(8)] == [0, 5, 10, 12, 17, 22, 24, 29]


def test_more_processes_than_people_in_a_batch_are_refused(drawn):
    message = "each of 3 processes needs at least one person in a batch; got batch_size 2 and 12 people"
    with pytest.raises(ValueError, match=message):
        batches(drawn, batch_size=2, processes=3)


def test_half_bodies_move_the_frame_to_the_half_that_is_shown(drawn):
    halves = Augmentation(scale=0.0, rotation=0.0, flip=0.0, half_body=1.0)
    batch, order = everyone(drawn, halves)
    whole, again = everyone(drawn)
    assert order == again
    assert (batch.keypoints - whole.keypoints).abs().amax(dim=(1, 2)).min() > 3
    height, width = SPEC.output_size
    inside = ((batch.keypoints >= 0) & (batch.keypoints < torch.tensor([width, height]))).all(dim=-1)
    assert 5 <= inside.sum(dim=1).min() < 14  # the half that is shown, and some of the other


def test_windows_are_the_same_decoded_ahead_or_when_needed(drawn):
    ahead, needed, on_device = (list(batches(drawn, FULL, cache=cache).epoch(0)) for cache in ("ram", "none", "device"))
    assert all(equal(a, b) for a, b in zip(ahead, needed, strict=True))
    assert all(equal(a, b) for a, b in zip(ahead, on_device, strict=True))


def test_fewer_people_than_a_batch_make_a_small_batch(drawn):
    made = batches(drawn, batch_size=50)
    (batch,) = made.epoch(0)
    assert made.batch_count == 1
    assert len(batch.crops) == 12


def test_invisible_keypoints_have_no_weight_wherever_they_are(drawn):
    samples, source = drawn
    hidden = samples.take(slice(None))
    hidden.visible[:, 3] = False
    try:
        mirrored, _ = everyone((hidden, source), Augmentation(scale=0.0, rotation=0.0, flip=1.0))
        still, _ = everyone((hidden, source))
    finally:
        hidden.visible[:, 3] = True
    assert (still.weights == 0).nonzero()[:, 1].unique().tolist() == [3]
    assert (mirrored.weights == 0).nonzero()[:, 1].unique().tolist() == [2]  # the left hip is the right one now
    assert still.heatmaps[:, 3].abs().max() == 0


def test_scores_weigh_the_targets_and_change_sides_with_their_keypoints(drawn):
    samples, source = drawn
    scores = np.ones((12, 14), dtype=np.float32)
    scores[:, 3] = 0.25  # left hip
    weighed = replace(samples, weights=scores)
    plain, _ = everyone(drawn)
    still, _ = everyone((weighed, source))
    mirrored, _ = everyone((weighed, source), Augmentation(scale=0.0, rotation=0.0, flip=1.0))
    assert torch.equal(still.heatmaps, plain.heatmaps)
    assert still.weights[0].tolist() == [0.25 if keypoint == 3 else 1 for keypoint in range(14)]
    assert mirrored.weights[0].tolist() == [0.25 if keypoint == 2 else 1 for keypoint in range(14)]


def test_mirroring_without_known_pairs_is_refused_before_the_first_epoch(drawn):
    samples, source = drawn
    blank = SPEC.replace(skeleton=Skeleton.from_count(14))
    dataset = WindowDataset(samples, source, blank, FULL)
    with pytest.raises(ValueError, match="which keypoints change sides"):
        TrainingBatches(dataset, FULL, batch_size=4, seed=0)
    made = TrainingBatches(dataset, Augmentation(flip=0.0), batch_size=4, seed=0)
    assert len(list(made.epoch(0))) == 3


def test_missing_image_is_refused_by_name(drawn):
    samples, source = drawn
    (source.folders[0] / "images" / "004.png").rename(source.folders[0] / "images" / "gone.png")
    try:
        with pytest.raises(
            FileNotFoundError, match=r"there is no image 004\.png in .* \(annotation 4 of .*people\.json\)"
        ):
            WindowDataset(samples, source, SPEC, STILL).load()
    finally:
        (source.folders[0] / "images" / "gone.png").rename(source.folders[0] / "images" / "004.png")


def test_real_photographs_become_batches(data_folder):
    samples = read_coco(data_folder / "lspet" / "person_keypoints_val.json").take(slice(8))
    source = ImageSource(data_folder / "lspet" / "val.tar")
    (batch,) = batches((samples, source), FULL, batch_size=8).epoch(0)
    assert batch.crops.shape == (8, 3, 96, 72)
    assert batch.heatmaps.shape == (8, 14, 48, 36)
    assert torch.isfinite(batch.crops).all()
    assert 0.8 < batch.heatmaps.amax(dim=(-2, -1))[batch.weights > 0].median() <= 1
