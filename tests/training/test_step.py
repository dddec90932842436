from copy import deepcopy
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from tokenpose.data.augment import Batch
from tokenpose.training.graphs import RecordedStep
from tokenpose.training.step import TrainingStep, synchronize_batch_norms

from .small import SETTINGS, SPEC, assert_same, first_batch, make_step

pytestmark = pytest.mark.usefixtures("fresh_accelerator")

WITH_BATCH_NORM = SPEC.replace(backbone="stem", backbone_stride=4, patch_size=(4, 3))


def weights_of(step: TrainingStep) -> dict[str, torch.Tensor]:
    return {name: values.clone() for name, values in step.network.state_dict().items()}


def gradient_norms(step: TrainingStep) -> list[float]:
    """The norm of the whole gradient at each update from now on."""
    norms: list[float] = []

    def look(optimizer, _arguments, _options) -> None:
        gradients = [entry.grad for group in optimizer.param_groups for entry in group["params"]]
        norms.append(nn.utils.get_total_norm([entry for entry in gradients if entry is not None]).item())

    step.optimizer.optimizer.register_step_pre_hook(look)
    return norms


def test_a_step_gives_its_losses_and_moves_weights_average_and_rate(people):
    step, batch = make_step(), first_batch(people)
    before, rate = weights_of(step), step.rate
    losses = step.take(batch)
    assert losses["loss"].item() == pytest.approx(sum(losses[n].item() for n in ("heatmaps", "patches", "guidance")))
    assert not losses["loss"].requires_grad
    assert step.number == 1
    assert step.rate < rate == SETTINGS.learning_rate
    assert any(not torch.equal(values, before[name]) for name, values in weights_of(step).items())
    assert_same(dict(step.average.module.state_dict()), weights_of(step))  # the first average is the weights themselves


def test_steps_on_one_batch_lower_its_loss(people):
    step, batch = make_step(), first_batch(people)
    losses = [step.take(batch)["loss"].item() for _ in range(8)]
    assert losses[-1] < 0.95 * losses[0]


def test_a_step_of_the_same_state_goes_on_alike_to_the_bit(people):
    first, second, batch = make_step(), make_step(seed=1), first_batch(people)
    for _ in range(3):
        first.take(batch)
    second.load_state_dict(deepcopy(first.state_dict()))  # a checkpoint's copy: the state itself is shared memory
    assert second.number == 3
    assert_same(first.take(batch), second.take(batch))
    assert_same(weights_of(first), weights_of(second))
    assert_same(dict(first.average.state_dict()), dict(second.average.state_dict()))
    assert first.rate == second.rate


def test_parts_of_a_step_have_the_losses_and_the_gradient_of_the_whole(people):
    batch = first_batch(people)
    whole, parts = make_step(replace(SETTINGS, clip=0.0)), make_step(replace(SETTINGS, clip=0.0, accumulate=3))
    norms = gradient_norms(whole), gradient_norms(parts)
    expected, found = whole.take(batch), parts.take(batch)
    for name, value in expected.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_gradients_are_clipped_to_their_largest_norm(people):
    batch = first_batch(people)
    free, clipped = make_step(replace(SETTINGS, clip=0.0)), make_step(replace(SETTINGS, clip=0.125))
    norms, clipped_norms = gradient_norms(free), gradient_norms(clipped)
    free.take(batch)
    clipped.take(batch)
    assert norms[0] > 0.5
    assert clipped_norms[0] == pytest.approx(0.125, rel=1e-4)


def test_gradients_of_a_step_do_not_reach_the_next(people):
    step, batch = make_step(replace(SETTINGS, learning_rate=1e-12, weight_decay=0.0, clip=0.0)), first_batch(people)
    norms = gradient_norms(step)
    for _ in range(2):
        step.take(batch)
    assert norms[1] == pytest.approx(norms[0], rel=1e-4)


def test_frozen_backbone_keeps_weights_and_statistics(people):
    step, batch = make_step(replace(SETTINGS, freeze_backbone=True), spec=WITH_BATCH_NORM), first_batch(people)
    before = {name: values.clone() for name, values in step.backbone.state_dict().items()}
    step.take(batch)
    assert_same(dict(step.backbone.state_dict()), before)
    assert step.network.training
    learning = make_step(spec=WITH_BATCH_NORM)
    learning.take(batch)
    assert not torch.equal(learning.backbone.bn1.running_mean, before["bn1.running_mean"])


@pytest.mark.parametrize("channels_last", [True, False])
def test_crops_have_the_memory_format_that_was_chosen(people, channels_last):
    step, seen = make_step(replace(SETTINGS, channels_last=channels_last)), []
    step.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].stride()))
    step.take(first_batch(people))
    assert (seen[0][1] == 1) is channels_last  # the stride of channels


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precision_is_used_and_weights_stay_float32(people, precision):
    step, kinds = make_step(replace(SETTINGS, precision=precision)), []
    linear = next(module for module in step.network.modules() if isinstance(module, nn.Linear))
    linear.register_forward_hook(lambda module, inputs, outputs: kinds.append(outputs.dtype))
    step.take(first_batch(people))
    assert set(kinds) == {{"fp32": torch.float32, "bf16": torch.bfloat16}[precision]}
    assert {parameter.dtype for parameter in step.network.parameters()} == {torch.float32}


# What is not finite


def test_loss_that_is_not_finite_is_refused_before_the_weights_change(people):
    step, batch = make_step(), first_batch(people)
    step.take(batch)
    before = weights_of(step)
    with pytest.raises(
        FloatingPointError,
        match=r"^the loss is not finite at step 1 \(loss nan, heatmaps nan, .*\); the crops are not finite; learning "
        r"rate 0\.00\d+: rest$",
    ):
        step.take(batch._replace(crops=batch.crops * float("nan")))
    assert_same(weights_of(step), before)
    assert step.number == 1


def test_loss_of_one_part_that_is_not_finite_is_enough(people):
    step, batch = make_step(replace(SETTINGS, accumulate=2)), first_batch(people)
    crops = batch.crops.clone()
    crops[0] = float("nan")  # in the first of the two parts
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 0"):
        step.take(batch._replace(crops=crops))


class Broken(RecordedStep):
    """In place of a CUDA graph: replays that give a loss which isn't finite."""

    is_cold = False

    def __init__(self, batch: Batch) -> None:
        self.batch, self.people = batch, len(batch.crops)

    def step(self, batch: Batch) -> dict[str, torch.Tensor]:
        return {"loss": torch.tensor(float("nan"))}


def test_replayed_loss_is_asked_for_once_and_at_the_next_step(people):
    step, batch = make_step(), first_batch(people)
    step.take(batch)
    step.recorded = Broken(batch)
    assert step.take(batch).keys() == {"loss"}
    with pytest.raises(FloatingPointError, match=r"the loss is not finite at step 1 \(loss nan\)"):
        step.take(batch)
    assert step.number == 2
    step.settle()  # which was asked already
    step.take(batch)
    with pytest.raises(FloatingPointError, match="at step 2"):
        step.settle()


def take_rows(batch: Batch, count: int) -> Batch:
    return Batch(*(values[:count] for values in batch))


def test_smaller_batch_than_the_recorded_one_is_learned_without_a_replay(people):
    step, batch = make_step(), first_batch(people)
    step.recorded = Broken(batch)
    losses = step.take(take_rows(batch, 3))
    assert losses["loss"].item() > 0
    step.take(batch)  # a replay, which gives a loss that isn't finite
    with pytest.raises(FloatingPointError, match="at step 1"):
        step.settle()


def test_batch_with_fewer_people_than_parts_is_split_into_single_people(people):
    batch = take_rows(first_batch(people), 2)
    whole, parts = make_step(), make_step(replace(SETTINGS, accumulate=4))
    expected, found = whole.take(batch), parts.take(batch)
    assert found["loss"].item() == pytest.approx(expected["loss"].item(), rel=1e-5)
    weights = parts.network.model.head[3].weight
    torch.testing.assert_close(weights, whole.network.model.head[3].weight, rtol=0, atol=1e-5)


def test_weights_that_are_not_finite_are_named(people):
    step = make_step()
    step.check_weights()
    with torch.no_grad():
        step.network.model.head[3].bias[0] = float("inf")
    message = r"^weights are not finite after step 0: model\.head\.3\.bias; learning rate 0\.002: rest$"
    with pytest.raises(FloatingPointError, match=message):
        step.check_weights()


def test_synchronized_batch_norms_keep_their_activations(generator):
    backbone = timm.create_model("mobilenetv3_small_050", features_only=True, out_indices=(1,)).eval()
    images = torch.randn(2, 3, 64, 48, generator=generator)
    expected = backbone(images)[0]
    converted = synchronize_batch_norms(backbone, torch.device("cuda")).eval()
    assert any(isinstance(module, nn.SyncBatchNorm) for module in converted.modules())
    assert torch.equal(converted(images)[0], expected)
