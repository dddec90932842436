from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from tokenpose.data.augment import Batch
from tokenpose.training.distillation import Taught
from tokenpose.training.losses import attention_guidance, cross_entropy, hard_keypoint_error, squared_error
from tokenpose.training.objective import Predictions, Totals, total_loss
from tokenpose.training.settings import TrainingSettings

GRID = (4, 4)


@dataclass
class Outputs:
    logits: Tensor
    patches: Tensor | None = None
    attention: Tensor | None = None
    grid: tuple[int, int] = GRID
    tokens: Tensor | None = None

    def take(self, rows: slice) -> "Outputs":
        return Outputs(self.logits[rows], self.patches[:, rows], self.attention[:, rows])


@pytest.fixture
def batch(generator) -> Batch:
    """Five people with three keypoints each, of which some don't count."""
    weights = torch.tensor([[1.0, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1]])
    heatmaps = torch.rand(5, 3, 8, 8, generator=generator)
    return Batch(torch.zeros(5, 3, 32, 32), heatmaps, weights, torch.zeros(5, 3, 2))


@pytest.fixture
def outputs(generator) -> Outputs:
    attention = torch.rand(2, 5, 3, 16, generator=generator)
    return Outputs(
        torch.randn(5, 3, 8, 8, generator=generator),
        torch.randn(2, 5, 3, 8, 8, generator=generator),
        attention / attention.sum(dim=-1, keepdim=True),
    )


def test_outputs_of_the_tests_are_predictions(outputs):
    assert isinstance(outputs, Predictions)


@pytest.mark.parametrize(
    ("loss", "measure"),
    [
        (None, cross_entropy), ("cross_entropy", cross_entropy), ("squared_error", squared_error),
        ("hard_keypoints", lambda *maps: hard_keypoint_error(*maps, hardest=2)),
    ],
)  # fmt: skip
def test_each_loss_is_measured_on_the_heatmaps_and_on_each_block(batch, outputs, loss, measure):
    settings = TrainingSettings(loss=loss, hardest=2, patches=0.5, guidance=0.25)
    found = total_loss(outputs, batch, settings)
    heatmaps = measure(outputs.logits, batch.heatmaps, batch.weights)
    blocks = [measure(maps, batch.heatmaps, batch.weights) for maps in outputs.patches]
    guidance = attention_guidance(outputs.attention, batch.heatmaps, batch.weights, GRID)
    assert found["heatmaps"].item() == pytest.approx(heatmaps.item())
    assert found["patches"].item() == pytest.approx(0.5 * (blocks[0] + blocks[1]).item() / 2)
    assert found["guidance"].item() == pytest.approx(0.25 * guidance.item())
    parts = sum(found[name].item() for name in ("heatmaps", "patches", "guidance"))
    assert found["loss"].item() == pytest.approx(parts)
    assert list(found) == ["loss", "heatmaps", "patches", "guidance"]


def test_outputs_that_are_not_there_have_no_loss(batch, outputs):
    found = total_loss(Outputs(outputs.logits), batch, TrainingSettings())
    assert list(found) == ["loss", "heatmaps"]
    assert found["loss"].item() == found["heatmaps"].item()


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "hard_keypoints"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_losses_of_parts_add_up_to_those_of_the_whole(batch, outputs, loss, cut):
    settings = TrainingSettings(loss=loss, hardest=2)
    totals = Totals(people=torch.tensor(5.0), weights=batch.weights.sum())
    whole = total_loss(outputs, batch, settings)
    parts = [
        total_loss(outputs.take(rows), Batch(*(values[rows] for values in batch)), settings, totals)
        for rows in (slice(cut), slice(cut, None))
    ]
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5), name


def test_part_in_which_nothing_counts_adds_nothing_to_the_cross_entropy(batch, outputs):
    batch = batch._replace(weights=torch.zeros(5, 3))
    totals = Totals(people=torch.tensor(9.0), weights=torch.tensor(7.0))
    found = total_loss(outputs, batch, TrainingSettings(loss="cross_entropy"), totals)
    assert found["loss"].item() == 0


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_keypoint_of_half_the_weight_counts_half(outputs, loss):
    heatmaps = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = outputs.logits[:2, :1]

    def loss_of(first: float, second: float) -> float:
        weights = torch.tensor([[first], [second]])
        batch = Batch(torch.zeros(2, 3, 32, 32), heatmaps, weights, torch.zeros(2, 1, 2))
        totals = Totals(people=torch.tensor(2.0), weights=torch.tensor(1.5))
        return total_loss(Outputs(logits), batch, TrainingSettings(loss=loss), totals)["heatmaps"].item()

    assert loss_of(0.5, 1.0) == pytest.approx(0.5 * loss_of(1.0, 0.0) + loss_of(0.0, 1.0))


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
def test_parts_with_small_weights_add_up_to_the_whole(batch, outputs, loss):
    batch = batch._replace(weights=0.05 * batch.weights)
    totals = Totals(people=torch.tensor(5.0), weights=batch.weights.sum())
    settings = TrainingSettings(loss=loss)
    whole = total_loss(outputs, batch, settings)
    parts = [
        total_loss(outputs.take(rows), Batch(*(values[rows] for values in batch)), settings, totals)
        for rows in (slice(3), slice(3, None))
    ]
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5), name


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error", "hard_keypoints"])
def test_distillation_of_parts_adds_up_to_that_of_the_whole(batch, outputs, loss, generator):
    settings = TrainingSettings(loss=loss, hardest=2, distillation=0.5)
    known = torch.tensor([True, False, True])
    taught = Taught(torch.rand(5, 3, 8, 8, generator=generator), torch.rand(5, 3, generator=generator) * known, known)
    totals = Totals(people=torch.tensor(5.0), weights=batch.weights.sum())
    whole = total_loss(outputs, batch, settings, taught=taught)
    assert list(whole) == ["loss", "heatmaps", "patches", "guidance", "distillation"]
    parts = [
        total_loss(
            outputs.take(rows), Batch(*(values[rows] for values in batch)), settings, totals,
            Taught(taught.heatmaps[rows], taught.mass[rows], known),
        )
        for rows in (slice(2), slice(2, None))
    ]  # fmt: skip
    for name, value in whole.items():
        assert sum(part[name].item() for part in parts) == pytest.approx(value.item(), rel=1e-5), name
    twice = total_loss(outputs, batch, TrainingSettings(loss=loss, hardest=2, distillation=1.0), taught=taught)
    assert twice["distillation"].item() == pytest.approx(2 * whole["distillation"].item())


def test_unlabeled_people_are_taught_all_the_same(batch, outputs):
    batch = batch._replace(weights=torch.zeros(5, 3))
    known = torch.ones(3, dtype=torch.bool)
    taught = Taught(batch.heatmaps, torch.ones(5, 3), known, tokens=torch.zeros(5, 3, 4))
    outputs.tokens = torch.ones(5, 3, 4)
    found = total_loss(outputs, batch, TrainingSettings(token_distillation=0.1), taught=taught)
    assert found["heatmaps"].item() == found["guidance"].item() == 0
    assert found["distillation"].item() > 0
    assert found["tokens"].item() > 0
