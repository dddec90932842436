"""AttentionMaps: choosing rows and heads, placing maps in the image, saying where attention goes, and their file."""

import re
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from tokenpose.attention.computation import attention_maps, keypoint_similarity
from tokenpose.attention.maps import AttentionMaps
from tokenpose.models.recording import record_attention
from tokenpose.transforms import create_transform

from .small_models import BOX, HEIGHT, WIDTH


def test_selection_and_reduction_take_what_they_name(maps):
    knee = maps.names.index("left_knee")
    chosen = maps.select(["neck", "left_knee"])
    assert chosen.names == ("neck", "left_knee")
    assert np.array_equal(chosen.to_image[:, :, 1], maps.to_image[:, :, knee])
    assert chosen.heatmaps.shape == (4, 2, 16, 12)
    assert np.array_equal(maps.reduce().to_image[:, 0], maps.to_image.mean(axis=1))
    assert np.array_equal(maps.reduce("max").to_keypoints[:, 0], maps.to_keypoints.max(axis=1))
    assert np.array_equal(maps.reduce(-1).to_image[:, 0], maps.to_image[:, 3])
    assert np.array_equal(maps.reduce("rollout").to_image[:, 0], maps.rollout_to_image)
    assert np.array_equal(chosen.reduce("rollout").to_image[:, 0], maps.rollout_to_image[:, [12, knee]])


def test_a_map_put_back_into_the_image_lies_where_its_patches_do(maps):
    wrist = maps.names.index("right_wrist")
    values = maps.reduce().to_image[2, 0, wrist]
    shown = maps.in_image("right_wrist", layer=2)
    assert shown.shape == (HEIGHT, WIDTH)
    inverse = np.linalg.inv(np.vstack((maps.matrix, [0, 0, 1])))
    seen = 0
    for row in range(4):
        for column in range(4):  # patches of 16 x 12 crop pixels; their centers lie between pixels
            x, y, _ = inverse @ [column * 12 + 5.5, row * 16 + 7.5, 1]
            if 0 <= round(y) < HEIGHT and 0 <= round(x) < WIDTH:
                spread = values.max() - values.min()
                assert abs(shown[round(y), round(x)] - values[row, column]) < 0.1 * spread + 1e-6
                seen += 1
    assert seen == 16
    assert shown.max() <= values.max() + 1e-6


def test_a_map_put_back_is_0_outside_the_crop_and_constant_maps_stay_constant(maps, model, pixels):
    small = attention_maps(model, pixels, [30, 30, 50, 60])
    even = AttentionMaps(
        **{
            **{entry.name: getattr(small, entry.name) for entry in fields(small)},
            "to_image": np.full_like(small.to_image, 0.25),
        }
    )
    shown = even.in_image("neck", heads="max")
    corners = np.array([[0, 0, 1], [WIDTH - 1, HEIGHT - 1, 1]]) @ small.matrix.T
    assert (corners[0] < -0.5).all()
    assert (corners[1] > [48, 64]).all()
    assert shown[0, 0] == shown[-1, -1] == 0
    np.testing.assert_allclose(shown[shown > 0], 0.25, atol=1e-5)
    area = (shown > 0).sum()
    scale = small.matrix[0, 0]
    assert abs(area - 64 * 48 / scale**2) < 0.06 * area


def test_top_constraints_are_the_largest_shares_of_others(maps):
    constraints = maps.top_constraints(3, layer=1)
    assert list(constraints) == list(maps.names)
    shares = maps.to_keypoints[1].mean(axis=0)
    for index, name in enumerate(maps.names):
        row = {other: shares[index, k] for k, other in enumerate(maps.names) if k != index}
        expected = sorted(row, key=row.get, reverse=True)[:3]
        assert [other for other, _ in constraints[name]] == expected
        assert constraints[name][0][1] == pytest.approx(row[expected[0]])


def test_evidence_says_where_attention_goes_in_numbers_that_add_up(maps):
    sentence = maps.evidence("left_elbow", layer=3)
    assert sentence.startswith("left_elbow, block 4 of 4, mean over heads: ")
    percent = [int(number) for number in re.findall(r"(\d+)%", sentence)]
    assert abs(sum(percent[:4]) - 100) <= 2
    row = maps.names.index("left_elbow")
    assert percent[2] == round(100 * float(maps.to_keypoints[3].mean(axis=0)[row, row]))
    assert maps.top_constraints(1, 3)["left_elbow"][0][0] in sentence
    assert "rollout through all before" in maps.evidence("neck", heads="rollout")
    assert "head 2:" in maps.evidence("neck", heads=1)


def test_evidence_finds_attention_at_the_keypoints_own_place(maps):
    x, y = maps.pose.keypoints[0, maps.names.index("neck")]
    column, row = (maps.matrix @ [x, y, 1] + 0.5) / [48, 64] * 4
    here = np.zeros_like(maps.to_image)
    here[..., int(row), int(column)] = 1
    values = {entry.name: getattr(maps, entry.name) for entry in fields(maps)}
    all_here = AttentionMaps(**{**values, "to_image": here, "to_keypoints": np.zeros_like(maps.to_keypoints)})
    assert "100% of its attention goes to its own place in the image, 0% elsewhere" in all_here.evidence("neck")


def test_maps_survive_a_file(maps, tmp_path):
    maps.save(tmp_path / "maps.npz")
    again = AttentionMaps.load(tmp_path / "maps.npz")
    for entry in fields(AttentionMaps):
        before, after = getattr(maps, entry.name), getattr(again, entry.name)
        if entry.name == "pose":
            assert np.array_equal(before.keypoints, after.keypoints)
        elif isinstance(before, np.ndarray):
            assert np.array_equal(before, after)
        else:
            assert before == after
    assert again.evidence("neck") == maps.evidence("neck")


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "a.npz")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.npz"):
        AttentionMaps.load(tmp_path / "none.npz")


def test_a_file_of_a_later_version_or_with_pickles_is_refused(maps, tmp_path):
    maps.save(tmp_path / "maps.npz")
    with np.load(tmp_path / "maps.npz") as file:
        content = dict(file)
    facts = str(content["facts"]).replace('"format_version": 1', '"format_version": 2')
    np.savez(tmp_path / "later.npz", **{**content, "facts": np.array(facts)})
    with pytest.raises(ValueError, match=r"holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "later.npz")
    np.savez(tmp_path / "pickle.npz", **{**content, "crop": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match=r"holds no attention maps that AttentionMaps\.save wrote"):
        AttentionMaps.load(tmp_path / "pickle.npz")


def test_unknown_keypoints_blocks_and_heads_are_refused(maps, model):
    with pytest.raises(LookupError, match="no keypoint 'left_wirst' in these maps; did you mean left_wrist"):
        maps.select("left_wirst")
    with pytest.raises(LookupError, match="no keypoint 'neck' in these maps"):
        maps.select("left_wrist").evidence("neck")
    with pytest.raises(ValueError, match=r"there are 4 blocks, 0 to 3; got 4"):
        maps.in_image("neck", layer=4)
    with pytest.raises(ValueError, match=r'heads must be "mean", "max", "rollout" or a number in 0\.\.3; got 4'):
        maps.reduce(4)
    with pytest.raises(ValueError, match="the model has 4 heads, 0 to 3; got"), record_attention(model, heads=[4]):
        pass


@torch.no_grad()
def test_chosen_heads_are_recorded_alone(model, pixels):
    people = create_transform(model)(pixels, [BOX, BOX])
    with record_attention(model) as everything:
        before = model(people.crops)
    with record_attention(model, blocks=[1], heads=[2, -1]) as chosen:
        assert torch.equal(model(people.crops), before)
    assert chosen.rows[0].shape == (2, 2, 14, 30)
    torch.testing.assert_close(chosen.rows[0], everything.rows[1][:, [2, 3]], rtol=0, atol=1e-6)


# keypoint_similarity


def test_reduced_maps_remember_what_they_are(maps, tmp_path):
    for heads, words in (("rollout", "rollout through all before"), ("max", "maximum over heads"), (-1, "head 4")):
        reduced = maps.reduce(heads)
        assert f"block 3 of 4, {words}: " in reduced.evidence("left_hip")
        assert reduced.evidence("left_hip") == maps.evidence("left_hip", heads=heads)
        assert reduced.reduce() is reduced
        with pytest.raises(ValueError, match=re.escape(f"these maps are reduced already ({words})")):
            reduced.reduce(0)
    maps.reduce(2).save(tmp_path / "one.npz")
    assert AttentionMaps.load(tmp_path / "one.npz").reduced == "head 3"


def test_shares_of_maxima_are_shares(maps):
    name, share = maps.top_constraints(1, heads="max")["left_knee"][0]
    reduced = maps.reduce("max")
    row = maps.names.index("left_knee")
    total = reduced.to_image[2, 0, row].sum() + reduced.to_keypoints[2, 0, row].sum()
    assert share == pytest.approx(reduced.to_keypoints[2, 0, row, maps.names.index(name)] / total)


def test_slips_are_refused(maps, model, pixels):
    needed = r"a model is needed, as tokenpose\.create_model makes; got 'tokenpose_t'"
    with pytest.raises(TypeError, match=needed), record_attention("tokenpose_t"):
        pass
    with pytest.raises(TypeError, match="blocks"), record_attention(model, blocks=1):
        pass
    with pytest.raises(ValueError, match="count, the constraints of a keypoint, must be at least 1; got 0"):
        maps.top_constraints(0)
    with pytest.raises(ValueError, match="select at least one keypoint; got none"):
        maps.select([])
    with pytest.raises(ValueError, match=r"give one box of four numbers; got shape \(2, 4\)"):
        keypoint_similarity(model, depth=1, image=pixels, box=[BOX, BOX])
    with pytest.raises(ValueError, match=r"give image=\.\.\. with a depth, and only with one"):
        keypoint_similarity(model, box=BOX)


def test_a_map_of_a_large_image_takes_no_memory_but_its_own(maps):
    shown = replace(maps, image_size=(8_000, 10_000)).in_image("neck")
    assert shown.shape == (8_000, 10_000)
    assert np.array_equal(shown[:HEIGHT, :WIDTH], maps.in_image("neck"))
    assert shown[200:].max() == 0
