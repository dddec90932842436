import pytest
import torch

from tokenpose.data.augment import (
    Augmentation,
    blacken,
    blur,
    check_skeleton,
    cut_off,
    draw,
    half_bodies,
    jitter_color,
    place_people,
    recolor,
)
from tokenpose.geometry.affine import crop_matrices, invert, transform_points
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import COCO, LSP, MPII, Skeleton

PEOPLE = 20_000


def test_zoom_is_a_clipped_normal_draw(generator):
    scale = draw(Augmentation(), PEOPLE, generator).scale
    assert (scale.min().item(), scale.max().item()) == pytest.approx((0.65, 1.35))
    for limit in (scale.min(), scale.max()):
        assert abs((scale == limit).double().mean() - 0.1587) < 0.01  # beyond one deviation
    assert abs((scale > 1).double().mean() - 0.5) < 0.012
    assert abs((scale > 1 + 0.35 / 2).double().mean() - 0.3085) < 0.012  # beyond half a deviation


def test_rotation_is_as_rare_as_set_and_stays_within_its_limits(generator):
    rotation = draw(Augmentation(), PEOPLE, generator).rotation
    assert rotation.abs().max() == 90
    assert abs((rotation != 0).double().mean() - 0.6) < 0.012
    turned = rotation[rotation != 0]
    assert abs((turned.abs() == 90).double().mean() - 0.0455) < 0.006  # beyond two deviations
    assert abs((turned.abs() < 45).double().mean() - 0.6827) < 0.012  # within one
    assert abs((turned > 0).double().mean() - 0.5) < 0.015


def test_half_are_mirrored(generator):
    assert abs(draw(Augmentation(), PEOPLE, generator).flip.double().mean() - 0.5) < 0.012


def test_draws_are_independent(generator):
    drawn = draw(Augmentation(rotation_probability=1.0), PEOPLE, generator)
    table = torch.stack((drawn.scale, drawn.rotation, drawn.flip.float(), drawn.upper.float()))
    assert (torch.corrcoef(table) - torch.eye(4)).abs().max() < 0.03


def test_nothing_is_drawn_where_everything_is_off(generator):
    drawn = draw(Augmentation(scale=0.0, rotation=0.0, flip=0.0), 100, generator)
    assert (drawn.scale == 1).all()
    assert (drawn.rotation == 0).all()
    assert not drawn.flip.any()


def test_everybody_is_mirrored_with_probability_one(generator):
    assert draw(Augmentation(flip=1.0), 1000, generator).flip.all()


def test_same_generator_state_draws_the_same():
    first, second = (draw(Augmentation(), 10, torch.Generator().manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_colors_change_within_their_strength(generator):
    gray = torch.full((500, 3, 2, 2), 100.0)  # without contrast or saturation only the brightness shows
    drawn = draw(Augmentation(color=0.3), 500, generator)
    factors = jitter_color(gray, drawn.color)[:, 0, 0, 0] / 100
    torch.testing.assert_close(factors, drawn.color[:, 2])
    assert 0.7 <= factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.3


def test_gray_stays_gray_and_values_stay_in_range(generator):
    crops = 255 * torch.rand(50, 1, 8, 8, generator=generator).expand(-1, 3, -1, -1)
    jittered = jitter_color(crops, draw(Augmentation(color=0.9), 50, generator).color)
    torch.testing.assert_close(jittered[:, 0], jittered[:, 2], rtol=0, atol=1e-3)
    assert (jittered.min(), jittered.max()) == (0, 255)


def test_pixels_stay_as_they_are_where_nothing_is_drawn(generator):
    crops = 255 * torch.rand(5, 3, 8, 8, generator=generator)
    assert recolor(crops, draw(Augmentation(), 5, generator)) is crops


def test_turning_one_thing_on_leaves_the_other_draws_as_they_were():
    plain, full = (
        draw(settings, 50, torch.Generator().manual_seed(1))
        for settings in (Augmentation(), Augmentation(color=0.3, blur=0.5, half_body=0.5))
    )
    assert torch.equal(plain.scale, full.scale)
    assert torch.equal(plain.rotation, full.rotation)
    assert torch.equal(plain.flip, full.flip)


def test_draws_of_a_part_are_those_of_the_whole(generator):
    whole = draw(Augmentation(color=0.2, blur=1.0), 10, generator)
    parts = [whole.take(slice(0, 4)), whole.take(slice(4, 10))]
    for values, *split in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat(split), values)


def test_blur_spreads_a_point_as_its_gaussian_and_keeps_the_sum(generator):
    crops = torch.zeros(3, 3, 21, 21)
    crops[:, :, 10, 10] = 100.0
    blurred = blur(crops, torch.tensor([0.0, 1.0, 1.5]))
    assert torch.equal(blurred[0], crops[0])
    torch.testing.assert_close(blurred.sum(dim=(2, 3)), torch.full((3, 3), 100.0))
    row = blurred[1, 0, 10]
    assert (row[11] / row[10]).item() == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-4)  # exp(-1 / 2)
    assert (row[12] / row[10]).item() == pytest.approx(torch.tensor(-2.0).exp().item(), rel=1e-4)  # exp(-4 / 2)
    torch.testing.assert_close(blurred[2, 0], blurred[2, 0].T)


def test_blur_leaves_an_even_color(generator):
    crops = torch.full((2, 3, 9, 7), 80.0)
    torch.testing.assert_close(blur(crops, torch.tensor([2.0, 0.7])), crops)  # at the borders too


def test_as_many_are_blurred_as_set(generator):
    drawn = draw(Augmentation(blur=0.3), PEOPLE, generator)
    assert abs((drawn.blur > 0).double().mean() - 0.3) < 0.012
    assert 1.9 < drawn.blur.max() <= 2


# half bodies

FRAMING = ModelSpec(backbone="stem", image_size=(64, 48), skeleton=COCO)


def body() -> tuple[torch.Tensor, torch.Tensor]:
    """COCO's 17 keypoints: the upper 11 from (100, 50) to (140, 90), the lower 6 from (110, 100) to (130, 200)."""
    upper = torch.tensor([[100.0, 50.0], [140.0, 90.0], *[[120.0, 70.0]] * 9])
    lower = torch.tensor([[110.0, 100.0], [130.0, 200.0], *[[120.0, 150.0]] * 4])
    return torch.cat((upper, lower)).unsqueeze(0), torch.ones(1, 17, dtype=torch.bool)


@pytest.mark.parametrize(
    ("prefers_upper", "center", "extent"), [(True, (120.0, 70.0), (41, 41)), (False, (120.0, 150.0), (21, 101))]
)
def test_half_bodies_are_framed_as_published(prefers_upper, center, extent):
    found_center, scale, enough = half_bodies(*body(), torch.tensor([prefers_upper]), FRAMING)
    assert enough.item()
    assert found_center[0].tolist() == pytest.approx(center)  # the keypoints' mean
    width, height = extent  # their extent + 1, grown to 3:4, times 1.5
    grown = max(width, height * 0.75), max(height, width / 0.75)
    assert scale[0].tolist() == pytest.approx([1.5 * side for side in grown])


def test_half_with_too_few_keypoints_gives_way_to_the_other():
    keypoints, visible = body()
    visible[0, 13:] = False  # only the hips are left below
    center, _, enough = half_bodies(keypoints, visible, torch.tensor([False]), FRAMING)
    assert enough.item()
    assert center[0].tolist() == pytest.approx((120.0, 70.0))


def test_people_with_few_keypoints_are_shown_whole():
    keypoints, visible = body()
    visible[0, 8:] = False  # 8 are left, and more than 8 are needed
    assert not half_bodies(keypoints, visible, torch.tensor([True]), FRAMING)[2].item()
    drawn = draw(Augmentation(half_body=1.0), 1, torch.Generator().manual_seed(0))
    drawn = drawn._replace(scale=torch.ones(1), rotation=torch.zeros(1), flip=torch.tensor([False]))
    box = torch.tensor([[60.0, 40.0, 120.0, 160.0]])
    found = place_people(box, keypoints, visible, drawn, FRAMING)
    whole = crop_matrices(*center_and_scale(box, FRAMING.image_size, FRAMING.box_padding), FRAMING.image_size)
    torch.testing.assert_close(found.matrices, whole)
    assert torch.equal(found.visible, visible)


def test_the_upper_half_is_preferred_as_published(generator):
    drawn = draw(Augmentation(half_body=0.3), PEOPLE, generator)
    assert abs(drawn.upper.double().mean() - 0.6915) < 0.012  # a normal draw below 0.5
    assert abs(drawn.half_body.double().mean() - 0.3) < 0.012


def test_upper_bodies_are_those_of_the_published_configurations():
    assert [index for index, upper in enumerate(COCO.upper_body()) if upper] == list(range(11))
    assert [index for index, upper in enumerate(MPII.upper_body()) if upper] == list(range(7, 16))
    assert [name for name, upper in zip(LSP.keypoints, LSP.upper_body(), strict=True) if not upper] == [
        "right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle",
    ]  # fmt: skip


@pytest.mark.parametrize(("names", "missing"), [(["nose", "tail"], "below"), (["hip", "knee"], "above")])
def test_skeletons_without_halves_are_refused(names, missing):
    with pytest.raises(ValueError, match=f"skeleton 'custom' names none {missing} the waist: turn half bodies off"):
        check_skeleton(Augmentation(half_body=0.1, flip=0.0), Skeleton.from_names(names))


# Degradation, jitter and people who are cut off

STILL = Augmentation(scale=0.0, rotation=0.0, flip=0.0)
BOX = torch.tensor([[60.0, 40.0, 120.0, 160.0]])  # twice the crop's aspect, without padding


def still(generator, people: int = 1, **changes):
    """Draws that place crops as the box says, with some changes."""
    return draw(STILL, people, generator)._replace(**changes)


@pytest.mark.parametrize(
    ("setting", "changed"),
    [("gray", "gray"), ("jpeg", "jpeg"), ("downscale", "downscale"), ("box_jitter", "resize"), ("cut_off", "cut")],
)
def test_each_of_the_new_augmentations_is_off_by_itself_and_changes_no_other_draw(generator, setting, changed):
    state = generator.get_state()
    without = draw(Augmentation(), 1000, generator)
    generator.set_state(state)
    drawn = draw(Augmentation(**{setting: 0.3}), 1000, generator)
    off = {"gray": False, "jpeg": 0, "downscale": 1, "resize": 1, "cut": -1}[changed]
    assert (getattr(without, changed) == off).all()
    for name, values in drawn._asdict().items():
        if name != changed and not (name == "shift" and changed == "resize"):
            assert torch.equal(values, getattr(without, name)), name
    share = (getattr(drawn, changed) != off).double().mean().item()
    assert share == pytest.approx(1.0 if setting == "box_jitter" else 0.3, abs=0.05)


def test_limits_of_the_draws_are_those_of_the_settings_help(generator):
    drawn = draw(Augmentation(jpeg=1.0, downscale=1.0, box_jitter=0.2, cut_off=1.0), PEOPLE, generator)
    for values, low, high in (
        (drawn.jpeg, 10, 60), (drawn.downscale, 1.5, 4), (drawn.shift, -0.2, 0.2), (drawn.resize, 0.8, 1.2),
        (drawn.kept, 0.4, 0.9),
    ):  # fmt: skip
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < values.max() <= high
    shares = torch.bincount(drawn.cut, minlength=4) / PEOPLE
    assert shares.tolist() == pytest.approx([0.15, 0.1, 0.15, 0.6], abs=0.015)


def test_jittered_box_is_shifted_by_shares_of_its_size_and_scaled(generator):
    keypoints, visible = body()
    drawn = still(generator, shift=torch.tensor([[0.1, -0.2]]), resize=torch.tensor([1.2]))
    found = place_people(BOX, keypoints, visible, drawn, FRAMING)
    center, scale = center_and_scale(BOX, FRAMING.image_size, FRAMING.box_padding)
    expected = crop_matrices(center + torch.tensor([[12.0, -32.0]]), 1.2 * scale, FRAMING.image_size)
    torch.testing.assert_close(found.matrices, expected)


@pytest.mark.parametrize(
    ("side", "box", "edge"),
    [
        (0, [108, 40, 72, 160], (0, 108)), (1, [60, 104, 120, 96], (1, 104)),
        (2, [60, 40, 72, 160], (2, 132)), (3, [60, 40, 120, 96], (3, 136)),
    ],
)  # fmt: skip
def test_cut_box_ends_where_the_photograph_does_and_hides_the_keypoints_beyond(generator, side, box, edge):
    keypoints = torch.tensor([[[60.0, 40], [180, 40], [60, 200], [180, 200], [120, 120], [121, 121], [119, 119]]])
    visible = torch.ones(1, 7, dtype=torch.bool)
    drawn = still(generator, cut=torch.tensor([side]), kept=torch.tensor([0.6]))
    boxes, left, edges = cut_off(BOX, keypoints, visible, drawn)
    assert boxes[0].tolist() == pytest.approx(box)
    assert edges[0, edge[0]].item() == pytest.approx(edge[1])
    assert edges.isinf().sum() == 3
    x, y = keypoints[0].unbind(dim=1)
    inside = {0: x >= 108, 1: y >= 104, 2: x <= 132, 3: y <= 136}[side]
    assert torch.equal(left[0], inside)


def test_nobody_is_cut_who_would_keep_too_few_keypoints(generator):
    keypoints = torch.tensor([[[120.0, 190], [121, 191], [122, 192], [120, 50], [120, 51]]])
    drawn = still(generator, cut=torch.tensor([3]), kept=torch.tensor([0.5]))
    boxes, left, edges = cut_off(BOX, keypoints, torch.ones(1, 5, dtype=torch.bool), drawn)
    assert torch.equal(boxes, BOX)
    assert left.all()
    assert edges.isinf().all()


def test_crop_is_black_beyond_the_edge_however_it_is_turned(generator):
    keypoints, visible = body()
    drawn = still(generator, cut=torch.tensor([3]), kept=torch.tensor([0.5]), rotation=torch.tensor([37.0]))
    placed = place_people(BOX, keypoints, visible, drawn, FRAMING)
    height, width = FRAMING.image_size
    crops = blacken(torch.full((1, 3, height, width), 200.0), placed)
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    places = transform_points(torch.stack((x, y), dim=-1).view(1, -1, 2), invert(placed.matrices))
    below = (places[0, :, 1] > 40 + 80).view(height, width)
    assert 0.1 < below.float().mean() < 0.9
    assert torch.equal(crops[0, 0] == 0, below)


def test_cut_person_is_no_half_body(generator):
    keypoints, visible = body()
    half = {"half_body": torch.tensor([True]), "upper": torch.tensor([True])}
    cut = {"cut": torch.tensor([3]), "kept": torch.tensor([0.9])}
    both = place_people(BOX, keypoints, visible, still(generator, **half, **cut), FRAMING)
    alone = place_people(BOX, keypoints, visible, still(generator, **cut), FRAMING)
    assert torch.equal(both.matrices, alone.matrices)
    halved = place_people(BOX, keypoints, visible, still(generator, **half), FRAMING)
    assert not torch.equal(halved.matrices, alone.matrices)


@pytest.mark.parametrize(
    "changes",
    [
        {"gray": torch.tensor([True, False])},
        {"jpeg": torch.tensor([20.0, 0.0])},
        {"downscale": torch.tensor([3.0, 1.0])},
    ],
)
def test_degraded_crops_change_and_the_others_do_not(generator, changes):
    crops = 255 * torch.rand(2, 3, 64, 48, generator=generator)
    found = recolor(crops, still(generator, 2, **changes))
    assert not torch.equal(found[0], crops[0])
    assert torch.equal(found[1], crops[1])
