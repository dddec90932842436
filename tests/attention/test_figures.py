"""Figures: arrays in, matplotlib figures out, and AttentionMaps.plot, which makes them from maps."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from tokenpose import visualize
from tokenpose.attention import figures
from tokenpose.attention.computation import attention_maps, keypoint_similarity
from tokenpose.attention.figures import draw_constraints, draw_heatmaps, draw_layers, draw_matrix
from tokenpose.attention.maps import AttentionMaps
from tokenpose.skeletons import LSP, Skeleton

from .shown import GRAY, arrows, make_model, panels, render, titles

BAR = Skeleton(name="bar", keypoints=("left_end", "middle", "right_end"), limbs=((0, 1), (1, 2)))
POINTS = np.array([[20, 30], [50, 60], [80, 100]], dtype=np.float32)


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (120, 100, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(photograph) -> AttentionMaps:
    return attention_maps(make_model(), photograph, [10.0, 20.0, 90.0, 110.0])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def texts(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_layers_show_the_maps_over_the_picture_block_by_block():
    attention, heatmaps = numbers(3, 4, 4), numbers(3, 16, 12)
    figure = draw_layers(GRAY, attention, np.array([0.5, 0.25, 1.0]), heatmaps, point=POINTS[1])
    assert titles(figure) == ["block 1: 50%", "block 2: 25%", "block 3: 100%"]
    assert len(panels(figure)) == 6
    named = [axes for axes in panels(figure) if axes.get_title()]
    others = [axes for axes in panels(figure) if not axes.get_title()]
    for shown, given in ((named, attention), (others, heatmaps)):
        for axes, values in zip(shown, given, strict=True):
            assert np.array_equal(axes.images[1].get_array(), values)
            assert axes.images[1].get_clim() == (0, pytest.approx(given.max()))
    assert [texts(axes) for axes in others] == [[f"{values.max():.2f}"] for values in heatmaps]


def test_patches_cover_the_picture_and_cells_lie_where_decoding_reads_them():
    figure = draw_layers(GRAY, numbers(1, 4, 4), numbers(1), numbers(1, 32, 24))
    attention, heatmap = (axes.images[1].get_extent() for axes in panels(figure))
    assert attention == [-0.5, 95.5, 127.5, -0.5]
    half = 95 / 23 / 2  # of a cell: 24 columns' centers lie at 0 ... 95
    assert heatmap == pytest.approx([-half, 95 + half, 63.5 + 32 * half, 63.5 - 32 * half])


def test_every_panel_marks_where_the_keypoint_was_found():
    figure = draw_layers(GRAY, numbers(2, 4, 4), numbers(2), numbers(2, 16, 12), point=POINTS[1])
    assert [axes.lines[0].get_xydata().tolist() for axes in panels(figure)] == [[[50, 60]]] * 4


def test_keypoint_outside_the_picture_does_not_shrink_it():
    figure = draw_layers(GRAY, numbers(1, 4, 4), numbers(1), point=np.array([500, -500], dtype=np.float32))
    (axes,) = panels(figure)
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 95.5), (127.5, -0.5))


@pytest.mark.parametrize(("layers", "columns"), [(1, 1), (2, 2), (6, 6), (12, 6), (24, 8)])
def test_blocks_stand_in_rows_of_nearly_equal_length(layers, columns):
    figure = draw_layers(GRAY, numbers(layers, 4, 4), numbers(layers), numbers(layers, 16, 12))
    assert len(panels(figure)) == 2 * layers
    assert len({round(axes.get_position().x0, 6) for axes in panels(figure)}) == columns
    width, height = figure.get_size_inches()
    assert 3 < width < 13
    assert 2 < height < 13


def test_panels_do_not_overlap_and_stay_in_the_figure():
    figure = draw_layers(GRAY, numbers(13, 4, 4), numbers(13), numbers(13, 16, 12), title="a title " * 30)
    places = [axes.get_position() for axes in figure.axes]
    for index, place in enumerate(places):
        assert place.x0 >= 0
        assert place.y0 >= 0
        assert place.x1 <= 1
        assert place.y1 <= 1
        assert not any(place.overlaps(other) for other in places[index + 1 :])


def test_title_above_panels_is_wrapped_and_read_as_plain_text():
    figure = draw_layers(GRAY, numbers(1, 4, 4), numbers(1), title="a$b$ " + "long " * 20)
    heading = next(text for text in figure.texts if text.get_text().startswith("a$b$"))
    assert "\n" in heading.get_text()
    render(figure)
    edges = heading.get_window_extent().transformed(figure.transFigure.inverted())
    assert edges.x1 < 1
    assert edges.y0 > panels(figure)[0].get_position().y1


def test_matrix_has_names_on_both_axes_its_values_and_lines_between_groups():
    values = numbers(3, 3)
    figure = draw_matrix(values, BAR.keypoints, BAR.keypoints, title="who with whom", label="alike", breaks=(1,))
    (axes,) = panels(figure)
    assert [label.get_text() for label in axes.get_xticklabels()] == list(BAR.keypoints)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(BAR.keypoints)
    assert np.array_equal(axes.images[0].get_array(), values)
    assert texts(axes) == [f"{value:.2f}" for value in values.ravel()]
    assert [line.get_xydata()[0, 1] for line in axes.lines if line.get_xydata()[0, 0] == 0] == [0.5]
    assert figure.get_suptitle() == "who with whom"
    assert [bar.get_ylabel() for bar in figure.axes if bar not in panels(figure)] == ["alike"]


def test_matrix_is_scaled_by_pairs_of_different_keypoints():
    values = np.full((3, 3), 0.02, dtype=np.float32)
    values[0, 1] = 0.05
    np.fill_diagonal(values, 0.9)
    (axes,) = panels(draw_matrix(values, BAR.keypoints, BAR.keypoints))
    assert axes.images[0].get_clim() == (0, pytest.approx(0.05))
    assert texts(axes)[:3] == ["0.900", "0.050", "0.020"]
    assert axes.images[0].to_rgba(values)[0, 0, :3] == pytest.approx([0.8] * 3)  # beyond the scale: gray


def test_negative_values_get_a_scale_that_is_even_about_zero():
    values = np.array([[1, -0.2], [0.1, 1]], dtype=np.float32)
    (axes,) = panels(draw_matrix(values, ("a", "b"), ("a", "b")))
    assert axes.images[0].get_clim() == (pytest.approx(-0.2), pytest.approx(0.2))


def test_small_numbers_below_zero_are_written_without_a_sign():
    (axes,) = panels(draw_matrix(np.array([[-0.001, 0.5]], dtype=np.float32), ("a",), ("a", "b")))
    assert texts(axes) == ["0.00", "0.50"]


def test_numbers_are_dark_on_light_cells_and_light_on_dark_ones():
    (axes,) = panels(draw_matrix(np.array([[0.5, 0.01, 1.0]], dtype=np.float32), ("a",), ("a", "b", "c")))
    assert [text.get_color() for text in axes.texts][1:] == ["white", "black"]


def test_large_matrix_is_drawn_without_numbers_and_its_labels_have_room():
    names = [f"keypoint_{index}" for index in range(133)]
    figure = draw_matrix(numbers(133, 133), names, names)
    (axes,) = panels(figure)
    assert texts(axes) == []
    render(figure)
    labels = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert not any(first.overlaps(second) for first, second in pairwise(labels))


def test_matrix_of_another_shape_than_its_names_is_refused():
    with pytest.raises(ValueError, match=r"2 rows and 3 columns are named; the matrix is \(3, 3\)"):
        draw_matrix(numbers(3, 3), ("a", "b"), ("a", "b", "c"))


def test_arrows_lead_from_keypoint_to_keypoint_wider_with_the_share():
    constraints = {"left_end": [("middle", 0.2), ("right_end", 0.05)], "middle": [("left_end", 0.1)], "right_end": []}
    figure = draw_constraints(GRAY, POINTS, BAR, constraints)
    assert arrows(figure) == [((20, 30), (80, 100)), ((50, 60), (20, 30)), ((20, 30), (50, 60))]
    patches = [text.arrow_patch for text in figure.axes[0].texts]
    widths = [patch.get_linewidth() for patch in patches]
    assert widths == sorted(widths)
    assert widths[0] < widths[2]
    assert [patch.get_edgecolor()[:3] for patch in patches] == [
        to_rgb(color) for color in (figures.LEFT, figures.MIDDLE, figures.LEFT)
    ]


def test_key_tells_sides_and_shares():
    constraints = {"left_end": [("middle", 0.2)], "right_end": [("middle", 0.1)]}
    figure = draw_constraints(GRAY, POINTS, BAR, constraints)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["from left", "from right", "share 20.0%", "share 10.0%", "share 2.0%"]


def test_arrows_of_a_single_keypoint_are_numbered_and_named_in_the_key():
    figure = draw_constraints(GRAY, POINTS, BAR, {"middle": [("left_end", 0.2), ("right_end", 0.1)]})
    assert texts(figure.axes[0]) == ["1", "2"]
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["from middle", "1  left_end 20.0%", "2  right_end 10.0%"]


def test_skeleton_lies_under_the_arrows():
    figure = draw_constraints(GRAY, POINTS, BAR, {"middle": [("left_end", 0.2)]})
    lines = [line.get_xydata().tolist() for line in figure.axes[0].lines]
    assert lines[:2] == [[[20, 30], [50, 60]], [[50, 60], [80, 100]]]
    assert lines[2:] == [[[20, 30]], [[50, 60]], [[80, 100]]]


def test_constraints_show_the_part_of_the_photograph_where_the_person_is():
    photograph = np.zeros((1000, 2000, 3), dtype=np.uint8)
    axes = draw_constraints(photograph, POINTS + 500, BAR, {}).axes[0]
    # 60 x 70 around (520, 530): a quarter of 70 on each side
    assert (axes.get_xlim(), axes.get_ylim()) == ((502.5, 597.5), (617.5, 512.5))


@pytest.mark.parametrize("points", [np.full((3, 2), 50), np.full((3, 2), -1000)], ids=["one place", "outside"])
def test_points_without_extent_show_the_whole_picture(points):
    figure = draw_constraints(GRAY, points.astype(np.float32), BAR, {"middle": [("left_end", 0.2)]})
    axes = figure.axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 95.5), (127.5, -0.5))
    render(figure)


def test_only_the_strongest_of_many_arrows_are_drawn():
    skeleton = Skeleton.from_count(100)
    points = 96 * numbers(100, 2)
    shares = {name: [(skeleton.keypoints[index - 1], index / 1000)] for index, name in enumerate(skeleton.keypoints)}
    figure = draw_constraints(GRAY, points, skeleton, shares)
    assert len(arrows(figure)) == 60
    assert arrows(figure)[0][0] == tuple(points[40])
    assert any("the strongest 60 of 100" in text.get_text().replace("\n", " ") for text in figure.texts)


def test_heatmaps_stand_after_the_pose_with_names_and_peaks():
    heatmaps = numbers(3, 16, 12)
    figure = draw_heatmaps(GRAY, heatmaps, BAR.keypoints, POINTS, BAR)
    assert titles(figure) == ["pose", *BAR.keypoints]
    pose, *others = panels(figure)
    assert np.array_equal(pose.images[0].get_array(), GRAY)
    for axes, values, point in zip(others, heatmaps, POINTS, strict=True):
        assert np.array_equal(axes.images[1].get_array(), values)
        assert axes.images[1].get_clim() == (0, pytest.approx(heatmaps.max()))
        assert axes.lines[0].get_xydata().tolist() == [point.tolist()]
        assert texts(axes) == [f"{values.max():.2f}"]


def test_long_names_above_heatmaps_do_not_run_into_each_other():
    skeleton = Skeleton.from_names([f"left_hand_middle_finger_{index}" for index in range(8)])
    figure = draw_heatmaps(GRAY, numbers(8, 16, 12), skeleton.keypoints, 90 * numbers(8, 2), skeleton)
    render(figure)
    edges = [axes.title.get_window_extent() for axes in panels(figure)]
    assert not any(first.overlaps(second) for first, second in pairwise(edges))


def test_colors_are_those_of_visualize():
    for name in ("LEFT", "RIGHT", "MIDDLE", "RIM"):
        assert to_rgb(getattr(figures, name)) == pytest.approx([value / 255 for value in getattr(visualize, name)])


def test_similarity_of_a_model_is_drawn_with_its_names():
    model = make_model(14)
    figure = draw_matrix(keypoint_similarity(model, "cosine"), LSP.keypoints, LSP.keypoints)
    assert render(figure).startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(run_python):
    code = (
        "import sys\nsys.modules['matplotlib'] = None\n"
        "try: import tokenpose.attention.figures\nexcept ModuleNotFoundError as error: print(error)"
    )
    assert run_python(code).stdout == 'figures need matplotlib: pip install "tokenpose[plot]"\n'


def test_figures_import_neither_torch_nor_pyplot(run_python):
    run_python(
        "import sys, tokenpose.attention.figures\nassert not {'torch', 'matplotlib.pyplot'} & sys.modules.keys()"
    )


def test_attention_is_imported_without_matplotlib(run_python):
    run_python("import sys, tokenpose.attention.maps\nassert 'matplotlib' not in sys.modules")
