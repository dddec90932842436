from collections import Counter

import numpy as np
import pytest

from tokenpose.data.order import MixedBatches, ShuffledBatches, process_rows
from tokenpose.data.shares import Mixture

HALF = Mixture(groups=(np.arange(3), np.arange(3, 21)), shares=(0.5, 0.5))
"""Half of every batch from three people, the rest from eighteen."""


def test_an_epoch_shows_each_person_once_and_the_last_batch_is_smaller():
    batches = list(ShuffledBatches(11, 4, seed=0, epoch=0))
    assert [len(batch) for batch in batches] == [4, 4, 3]
    assert sorted(person for batch in batches for person in batch) == list(range(11))
    assert len(ShuffledBatches(11, 4, seed=0, epoch=0, start=1)) == 2
    assert list(ShuffledBatches(11, 4, seed=0, epoch=0, start=2)) == batches[2:]


def test_batches_of_a_seed_and_an_epoch_stay_the_same_over_versions():
    # a run that goes on after an update shows the same people
    assert list(ShuffledBatches(8, 4, seed=3, epoch=2)) == [[2, 3, 5, 7], [4, 0, 6, 1]]


@pytest.mark.parametrize(("count", "processes"), [(12, 1), (12, 3), (11, 4), (5, 5)])
def test_processes_share_a_batch_in_parts_of_nearly_equal_size(count, processes):
    parts = [range(count)[process_rows(count, process, processes)] for process in range(processes)]
    assert [row for part in parts for row in part] == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_each_process_gets_a_batch_whole_that_has_fewer_people_than_processes():
    assert [process_rows(2, process, 3) for process in range(3)] == [slice(0, 2)] * 3


def test_each_group_has_its_share_of_every_batch_and_an_epoch_has_as_many_people_as_there_are():
    batches = list(MixedBatches(HALF, 4, seed=0, epoch=0))
    assert [len(batch) for batch in batches] == [4] * 5 + [1]
    assert all(sum(person < 3 for person in batch) == 2 for batch in batches[:5])
    thirds = Mixture(groups=(np.arange(3), np.arange(3, 9), np.arange(9, 30)), shares=(1 / 3, 1 / 3, 1 / 3))
    batches = list(MixedBatches(thirds, 4, seed=0, epoch=0))
    counts = [Counter(0 if person < 3 else 1 if person < 9 else 2 for person in batch) for batch in batches]
    assert all(1 <= count[group] <= 2 for count in counts[:7] for group in range(3))
    tiny = Mixture(groups=(np.arange(3), np.arange(3, 30)), shares=(0.1, 0.9))
    assert [sum(person < 3 for person in batch) for batch in MixedBatches(tiny, 5, 0, 0)] == [1, 0, 1, 0, 1, 0]
    assert [sum(count[group] for count in counts) for group in range(3)] == [10, 10, 10]


def test_people_of_a_group_are_shown_equally_often_over_the_epochs():
    shown = Counter(
        person for epoch in range(6) for batch in MixedBatches(HALF, 4, seed=0, epoch=epoch) for person in batch
    )
    assert sum(shown.values()) == 6 * 21
    assert {shown[person] for person in range(3)} == {22}  # 11 of 21 in each epoch: 66 of three people
    assert {shown[person] for person in range(3, 21)} <= {3, 4}  # 60 of eighteen


def test_mixed_batches_follow_from_seed_and_epoch_and_can_start_in_the_middle():
    batches = list(MixedBatches(HALF, 4, seed=3, epoch=2))
    assert list(MixedBatches(HALF, 4, seed=3, epoch=2, start=4)) == batches[4:]
    assert list(MixedBatches(HALF, 4, seed=4, epoch=2)) != batches != list(MixedBatches(HALF, 4, seed=3, epoch=3))


def test_processes_share_mixed_batches():
    whole = list(MixedBatches(HALF, 5, seed=1, epoch=1))
    parts = [list(MixedBatches(HALF, 5, 1, 1, 0, process, 2)) for process in range(2)]
    assert [first + second for first, second in zip(*parts, strict=True)][:4] == whole[:4]
    assert [part[4] for part in parts] == [whole[4]] * 2  # one person for two processes
