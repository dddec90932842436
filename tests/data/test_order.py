import pytest

from tokenpose.data.order import ShuffledBatches, process_rows


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
