from itertools import pairwise

import pytest
import torch
from torch import nn

from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton
from tokenpose.training.optim import MovingAverage, make_optimizer, make_schedule
from tokenpose.training.settings import TrainingSettings


def rates(steps: int, learning_rate: float = 1.0, extensions: tuple[int, ...] = (), **changes) -> list[float]:
    """The rate of every step, and of the one after the last."""
    settings = TrainingSettings(learning_rate=learning_rate, **changes)
    optimizer = make_optimizer(nn.Linear(2, 2), nn.Identity(), settings)
    schedule = make_schedule(optimizer, settings, [steps, *extensions])
    found = [schedule.get_last_lr()[0]]
    for _ in range(steps + sum(extensions)):
        optimizer.step()
        schedule.step()
        found.append(schedule.get_last_lr()[0])
    return found


def test_rate_falls_as_a_cosine_to_zero():
    found = rates(steps=90, learning_rate=3e-4)
    assert found[0] == 3e-4
    assert found[30] == pytest.approx(0.75 * 3e-4)  # a third of the way: cos 60 degrees
    assert found[45] == pytest.approx(0.5 * 3e-4)
    assert all(later < earlier for earlier, later in pairwise(found))
    assert found[89] > 0
    assert found[90] == pytest.approx(0, abs=1e-12)


def test_published_schedule_is_a_tenth_from_each_milestone_on():
    # 300 epochs of 2 steps, milestones after 200 and 260 of them
    found = rates(steps=600, epochs=300, schedule="multi_step", milestones=(200, 260))
    assert found[0] == found[399] == 1
    assert found[400] == found[519] == pytest.approx(0.1)
    assert found[520] == found[600] == pytest.approx(0.01)


def test_each_extension_starts_again_from_the_full_rate():
    found = rates(steps=10, extensions=(20, 4))
    assert found[:10] == rates(steps=10)[:10]
    assert found[10:30] == rates(steps=20)[:20]
    assert found[30:] == rates(steps=4)


def test_extension_has_the_milestones_at_the_same_shares():
    found = rates(steps=300, extensions=(30,), epochs=300, schedule="multi_step", milestones=(200, 260))
    assert found[300:] == pytest.approx([1.0] * 20 + [0.1] * 6 + [0.01] * 5)


@pytest.mark.parametrize("done", [0, 3, 10, 12])
def test_schedule_that_starts_after_some_steps_has_the_rates_from_there_on(done):
    settings = TrainingSettings(learning_rate=0.3)
    optimizer = make_optimizer(nn.Linear(2, 2), nn.Identity(), settings)
    make_schedule(optimizer, settings, [10, 20])
    optimizer.param_groups[0]["lr"] = 123.0
    schedule = make_schedule(optimizer, settings, [10, 20], done=done)
    found = []
    for _ in range(done, 30):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == rates(steps=10, extensions=(20,), learning_rate=0.3)[done:30]


def make_network() -> Supervised:
    spec = ModelSpec(
        backbone="stem",
        image_size=(64, 48),
        skeleton=Skeleton.from_count(5),
        width=48,
        heads=4,
        depth=2,
        positions="learnable",
    )
    return Supervised(TokenPose(spec), patch_blocks=(0,))


def test_published_adam_decays_everything():
    network = make_network()
    settings = TrainingSettings(optimizer="adam", weight_decay=1e-4, learning_rate=2e-3)
    optimizer = make_optimizer(network, network.backbone, settings)
    assert type(optimizer) is torch.optim.Adam
    assert {group["weight_decay"] for group in optimizer.param_groups} == {1e-4}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(network.parameters()))


def test_backbone_learns_at_its_own_rate():
    network = make_network()
    settings = TrainingSettings(learning_rate=1e-3, backbone_rate=0.1)
    optimizer = make_optimizer(network, network.backbone, settings)
    of_backbone = {id(parameter) for parameter in network.backbone.parameters()}
    for group in optimizer.param_groups:
        expected = 1e-4 if id(group["params"][0]) in of_backbone else 1e-3
        assert group["lr"] == pytest.approx(expected)
        assert len({id(parameter) in of_backbone for parameter in group["params"]}) == 1


def test_keypoint_tokens_learn_at_their_own_rate_and_the_first_group_at_the_whole():
    network = make_network()
    settings = TrainingSettings(learning_rate=1e-5, token_rate=2000.0, backbone_rate=0.5)
    groups = make_optimizer(network, network.backbone, settings).param_groups
    (tokens,) = [group for group in groups if group["lr"] == pytest.approx(2e-2)]
    assert [id(parameter) for parameter in tokens["params"]] == [id(network.model.tokenizer.keypoint_tokens)]
    assert groups[0]["lr"] == 1e-5


def test_frozen_parameters_are_left_out():
    network = make_network()
    network.backbone.requires_grad_(False)
    optimizer = make_optimizer(network, network.backbone, TrainingSettings())
    given = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert given.isdisjoint(id(parameter) for parameter in network.backbone.parameters())
    assert len(given) == len([parameter for parameter in network.parameters() if parameter.requires_grad])


def test_only_matrices_and_kernels_decay():
    network = make_network()
    settings = TrainingSettings(weight_decay=0.07, learning_rate=2e-3)
    optimizer = make_optimizer(network, network.backbone, settings)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.07, 0.0}
    assert all(group["lr"] == 2e-3 for group in optimizer.param_groups)
    decayed = [names[id(p)] for group in optimizer.param_groups for p in group["params"] if group["weight_decay"]]
    free = [names[id(p)] for group in optimizer.param_groups for p in group["params"] if not group["weight_decay"]]
    assert sorted(decayed + free) == sorted(names.values())
    for name in (
        "model.tokenizer.keypoint_tokens",
        "model.tokenizer.positions",
        "model.tokenizer.patch_embedding.bias",
        "model.encoder.groups.0.1.attention_norm.weight",
        "model.head.0.weight",
        "model.head.3.bias",
        "model.backbone.bn1.weight",
        "model.backbone.layer1.0.downsample.1.weight",
    ):
        assert name in free
    for name in (
        "model.tokenizer.patch_embedding.weight",
        "model.encoder.groups.0.1.attention.qkv.weight",
        "model.head.3.weight",
        "model.backbone.conv1.weight",
        "model.backbone.layer1.0.downsample.0.weight",
        "patch_heads.0.linear.weight",
    ):
        assert name in decayed
    assert all(network.get_parameter(name).ndim >= 2 for name in decayed)


@torch.no_grad()
def test_first_update_of_the_average_copies_the_weights():
    network = nn.Linear(1, 1)
    average = MovingAverage(network, decay=0.999)
    network.weight.fill_(5.0)
    average.update(0)
    assert average.module.weight.item() == 5


@torch.no_grad()
def test_average_forgets_fast_at_first_and_by_its_decay_later():
    network = nn.Linear(1, 1)
    average = MovingAverage(network, decay=0.9)
    network.weight.fill_(1.0)
    average.update(0)
    network.weight.fill_(0.0)
    kept = []
    for step in range(1, 201):
        before = average.module.weight.item()
        average.update(step)
        kept.append(average.module.weight.item() / before)
    assert kept[:3] == pytest.approx([2 / 11, 3 / 12, 4 / 13])  # (1 + n) / (10 + n)
    assert kept[79] == pytest.approx(81 / 90)
    assert kept[100:] == pytest.approx([0.9] * 100)


@torch.no_grad()
def test_average_takes_batch_norm_statistics_from_the_network():
    network = nn.BatchNorm2d(2)
    average = MovingAverage(network, decay=0.9)
    for step, mean in enumerate((1.0, 2.0)):
        network.running_mean.fill_(mean)
        average.update(step)
    assert average.module.running_mean.tolist() == [2, 2]
