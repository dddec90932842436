import hashlib
import logging
from pathlib import Path

import pytest
import torch

from tokenpose.models.create import create_model, read_model
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.models.zoo import Architecture, Tag, architectures, find_tag, list_models, register_model
from tokenpose.skeletons import COCO, LSP, Skeleton

NAMES = ("head", "hand", "foot", "tail", "paw")


@pytest.fixture
def registered():
    """Names that the test registers are forgotten after it."""
    before = dict(architectures._parts)
    yield
    architectures._parts.clear()
    architectures._parts.update(before)


@pytest.fixture
def beast(tiny, build, registered) -> TokenPose:
    """A registered tiny model with named keypoints, and weights."""
    spec = tiny.replace(skeleton=Skeleton.from_names(NAMES), head_hidden=24)
    register_model("beast", spec)
    return build(spec)


@pytest.fixture
def weights(beast, tmp_path) -> Path:
    """The beast's weights file."""
    write_weights(beast, tmp_path / "beast.safetensors")
    return tmp_path / "beast.safetensors"


def test_model_comes_in_eval_mode_with_its_spec():
    model = create_model("tokenpose_t.coco_256x192")
    assert not model.training
    assert model.spec == find_tag("tokenpose_t.coco_256x192")[2]
    assert model.newly_initialized == ()


def test_name_without_a_tag_means_the_default_tag():
    assert create_model("tokenpose_t", device="meta").spec == find_tag("tokenpose_t")[2]


@pytest.mark.parametrize("name", list_models())
def test_every_name_is_created_on_the_meta_device(name):
    model = create_model(name, device="meta")
    heatmaps = model(torch.empty(1, 3, *model.spec.image_size, device="meta"))
    assert heatmaps.shape == (1, len(model.spec.skeleton), *model.spec.output_size)


def test_creating_is_logged_with_the_full_name_and_the_parameters(caplog):
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        create_model("tokenpose_t.coco_256x192", device="meta")
    assert "created tokenpose_t.coco_256x192: 5.82 M parameters" in caplog.text


def test_fields_of_the_spec_can_be_changed():
    model = create_model(
        "tokenpose_s_v1.coco_256x192", image_size=(384, 288), patch_size=(6, 4), depth=6, device="meta"
    )
    assert model.spec == find_tag("tokenpose_s_v1.coco_256x192")[2].replace(
        image_size=(384, 288), patch_size=(6, 4), depth=6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_dtype_holds_for_all_parameters(dtype):
    model = create_model("tokenpose_t", dtype=dtype, depth=1)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(torch.zeros(1, 3, 256, 192, dtype=dtype)).dtype == dtype


def test_default_device_of_a_context_is_used():
    with torch.device("meta"):
        model = create_model("tokenpose_t", depth=1)
        heatmaps = model(torch.empty(1, 3, 256, 192))
    assert heatmaps.is_meta


KEYPOINTS = {
    "a count": (3, ("keypoint_0", "keypoint_1", "keypoint_2")),
    "a list of names": (["nose", "left_hand", "right_hand"], ("nose", "left_hand", "right_hand")),
    "a dict": ({"crown": "nose", "left_ear": "left_ear"}, ("crown", "left_ear")),
    "a Skeleton": (LSP, LSP.keypoints),
    "nothing": (None, COCO.keypoints),
}


@pytest.mark.parametrize("kind", KEYPOINTS)
def test_keypoints_are_given_as(kind):
    keypoints, names = KEYPOINTS[kind]
    model = create_model("tokenpose_t.coco_256x192", keypoints=keypoints, device="meta")
    assert model.spec.skeleton.keypoints == names
    assert model.tokenizer.keypoint_tokens.shape == (1, len(names), 192)


def test_flip_pairs_of_named_keypoints_are_inferred():
    model = create_model("tokenpose_t", keypoints=["nose", "left_hand", "right_hand"], device="meta")
    assert model.spec.skeleton.flip_pairs == ((1, 2),)


def test_keypoints_to_start_from_must_be_there():
    message = r"there are no keypoints head_top to start from; there are nose, left_eye, "
    with pytest.raises(LookupError, match=message):
        create_model("tokenpose_t.coco_256x192", keypoints={"crown": "head_top"})


@pytest.mark.parametrize("keypoints", [0, -1])
def test_no_keypoints_are_refused(keypoints):
    with pytest.raises(ValueError, match=f"1 to 4096 keypoints; got {keypoints}"):
        create_model("tokenpose_t", keypoints=keypoints)


def test_other_keypoints_are_refused(run_python):
    code = (
        "from tokenpose.models.create import create_model\n"
        "for keypoints in (True, 'nose', 2.5):\n"
        "    try: create_model('tokenpose_t', keypoints=keypoints)\n"
        "    except TypeError as error: print(error)\n"
    )
    said = run_python(code).stdout.splitlines()
    assert said == [
        f"keypoints must be a count, a list of names, a dict or a Skeleton; got {given}"
        for given in ("True", "'nose'", "2.5")
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tokenpose_s", "there is no model named 'tokenpose_s'; did you mean tokenpose_s_v1, tokenpose_s_v2"),
        ("tokenpose-b", "there is no model named 'tokenpose-b'; did you mean tokenpose_b"),
        ("tokenpose_b.coco", "tokenpose_b has no tag 'coco'; there are tokenpose_b.coco_256x192"),
    ],
)
def test_unknown_names_are_refused_with_the_closest(name, message):
    with pytest.raises(LookupError, match=message):
        create_model(name)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"imgae_size": (256, 192)}, TypeError, r"no field 'imgae_size'; did you mean image_size"),
        ({"image_size": (256, 190)}, ValueError, r"image width 190 .* use 180 or 192, or change patch_size"),
        ({"backbone": "stam"}, LookupError, "no backbone named 'stam'; did you mean stem"),
        (
            {"backbone": "timm/resnet18", "backbone_stride": 64, "patch_size": (1, 1)},
            ValueError,
            r"may be one of \[2, 4, 8",
        ),
        ({"block": "vti"}, LookupError, "no block named 'vti'; did you mean vit"),
    ],
)
def test_changes_that_do_not_work_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        create_model("tokenpose_s_v1.coco_256x192", **changes)


def test_pretrained_is_refused_where_nothing_ships_with_the_names_that_do():
    available = ", ".join(list_models(pretrained=True)) or "none yet"
    with pytest.raises(
        LookupError, match=r"no bundled weights for tokenpose_s_v2\.coco_256x192; there are for: "
    ) as caught:
        create_model("tokenpose_s_v2", pretrained=True)
    assert str(caught.value).endswith(available)


def test_pretrained_and_weights_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"give pretrained=True or weights=\.\.\., not both"):
        create_model("tokenpose_t", pretrained=True, weights=tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", list_models(pretrained=True))
def test_shipped_weights_load_and_fit_their_name(name):
    model = create_model(name, pretrained=True)
    assert model.newly_initialized == ()
    heatmaps = model(torch.zeros(1, 3, *model.spec.image_size))
    assert torch.isfinite(heatmaps).all()
    if "." in name:  # its size is part of the name
        assert name.endswith(f"{model.spec.image_size[0]}x{model.spec.image_size[1]}")


@pytest.fixture
def shipped(beast, tmp_path, monkeypatch):
    """The beast's weights as if they came with the package."""
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "beast.safetensors"
    write_weights(beast, path, half=True)
    tag = Tag(checkpoint=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    architectures.add("furry", Architecture(spec=beast.spec, tags={"fur_64x48": tag}, default_tag="fur_64x48"))
    monkeypatch.setattr("tokenpose.models.create.files", lambda package: tmp_path)
    return path


@torch.no_grad()
def test_pretrained_loads_what_ships(beast, shipped, generator):
    images = torch.randn(2, 3, 64, 48, generator=generator)
    heatmaps = create_model("furry", pretrained=True)(images)
    assert (heatmaps - beast(images)).abs().max() < 0.01 * heatmaps.abs().max()  # stored in half precision


def test_shipped_file_that_differs_is_refused(shipped):
    shipped.write_bytes(shipped.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match=r"not the bundled file of furry.fur_64x48 \(SHA-256 differs\): reinstall"):
        create_model("furry", pretrained=True)


@torch.no_grad()
@pytest.mark.parametrize("name", ["beast", "beast.custom"])
def test_weights_from_a_file_give_the_same_heatmaps(beast, weights, generator, name):
    images = torch.randn(2, 3, 64, 48, generator=generator)
    model = create_model(name, weights=weights)
    assert torch.equal(model(images), beast(images))
    assert not model.training
    assert model.newly_initialized == ()


@torch.no_grad()
def test_weights_from_a_saved_folder_give_the_same_heatmaps(beast, tmp_path, generator):
    images = torch.randn(2, 3, 64, 48, generator=generator)
    save_pretrained(beast, tmp_path / "folder")
    assert torch.equal(create_model("beast", weights=tmp_path / "folder")(images), beast(images))


@torch.no_grad()
def test_model_in_a_file_is_loaded_whatever_its_name(beast, weights, generator):
    images = torch.randn(2, 3, 64, 48, generator=generator)
    model = read_model(weights)
    assert torch.equal(model(images), beast(images))
    assert (model.spec, model.training, model.newly_initialized) == (beast.spec, False, ())


def test_weights_of_another_architecture_are_refused(weights):
    with pytest.raises(
        ValueError, match=r"beast.safetensors is not a tokenpose_t.\w+: it has .*width 48 instead of 192"
    ):
        create_model("tokenpose_t", weights=weights)


def test_with_a_tag_in_the_name_the_weights_size_and_skeleton_must_agree(beast, tmp_path, build):
    write_weights(build(beast.spec.replace(image_size=(128, 96))), tmp_path / "large.safetensors")
    assert create_model("beast", weights=tmp_path / "large.safetensors").spec.image_size == (128, 96)
    with pytest.raises(ValueError, match=r"is not a beast.custom: it has image_size \(128, 96\) instead of \(64, 48\)"):
        create_model("beast.custom", weights=tmp_path / "large.safetensors")


@pytest.mark.parametrize(
    "changes", [{"keypoints": 3}, {"keypoints": ["wing"]}, {"image_size": (128, 96)}, {"positions": "none"}]
)
def test_changes_come_after_the_files_spec(weights, changes):
    model = create_model("beast", weights=weights, **changes)
    assert model.spec.head_hidden == 24  # the hidden width stays the file's
    assert torch.isfinite(model(torch.zeros(1, 3, *model.spec.image_size))).all()


@torch.no_grad()
def test_tokens_come_by_name(beast, weights, generator):
    images = torch.randn(2, 3, 64, 48, generator=generator)
    again = create_model("beast", weights=weights, keypoints=["paw", "head", "tail", "hand", "foot"])
    torch.testing.assert_close(again(images), beast(images)[:, [4, 0, 3, 1, 2]], rtol=0, atol=1e-5)
    assert again.newly_initialized == ()


def test_a_count_brings_no_token(weights):
    model = create_model("beast", weights=weights, keypoints=2)
    assert model.newly_initialized == tuple(f"tokenizer.keypoint_tokens[keypoint_{index}]" for index in range(2))


def test_a_dict_says_whose_tokens_new_names_start_from(beast, weights):
    model = create_model("beast", weights=weights, keypoints={"crown": "head", "paw": "paw"})
    assert torch.equal(model.tokenizer.keypoint_tokens, beast.tokenizer.keypoint_tokens[:, [0, 4]])
    assert model.newly_initialized == ()


def test_a_dict_that_starts_from_unknown_names_is_refused(weights):
    with pytest.raises(LookupError, match="there are no keypoints nose to start from; there are head, hand, foot"):
        create_model("beast", weights=weights, keypoints={"crown": "nose"})


def test_changes_that_the_weights_do_not_survive_are_refused(weights):
    with pytest.raises(ValueError, match=r"the weights don't fit the model: depth is 4, the file's 3; encoder"):
        create_model("beast", weights=weights, depth=4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_scale": "model"}, "trained with attention_scale='head' and don't work with 'model'"),
        ({"heads": 2}, "trained with heads=4 and don't work with 2"),
    ],
)
def test_changes_that_fit_the_weights_and_change_their_meaning_are_refused(weights, changes, message):
    with pytest.raises(ValueError, match=rf"beast\.safetensors: the weights were {message}"):
        create_model("beast", weights=weights, **changes)


@pytest.mark.parametrize("name", ["beast", "beast.custom"])
def test_weights_with_another_softmax_scale_than_the_names_are_refused(beast, tmp_path, build, name):
    write_weights(build(beast.spec.replace(attention_scale="model")), tmp_path / "scaled.safetensors")
    with pytest.raises(ValueError, match=r"is not a beast\.custom: it has attention_scale 'model' instead of 'head'"):
        create_model(name, weights=tmp_path / "scaled.safetensors")


def test_changes_that_are_asked_for_may_differ_from_the_name(beast, tmp_path, build):
    write_weights(build(beast.spec.replace(depth=1)), tmp_path / "short.safetensors")
    assert create_model("beast", weights=tmp_path / "short.safetensors", depth=1).spec.depth == 1
    with pytest.raises(ValueError, match=r"is not a beast\.custom: it has depth 1 instead of 3"):
        create_model("beast", weights=tmp_path / "short.safetensors")


def test_missing_weights_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no weights file .*nowhere"):
        create_model("tokenpose_t", weights=tmp_path / "nowhere.safetensors")


def test_registered_model_is_created_by_its_name(beast):
    assert isinstance(create_model("beast"), TokenPose)
    assert create_model("beast", depth=1).spec == beast.spec.replace(depth=1)
    assert ModelSpec.from_json(create_model("beast.custom").spec.to_json()) == beast.spec


def test_registered_models_are_forgotten_after_each_test():
    with pytest.raises(LookupError):
        create_model("beast")


@pytest.mark.parametrize("name", ["run/model.safetensors", "weights.pth", "user/name", "C:\\models\\run"])
def test_a_path_in_place_of_a_name_is_refused_with_the_ways_to_give_one(name):
    with pytest.raises(LookupError, match=r"is not a model's name: for a folder, use 'local-dir:.*weights=file"):
        create_model(name)


def test_a_models_own_weights_and_others_do_not_go_together(tmp_path):
    with pytest.raises(ValueError, match="has its own weights"):
        create_model(f"local-dir:{tmp_path}", weights=tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"give pretrained=True or weights=\.\.\., not both"):
        create_model("tokenpose_t", pretrained=True, weights=tmp_path / "a.safetensors")


def test_the_crop_filter_may_change_and_a_file_keeps_its_own(beast, weights, tmp_path):
    averaging = create_model("beast", weights=weights, crop_filter="area")
    assert averaging.spec == beast.spec.replace(crop_filter="area")
    assert not averaging.newly_initialized
    write_weights(averaging, tmp_path / "averaging.safetensors")
    assert create_model("beast", weights=tmp_path / "averaging.safetensors").spec.crop_filter == "area"
    with pytest.raises(ValueError, match=r"is not a beast\.custom: it has crop_filter 'area' instead of 'bilinear'"):
        create_model("beast.custom", weights=tmp_path / "averaging.safetensors")


@pytest.mark.parametrize("name", list_models())
def test_published_tags_and_bundled_weights_sample_bilinearly(name):
    assert find_tag(name)[2].crop_filter == "bilinear"
