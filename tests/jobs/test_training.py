"""Runs from end to end, on drawn people whose truth is known."""

import json
import logging
import math
import os
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from PIL import Image

from tokenpose.data.augment import Augmentation, Batch
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.deploy.optimization import optimize
from tokenpose.jobs.evaluation import evaluate, measure_pck
from tokenpose.jobs.training import finetune, make_batches, train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.jobs.training_model import make_trainee
from tokenpose.models.attention import Attention
from tokenpose.models.create import create_model
from tokenpose.models.recording import record_attention
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import read_weights, write_weights
from tokenpose.skeletons import LSP
from tokenpose.training.accelerator import make_accelerator
from tokenpose.training.recipes import read_recipe
from tokenpose.training.settings import TrainingSettings
from tokenpose.training.step import TrainingStep

from ..drawing import draw_people
from .small import CHANGES, SETTINGS, TINY, data_of, measured


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


def test_narrow_heads_are_padded_on_a_cpu_without_another_result(people, tmp_path, monkeypatch):
    weights = []
    for name in ("padded", "as they are"):
        if name == "as they are":
            monkeypatch.setattr("tokenpose.jobs.training._pad_heads", lambda model: None)
        torch.manual_seed(0)
        model = TokenPose(TINY.replace(width=48, heads=4))  # 12 wide
        weights.append(read_weights(train_model(model, data_of(people), tmp_path / name, SETTINGS)).tensors)
        paths = {module.path for module in model.modules() if isinstance(module, Attention)}
        assert paths == {"padded" if name == "padded" else "fused"}
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_training_learns_where_drawn_keypoints_are(people, tmp_path):
    # every keypoint has a color of its own: a stem sees it, and 60 epochs are enough to know the eight by heart
    settings = TrainingSettings(
        epochs=60, batch_size=8, learning_rate=2e-3, average=0.9,
        validate_every=60, augmentation=Augmentation(scale=0.0, rotation=0.0, flip=0.0),
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
    monkeypatch.setattr("tokenpose.jobs.training.write_weights", interrupted)
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
    message = f"loss '{loss}' does not fit heatmap_activation '{activation}'"
    with pytest.raises(ValueError, match=message):
        train_model(model, data_of(people), tmp_path / "run", settings)
    assert not (tmp_path / "run").exists()


def test_squared_error_trains_without_helpers(people, tmp_path):
    settings = TrainingSettings(**{**vars(SETTINGS), "loss": "squared_error", "guidance": 0.0, "patches": 0.0})
    model = TokenPose(TINY.replace(heatmap_activation="identity"))
    train_model(model, data_of(people), tmp_path, settings)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] == lines[-1]["heatmaps"] < lines[0]["heatmaps"]
    assert not {"patches", "guidance"} & lines[-1].keys()


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
    model = finetune("tiny", people, people, people.parent, tmp_path, pretrained=False, settings=CHANGES, depth=3)
    assert model.spec.depth == 3


def test_fine_tuning_with_its_own_settings_fits_a_model_of_few_blocks(people, tmp_path):
    model = finetune("tiny", people, people, people.parent, tmp_path, pretrained=False, epochs=1)
    assert model.spec.skeleton.keypoints == LSP.keypoints


def test_fine_tuning_without_shipped_weights_is_refused_at_once(people, tmp_path):
    with pytest.raises(LookupError, match=r"no bundled weights for other\.custom; there are for: "):
        finetune("other", people, people, people.parent, tmp_path / "run")
    assert not (tmp_path / "run").exists()


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
    assert "\nPCK by box side: 8 people, 16 keypoints\n" in str(evaluate(model, heads, people.parent))


def test_the_card_of_the_weights_that_a_run_started_from_goes_on(people, tmp_path):
    model = TokenPose(TINY)
    model.card = {"terms": "research"}
    path = train_model(model, data_of(people), tmp_path / "run", SETTINGS)
    assert read_weights(path).card["started_from"] == {"terms": "research"}


# How a run goes


def test_frozen_backbone_stays_as_it_was_statistics_included(people, tmp_path):
    spec = TINY.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3))
    model = TokenPose(spec)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = replace(SETTINGS, freeze_backbone=True)
    after = read_weights(train_model(model, data_of(people), tmp_path, settings)).tensors
    changed = {name for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    assert changed
    assert not any(name.startswith("backbone.") for name in changed)
    whole = read_weights(train_model(TokenPose(spec), data_of(people), tmp_path / "all", SETTINGS)).tensors
    assert not torch.equal(whole["backbone.bn1.running_mean"], before["backbone.bn1.running_mean"])


def test_hard_keypoints_and_published_optimisation_train(people, tmp_path):
    settings = replace(
        SETTINGS, loss="hard_keypoints", hardest=3, optimizer="adam", schedule="multi_step", milestones=(2,),
        weight_decay=1e-4, clip=0.0, average=0.0, guidance=0.0, patches=0.0,
    )  # fmt: skip
    model = TokenPose(TINY.replace(heatmap_activation="identity"))
    train_model(model, data_of(people), tmp_path, settings)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    assert log[-1]["rate"] == pytest.approx(1e-4)


@pytest.mark.slow
def test_compiled_run_has_the_losses_of_one_that_is_not(people, tmp_path, run_python):
    # without the type check, which breaks the graph
    code = f"""
import json, torch
from pathlib import Path
from tokenpose.jobs.training import train_model
from tokenpose.jobs.training_model import make_trainee
from tokenpose.jobs.training_data import read_training_data
from tokenpose.training.recipes import Recipe
people = {str(people)!r}
data = read_training_data(people, people, str(Path(people).parent))
for compiled in (False, True):
    changes = dict(epochs=2, batch_size=4, compile=compiled, predictions=0)
    spec = dict(image_size=(64, 48), depth=3, heads=4, width=48)
    model, settings = make_trainee(Recipe(), changes, data.skeleton, "tokenpose_s_v1.lsp_256x192", **spec)
    train_model(model, data, Path(str(compiled)), settings)
"""
    run_python(code)
    plain, compiled = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("False", "True")
    )
    for line, its in zip(plain, compiled, strict=True):
        assert line["loss"] == pytest.approx(its["loss"], rel=1e-4)


def test_synchronised_batch_norms_are_refused_without_a_gpu(people, tmp_path):
    with pytest.raises(ValueError, match="sync_batch_norm works on GPUs; this run is on cpu: turn it off"):
        train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, sync_batch_norm=True))


def test_tracker_that_is_not_installed_is_refused(people, tmp_path):
    message = r"trackers that aren't installed, or that accelerate doesn't know: tensorbored; available are "
    with pytest.raises(ValueError, match=message):
        train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, trackers=("tensorbored",)))
    assert not (tmp_path / "settings.json").exists()


def test_tensorboard_has_the_curve(people, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, trackers=("tensorboard",)))
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    (folder,) = {path.parent for path in (tmp_path / "trackers").glob("events.*")}
    events = EventAccumulator(str(folder)).Reload()
    losses = events.Scalars("loss")
    assert [event.step for event in losses] == [line["step"] for line in log]
    assert [event.value for event in losses] == pytest.approx([line["loss"] for line in log])


def test_same_people_are_drawn_after_each_epoch_and_the_curve_is_a_picture(people, tmp_path, monkeypatch):
    monkeypatch.setattr("tokenpose.training.progress.PICTURE_SECONDS", 0.0)
    train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, predictions=2))
    names = sorted(path.name for path in (tmp_path / "predictions").iterdir())
    assert names == ["step-000002.jpg", "step-000004.jpg", "step-000006.jpg"]  # epochs of 2 steps
    for path in (*(tmp_path / "predictions").iterdir(), tmp_path / "curve.png"):
        with Image.open(path) as picture:
            picture.load()
            assert picture.width > 200


# Data of several files


def test_several_files_are_trained_together_and_what_one_lacks_has_no_weight(people, two_sets, tmp_path):
    data = read_training_data(two_sets, people, people.parent)
    assert data.skeleton.keypoints == LSP.keypoints
    assert len(data.people) == 16
    settings = replace(SETTINGS, batch_size=16)
    batch = next(make_batches(data, TINY, settings, make_accelerator(settings, tmp_path)).epoch(0))
    labeled = batch.weights.sum(dim=1)
    assert sorted(set(labeled.tolist())) == [2, 12]
    path = train_model(TokenPose(TINY), data, tmp_path / "run", SETTINGS)
    assert read_weights(path).card["train"] == "body.json, head.json"


def test_mirroring_is_refused_with_the_reason_until_pairs_are_given_or_it_is_turned_off(people, tmp_path):
    content = json.loads(people.read_text())
    content["categories"][0]["keypoints"][0] = "right_paw"
    (tmp_path / "paws.json").write_text(json.dumps(content))
    given = (tmp_path / "paws.json", tmp_path / "paws.json", people.parent)
    data = read_training_data(*given)
    model = TokenPose(TINY.replace(skeleton=data.skeleton))
    with pytest.raises(ValueError, match="'right_paw' has no partner 'left_paw'"):
        train_model(model, data, tmp_path / "run", SETTINGS)
    still = replace(SETTINGS, augmentation=Augmentation(flip=0.0), epochs=1)
    train_model(model, data, tmp_path / "still", still)
    data = read_training_data(*given, flip_pairs="none")
    train_model(TokenPose(TINY.replace(skeleton=data.skeleton)), data, tmp_path / "pairs", replace(SETTINGS, epochs=1))


# Regressions


def test_settings_of_a_fine_tuned_run_repeat_its_start(people, tmp_path):
    torch.manual_seed(0)
    write_weights(TokenPose(TINY), tmp_path / "some.safetensors")
    given = {"weights": tmp_path / "some.safetensors", "settings": {**CHANGES, "epochs": 1}}
    finetune("tiny", people, people, people.parent, tmp_path / "run", **given)
    recipe = read_recipe(tmp_path / "run" / "settings.json")
    assert recipe.model == {"name": "tiny", "pretrained": False, "weights": str(tmp_path / "some.safetensors")}
    again, settings = make_trainee(recipe, {}, read_coco(people).skeleton)
    assert settings.epochs == 1
    assert again.newly_initialized == ()
    expected = read_weights(tmp_path / "some.safetensors").tensors
    assert torch.equal(again.state_dict()["tokenizer.keypoint_tokens"], expected["tokenizer.keypoint_tokens"])


def test_large_seeds_work(people, tmp_path):
    train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, epochs=1, seed=20_261_124))
    assert (tmp_path / "model.safetensors").exists()


def test_cache_that_cannot_fit_is_refused_with_the_remedy(people, tmp_path, monkeypatch):
    monkeypatch.setattr("tokenpose.data.windows._memory", lambda: 1e5)
    message = 'the decoded windows of 8 people take 0 GB, and this machine has 0: use cache "none", with workers'
    with pytest.raises(ValueError, match=message):
        train_model(TokenPose(TINY), data_of(people), tmp_path, SETTINGS)


@pytest.mark.slow
def test_image_that_a_worker_cannot_read_is_one_line(tmp_path):
    broken = draw_people(tmp_path / "broken", 8)
    picture = broken.parent / "images" / "003.png"
    picture.write_bytes(picture.read_bytes()[:2000])
    settings = replace(SETTINGS, cache="none", workers=1)
    with pytest.raises(OSError, match=r"^003\.png can't be decoded: .* \(annotation 3 of .*people\.json\)$"):
        train_model(TokenPose(TINY), data_of(broken), tmp_path / "run", settings)


def test_skeleton_of_its_own_is_refused(people, tmp_path):
    with pytest.raises(TypeError, match=r"finetune has no skeleton=\.\.\.: the keypoints are those of the data"):
        finetune("tiny", people, people, people.parent, tmp_path / "run", skeleton=LSP)


def test_flip_pairs_hold_where_new_names_start_from_old_tokens(people, tmp_path):
    content = json.loads(people.read_text())
    names = [f"point_{index}" for index in range(14)]
    content["categories"][0]["keypoints"] = names
    (tmp_path / "points.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    write_weights(TokenPose(TINY), tmp_path / "some.safetensors")
    model = finetune(
        "tiny", tmp_path / "points.json", tmp_path / "points.json", people.parent, tmp_path / "run",
        weights=tmp_path / "some.safetensors", keypoints=dict(zip(names, LSP.keypoints, strict=True)),
        flip_pairs="point_0:point_5,point_1:point_4", settings={**CHANGES, "epochs": 1},
    )  # fmt: skip
    assert model.spec.skeleton.flip_pairs == ((0, 5), (1, 4))
    assert model.newly_initialized == ()


def test_resuming_with_other_people_is_refused(people, tmp_path):
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", SETTINGS)
    others = draw_people(tmp_path / "others", 8, seed=7)
    with pytest.raises(ValueError, match=r"belongs to a run with other settings \(data; validation data\)"):
        train_model(TokenPose(TINY), data_of(others), tmp_path / "run", SETTINGS, resume=True)
    held_out = read_training_data(people, others, [people.parent, others.parent])
    with pytest.raises(ValueError, match=r"belongs to a run with other settings \(validation data\)"):
        train_model(TokenPose(TINY), held_out, tmp_path / "run", SETTINGS, resume=True)


def test_resuming_with_other_weights_to_start_from_is_refused(people, tmp_path):
    write_weights(TokenPose(TINY), tmp_path / "some.safetensors")
    given = {"train": people, "val": people, "images": people.parent, "output": tmp_path / "run"}
    settings = {**CHANGES, "epochs": 1}
    finetune("tiny", **given, pretrained=False, settings=settings)
    before = (tmp_path / "run" / "settings.json").read_text()
    with pytest.raises(ValueError, match=r"other settings \(.*weights None, not '.*test_resuming_with_other_weigh.*\)"):
        finetune("tiny", **given, weights=tmp_path / "some.safetensors", settings=settings, resume=True)
    assert (tmp_path / "run" / "settings.json").read_text() == before


def test_people_without_labeled_torsos_are_validated_by_their_boxes(people, tmp_path):
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        for hip in (2, 3):
            annotation["keypoints"][3 * hip + 2] = 0
    (tmp_path / "upper.json").write_text(json.dumps(content))
    data = read_training_data(people, tmp_path / "upper.json", people.parent)
    card = read_weights(train_model(TokenPose(TINY), data, tmp_path / "run", SETTINGS)).card
    assert card["pck_unit"] == "box side"
    assert 0 <= card["pck"] <= 100


def test_runs_of_one_process_may_differ_in_precision(people, tmp_path):
    for precision in ("fp32", "bf16", "fp32"):
        settings = replace(SETTINGS, epochs=1, precision=precision)
        output = tmp_path / f"{precision}-{len(list(tmp_path.iterdir()))}"
        train_model(TokenPose(TINY), data_of(people), output, settings)


def test_more_parts_than_people_are_refused(people, tmp_path):
    settings = replace(SETTINGS, batch_size=20, accumulate=9)
    with pytest.raises(ValueError, match="accumulate 9 needs at least 9 people in each process; one has 8"):
        train_model(TokenPose(TINY), data_of(people), tmp_path, settings)


def test_batch_larger_than_the_data_is_cut_with_a_warning(people, tmp_path, caplog):
    train_model(TokenPose(TINY), data_of(people), tmp_path, replace(SETTINGS, batch_size=100, epochs=1))
    assert "there are only 8 people for batches of 100" in caplog.text
    (line,) = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["samples"] == 8


def test_logged_rate_is_not_the_backbones(people, tmp_path):
    spec = TINY.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3))
    settings = replace(SETTINGS, epochs=1, backbone_rate=0.1, schedule="multi_step", milestones=(9,))
    train_model(TokenPose(spec), data_of(people), tmp_path, settings)
    (line,) = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert line["rate"] == pytest.approx(1e-3)


# What is checked before anybody is decoded


@pytest.fixture
def undecoded(monkeypatch):
    """Decoding fails."""

    def fail(self):
        raise AssertionError("decoded before all was checked")

    monkeypatch.setattr("tokenpose.data.windows.WindowDataset._decode_all", fail)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("change", [{"sync_batch_norm": True}, {"graph": True}, {"batch_size": 20, "accumulate": 9}])
def test_settings_that_cannot_be_are_refused_before_anybody_is_decoded(people, tmp_path, change):
    if torch.cuda.is_available() and "accumulate" not in change:
        pytest.skip("GPUs can")
    with pytest.raises(ValueError, match=r"on cpu|accumulate 9"):
        train_model(TokenPose(TINY), data_of(people), tmp_path / "run", replace(SETTINGS, **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("undecoded")
def test_run_that_cannot_be_resumed_is_refused_before_anybody_is_decoded_and_makes_no_folder(people, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*none/checkpoint\.pt to resume from"):
        train_model(TokenPose(TINY), data_of(people), tmp_path / "none", SETTINGS, resume=True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file is a file, but a run needs a folder: give another"):
        train_model(TokenPose(TINY), data_of(people), tmp_path / "file", SETTINGS)


@pytest.mark.usefixtures("undecoded")
@pytest.mark.parametrize("whose", ["train", "val"])
def test_missing_image_is_told_before_anybody_is_decoded(people, tmp_path, whose):
    content = json.loads(people.read_text())
    for index in (3, 5):
        content["images"][index]["file_name"] = f"gone-{index}.png"
    (tmp_path / "some.json").write_text(json.dumps(content))
    files = {"train": people, "val": people, whose: tmp_path / "some.json"}
    data = read_training_data(files["train"], files["val"], people.parent)
    message = r"there is no image gone-3\.png in .* \(annotation 3 of .*some\.json\); 1 other image is also missing$"
    with pytest.raises(FileNotFoundError, match=message):
        train_model(TokenPose(TINY), data, tmp_path / "run", SETTINGS)
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match=r"gone-3\.png in .* \(annotation 3 of .*some\.json\)"):
        read_training_data([files["train"], people], [files["val"], people], people.parent).check_images()


@pytest.mark.skipif(os.name != "posix", reason="there are no such locks elsewhere")
def test_second_run_in_a_folder_is_refused_while_the_first_is_at_work(people, tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tokenpose.files import locked\n"
        "with locked(Path(sys.argv[1]), 'held'):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    (tmp_path / "run").mkdir()
    arguments = [sys.executable, "-c", code, str(tmp_path / "run" / ".lock")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(BlockingIOError, match=r"another run uses .*run: wait until it ends, or give"):
            train_model(TokenPose(TINY), data_of(people), tmp_path / "run", SETTINGS)
        other.kill()
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", replace(SETTINGS, epochs=1))


def test_weights_of_a_finished_run_are_written_again_if_they_are_gone(people, tmp_path):
    settings = replace(SETTINGS, epochs=1)
    path = train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings)
    expected = read_weights(path)
    path.unlink()
    assert train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings, resume=True) == path
    found = read_weights(path)
    assert found.card == expected.card
    assert all(torch.equal(found.tensors[name], expected.tensors[name]) for name in expected.tensors)


# As published


def train_plainly(model: TokenPose, batches, learning_rate: float = 1e-3) -> None:
    """The published training without a library: Adam, half the squared error of weighted heatmaps by keypoint."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    model.train()
    for batch in batches:
        heatmaps = model(batch.crops)
        keypoints = heatmaps.shape[1]
        loss = torch.zeros(())
        for keypoint in range(keypoints):
            weight = batch.weights[:, keypoint].view(-1, 1)
            predicted = heatmaps[:, keypoint].flatten(1) * weight
            target = batch.heatmaps[:, keypoint].flatten(1) * weight
            loss = loss + 0.5 * ((predicted - target) ** 2).mean() / keypoints
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.mark.parametrize("changes", [{}, {"backbone": "stem", "backbone_stride": 4, "patch_size": (4, 3)}])
def test_published_recipe_moves_the_weights_as_a_plain_loop_does(people, changes):
    data, recipe = data_of(people), read_recipe("coco")
    # one memory format: others round differently, and with a start of std 0.001 twelve steps magnify that to a tenth
    small = {"batch_size": 4, "half_body": 0.0, "workers": 0, "channels_last": False}
    model, settings = make_trainee(recipe, small, data.skeleton, "tiny", pretrained=False, **changes)
    model.double()  # Adam divides tiny gradients by their size: float32's rounding alone moves a stem's weights by 10 %
    plain, start = deepcopy(model), {name: value.clone() for name, value in model.state_dict().items()}
    accelerator = make_accelerator(settings, people.parent)
    loader = make_batches(data, model.spec, settings, accelerator)
    drawn = [batch for epoch in range(6) for batch in loader.epoch(epoch)][:12]
    batches = [Batch(*(values.double() for values in batch)) for batch in drawn]
    assert len(batches) == 12
    steps = settings.epochs * loader.batch_count
    step = TrainingStep(Supervised(model), settings, accelerator, steps, lambda: "rest")
    for batch in batches:
        step.take(batch)
    train_plainly(plain, batches)
    names = [name for name, _ in plain.named_parameters()]
    ours, theirs = model.state_dict(), plain.state_dict()
    update = torch.cat([(theirs[name] - start[name]).flatten() for name in names])
    difference = torch.cat([(theirs[name] - ours[name]).flatten() for name in names])
    assert update.norm() > 0.1
    assert difference.norm() <= 0.01 * update.norm()


# The best validation, and extensions


def test_best_weights_are_chosen_by_ap_for_keypoints_with_known_sigmas(people, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    pytest.importorskip("pycocotools")
    settings = replace(SETTINGS, epochs=2, validate_every=1, keep="best")
    skeleton = replace(LSP, sigmas=(0.05,) * len(LSP.keypoints))
    data = data_of(people)
    known = replace(data, held_out=replace(data.held_out, skeleton=skeleton))
    path = train_model(TokenPose(TINY), known, tmp_path / "run", settings)
    assert path == tmp_path / "run" / "best.safetensors"
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    best = max(log, key=lambda line: (line["ap"], line["pck"]))
    card = read_weights(path).card
    assert (card["ap"], card["pck"]) == pytest.approx((best["ap"], best["pck"]), abs=1e-4)
    assert (tmp_path / "run" / "model.safetensors").exists()
    assert "AP" not in caplog.text


@pytest.mark.parametrize(
    ("hidden", "reason"),
    [
        ("sigmas", "it needs keypoints with known sigmas, which the validation data don't have"),
        ("pycocotools", "pycocotools is not installed"),
        ("file", "the validation data are not one COCO file"),
    ],
)
def test_best_weights_are_chosen_by_pck_where_ap_does_not_apply(people, tmp_path, caplog, monkeypatch, hidden, reason):
    caplog.set_level(logging.INFO)
    data = data_of(people)
    skeleton = data.skeleton if hidden == "sigmas" else replace(LSP, sigmas=(0.05,) * len(LSP.keypoints))
    origins = ("a.json", "b.json") if hidden == "file" else data.held_out.origins
    data = replace(data, held_out=replace(data.held_out, skeleton=skeleton, origins=origins))
    if hidden == "pycocotools":
        monkeypatch.setattr("tokenpose.jobs.training_data.find_spec", lambda name: None)
    train_model(TokenPose(TINY), data, tmp_path / "run", replace(SETTINGS, epochs=1, keep="best"))
    assert f"the best validation is chosen by PCK, not AP: {reason}" in caplog.text
    assert "ap" not in json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])


def test_finished_run_is_extended(people, tmp_path):
    settings = replace(SETTINGS, epochs=2)
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings)
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings, resume=True, extend=1)
    path = train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings, resume=True)  # it is finished
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2, 3]
    assert read_weights(path).card["steps"] == log[-1]["step"] == 3 * log[0]["step"]


def test_extension_without_resuming_is_refused(people, tmp_path):
    with pytest.raises(ValueError, match="extend continues a finished run: it needs resume"):
        train_model(TokenPose(TINY), data_of(people), tmp_path / "run", SETTINGS, extend=3)


def test_few_people_are_trained_for_at_least_the_recipes_steps(people, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    settings = replace(SETTINGS, epochs=1, min_steps=5, validate_every=1)
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert 5 <= log[-1]["step"] < 5 + log[0]["step"]
    assert len([line for line in log if "pck" in line]) == 1
    assert f"training for {len(log)} epochs, {log[-1]['step']} steps (min_steps 5, at most 100 epochs)" in caplog.text
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["epochs"] == len(log)


# Several sizes


def test_weights_trained_on_several_sizes_serve_each(people, tmp_path):
    sizes = ((32, 24), (64, 48))
    settings = replace(SETTINGS, epochs=2, sizes=sizes)
    torch.manual_seed(0)
    path = train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings)
    model = create_model("tiny", weights=path, image_size=(32, 24), patch_size=(16, 12))
    assert math.isfinite(measured(model, people))
    saved = json.loads((tmp_path / "run" / "settings.json").read_text())["sizes"]
    assert read_recipe(tmp_path / "run" / "settings.json").settings().sizes == tuple(map(tuple, saved)) == sizes


def test_batches_of_several_sizes_are_the_same_when_they_are_made_again(people, tmp_path):
    settings = replace(SETTINGS, sizes=((32, 24), (64, 48)))
    accelerator = make_accelerator(settings, tmp_path)
    batches = make_batches(data_of(people), TINY, settings, accelerator)
    made = [batch for epoch in range(8) for batch in batches.epoch(epoch)]
    again = [batch for epoch in range(8) for batch in batches.epoch(epoch, start=1)]
    found = [tuple(batch.crops.shape[2:]) for batch in made]
    assert set(found) == set(settings.sizes)
    for batch in made:
        assert batch.heatmaps.shape[2:] == (batch.crops.shape[2] // 4, batch.crops.shape[3] // 4)
    per_epoch = batches.batch_count
    kept = [batch for number, batch in enumerate(made) if number % per_epoch]
    assert all(torch.equal(first.crops, second.crops) for first, second in zip(kept, again, strict=True))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (((32, 24),), r"sizes must have the model's image_size \(64, 48\); got \[\(32, 24\)\]"),
        (((64, 48), (64, 64)), r"sizes must have the aspect of the model's image_size"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(people, tmp_path, sizes, message):
    with pytest.raises(ValueError, match=message):
        train_model(TokenPose(TINY), data_of(people), tmp_path / "run", replace(SETTINGS, sizes=sizes))


# What settings.json says of the data


def test_settings_file_says_how_the_data_were_read_and_repeats_it(people, tmp_path):
    content = json.loads(people.read_text())
    content["categories"].append({**content["categories"][0], "id": 2, "name": "statue"})
    (tmp_path / "two.json").write_text(json.dumps(content))
    file, pairs = str(tmp_path / "two.json"), "paw:left_ankle"
    reading = {"rename": {"right_ankle": "paw"}, "flip_pairs": pairs, "category": "person"}
    torch.manual_seed(0)
    write_weights(TokenPose(TINY), tmp_path / "some.safetensors")
    names = {"paw": "right_ankle", **{name: name for name in LSP.keypoints[1:]}}
    given = {"weights": tmp_path / "some.safetensors", "keypoints": names, "settings": {**CHANGES, "epochs": 1}}
    finetune("tiny", file, file, [people.parent], tmp_path / "run", **reading, **given)
    path = tmp_path / "run" / "settings.json"
    assert json.loads(path.read_text())["data"] == {
        "train": [file], "val": [file], "images": [str(people.parent)], **reading, "keypoints": names,
    }  # fmt: skip
    assert read_recipe(path).data["keypoints"] == names
    model = finetune("tiny", file, file, people.parent, tmp_path / "again", pretrained=False, recipe=path)
    assert model.spec.skeleton.keypoints[0] == "paw"
    assert model.spec.skeleton.flip_pairs == ((0, 5),)
    assert json.loads((tmp_path / "again" / "settings.json").read_text())["data"]["keypoints"] == names


def test_models_that_are_optimized_or_being_recorded_are_not_trained(people, tmp_path):
    model = TokenPose(TINY)
    with pytest.raises(ValueError, match="optimized already and can't be trained: train the one that was given to"):
        train_model(optimize(model), data_of(people), tmp_path / "run", SETTINGS)
    with record_attention(model) as recording:
        with pytest.raises(ValueError, match="is being recorded: train it before or afterwards"):
            train_model(model, data_of(people), tmp_path / "run", SETTINGS)
        model(torch.zeros(1, 3, *model.spec.image_size))
        assert recording.rows  # which training's own look at attention would have ended
    assert not (tmp_path / "run").exists()
