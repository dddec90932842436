"""A recorded step does what the step does; on a GPU only, where there is one."""

import json
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator

from tokenpose.data.augment import Augmentation
from tokenpose.data.batches import TrainingBatches
from tokenpose.data.windows import WindowDataset
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP
from tokenpose.training.folder import RunFolder
from tokenpose.training.loop import Trainer
from tokenpose.training.settings import TrainingSettings
from tokenpose.training.step import TrainingStep

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")

SPEC = ModelSpec(
    backbone="stem", image_size=(64, 48), patch_size=(4, 3), skeleton=LSP, width=48, heads=4, depth=2,
    heatmap_activation="softmax", sigma=1.0,
)  # fmt: skip
SETTINGS = TrainingSettings(
    epochs=4, batch_size=4, learning_rate=1e-3, average=0.5, validate_every=2, cache="device",
    checkpoint_seconds=1000.0, graph=True,
    augmentation=Augmentation(scale=0.1, rotation=10.0, color=0.1, blur=0.3),
)  # fmt: skip


def make_trainer(people, output, settings=SETTINGS, cpu=False) -> Trainer:
    samples, source = people
    accelerator = Accelerator(cpu=cpu)
    device = accelerator.device
    dataset = WindowDataset(samples, source, SPEC, settings.augmentation, settings.cache, device)
    batches = TrainingBatches(dataset, settings.augmentation, batch_size=4, seed=0, device=device)
    torch.manual_seed(0)
    network = Supervised(TokenPose(SPEC), patch_blocks=(0,), guided_blocks=(0, 1))
    folder = RunFolder(output, settings)
    total = settings.epochs * batches.batch_count
    step = TrainingStep(network, settings, accelerator, total, folder.advise)
    return Trainer(step, folder, batches, lambda _: {"size": 0.0})


def losses_of(trainer: Trainer) -> list[float]:
    trainer.train()
    return [json.loads(line)["loss"] for line in (trainer.folder.path / "log.jsonl").read_text().splitlines()]


@on_gpu
def test_recorded_steps_give_the_losses_and_weights_of_plain_ones(people, tmp_path):
    plain = make_trainer(people, tmp_path / "plain", replace(SETTINGS, graph=False))
    expected = losses_of(plain)
    recorded = make_trainer(people, tmp_path / "recorded")
    assert losses_of(recorded) == pytest.approx(expected, rel=1e-4)  # 12 steps, of which 9 are replays
    assert recorded.step.recorded.graph is not None
    for name, weights in plain.step.average.module.named_parameters():
        torch.testing.assert_close(recorded.step.average.module.get_parameter(name), weights, rtol=1e-2, atol=1e-3)
    assert recorded.step.schedule.get_last_lr() == plain.step.schedule.get_last_lr()


@on_gpu
def test_a_recorded_run_that_was_stopped_goes_on(people, tmp_path):
    expected = losses_of(make_trainer(people, tmp_path / "whole"))
    first = make_trainer(people, tmp_path / "parts")
    taken, step = [], first.step.take

    def stop_after_seven(batch):
        if len(taken) == 7:
            raise KeyboardInterrupt
        taken.append(batch)
        return step(batch)

    first.step.take = stop_after_seven
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = make_trainer(people, tmp_path / "parts")
    second.resume()
    assert second.step.number == 7
    assert losses_of(second)[-1] == pytest.approx(expected[-1], rel=1e-4)


@on_gpu
def test_a_loss_that_is_not_finite_stops_a_recorded_run_and_leaves_the_weights(people, tmp_path):
    trainer = make_trainer(people, tmp_path / "run")
    step = trainer.step.take
    kept = {}

    def spoil(batch):
        if trainer.step.number == 6:
            kept.update({name: values.clone() for name, values in trainer.step.network.named_parameters()})
            batch = batch._replace(crops=batch.crops * float("nan"))
        return step(batch)

    trainer.step.take = spoil
    with pytest.raises(FloatingPointError, match="at step 6"):
        trainer.train()
    for name, values in trainer.step.network.named_parameters():
        assert torch.equal(values, kept[name]), name


def test_a_graph_without_a_gpu_is_refused(people, tmp_path):
    with pytest.raises(ValueError, match="a step can't be recorded as a graph: this run is on cpu"):
        make_trainer(people, tmp_path / "run", replace(SETTINGS, cache="ram"), cpu=True)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_graph_in_half_precision_needs_bf16(precision):
    assert TrainingSettings(graph=True, precision=precision).graph
    with pytest.raises(ValueError, match="graph"):
        TrainingSettings(graph=True, precision="fp16")
