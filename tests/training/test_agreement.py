import signal

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from tokenpose.data.augment import Batch
from tokenpose.training.agreement import Agreement

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


class Several(Accelerator):
    """Two processes, of which the other one says what a test tells it to."""

    num_processes = 2
    other: tuple[float, ...]
    """Weights, people, whether it failed, whether it was interrupted."""
    sent: list[list[float]]

    def reduce(self, tensor: Tensor, reduction: str = "sum", scale: float = 1.0) -> Tensor:
        assert reduction == "sum"
        self.sent.append(tensor.flatten().tolist())
        return tensor + torch.tensor(self.other).view_as(tensor)


@pytest.fixture
def several() -> Several:
    accelerator = Several(cpu=True)
    accelerator.other, accelerator.sent = (5.0, 2.0, 0.0, 0.0), []
    return accelerator


@pytest.fixture
def batch() -> Batch:
    """Three people, of whose six keypoints four count."""
    weights = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    return Batch(torch.zeros(3, 3, 8, 6), torch.zeros(3, 2, 4, 3), weights, torch.zeros(3, 2, 2))


def test_one_process_counts_its_own_batch(batch):
    agreement = Agreement(Accelerator(cpu=True))
    totals = agreement.totals(batch)
    assert (totals.people.item(), totals.weights.item()) == (3, 4)
    assert agreement.is_any(True, beside=batch.weights)
    assert not agreement.is_any(False, beside=batch.weights)


def test_several_processes_count_the_batches_of_all(several, batch):
    totals = Agreement(several).totals(batch)
    assert several.sent == [[4.0, 3.0, 0.0, 0.0]]
    assert (totals.people.item(), totals.weights.item()) == (5, 9)


def test_what_holds_in_one_process_holds_for_all(several, batch):
    agreement = Agreement(several)
    several.other = (1.0,)
    assert agreement.is_any(False, beside=batch.weights)
    several.other = (0.0,)
    assert agreement.is_any(True, beside=batch.weights)
    assert not agreement.is_any(False, beside=batch.weights)


def test_failure_of_another_process_stops_this_one(several, batch):
    several.other = (0.0, 0.0, 1.0, 0.0)
    with pytest.raises(OSError, match="another process can't go on: its message says why"):
        Agreement(several).totals(batch)


def test_error_of_the_batches_reaches_the_other_process_and_is_raised(several, batch):
    def batches():
        yield batch
        raise OSError("broken.png can't be decoded")

    taken = []
    with pytest.raises(OSError, match=r"broken\.png"):
        taken.extend(Agreement(several).share_errors(batches()))
    assert several.sent == [[0.0, 0.0, 1.0, 0.0]]
    agreement = Agreement(Accelerator(cpu=True))
    with pytest.raises(OSError, match=r"broken\.png"):
        list(agreement.share_errors(batches()))
    assert len(several.sent) == 1  # one process has nobody to tell


def test_batches_pass_in_their_order(several, batch):
    batches = [batch._replace(weights=batch.weights * number) for number in range(3)]
    assert [entry.weights.sum().item() for entry in Agreement(several).share_errors(iter(batches))] == [0, 4, 8]
    assert list(Agreement(several).share_errors(iter(()))) == []


def test_signal_to_one_process_stops_all_after_the_same_step(several, batch):
    here, elsewhere = Agreement(several), Agreement(several)
    here.interruptions.pending = signal.SIGINT
    here.totals(batch)
    assert several.sent == [[4.0, 3.0, 0.0, 1.0]]
    with pytest.raises(KeyboardInterrupt):
        here.raise_if_stopping()
    several.other = (5.0, 2.0, 0.0, 1.0)
    elsewhere.totals(batch)
    with pytest.raises(SystemExit):
        elsewhere.raise_if_stopping()


def test_without_a_signal_nobody_stops(several, batch):
    agreement = Agreement(several)
    agreement.totals(batch)
    assert not agreement.is_stopping
    agreement.interruptions.pending = signal.SIGINT  # after the step: the next one agrees on it
    agreement.raise_if_stopping()
    assert agreement.interruptions.pending == signal.SIGINT
