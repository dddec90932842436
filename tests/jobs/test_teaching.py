"""Teachers: targets in the student's keypoints and sizes, and runs that learn from them."""

import json
import re
from dataclasses import replace

import pytest
import torch

from tokenpose.jobs.teaching import Teacher, digest_model, read_teacher
from tokenpose.jobs.training import finetune, train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import write_weights
from tokenpose.skeletons import LSP, Skeleton
from tokenpose.training.settings import TrainingSettings

from .small import CHANGES, SETTINGS, TINY, data_of

ENTROPY, SQUARES = TrainingSettings(loss="cross_entropy"), TrainingSettings(loss="squared_error")


@pytest.fixture
def model() -> TokenPose:
    torch.manual_seed(0)
    return TokenPose(TINY).eval()


@pytest.fixture
def crops() -> torch.Tensor:
    return torch.randn(3, 3, 64, 48, generator=torch.Generator().manual_seed(0))


def test_teacher_of_the_same_size_teaches_its_own_heatmaps(model, crops):
    taught = Teacher(model, TINY, ENTROPY)(crops, (16, 12))
    with torch.no_grad():
        torch.testing.assert_close(taught.heatmaps, model(crops), rtol=0, atol=1e-5)
    torch.testing.assert_close(taught.mass, torch.ones(3, 14))
    assert taught.tokens is None
    assert not taught.heatmaps.requires_grad


def test_keypoints_are_matched_by_name(model, crops):
    names = ("tail", "left_knee", "right_ankle")
    student = TINY.replace(skeleton=Skeleton(name="fox", keypoints=names))
    taught = Teacher(model, student, ENTROPY)(crops, (16, 12))
    assert taught.known.tolist() == [False, True, True]
    assert taught.mass[:, 0].tolist() == [0, 0, 0]
    with torch.no_grad():
        own = model(crops)
    torch.testing.assert_close(taught.heatmaps[:, 1:], own[:, [LSP.index("left_knee"), LSP.index("right_ankle")]])
    strangers = TINY.replace(skeleton=Skeleton(name="fox", keypoints=("tail",)))
    with pytest.raises(
        ValueError, match="the teacher and the model share no keypoint name: the teacher has right_ankle"
    ):
        Teacher(model, strangers, ENTROPY)


def test_student_of_another_size_normalization_and_heatmap_is_taught_the_same(model, crops):
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (TINY.std, TINY.mean))
    student = TINY.replace(mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    expected = Teacher(model, TINY, ENTROPY)(crops, (16, 12)).heatmaps
    found = Teacher(model, student, ENTROPY)(crops * std + mean - 0.5, (16, 12)).heatmaps
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    larger = Teacher(model, TINY.replace(image_size=(128, 96)), ENTROPY)
    even = torch.ones(1, 3, 1, 1)
    taught = larger(even.expand(1, 3, 128, 96), (32, 24))
    assert taught.heatmaps.shape == (1, 14, 32, 24)
    small = Teacher(model, TINY, ENTROPY)(even.expand(1, 3, 64, 48), (16, 12))
    torch.testing.assert_close(taught.heatmaps.amax(dim=(2, 3)), small.heatmaps.amax(dim=(2, 3)), rtol=0.3, atol=0)
    with pytest.raises(ValueError, match="the teacher's crops are 64x48 and the model's 64x72: teacher and model see"):
        Teacher(model, TINY.replace(image_size=(64, 72)), ENTROPY)


def test_noise_of_a_teacher_of_squared_errors_is_cut_from_distributions_alone(crops):
    torch.manual_seed(0)
    model = TokenPose(TINY.replace(heatmap_activation="identity")).eval()
    with torch.no_grad():
        own = model(crops)
    assert (own < 0).any()
    taught = Teacher(model, TINY, ENTROPY)(crops, (16, 12))
    assert (taught.heatmaps >= 0).all()
    assert (taught.heatmaps > 0).float().mean() < (own > 0).float().mean()
    assert (taught.mass <= 1).all()
    torch.testing.assert_close(Teacher(model, TINY, SQUARES)(crops, (16, 12)).heatmaps, own, rtol=0, atol=1e-5)


def test_tokens_are_those_that_enter_the_head_and_must_be_as_wide(model, crops):
    settings = replace(ENTROPY, token_distillation=1.0)
    taught = Teacher(model, TINY, settings)(crops, (16, 12))
    with torch.no_grad():
        heatmaps = model.head(taught.tokens)
        torch.testing.assert_close(heatmaps, model.logits(crops), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"have 48 channels and the model's 96: set token_distillation to 0"):
        Teacher(model, TINY.replace(groups=2), settings)


def test_teacher_is_read_from_a_file_a_folder_or_a_name(model, tmp_path):
    write_weights(model, tmp_path / "model.safetensors", {})
    for source in (tmp_path / "model.safetensors", str(tmp_path / "model.safetensors"), f"local-dir:{tmp_path}", model):
        assert digest_model(read_teacher(source)) == digest_model(model)
    with pytest.raises(FileNotFoundError, match="there is no weights file nowhere"):
        read_teacher("nowhere.safetensors")
    with pytest.raises(LookupError, match="nobody"):
        read_teacher("nobody")
    other = TokenPose(TINY.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3)))  # with counts of batches
    assert digest_model(other) == digest_model(other) != digest_model(model)


def unlabeled(people, tmp_path):
    """The file of the people, the last six without labels, and one of these without a box."""
    content = json.loads(people.read_text())
    for annotation in content["annotations"][2:]:
        annotation["keypoints"] = [0] * 42
    del content["annotations"][-1]["bbox"]
    (tmp_path / "unlabeled.json").write_text(json.dumps(content))
    return tmp_path / "unlabeled.json"


def test_people_without_labels_are_kept_for_a_teacher(people, tmp_path):
    path = unlabeled(people, tmp_path)
    assert len(read_training_data(path, people, people.parent).people) == 2
    data = read_training_data(path, people, people.parent, teacher="some.safetensors")
    assert len(data.people) == 7
    assert data.people.skipped == {"no labeled keypoint": 1}
    assert data.people.visible.any(axis=1).tolist() == [True, True] + [False] * 5
    content = json.loads(path.read_text())
    content["annotations"][4]["bbox"] = [1, 2, 3]
    path.write_text(json.dumps(content))
    read_training_data(path, people, people.parent)
    with pytest.raises(ValueError, match="bbox must be 4 finite numbers"):
        read_training_data(path, people, people.parent, teacher="some.safetensors")


def test_student_of_another_architecture_learns_from_a_teacher_and_resumes_only_with_it(people, tmp_path, model):
    write_weights(model, tmp_path / "teacher.safetensors", {})
    given = dict(
        train=unlabeled(people, tmp_path), val=people, images=people.parent, output=tmp_path / "run", recipe="lsp",
        pretrained=False, settings=CHANGES | {"predictions": 0}, batch_size=4, depth=1, width=24,
    )  # fmt: skip
    finetune("tiny", **given, teacher=tmp_path / "teacher.safetensors")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["samples"] == 3 * 7
    assert log[-1]["distillation"] < log[0]["distillation"]
    finetune("tiny", **given, teacher=model, resume=True)
    with pytest.raises(ValueError, match=re.escape("a run with other settings (teacher)")):
        finetune("tiny", **given, teacher=TokenPose(TINY), resume=True)


def test_accumulated_parts_learn_the_same_from_a_teacher(people, tmp_path, model):
    lines = []
    for parts in (1, 3):
        torch.manual_seed(1)
        settings = replace(SETTINGS, epochs=1, accumulate=parts, predictions=0, token_distillation=0.0)
        train_model(TokenPose(TINY), data_of(people), tmp_path / str(parts), settings, teacher=model)
        lines.append(json.loads((tmp_path / str(parts) / "log.jsonl").read_text()))
    assert lines[1]["distillation"] == pytest.approx(lines[0]["distillation"], abs=1e-5)


def test_tokens_are_taught_where_that_is_asked_for(people, tmp_path, model):
    settings = replace(SETTINGS, epochs=1, predictions=0, token_distillation=0.1)
    torch.manual_seed(1)
    train_model(TokenPose(TINY), data_of(people), tmp_path / "run", settings, teacher=model)
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text())["tokens"] > 0
