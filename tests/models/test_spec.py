import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenpose.models.spec import ModelSpec
from tokenpose.skeletons import COCO, LSP, Skeleton

SPEC = ModelSpec(backbone="stem")


def test_sizes_follow_from_image_and_patch():
    assert SPEC.grid_size == (16, 16)  # 256 / 4 / 4, 192 / 4 / 3
    assert SPEC.output_size == (64, 48)
    assert SPEC.hidden_width == 384  # 64 x 48 / 8
    assert SPEC.replace(image_size=(384, 288), patch_size=(6, 4)).hidden_width == 864
    assert SPEC.replace(heatmap_size=(32, 24)).output_size == (32, 24)
    assert SPEC.replace(head_hidden=100).hidden_width == 100


def test_spec_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPEC.depth = 3
    with pytest.raises(TypeError):
        ModelSpec("stem")


def test_changing_an_unknown_field_names_the_closest():
    with pytest.raises(TypeError, match=r"no field 'detph'; did you mean depth"):
        SPEC.replace(detph=6)


def test_json_holds_the_format_version_and_every_field():
    values = json.loads(SPEC.to_json())
    assert values.pop("format_version") == 1
    assert list(values) == [entry.name for entry in dataclasses.fields(ModelSpec)]
    assert "\n" not in SPEC.to_json()


def test_json_from_before_there_were_crop_filters_means_bilinear():
    values = json.loads(SPEC.replace(crop_filter="area").to_json())
    assert values.pop("crop_filter") == "area"
    assert ModelSpec.from_json(json.dumps(values)) == SPEC


@pytest.mark.parametrize("version", [0, 2, None, "1"])
def test_another_format_version_is_refused(version):
    text = json.dumps({**json.loads(SPEC.to_json()), "format_version": version})
    with pytest.raises(ValueError, match=rf"format_version {version!r}; .* reads 1: upgrade tokenpose"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"detph": 6}, "not a valid model spec: ModelSpec has no field 'detph'; did you mean depth"),
        ({"image_size": [256, 200]}, "use 192 or 204"),
        ({"skeleton": {"name": "two", "keypoints": ["a", "a"]}}, "keypoint names must differ; repeated: a"),
        ({"skeleton": 5}, "not a valid model spec"),
    ],
)
def test_faulty_json_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_json(json.dumps({**json.loads(SPEC.to_json()), **change}))


def test_json_without_skeleton_or_backbone_is_refused():
    for field in ("skeleton", "backbone"):
        values = json.loads(SPEC.to_json())
        del values[field]
        with pytest.raises(ValueError, match=f"not a valid model spec: .*{field}"):
            ModelSpec.from_json(json.dumps(values))


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "must be JSON; got '{'"), ("[1]", "must be a JSON object; got '\\[1\\]'"), ("", "must be JSON; got ''")],
)
def test_other_text_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_json(text)


@pytest.mark.parametrize(
    "skeleton", [COCO, LSP, Skeleton.from_count(1), Skeleton(name="x", keypoints=("a",), flip_pairs=())]
)
def test_skeletons_survive_json(skeleton):
    assert ModelSpec.from_json(SPEC.replace(skeleton=skeleton).to_json()).skeleton == skeleton


@st.composite
def spec_fields(draw) -> dict[str, Any]:
    stride, heads = draw(st.sampled_from([1, 2, 4, 8])), draw(st.integers(1, 16))
    patch = draw(st.tuples(st.integers(1, 16), st.integers(1, 16)))
    grid = draw(st.tuples(st.integers(2, 20), st.integers(2, 20)))
    positive = st.floats(0.01, 100)
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=9, unique=True))
    return dict(
        backbone=draw(st.text(max_size=9)),
        backbone_stride=stride,
        image_size=(grid[0] * patch[0] * stride, grid[1] * patch[1] * stride),
        patch_size=patch,
        heatmap_size=draw(st.tuples(st.integers(2, 100), st.integers(2, 100))),
        skeleton=dict(
            name=draw(st.text(max_size=5)), keypoints=tuple(names), flip_pairs=draw(st.sampled_from([None, ()]))
        ),
        width=2 * heads * draw(st.integers(1, 16)),
        groups=draw(st.integers(1, 4)),
        depth=draw(st.integers(1, 30)),
        heads=heads,
        mlp_ratio=draw(st.floats(1, 100)),
        block=draw(st.text(max_size=9)),
        positions=draw(st.sampled_from(["sine_every_block", "sine", "learnable", "none"])),
        attention_scale=draw(st.sampled_from(["head", "model"])),
        head_layers=draw(st.sampled_from([1, 2])),
        head_hidden=draw(st.none() | st.integers(1, 500)),
        heatmap_activation=draw(st.sampled_from(["identity", "softmax"])),
        mean=draw(st.tuples(positive, positive, positive)),
        std=draw(st.tuples(positive, positive, positive)),
        box_padding=draw(positive),
        sigma=draw(positive),
        crop_filter=draw(st.sampled_from(["bilinear", "area"])),
    )


@settings(deadline=None)
@given(fields=spec_fields())
def test_any_spec_survives_json(fields):
    spec = ModelSpec(**{**fields, "skeleton": Skeleton(**fields["skeleton"])})
    again = ModelSpec.from_json(spec.to_json())
    assert again == spec
    assert hash(again) == hash(spec)
    assert again.grid_size[0] * again.patch_size[0] * again.backbone_stride == again.image_size[0]
