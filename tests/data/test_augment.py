import pytest
import torch

from tokenpose.data.augment import Augmentation, draw, jitter_color

PEOPLE = 20_000


def test_published_values_are_the_defaults():
    settings = Augmentation()
    assert (settings.scale, settings.rotation, settings.rotation_probability) == (0.35, 45.0, 0.6)
    assert (settings.flip, settings.color) == (0.5, 0.0)


def test_zoom_is_a_clipped_normal_draw(generator):
    scale = draw(Augmentation(), PEOPLE, generator).scale
    assert (scale.min().item(), scale.max().item()) == pytest.approx((0.65, 1.35))
    for limit in (scale.min(), scale.max()):
        assert abs((scale == limit).double().mean() - 0.1587) < 0.01  # beyond one deviation
    assert abs((scale > 1).double().mean() - 0.5) < 0.012
    assert abs((scale > 1 + 0.35 / 2).double().mean() - 0.3085) < 0.012  # beyond half a deviation


def test_rotation_is_rare_as_told_and_stays_within_its_limits(generator):
    rotation = draw(Augmentation(), PEOPLE, generator).rotation
    assert rotation.abs().max() == 90
    assert abs((rotation != 0).double().mean() - 0.6) < 0.012
    turned = rotation[rotation != 0]
    assert abs((turned.abs() == 90).double().mean() - 0.0455) < 0.006  # beyond two deviations
    assert abs((turned.abs() < 45).double().mean() - 0.6827) < 0.012  # within one
    assert abs((turned > 0).double().mean() - 0.5) < 0.015


def test_half_are_mirrored(generator):
    assert abs(draw(Augmentation(), PEOPLE, generator).flip.double().mean() - 0.5) < 0.012


def test_draws_do_not_hang_together(generator):
    drawn = draw(Augmentation(rotation_probability=1.0), PEOPLE, generator)
    table = torch.stack((drawn.scale, drawn.rotation, drawn.flip.float()))
    assert (torch.corrcoef(table) - torch.eye(3)).abs().max() < 0.03


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 1.0}, r"scale and color must be in \[0, 1\); got 1\.0 and 0\.0"),
        ({"color": -0.1}, r"scale and color must be in \[0, 1\); got 0\.35 and -0\.1"),
        ({"rotation": 181.0}, r"rotation must be in 0\.\.180 degrees; got 181\.0"),
        ({"rotation": -1.0}, r"rotation must be in 0\.\.180 degrees; got -1\.0"),
        ({"flip": 1.5}, r"probabilities must be in 0\.\.1; got 0\.6 and 1\.5"),
        ({"rotation_probability": -0.5}, r"probabilities must be in 0\.\.1; got -0\.5 and 0\.5"),
        ({"scale": float("nan")}, r"scale and color must be in \[0, 1\); got nan"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)


def test_colours_change_within_their_strength(generator):
    grey = torch.full((500, 3, 2, 2), 100.0)  # without contrast or saturation only the brightness shows
    factors = jitter_color(grey, 0.3, generator)[:, 0, 0, 0] / 100
    assert 0.7 <= factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.3


def test_grey_stays_grey_and_values_stay_in_range(generator):
    crops = 255 * torch.rand(50, 1, 8, 8, generator=generator).expand(-1, 3, -1, -1)
    jittered = jitter_color(crops, 0.9, generator)
    torch.testing.assert_close(jittered[:, 0], jittered[:, 2], rtol=0, atol=1e-3)
    assert (jittered.min(), jittered.max()) == (0, 255)


def test_no_strength_changes_no_colour(generator):
    crops = 255 * torch.rand(5, 3, 8, 8, generator=generator)
    torch.testing.assert_close(jitter_color(crops, 0.0, generator), crops, rtol=0, atol=1e-4)
