"""Windows: training crops are sampled from the photograph, once, whatever their zoom, turn and filter."""

import dataclasses
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from tokenpose.data.augment import Augmentation, Draws, draw, place_people
from tokenpose.data.windows import _PIXELS_AT_ONCE, LARGE, WindowDataset, _parts, crop_windows
from tokenpose.geometry.affine import compose
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.crops import crop_image
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import LSP

from .parts import people_of

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(96, 72), patch_size=(16, 12), skeleton=LSP, width=48, heads=4,
    depth=1,
)  # fmt: skip
HEIGHT, WIDTH = SIZE = 700, 900
BOXES = {
    "small": [400.0, 300.0, 30.0, 45.0],
    "of the crop's size": [300.0, 200.0, 57.0, 77.0],
    "large": [200.0, 150.0, 270.0, 390.0],
    "at the corner": [-20.0, 10.0, 200.0, 260.0],
    "most of the image": [100.0, 200.0, 560.0, 420.0],
    "outside": [2_000.0, 100.0, 60.0, 80.0],
}


class Photograph:
    """A source with one photograph, of detail of every size."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        parts = [
            functional.interpolate(torch.rand(1, 3, HEIGHT // side, WIDTH // side, generator=generator), SIZE)
            for side in (1, 2, 7, 25)
        ]
        self.pixels = (torch.cat(parts).mean(dim=0) * 255).to(torch.uint8)

    def read(self, name):
        return self.pixels


@pytest.fixture(scope="module")
def source() -> Photograph:
    return Photograph()


def people_in(boxes):
    return people_of(LSP, len(boxes), boxes=np.array(list(boxes), dtype=np.float32))


def still(people: int, **drawn) -> Draws:
    draws = draw(Augmentation(scale=0.0, rotation=0.0, flip=0.0), people, torch.Generator().manual_seed(0))
    return draws._replace(**{name: torch.tensor([value] * people) for name, value in drawn.items()})


def crops_of(people, source, augmentation, drawn, spec=SPEC):
    """The crops that training makes of these draws, and those that are made directly from the photograph."""
    dataset = WindowDataset(people, source, spec, augmentation, cache="none")
    keypoints, visible = torch.from_numpy(people.keypoints), torch.from_numpy(people.visible)
    matrices = place_people(torch.from_numpy(people.boxes), keypoints, visible, drawn, spec).matrices
    windows = [dataset.decode(index) for index in range(len(people))]
    device = torch.device("cpu")
    made = crop_windows(windows, compose(matrices, dataset.matrices), spec.image_size, spec.crop_filter, device)
    return made, crop_image(source.pixels, matrices, spec.image_size, spec.crop_filter)


def energy(crops) -> float:
    return sum(crops.diff(dim=axis).square().mean().item() for axis in (2, 3))


@pytest.mark.parametrize("crop_filter", ["bilinear", "area"])
@pytest.mark.parametrize("drawn", [{"scale": 0.65}, {"scale": 1.35}, {"rotation": 30.0}, {"rotation": -90.0}, {}])
def test_training_crops_are_as_sharp_as_crops_of_the_photograph(source, crop_filter, drawn):
    people = people_in(BOXES.values())
    made, direct = crops_of(
        people, source, Augmentation(), still(len(people), **drawn), SPEC.replace(crop_filter=crop_filter)
    )
    assert energy(direct) > 50
    assert 0.98 < energy(made) / energy(direct) < 1.02
    for name, crop, expected in zip(BOXES, made, direct, strict=True):
        # a reduced window is rounded to whole gray levels
        assert (crop - expected).abs().max() < (0.1 if crop_filter == "bilinear" else 0.6), name


def test_without_rotation_windows_are_narrower_and_still_wide_enough(source):
    upright, turned = (Augmentation(rotation=rotation) for rotation in (0.0, 45.0))
    people = people_in([BOXES["large"]])
    narrow, wide = (
        WindowDataset(people, source, SPEC, augmentation, cache="none").decode(0) for augmentation in (upright, turned)
    )
    assert narrow.shape[2] < 0.7 * wide.shape[2]
    made, direct = crops_of(people, source, upright, still(1, scale=1.35))
    torch.testing.assert_close(made, direct, rtol=0, atol=0.1)


@pytest.mark.parametrize("crop_filter", ["bilinear", "area"])
@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("drawn", [{"scale": 0.65}, {"scale": 1.35, "rotation": 90.0}])
def test_windows_hold_both_halves_of_a_body_however_far_they_reach(source, crop_filter, upper, drawn):
    # the arms reach far beyond the box, and so does the frame of the upper half
    people = people_in([[300.0, 250.0, 100.0, 150.0], [380.0, 240.0, 120.0, 200.0]])
    people.keypoints[:] = np.random.default_rng(0).uniform(200, 500, people.keypoints.shape)
    spec = SPEC.replace(crop_filter=crop_filter)
    halves = still(2, half_body=True, upper=upper, **drawn)
    made, direct = crops_of(people, source, Augmentation(half_body=0.3), halves, spec)
    torch.testing.assert_close(made, direct, rtol=0, atol=0.1 if crop_filter == "bilinear" else 0.6)
    assert (made - crops_of(people, source, Augmentation(), still(2, **drawn), spec)[0]).abs().mean() > 10


@pytest.mark.parametrize(("crop_filter", "factors"), [("area", [1, 2, 4, 8, 16]), ("bilinear", [1, 1, 1, 2, 4])])
def test_only_pixels_that_no_crop_needs_are_averaged(source, crop_filter, factors):
    people = people_in([[100.0, 100.0, 0.6 * side, side] for side in (150, 300, LARGE / 1.25, 1_000, 2_000)])
    dataset = WindowDataset(people, source, SPEC.replace(crop_filter=crop_filter), Augmentation(), cache="none")
    assert dataset.factors == factors
    _, scale = center_and_scale(torch.from_numpy(people.boxes), SPEC.image_size, SPEC.box_padding)
    covered = (scale[:, 0] - 1) / 71 * 0.65  # pixels that a crop's pixel covers at the smallest zoom
    assert (torch.tensor(factors) <= covered.clamp(min=1)).all()
    assert dataset.decode(3).shape[2] <= (WIDTH + 15) // factors[3]
    fine = SPEC.replace(image_size=(1536, 1152), patch_size=(64, 48), crop_filter=crop_filter)
    assert WindowDataset(people, source, fine, Augmentation()).factors == [1, 1, 1, 1, 1]


def test_windows_are_the_photographs_own_pixels(source):
    dataset = WindowDataset(people_in([BOXES["large"]]), source, SPEC, Augmentation(), cache="none")
    (left, top), window = dataset.first[0].tolist(), dataset.decode(0)
    height, width = window.shape[1:]
    assert torch.equal(window, source.pixels[:, top : top + height, left : left + width])
    assert window.untyped_storage().nbytes() == window.numel()  # the rest of the photograph is not kept


@pytest.mark.parametrize("turned", [0.0, 30.0])
@pytest.mark.parametrize("shift", [(0.3, -0.3), (-0.3, 0.3)])
def test_windows_reach_as_far_as_jittered_boxes(source, shift, turned):
    people = people_in(BOXES.values())
    drawn = still(len(people), resize=1.3, scale=1.35, rotation=turned)
    drawn = drawn._replace(shift=torch.tensor([shift]).expand(len(people), -1))
    made, expected = crops_of(people, source, Augmentation(box_jitter=0.3), drawn)
    assert (made - expected).abs().max() < 1.5


@pytest.mark.parametrize("kept", [0.4, 0.65, 0.9])
@pytest.mark.parametrize("side", [0, 1, 2, 3])
def test_windows_reach_as_far_as_what_is_left_of_people_who_are_cut_off(source, side, kept):
    people = people_in(BOXES.values())
    keypoints = np.repeat((people.boxes[:, :2] + people.boxes[:, 2:] * 0.5)[:, None], len(LSP.keypoints), axis=1)
    for place in range(3):  # three keypoints stay, whatever is cut off
        keypoints[:, place] = people.boxes[:, :2] + people.boxes[:, 2:] * (0.95 if side < 2 else 0.05)
    people = replace(people, keypoints=keypoints.astype(np.float32), visible=np.ones(keypoints.shape[:2], dtype=bool))
    drawn = still(len(people), scale=1.35, kept=kept, cut=side)
    made, expected = crops_of(people, source, Augmentation(cut_off=1.0), drawn)
    assert (made - expected).abs().max() < 1.5


@pytest.mark.parametrize("turned", [0.0, 90.0])
@pytest.mark.parametrize("kept", [0.4, 0.65])
@pytest.mark.parametrize("side", [-1, 0, 1, 2, 3])
def test_averaged_windows_hold_all_that_jittered_and_cut_off_people_show(source, side, kept, turned):
    people = people_in([[450.0, 300.0, 40.0, 90.0], [400.0, 330.0, 150.0, 60.0], [300.0, 200.0, 200.0, 250.0]])
    people.keypoints[:] = np.random.default_rng(0).uniform(people.boxes[:, None, :2], 500, people.keypoints.shape)
    augmentation, spec = Augmentation(box_jitter=0.2, cut_off=0.5, rotation=turned), SPEC.replace(crop_filter="area")
    for scale, shift, resize in ((1.35, [0.2, 0.2], 1.2), (1.35, [-0.2, 0.2], 1.2), (0.65, [0.2, -0.2], 0.8)):
        drawn = still(3, scale=scale, shift=shift, resize=resize, cut=side, kept=kept, rotation=turned)
        made, direct = crops_of(people, source, augmentation, drawn, spec)
        torch.testing.assert_close(made, direct, rtol=0, atol=0.6)  # reduced windows are rounded to whole gray levels


def test_windows_serve_several_sizes_of_crops(source):
    people, sizes = people_in(BOXES.values()), [(96, 72), (48, 36), (192, 144)]
    framings = [SPEC.replace(image_size=size, patch_size=(size[0] // 6, size[1] // 6)) for size in sizes]
    dataset = WindowDataset(people, source, framings, Augmentation(), cache="none")
    windows = [dataset.decode(index) for index in range(len(people))]
    keypoints, visible = torch.from_numpy(people.keypoints), torch.from_numpy(people.visible)
    for framing in framings:
        placed = place_people(
            torch.from_numpy(people.boxes), keypoints, visible, still(len(people), scale=0.65), framing
        )
        to_crop = compose(placed.matrices, dataset.matrices)
        made = crop_windows(windows, to_crop, framing.image_size, "bilinear", torch.device("cpu"))
        expected = crop_image(source.pixels, placed.matrices, framing.image_size)
        assert energy(made) >= 0.98 * energy(expected)


def test_batches_of_large_windows_are_cropped_in_parts(source, monkeypatch):
    people = people_in(BOXES.values())
    whole, _ = crops_of(people, source, Augmentation(), still(len(people)))
    monkeypatch.setitem(_PIXELS_AT_ONCE, "cpu", 200_000)
    parts, _ = crops_of(people, source, Augmentation(), still(len(people)))
    torch.testing.assert_close(parts, whole, rtol=0, atol=0.05)
    sizes = [(100, 100), (100, 1_900), (10, 10), (2_000, 2_000), (5, 5)]
    windows = [torch.empty(3, *size, dtype=torch.uint8) for size in sizes]
    assert list(_parts(windows, 200_000)) == [[4, 2, 0], [1], [3]]  # from small to large
    assert list(_parts(windows[:1] * 21, 200_000)) == [list(range(20)), [20]]


def test_windows_that_do_not_fit_into_memory_are_refused_after_a_few(source, monkeypatch, caplog):
    people = people_in([BOXES["large"]] * 1_000)
    decoded = []
    monkeypatch.setattr(source, "read", lambda name: decoded.append(name) or source.pixels, raising=True)
    monkeypatch.setattr("tokenpose.data.windows._memory", lambda: 1e9)
    dataset = WindowDataset(people, source, SPEC, Augmentation())
    message = r'the decoded windows of 1000 people take 2 GB, and this machine has 1: use cache "none", with workers'
    with caplog.at_level(logging.INFO), pytest.raises(ValueError, match=message):
        dataset.load()
    assert len(decoded) < 100
    assert "decoding 1000 people: about 1." in caplog.text
    assert dataclasses.replace(people).files == people.files


@pytest.mark.parametrize("cache", ["ram", "none", "device"])
def test_every_cache_gives_the_same_windows(source, cache):
    dataset = WindowDataset(people_in(BOXES.values()), source, SPEC, Augmentation(), cache=cache)
    assert (dataset.windows is None) == (cache == "none")
    for index in range(len(BOXES)):
        window, again = dataset[index]
        assert torch.equal(window, dataset.decode(index))
        assert again == index
