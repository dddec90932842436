"""AttentionMaps.plot: which figure is drawn of which numbers."""

import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps

from .shown import GRAY, arrows, make_model, panels, render, titles

KINDS = ["layers", "matrix", "constraints", "heatmaps"]


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(photograph) -> AttentionMaps:
    return attention_maps(make_model(), photograph, [10.0, 20.0, 90.0, 110.0])


def test_mark_lies_on_the_peak_of_its_heatmap(photograph):
    maps = attention_maps(make_model(), photograph, [10.0, 20.0, 90.0, 110.0], decoder="argmax")
    for image in (None, photograph):
        for axes, values in zip(panels(maps.plot("heatmaps", image=image))[1:], maps.heatmaps[-1], strict=True):
            left, right, bottom, top = axes.images[1].get_extent()
            row, column = np.unravel_index(values.argmax(), values.shape)
            cell = left + (column + 0.5) * (right - left) / 12, top + (row + 0.5) * (bottom - top) / 16
            assert axes.lines[0].get_xydata()[0] == pytest.approx(cell, abs=0.01)


def test_letters_have_at_least_7_points(maps):
    for kind in KINDS:
        figure = maps.plot(kind, "keypoint_1" if kind == "layers" else None)
        render(figure)
        written = [text for text in figure.findobj(lambda artist: hasattr(artist, "get_fontsize")) if text.get_text()]
        assert written
        assert min(text.get_fontsize() for text in written) >= 7


@pytest.mark.parametrize(("keypoints", "depth"), [(1, 1), (5, 2), (17, 3), (133, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_every_count_of_keypoints_can_be_plotted_without_warnings(photograph, keypoints, depth, kind):
    maps = attention_maps(make_model(keypoints, depth), photograph)
    figure = maps.plot(kind, "keypoint_0" if kind == "layers" else None)
    assert render(figure).startswith(b"\x89PNG")
    if kind == "heatmaps":
        assert len(panels(figure)) == keypoints + 1
    if kind == "layers":
        assert len(panels(figure)) == 2 * depth


def test_plots_show_print_and_write_nothing(maps, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        assert isinstance(maps.plot(kind, "keypoint_1" if kind == "layers" else None), Figure)
    assert pyplot.get_fignums() == []
    assert tuple(capsys.readouterr()) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_plot_of_layers_has_the_maps_and_the_share_that_goes_to_the_image(maps):
    figure = maps.plot("layers", "keypoint_3", heads=1)
    to_image = maps.to_image[:, 1, 3]
    named = [axes for axes in panels(figure) if axes.get_title()]
    assert titles(figure) == [f"block {block + 1}: {to_image[block].sum():.0%}" for block in range(2)]
    assert all(np.array_equal(axes.images[1].get_array(), to_image[block]) for block, axes in enumerate(named))
    assert figure.texts[0].get_text().split() == ["keypoint_3:", "attention", "to", "the", "image,", "head", "2"]


def test_share_of_maxima_over_heads_is_of_their_sum(maps):
    shares = [
        float(title.split(": ")[1].rstrip("%")) for title in titles(maps.plot("layers", "keypoint_3", heads="max"))
    ]
    assert all(share <= 100 for share in shares)


def test_plot_of_a_matrix_has_the_attention_to_keypoints_of_the_block(maps):
    figure = maps.plot("matrix", layer=1, heads="rollout")
    assert np.array_equal(panels(figure)[0].images[0].get_array(), maps.rollout_to_keypoints[1])
    row = panels(maps.plot("matrix", "keypoint_2"))[0]
    assert np.array_equal(row.images[0].get_array(), maps.reduce().to_keypoints[0, 0, 2:3])
    assert [label.get_text() for label in row.get_yticklabels()] == ["keypoint_2"]


def test_plot_of_heatmaps_has_those_of_the_last_block_unless_another_is_named(maps):
    for layer, expected in ((None, 1), (0, 0), (-2, 0)):
        shown = panels(maps.plot("heatmaps", layer=layer))[1:]
        for axes, values in zip(shown, maps.heatmaps[expected], strict=True):
            assert np.array_equal(axes.images[1].get_array(), values)


def test_plot_of_constraints_leads_to_the_strongest_in_the_photograph(maps, photograph):
    figure = maps.plot("constraints", image=photograph, count=1)
    points = dict(zip(maps.names, map(tuple, maps.pose.keypoints[0]), strict=True))
    expected = {(points[name], points[others[0][0]]) for name, others in maps.top_constraints(1).items()}
    assert set(arrows(figure)) == expected
    assert figure.axes[0].images[0].get_array().shape == photograph.shape


def test_selected_keypoints_alone_are_plotted(maps):
    assert titles(maps.select(["keypoint_4", "keypoint_0"]).plot("heatmaps")) == ["pose", "keypoint_4", "keypoint_0"]
    assert titles(maps.select("keypoint_4").plot()) == titles(maps.plot("layers", "keypoint_4"))


def test_photograph_is_drawn_finer_than_the_crop(maps, photograph):
    coarse, fine = (panels(maps.plot("heatmaps", image=image))[1].images[0].get_array() for image in (None, photograph))
    assert (coarse.shape, fine.shape) == ((64, 48), (512, 384))
    reduced = fine.reshape(64, 8, 48, 8).mean(axis=(1, 3))
    assert np.corrcoef(reduced.ravel(), coarse.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "layers"}, ValueError, r'"layers" shows one keypoint: give keypoint=..., one of keypoint_0, '),
        ({"kind": "matrix", "keypoint": "keypont_1"}, LookupError, "did you mean keypoint_1"),
        ({"kind": "matrix", "layer": 2}, ValueError, "there are 2 blocks, 0 to 1; got 2"),
        ({"kind": "heatmaps", "layer": -3}, ValueError, "there are 2 blocks, 0 to 1; got -3"),
        ({"kind": "constraints", "count": 0}, ValueError, "count.* must be at least 1; got 0"),
        ({"kind": "matrix", "heads": 4}, ValueError, r'"mean", "max", "rollout" or a number in 0..3; got 4'),
        (
            {"kind": "heatmaps", "image": GRAY},
            ValueError,
            r"of an image of \(height, width\) \(120, 100\); got one of \(128, 96\)",
        ),
    ],
)
def test_what_can_not_be_plotted_is_refused(maps, arguments, error, message):
    with pytest.raises(error, match=message):
        maps.plot(**arguments)


def test_another_kind_is_refused_by_name(run_python):
    code = (  # without the hook, which refuses it first
        "import numpy, tokenpose\nfrom tokenpose.attention.computation import attention_maps\n"
        "model = tokenpose.create_model('tokenpose_t', depth=1, width=32)\n"
        "maps = attention_maps(model, numpy.zeros((40, 30, 3), numpy.uint8))\n"
        "try: maps.plot('pie')\nexcept ValueError as error: print(error)\n"
    )
    assert "kind must be one of layers, matrix, constraints, heatmaps; got 'pie'" in run_python(code).stdout
