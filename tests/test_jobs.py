"""The jobs from end to end, on drawn people whose truth is known."""

import json
import logging
import math

import pytest
import torch
from accelerate.state import AcceleratorState

from tokenpose.data.augment import Augmentation
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs import evaluate, measure_pck
from tokenpose.models.create import create_model
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights, write_weights
from tokenpose.models.zoo import architectures, register_model
from tokenpose.runs import finetune, read_training_data, train_model
from tokenpose.skeletons import COCO, LSP
from tokenpose.training.settings import TrainingSettings

from .data.drawing import draw_people

TINY = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=2,
    heatmap_activation="softmax", sigma=1.0, skeleton=LSP,
)  # fmt: skip
SETTINGS = TrainingSettings(
    epochs=3, batch_size=4, warmup_steps=1, average=0.5, guided_blocks=(0, 1), patch_blocks=(0,), validate_every=2,
    augmentation=Augmentation(scale=0.1, rotation=10.0),
)  # fmt: skip
CHANGES = {
    **{name: value for name, value in vars(SETTINGS).items() if name != "augmentation"}, "scale": 0.1, "rotation": 10.0
}  # fmt: skip


def data_of(people):
    return read_training_data(people, people, people.parent)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The COCO file of eight drawn people; its folder holds the images."""
    return draw_people(tmp_path_factory.mktemp("drawn"), 8)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """accelerate keeps one state a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _registered():
    """ "tiny" knows LSP's keypoints, "other" COCO's; forgotten after each test."""
    before = dict(architectures._parts)
    register_model("tiny", TINY)
    register_model("other", TINY.replace(skeleton=COCO))
    yield
    architectures._parts.clear()
    architectures._parts.update(before)


def test_training_gives_a_weights_file_that_loads_and_measures_the_same(people, tmp_path, caplog):
    torch.manual_seed(0)
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        path = train_model(TokenPose(TINY), data_of(people), tmp_path / "run", SETTINGS, card={"data": "drawn"})
    assert path == tmp_path / "run" / "model.safetensors"
    assert {entry.name for entry in path.parent.iterdir()} == {
        "checkpoint.pt", "curve.png", "log.jsonl", "model.safetensors", "predictions", "settings.json",
    }  # fmt: skip
    assert caplog.text.count("people.json: 8 annotations: 8 people; left out: none") == 2
    card = read_weights(path).card
    assert card["data"] == "drawn"
    log = [json.loads(line) for line in (path.parent / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log if "pck" in line] == [2, 3]
    model = create_model("tiny", weights=path)
    assert model.spec == TINY.replace(head_hidden=TINY.hidden_width)
    result = measure_pck(model, read_coco(people), ImageSource(people.parent))
    assert (result.people, result.keypoint_count) == (8, 8 * 14)
    assert result.mean == pytest.approx(card["pck"]) == pytest.approx(log[-1]["pck"], abs=1e-4)
    assert evaluate(model, people, people.parent, metrics=["pck"]).pck[0.2] == result
    assert str(result).startswith("PCK@0.2 (torso), 8 people, 112 keypoints\nright_ankle ")


@pytest.mark.slow
def test_training_learns_where_drawn_keypoints_are(people, tmp_path):
    # every keypoint has a colour of its own: a stem sees it, and 60 epochs are enough to know the eight by heart
    settings = TrainingSettings(
        epochs=60, batch_size=8, learning_rate=2e-3, warmup_steps=10, average=0.9, guided_blocks=(0, 1),
        patch_blocks=(0,), validate_every=60, augmentation=Augmentation(scale=0.0, rotation=0.0, flip=0.0),
    )  # fmt: skip
    spec = TINY.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3))
    torch.manual_seed(0)
    model = TokenPose(spec)
    before = evaluate(model, people, people.parent).pck[0.2].mean
    path = train_model(model, data_of(people), tmp_path, settings)
    assert read_weights(path).card["pck"] > max(60, before + 30)


def test_interrupted_training_is_resumed(people, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    settings = TrainingSettings(**{**vars(SETTINGS), "checkpoint_seconds": 0.0})
    torch.manual_seed(0)
    whole = train_model(TokenPose(TINY), data_of(people), tmp_path / "whole", settings)
    torch.manual_seed(0)
    model = TokenPose(TINY)
    monkeypatch.setattr("tokenpose.runs.write_weights", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_model(model, data_of(people), tmp_path / "parts", settings)
    monkeypatch.undo()
    parts = train_model(TokenPose(TINY), data_of(people), tmp_path / "parts", settings, resume=True)
    expected, found = read_weights(whole), read_weights(parts)
    assert found.card == expected.card
    assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)


def test_model_without_the_datas_keypoints_is_refused_before_training(people, tmp_path):
    message = (
        r"people\.json has the keypoints right_ankle, .*; the model has nose, .*: create the model with keypoints="
    )
    with pytest.raises(ValueError, match=message):
        train_model(create_model("other"), data_of(people), tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("loss", "activation"), [("cross_entropy", "identity"), ("squared_error", "softmax")])
def test_loss_that_does_not_go_with_the_activation_is_refused(people, tmp_path, loss, activation):
    model = TokenPose(TINY.replace(heatmap_activation=activation))
    settings = TrainingSettings(**{**vars(SETTINGS), "loss": loss})
    message = f"loss '{loss}' does not go with heatmap_activation '{activation}'"
    with pytest.raises(ValueError, match=message):
        train_model(model, data_of(people), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_squared_error_trains_without_helpers(people, tmp_path):
    settings = TrainingSettings(
        **{**vars(SETTINGS), "loss": "squared_error", "guidance": 0.0, "auxiliary": 0.0, "patches": 0.0}
    )
    model = TokenPose(TINY.replace(heatmap_activation="identity"))
    train_model(model, data_of(people), tmp_path, settings)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] == lines[-1]["heatmaps"] < lines[0]["heatmaps"]
    assert not {"auxiliary", "patches", "guidance"} & lines[-1].keys()


def test_missing_images_and_annotations_are_refused(people, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder, tar or zip of images .*nowhere"):
        read_training_data(people, people, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"there is no annotation file .*nowhere\.json"):
        read_training_data(people, tmp_path / "nowhere.json", people.parent)


@pytest.mark.parametrize("name", ["tiny", "other", "tiny.custom", "other.custom"])
def test_fine_tuning_gives_a_model_of_the_datas_keypoints(people, tmp_path, name):
    model = finetune(name, people, people, people.parent, tmp_path, pretrained=False, settings=CHANGES)
    assert model.spec.skeleton.keypoints == LSP.keypoints
    assert not model.training
    saved = read_weights(tmp_path / "model.safetensors")
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in saved.tensors.items())


def test_fine_tuning_with_changes_of_the_architecture(people, tmp_path):
    changes = {**CHANGES, "guided_blocks": (0,), "patch_blocks": (0,)}
    model = finetune("tiny", people, people, people.parent, tmp_path, pretrained=False, settings=changes, depth=3)
    assert model.spec.depth == 3


def test_fine_tuning_with_its_own_settings_fits_a_model_of_few_blocks(people, tmp_path):
    model = finetune("tiny", people, people, people.parent, tmp_path, pretrained=False, epochs=1)
    assert model.spec.skeleton.keypoints == LSP.keypoints


def test_fine_tuning_without_shipped_weights_is_refused_at_once(people, tmp_path):
    with pytest.raises(LookupError, match=r"no weights ship for other\.custom; weights ship for: "):
        finetune("other", people, people, people.parent, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_keypoints_that_the_model_does_not_have_are_left_out_of_the_measure(people):
    torch.manual_seed(0)
    result = evaluate(TokenPose(TINY.replace(skeleton=COCO)), people, people.parent)
    measured = result.pck[0.2]
    shared = [name for name in LSP.keypoints if name in COCO.keypoints]
    assert measured.keypoint_count == 8 * len(shared) == 8 * 12
    assert math.isnan(measured.per_keypoint["neck"])
    assert math.isnan(measured.per_keypoint["head_top"])
    assert result.coco is None
    assert result.notes == (
        "left out: COCO's AP needs a model with all the data's keypoints; this one has no neck, head_top",
        "the model has no neck, head_top: left out of the figures",
    )


def test_flip_test_is_measured_too(people):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    flipped = evaluate(model, people, people.parent, flip_test=True)
    assert "decoder dark, flip test" in str(flipped)
    assert flipped.pck[0.2] == measure_pck(model, read_coco(people), ImageSource(people.parent), flip_test=True)
    assert evaluate(model, people, people.parent, thresholds=[1e6]).pck[1e6].mean == 100


def test_real_photographs_train_and_measure(data_folder, tmp_path):
    folder = data_folder / "lspet"
    content = json.loads((folder / "person_keypoints_val.json").read_text())
    for name, rows in (("train", slice(8)), ("val", slice(8, 14))):
        part = {**content, "annotations": content["annotations"][rows]}
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    torch.manual_seed(0)
    path = train_model(
        TokenPose(TINY),
        read_training_data(tmp_path / "train.json", tmp_path / "val.json", str(folder / "val*.tar")),
        tmp_path / "run",
        SETTINGS,
    )
    model = create_model("tiny", weights=path)
    result = evaluate(model, tmp_path / "val.json", folder / "val.tar").pck[0.2]
    assert result.people + result.people_left_out == 6
    assert 0 <= result.mean <= 100
    assert result.mean == pytest.approx(read_weights(path).card["pck"])


def test_measuring_on_coco_photographs(data_folder):
    folder = data_folder / "coco-mini"
    torch.manual_seed(0)
    result = evaluate(TokenPose(TINY.replace(skeleton=COCO)), folder / "person_keypoints.json", folder)
    assert result.people == result.coco.people == 86
    assert 0 <= result.pck[0.2].mean < 60
    assert 0 <= result.coco.figures["AP"] < 0.5
    assert set(result.coco.sigma_origins.values()) == {"skeleton"}


def measured(model: TokenPose, people) -> float:
    return measure_pck(model, read_coco(people), ImageSource(people.parent)).mean


def test_half_precision_file_measures_nearly_the_same(people, tmp_path):
    torch.manual_seed(0)
    model = TokenPose(TINY)
    write_weights(model, tmp_path / "half.safetensors", half=True)
    again = create_model("tiny", weights=tmp_path / "half.safetensors")
    assert abs(measured(again, people) - measured(model, people)) < 5


def test_people_without_a_torso_are_measured_by_their_boxes(people, tmp_path):
    content = json.loads(people.read_text())
    category = content["categories"][0]
    category["keypoints"], category["skeleton"] = category["keypoints"][12:], []  # neck and head_top
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][36:]
    (people.parent / "heads.json").write_text(json.dumps(content))
    settings = {**CHANGES, "epochs": 1, "flip": 0.0}
    heads = people.parent / "heads.json"
    model = finetune("tiny", heads, heads, people.parent, tmp_path / "run", pretrained=False, settings=settings)
    assert model.spec.skeleton.keypoints == ("neck", "head_top")
    assert "\nPCK by box diagonal: 8 people, 16 keypoints\n" in str(evaluate(model, heads, people.parent))


def test_the_card_of_the_weights_that_a_run_started_from_goes_on(people, tmp_path):
    model = TokenPose(TINY)
    model.card = {"terms": "research"}
    path = train_model(model, data_of(people), tmp_path / "run", SETTINGS)
    assert read_weights(path).card["started_from"] == {"terms": "research"}
