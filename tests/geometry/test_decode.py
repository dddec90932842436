import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from tokenpose.geometry.affine import crop_matrices, invert, resize_matrices, transform_points
from tokenpose.geometry.boxes import center_and_scale
from tokenpose.geometry.decode import DECODERS, decode
from tokenpose.geometry.encode import encode_gaussian

ALL = list(DECODERS)


def gaussians(keypoints: torch.Tensor, sigma: float = 2.0, size: tuple[int, int] = (64, 48)) -> torch.Tensor:
    """(points, 2) -> (1, points, height, width)."""
    return encode_gaussian(keypoints[None], torch.ones(1, len(keypoints), dtype=torch.bool), size, sigma)[0]


def one_map(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows)[None, None]


def test_argmax_is_the_published_one(ops):
    keypoints, scores = decode(ops["heatmaps"], "argmax")
    assert torch.equal(keypoints.double(), ops["argmax_xy"])
    assert torch.equal(scores, ops["argmax_score"][..., 0])


def test_dark_is_the_published_one(ops):
    keypoints, scores = decode(ops["heatmaps"], "dark")
    torch.testing.assert_close(keypoints[1:].double(), ops["dark_xy_from_sample1"], rtol=0, atol=1e-5)
    assert torch.equal(scores, ops["argmax_score"][..., 0])


def test_dark_taken_back_to_the_image_is_the_published_one(ops):
    center, scale = center_and_scale(ops["boxes_xywh"], (256, 192))
    to_heatmap = resize_matrices(crop_matrices(center, scale, (256, 192)), (256, 192), (64, 48))
    in_image = transform_points(decode(ops["heatmaps"], "dark").keypoints.double(), invert(to_heatmap))
    torch.testing.assert_close(in_image[1:], ops["dark_image_xy_from_sample1"], rtol=0, atol=1e-4)


def blurred_whole(heatmap: torch.Tensor) -> torch.Tensor:
    """The 11x11 Gaussian over a whole map, in float64, zeros outside."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / 8)
    return functional.conv2d(heatmap.double()[None, None], (kernel / kernel.sum())[None, None], padding=5)[0, 0]


def test_dark_equals_one_newton_step_on_the_log_of_the_whole_blurred_map(generator):
    points = torch.tensor([4.0, 5.0]) + torch.rand(12, 2, generator=generator) * torch.tensor([39.0, 53.0])
    heatmaps = gaussians(points) + 0.05 * torch.rand(1, 12, 64, 48, generator=generator)
    found = decode(heatmaps, "dark").keypoints[0]
    for heatmap, keypoint in zip(heatmaps[0], found, strict=True):
        y, x = divmod(int(heatmap.argmax()), 48)
        h = blurred_whole(heatmap).log()
        gradient = torch.stack(((h[y, x + 1] - h[y, x - 1]) / 2, (h[y + 1, x] - h[y - 1, x]) / 2))
        dxx, dyy = (h[y, x + 2] - 2 * h[y, x] + h[y, x - 2]) / 4, (h[y + 2, x] - 2 * h[y, x] + h[y - 2, x]) / 4
        dxy = (h[y + 1, x + 1] - h[y - 1, x + 1] - h[y + 1, x - 1] + h[y - 1, x - 1]) / 4
        hessian = torch.stack((torch.stack((dxx, dxy)), torch.stack((dxy, dyy))))
        expected = torch.tensor([x, y], dtype=torch.float64) - torch.linalg.solve(hessian, gradient)
        torch.testing.assert_close(keypoint.double(), expected, rtol=0, atol=1e-4)


FINER = {"shifted": 0.3, "dark": 0.05, "soft-argmax": 0.05}
"""Decoders that come nearer than the half cell that any does, in cells."""


@pytest.mark.parametrize("decoder", ALL)
@pytest.mark.parametrize("size", [(64, 48), (96, 72), (64, 64)])
def test_encoding_then_decoding_comes_back(decoder, size, generator):
    tolerance = FINER.get(decoder, 0.5)
    inside = torch.tensor([size[1] - 17.0, size[0] - 17.0])  # 8 cells from every border
    points = 8 + torch.rand(200, 2, generator=generator) * inside
    keypoints, scores = decode(gaussians(points, size=size), decoder)
    assert (keypoints[0] - points).abs().max() <= tolerance + 1e-5
    assert ((scores > 0.93) & (scores <= 1)).all()  # at worst half a cell off in x and y: exp(-0.5 / 8)


@settings(deadline=None)
@given(x=st.floats(8, 39), y=st.floats(8, 55), peak=st.floats(0.01, 100))
def test_dark_finds_a_gaussian_wherever_and_however_high_it_is(x, y, peak):
    keypoints, scores = decode(peak * gaussians(torch.tensor([[x, y]])), "dark")
    torch.testing.assert_close(keypoints[0, 0], torch.tensor([x, y], dtype=torch.float32), rtol=0, atol=0.05)
    assert 0.93 * peak < scores.item() <= peak * (1 + 1e-6)


def test_shifted_moves_a_quarter_cell_towards_the_higher_neighbor():
    heatmap = torch.zeros(1, 1, 7, 7)
    heatmap[0, 0, 3, 3], heatmap[0, 0, 3, 4], heatmap[0, 0, 3, 2] = 1.0, 0.5, 0.2  # right is higher than left
    heatmap[0, 0, 2, 3], heatmap[0, 0, 4, 3] = 0.6, 0.1  # above is higher than below
    assert decode(heatmap, "shifted").keypoints.tolist() == [[[3.25, 2.75]]]


def test_shifted_stays_where_neighbors_are_equal_or_the_border_is_near():
    heatmap = torch.zeros(1, 2, 7, 7)
    heatmap[0, 0, 3, 3] = 1.0
    heatmap[0, 1, 3, 1], heatmap[0, 1, 3, 2] = 1.0, 0.5  # column 1: next to the border
    assert decode(heatmap, "shifted").keypoints.tolist() == [[[3.0, 3.0], [1.0, 3.0]]]


@pytest.mark.parametrize(
    "cell", [(0, 20), (1, 20), (46, 20), (47, 20), (20, 0), (20, 1), (20, 62), (20, 63), (0, 0), (47, 63)]
)
def test_dark_next_to_the_border_is_the_argmax(cell):
    x, y = cell
    heatmaps = gaussians(torch.tensor([[x + 0.3, y + 0.2]]))
    assert decode(heatmaps, "dark").keypoints.tolist() == decode(heatmaps, "argmax").keypoints.tolist()


@pytest.mark.parametrize("cell", [(2, 20), (45, 20), (20, 2), (20, 61)])
def test_dark_refines_where_1_lt_x_lt_w_minus_2(cell):
    x, y = cell
    heatmaps = gaussians(torch.tensor([[x + 0.3, y + 0.2]]))
    assert decode(heatmaps, "dark").keypoints.tolist() != decode(heatmaps, "argmax").keypoints.tolist()


def test_dark_of_a_map_without_curvature_is_the_argmax():
    flat = torch.full((1, 1, 32, 32), 0.5)  # far from the border the blur leaves it flat: determinant 0
    flat[..., 0] = flat[..., -1] = flat[..., 0, :] = flat[..., -1, :] = 0.0
    keypoints = decode(flat, "dark").keypoints
    assert torch.isfinite(keypoints).all()
    assert keypoints.tolist() == decode(flat, "argmax").keypoints.tolist() == [[[1.0, 1.0]]]


def test_dark_refines_what_is_above_its_floor_of_1e_minus_10_and_nothing_below():
    point = torch.tensor([[20.3, 30.2]])
    above, below = 1e-8 * gaussians(point), 1e-10 * gaussians(point)  # the blur halves a peak: 5e-9 and 5e-11
    torch.testing.assert_close(decode(above, "dark").keypoints[0], point, rtol=0, atol=0.05)
    assert decode(below, "dark").keypoints.tolist() == [[[20.0, 30.0]]]


def test_dark_around_a_peak_in_a_valley_stands_on_the_floor():
    heatmap = torch.full((1, 1, 32, 32), -1.0)
    heatmap[0, 0, 15, 16] = 1.0  # blurred it stays negative: no logarithm without the floor
    assert decode(heatmap, "dark").keypoints.tolist() == [[[16.0, 15.0]]]


@pytest.mark.parametrize("decoder", ALL)
def test_zero_and_negative_maps_give_the_origin_and_their_maximum(decoder):
    heatmaps = torch.stack((torch.zeros(16, 12), torch.full((16, 12), -3.0), torch.full((16, 12), -3.0)))[None]
    heatmaps[0, 2, 5, 5] = -1.0
    keypoints, scores = decode(heatmaps, decoder)
    assert keypoints.tolist() == [[[0.0, 0.0]] * 3]
    assert scores.tolist() == [[0.0, -3.0, -1.0]]


def test_first_of_several_maxima_counts():
    assert decode(one_map([[0, 0.2, 1], [0, 1, 1.0]]), "argmax").keypoints.tolist() == [[[2.0, 0.0]]]


def test_soft_argmax_of_two_equal_peaks_lies_between_them():
    heatmap = torch.zeros(1, 1, 9, 9)
    heatmap[0, 0, 4, 2] = heatmap[0, 0, 4, 6] = 1.0
    torch.testing.assert_close(
        decode(heatmap, "soft-argmax").keypoints, torch.tensor([[[4.0, 4.0]]]), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("decoder", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_coordinates_and_scores_are_float32_whatever_the_heatmaps(decoder, dtype):
    heatmaps = gaussians(torch.tensor([[50.4, 301.3]]), size=(400, 70)).to(dtype)  # bf16 would round 301 to 300
    keypoints, scores = decode(heatmaps, decoder)
    assert keypoints.dtype == scores.dtype == torch.float32
    assert (keypoints[0, 0] - torch.tensor([50.4, 301.3])).abs().max() < 0.5


@pytest.mark.parametrize("decoder", ALL)
def test_batch_equals_single(decoder, generator):
    heatmaps = gaussians(48 * torch.rand(15, 2, generator=generator)).view(5, 3, 64, 48)
    together = decode(heatmaps, decoder)
    for person in range(5):
        alone = decode(heatmaps[person : person + 1], decoder)
        torch.testing.assert_close(alone.keypoints[0], together.keypoints[person], rtol=0, atol=1e-5)
        assert torch.equal(alone.scores[0], together.scores[person])


@pytest.mark.parametrize("decoder", ALL)
def test_nobody_gives_nothing(decoder):
    keypoints, scores = decode(torch.zeros(0, 17, 64, 48), decoder)
    assert (keypoints.shape, scores.shape) == ((0, 17, 2), (0, 17))


@pytest.mark.parametrize("decoder", ALL)
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 4)])
def test_tiny_maps_decode(decoder, size):
    keypoints, scores = decode(torch.ones(2, 3, *size), decoder)
    assert keypoints.shape == (2, 3, 2)
    assert torch.isfinite(keypoints).all()
    assert (scores == 1).all()


@pytest.mark.parametrize("decoder", ALL)
def test_decoding_works_on_the_meta_device_and_leaves_others_alone(decoder):
    assert decode(torch.empty(2, 3, 16, 12, device="meta"), decoder).keypoints.shape == (2, 3, 2)
    with torch.device("meta"):
        decode(torch.empty(2, 3, 16, 12), decoder)
    assert decode(torch.ones(2, 3, 16, 12), decoder).keypoints.device.type == "cpu"


def test_gradients_flow_after_decoding_in_inference_mode():
    heatmaps = gaussians(torch.tensor([[20.3, 30.6]]))
    with torch.inference_mode():
        decode(heatmaps, "dark")
    heatmaps.requires_grad_()
    decode(heatmaps, "dark").keypoints.sum().backward()
    assert torch.isfinite(heatmaps.grad).all()
    assert heatmaps.grad.abs().max() > 0


def test_heatmaps_are_not_edited(generator):
    heatmaps = torch.rand(1, 2, 16, 12, generator=generator)
    before = heatmaps.clone()
    for decoder in ALL:
        decode(heatmaps, decoder)
    assert torch.equal(heatmaps, before)


def test_unknown_decoder_is_refused_with_those_there_are():
    with pytest.raises(LookupError, match="no decoder 'drak'; there are argmax, shifted, dark, soft-argmax"):
        decode(torch.zeros(1, 1, 8, 8), "drak")


def test_heatmaps_of_another_shape_are_refused(run_python):
    code = (
        "import torch\nfrom tokenpose.geometry.decode import decode\n"
        "try: decode(torch.zeros(17, 64, 48))\nexcept ValueError as error: print(error)"
    )
    # in an interpreter without the hook, which would refuse them first
    assert "(people, keypoints, height, width); got shape (17, 64, 48)" in run_python(code).stdout
