"""Weights from anywhere: what is not as it should be is refused with one clear error, and nothing in it is run.

Run by test_trust.py in an interpreter without the type check, which would refuse much of this before the library does.
"""

import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tokenpose.models.create import create_model, read_model
from tokenpose.models.spec import ModelSpec
from tokenpose.models.weights import read_weights, save_pretrained, write_weights
from tokenpose.models.zoo import register_model
from tokenpose.predictor import PosePredictor
from tokenpose.skeletons import Skeleton
from tokenpose.transforms import create_transform

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), skeleton=Skeleton.from_count(5),
    width=48, heads=4, depth=3,
)  # fmt: skip
REFUSALS = (ValueError, LookupError, FileNotFoundError)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """A weights file as it should be."""
    path = tmp_path_factory.mktemp("written") / "good.safetensors"
    torch.manual_seed(0)
    model = create_model("tokenpose_t", **{name: value for name, value in vars(SPEC).items() if name != "skeleton"})
    write_weights(model, path, {"data": "drawn"})
    return path


def parts(path: Path) -> tuple[dict, bytes]:
    """A safetensors file's header and the bytes after it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def join(header: bytes | dict, body: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def rewritten(written: Path, path: Path, **changes) -> Path:
    """The same tensors with some fields of the spec changed."""
    header, body = parts(written)
    spec = {**json.loads(header["__metadata__"]["spec"]), **changes}
    header["__metadata__"]["spec"] = json.dumps(spec)
    path.write_bytes(join(header, body))
    return path


def with_tensors(written: Path, path: Path, **changes: torch.Tensor) -> Path:
    header, _ = parts(written)
    save_file({**load_file(written), **changes}, path, header["__metadata__"])
    return path


def test_the_file_as_it_should_be_loads(written):
    assert read_model(written).card == {"data": "drawn"}


CLAIMS = [
    ({"width": 16_384, "heads": 1}, r"keypoint_tokens is \(1, 17, 48\), expected \(1, 17, 16384\)"),
    ({"depth": 1_000}, "it has 3 blocks, expected 1000"),
    ({"groups": 64}, "it has 3 blocks, expected 192"),
    ({"heatmap_size": (4_000, 4_000)}, r"head.3.weight is \(192, 24\), expected \(16000000, 2000000\)"),
    ({"head_hidden": 999_999}, r"head.3.weight is \(192, 24\), expected \(192, 999999\)"),
    ({"head_layers": 1}, r"head.1.weight is \(24, 48\), expected \(192, 48\)"),
    ({"mlp_ratio": 50.0}, r"encoder.groups.0.0.mlp.0.weight is \(144, 48\), expected \(2400, 48\)"),
    ({"block": "gated"}, r"encoder.groups.0.0.gate_and_value.weight is missing, expected \(192, 48\)"),
    ({"backbone": "stem", "backbone_stride": 4, "patch_size": [4, 3]}, r"backbone.conv1.weight is missing, expected"),
    (
        {
            "backbone": "timm/convnext_xxlarge",  # 3.4 GB
            "backbone_stride": 4,
            "patch_size": [4, 3],
        },
        r"backbone\.network\..* is missing, expected",
    ),
    ({"positions": "learnable"}, r"tokenizer.positions is missing, expected \(1, 33, 48\)"),
    ({"skeleton": {"name": "x", "keypoints": [f"k{i}" for i in range(4_000)]}}, r"expected \(1, 4000, 48\)"),
    ({"width": 10**11, "heads": 7}, "width must be at most 16384; got 100000000000"),
    ({"width": 10**9}, "width must be at most 16384; got 1000000000"),
    ({"depth": 10**9}, "depth must be at most 1024; got 1000000000"),
    ({"mlp_ratio": 1e9}, r"mlp_ratio must be at most 100\.0; got 1000000000\.0"),
    ({"image_size": (2**20, 2**20)}, r"image_size must have at most 64000000 pixels; got \(1048576, 1048576\)"),
    ({"image_size": (4_096, 4_096), "patch_size": (2, 2)}, "gives 4194304 tokens; at most 65536: use larger patches"),
    ({"image_size": [float("inf"), 48]}, "image_size must be two positive whole numbers"),
    ({"mlp_ratio": 0.005}, "mlp_ratio 0.005 makes the hidden width of width 48 zero"),
    ({"sigma": float("nan")}, "sigma must be a positive number; got nan"),
    ({"mean": ["0", 0, 0]}, "mean must be three numbers"),
    ({"mean": [float("nan"), 0, 0]}, "mean must be three numbers"),
    ({"width": "48"}, "width must be a positive whole number; got '48'"),
    ({"skeleton": {"name": "x", "keypoints": [1, 2]}}, "keypoint names must be text; got .x., .1, 2"),
    ({"skeleton": "coco"}, "not a valid model spec"),
    ({"backbone": None}, "backbone must be a name; got None"),
    ({"format_version": 2}, "format_version 2; this tokenpose reads 1: upgrade tokenpose"),
    ({"surprise": 1}, "ModelSpec has no field 'surprise'"),
]


@pytest.mark.parametrize(("changes", "message"), CLAIMS, ids=[str(changes)[:40] for changes, _ in CLAIMS])
def test_a_spec_that_lies_is_refused_before_a_model_of_it_is_built(tmp_path, written, changes, message):
    path = rewritten(written, tmp_path / "lie.safetensors", **changes)
    tracemalloc.start()
    with pytest.raises(ValueError, match=message) as refusal:
        read_model(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()
    assert str(path) in str(refusal.value)


def test_a_spec_without_its_skeleton_is_refused(tmp_path, written):
    header, body = parts(written)
    spec = json.loads(header["__metadata__"]["spec"])
    del spec["skeleton"]
    header["__metadata__"]["spec"] = json.dumps(spec)
    (tmp_path / "a.safetensors").write_bytes(join(header, body))
    with pytest.raises(ValueError, match="not a valid model spec: it has no 'skeleton'"):
        read_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ["[" * 100_000, "{" * 100_000, "9" * 10_000, '{"a":' * 50_000, "", "null", "3", '"x"'])
def test_json_made_to_break_readers_is_refused(text):
    with pytest.raises(ValueError, match=r"a model spec must be|not a valid model spec"):
        ModelSpec.from_json(text)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn])
def test_types_that_weights_do_not_have_are_refused(tmp_path, written, dtype):
    path = with_tensors(written, tmp_path / "a.safetensors", **{"head.3.bias": torch.zeros(192).to(dtype)})
    with pytest.raises(ValueError, match=r"holds types that weights don't have: head\.3\.bias is .*expected F16"):
        read_model(path)


def test_whole_numbers_in_place_of_weights_are_refused(tmp_path, written):
    path = with_tensors(written, tmp_path / "a.safetensors", **{"head.3.bias": torch.zeros(192, dtype=torch.int64)})
    with pytest.raises(ValueError, match=r"head\.3\.bias is \(192,\) of whole numbers, expected \(192,\)"):
        read_model(path)


def test_tensors_that_no_part_of_the_model_has_are_refused(tmp_path, written):
    path = with_tensors(written, tmp_path / "a.safetensors", **{"head.9.weight": torch.zeros(3)})
    with pytest.raises(ValueError, match=r"'head\.9\.weight' is not part of this model"):
        read_model(path)


def test_bytes_after_the_end_are_refused(tmp_path, written):
    (tmp_path / "a.safetensors").write_bytes(written.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"a\.safetensors is not a whole safetensors file"):
        read_model(tmp_path / "a.safetensors")


@pytest.mark.parametrize("card", ["[1]", "3", '"text"', "{", "[" * 100_000])
def test_a_card_that_is_no_json_object_is_refused(tmp_path, written, card):
    header, body = parts(written)
    header["__metadata__"]["card"] = card
    (tmp_path / "a.safetensors").write_bytes(join(header, body))
    with pytest.raises(ValueError, match="has a card that is not"):
        read_model(tmp_path / "a.safetensors")


def test_a_spec_whose_backbone_nobody_registered_is_refused_by_its_name(tmp_path, written):
    with pytest.raises(LookupError, match="there is no backbone named 'resnet_of_mine'"):
        read_model(rewritten(written, tmp_path / "a.safetensors", backbone="resnet_of_mine"))


@pytest.mark.parametrize("name", ["hf-hub:user/name", "local-dir:/etc", "resnet*", "../x", "hf_hub:a/b"])
def test_a_spec_makes_nothing_load_from_elsewhere(tmp_path, written, name, monkeypatch):
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("a model was created"))
    with pytest.raises(LookupError, match=r"timm has no model|timm/ takes names"):
        read_model(rewritten(written, tmp_path / "a.safetensors", backbone=f"timm/{name}", backbone_stride=4))


def test_a_config_that_says_something_else_than_the_weights_is_refused(tmp_path, written):
    save_pretrained(read_model(written), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "width": 96, "box_padding": 1.0}))
    message = r"config\.json is not the spec of the weights beside it: it says width 96; box_padding 1\.0"
    for name, options in ((f"local-dir:{tmp_path}", {}), ("tokenpose_t.coco_256x192", {"weights": tmp_path})):
        with pytest.raises(ValueError, match=message):
            create_model(name, **options)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: a model spec must be JSON"):
        create_model(f"local-dir:{tmp_path}")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"config\.json: "):
        create_model(f"local-dir:{tmp_path}")


class Touch:
    """Unpickling it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(tmp_path):
    torch.save({"state_dict": {"weight": Touch(tmp_path / "executed")}}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Touch(tmp_path / "executed"), protocol=2))
    for name in ("a.pth", "b.pth"):
        with pytest.raises(ValueError, match=r"\.pth is not a PyTorch checkpoint that holds nothing but tensors"):
            create_model("tokenpose_t.coco_256x192", weights=tmp_path / name)
    assert not (tmp_path / "executed").exists()
    pickle.loads((tmp_path / "b.pth").read_bytes())  # the trap works
    assert (tmp_path / "executed").exists()


def test_a_checkpoint_gives_the_model_that_it_was_saved_from(tmp_path):
    torch.manual_seed(0)
    model = create_model("tokenpose_t.coco_256x192", depth=2, width=48, heads=4)
    torch.save(model.state_dict(), tmp_path / "ours.pt")
    again = create_model("tokenpose_t.coco_256x192", weights=tmp_path / "ours.pt", depth=2, width=48, heads=4)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))
    assert again.card == {"converted_from": "ours.pt"}
    fewer = create_model(
        "tokenpose_t.coco_256x192", weights=tmp_path / "ours.pt", keypoints=["nose", "tail"], image_size=(128, 96),
        depth=2, width=48, heads=4,
    )  # fmt: skip
    assert fewer.newly_initialized == ("tokenizer.keypoint_tokens[tail]",)
    assert fewer(torch.zeros(1, 3, 128, 96)).shape == (1, 2, 32, 24)


def test_a_checkpoint_of_other_sizes_or_broken_values_is_refused(tmp_path):
    model = create_model("tokenpose_t.coco_256x192", depth=2, width=48, heads=4)
    tensors = model.state_dict()
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"a\.pth, read as a tokenpose_t\.coco_256x192: the weights don't fit the spec"
    ):
        create_model("tokenpose_t.coco_256x192", weights=tmp_path / "a.pth")
    torch.save({**tensors, "head.3.bias": tensors["head.3.bias"] / 0}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"holds values that are not finite, in head\.3\.bias"):
        create_model("tokenpose_t.coco_256x192", weights=tmp_path / "b.pth", depth=2, width=48, heads=4)
    with pytest.raises(ValueError, match=r"a\.pth is a PyTorch checkpoint, which has no spec: give the name"):
        read_model(tmp_path / "a.pth")


# Anything at all in place of parts of the file: it loads, or it is refused by one of our errors.

FUZZ = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, 1, 48, 10**30, 10**400, [[0, 1]], [[float("inf"), 0]]]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def loads_or_is_refused(path: Path) -> bool:
    try:
        model = read_model(path)
    except REFUSALS:
        return False
    with torch.no_grad():
        assert model(torch.zeros(1, 3, *model.spec.image_size)).isfinite().all()
    return True


@FUZZ
@given(field=st.sampled_from(sorted(SPEC.to_dict())), value=VALUES)
def test_any_value_in_any_field_of_the_spec(tmp_path, written, field, value):
    loads_or_is_refused(rewritten(written, tmp_path / "a.safetensors", **{field: value}))


@FUZZ
@given(field=st.sampled_from(["name", "keypoints", "limbs", "flip_pairs", "sigmas", "other"]), value=VALUES)
def test_any_value_in_any_field_of_the_skeleton(tmp_path, written, field, value):
    header, _ = parts(written)
    skeleton = {**json.loads(header["__metadata__"]["spec"])["skeleton"], field: value}
    loads_or_is_refused(rewritten(written, tmp_path / "a.safetensors", skeleton=skeleton))


@FUZZ
@given(text=st.text(max_size=60) | VALUES.map(json.dumps))
def test_any_text_as_spec_or_card(tmp_path, written, text):
    header, body = parts(written)
    for entry in ("spec", "card"):
        changed = {**header, "__metadata__": {**header["__metadata__"], entry: text}}
        (tmp_path / "a.safetensors").write_bytes(join(changed, body))
        loads_or_is_refused(tmp_path / "a.safetensors")


@FUZZ
@given(data=st.data())
def test_any_bytes_changed_in_the_header(tmp_path, written, data):
    content = bytearray(written.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 7 + length))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.safetensors").write_bytes(content)
    loads_or_is_refused(tmp_path / "a.safetensors")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@FUZZ
@given(content=st.binary(max_size=200), keep=st.integers(0, 200))
def test_any_bytes_as_a_file(tmp_path, written, content, keep):
    for name in ("a.safetensors", "a.pth"):
        (tmp_path / name).write_bytes(written.read_bytes()[:keep] + content)
        with pytest.raises(REFUSALS):
            create_model("tokenpose_t.coco_256x192", weights=tmp_path / name)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@FUZZ
@given(data=st.data())
def test_any_bytes_changed_in_a_checkpoint(tmp_path, data):
    path = tmp_path / "a.pth"
    torch.save({"tokenizer.keypoint_tokens": torch.zeros(1, 2, 4), "head.1.weight": torch.zeros(3)}, path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with pytest.raises(REFUSALS):
        create_model("tokenpose_t.coco_256x192", weights=path)


def test_reading_leaves_no_half_model(written, tmp_path):
    weights = read_weights(written)
    assert weights.spec.width == 48
    with pytest.raises(ValueError, match=r"good\.safetensors: the weights don't fit the model: .*missing"):
        create_model("tokenpose_t", weights=written, depth=4, width=48, heads=4)


# Found by a reader who tried.


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"extra": torch.zeros(1).expand(100_000, 60_000)}, "extra of .* holds fewer values than it claims"),
        ({3: torch.zeros(1)}, "holds no state dict"),
        ({"a": torch.empty(3, device="meta")}, "holds tensors that weights don't have: a is .* on meta"),
        ({"a": torch.zeros(3, dtype=torch.complex64)}, r"weights don't have: a is torch\.complex64"),
        ({"a": torch.zeros(3).to(torch.float8_e4m3fn)}, r"weights don't have: a is torch\.float8"),
    ],
)
def test_checkpoints_of_what_no_weights_are_are_refused(tmp_path, tensors, message):
    torch.save(tensors, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message):
        create_model("tokenpose_t.coco_256x192", weights=tmp_path / "a.pth")


def test_a_compressed_checkpoint_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as plain,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as b,
    ):
        for entry in plain.infolist():
            b.writestr(entry.filename, plain.read(entry))
    with pytest.raises(ValueError, match="is compressed, unlike the files that PyTorch writes"):
        create_model("tokenpose_t.coco_256x192", weights=tmp_path / "b.pth")


@pytest.mark.parametrize("wrap", ["module.", "_orig_mod.", "module._orig_mod."])
def test_checkpoints_of_wrapped_and_half_precision_models_are_read(tmp_path, wrap):
    options = {"depth": 2, "width": 48, "heads": 4, "backbone": "stem", "patch_size": (4, 3), "backbone_stride": 4}
    model = create_model("tokenpose_t.coco_256x192", **options)
    torch.save({wrap + name: tensor.half() for name, tensor in model.state_dict().items()}, tmp_path / "m.PTH")
    again = create_model("tokenpose_t.coco_256x192", weights=tmp_path / "m.PTH", **options)
    assert torch.equal(again.head[3].bias, model.head[3].bias.half().float())
    assert again.backbone.bn1.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize("count", [5_000, 10**9])
def test_too_many_keypoints_are_refused_at_once(count):
    with pytest.raises(ValueError, match="1 to 4096 keypoints"):
        create_model("tokenpose_t", keypoints=count)
    with pytest.raises(ValueError, match="at most 4096 keypoints"):
        Skeleton.from_names(f"k{index}" for index in range(5_000))


def test_what_is_written_can_be_read(tmp_path, written):
    model = read_model(written)
    write_weights(model.double(), tmp_path / "double.safetensors")
    assert read_model(tmp_path / "double.safetensors").head[3].bias.dtype == torch.float32
    save_pretrained(torch.compile(model.float()), tmp_path / "compiled")
    assert read_model(tmp_path / "compiled").spec == model.spec
    with pytest.raises(TypeError, match="a TokenPose is needed; got DataParallel: if it wraps a TokenPose, give the"):
        save_pretrained(torch.nn.DataParallel(model), tmp_path / "wrapped")


def test_changes_that_shapes_do_not_show_are_refused_or_reported(written, caplog):
    with pytest.raises(ValueError, match="the weights were trained with heads=4 and don't work with 2"):
        create_model("tokenpose_t", weights=written, heads=2, width=48, depth=3)
    create_model("tokenpose_t", weights=written, heatmap_activation="softmax", **{"heads": 4, "width": 48, "depth": 3})
    expected = "the weights were trained with heatmap_activation='identity'; with 'softmax' the model needs training"
    assert expected in caplog.text


def test_everyday_slips_are_type_and_value_errors():
    with pytest.raises(TypeError, match="a model's name must be a string"):
        create_model(None)
    with pytest.raises(TypeError, match="weights is a file's or folder's path; got dict"):
        create_model("tokenpose_t", weights={})
    with pytest.raises(ValueError, match="device 'gpu' can't be used here"):
        create_model("tokenpose_t", device="gpu")
    with pytest.raises(TypeError, match=r"dtype is one of torch's, torch\.float16 for example; got 'float16'"):
        create_model("tokenpose_t", dtype="float16")
    for make in (PosePredictor, create_transform):
        with pytest.raises(TypeError, match=r"a model is needed, as tokenpose\.create_model makes; got 'tokenpose_t'"):
            make("tokenpose_t")
    with pytest.raises(TypeError, match="many takes a list of images"):
        PosePredictor(create_model("tokenpose_t", depth=1)).many("photo.jpg")
    with pytest.raises(TypeError, match="register_model needs a ModelSpec; got dict"):
        register_model("mine", {})


def test_numpys_whole_numbers_are_numbers():
    size = (np.int64(128), np.int64(96))
    model = create_model("tokenpose_t", keypoints=np.int64(5), depth=np.int64(1), image_size=size)
    assert json.loads(model.spec.to_json())["image_size"] == [128, 96]
    assert model.spec.depth == 1


def test_a_dict_may_rename_and_add_at_once(written):
    model = create_model(
        "tokenpose_t", weights=written, keypoints={"crown": "nose", "tail": None, "nose": None},
        **{"heads": 4, "width": 48, "depth": 3},
    )  # fmt: skip
    assert model.newly_initialized == ("tokenizer.keypoint_tokens[tail]", "tokenizer.keypoint_tokens[nose]")
    again = create_model("tokenpose_t", skeleton=model.spec.skeleton)
    assert again.spec.skeleton == model.spec.skeleton


def test_a_home_folder_may_be_a_tilde(written, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    save_pretrained(read_model(written), "~/mine")
    assert create_model("local-dir:~/mine").spec.width == 48
    assert read_model("~/mine").spec.width == 48
