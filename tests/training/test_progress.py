import time

import pytest
import torch
from accelerate import Accelerator

from tokenpose.data.augment import Batch
from tokenpose.training.progress import Means, ProgressBar, read_log, timed

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


def test_log_is_read_without_a_line_that_was_cut_off(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1, "loss": 2.5}\n{"epoch": 2, "loss": 2.0}\n{"epoch": 3, "lo')
    assert read_log(path) == [{"epoch": 1, "loss": 2.5}, {"epoch": 2, "loss": 2.0}]
    path.write_text('{"epoch": 1}')  # whole, but nobody knows
    assert read_log(path) == []


@pytest.mark.parametrize("line", [b"{epoch\n", b"[1]\n", b"\xff\xfe\n", b'{"step": 3}\n', b'{"epoch": "1"}\n', b"\n"])
def test_damaged_lines_are_refused_by_number(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 1}\n' + line + b'{"epoch": 3}\n')
    with pytest.raises(ValueError, match=r"log\.jsonl: line 2 is damaged: "):
        read_log(path)


def test_batches_come_with_the_seconds_that_they_were_waited_for():
    def slow():
        for number in range(2):
            time.sleep(0.05)
            yield Batch(
                *(torch.full(shape, float(number)) for shape in ((1, 3, 4, 4), (1, 2, 2, 2), (1, 2), (1, 2, 2)))
            )

    seconds, numbers = [], []
    for batch, waited in timed(slow()):
        time.sleep(0.2)  # the step, which isn't waiting
        seconds.append(waited)
        numbers.append(batch.weights[0, 0].item())
    assert numbers == [0, 1]
    assert all(0.05 <= waited < 0.2 for waited in seconds), seconds


def test_means_are_over_the_steps_that_were_added():
    means = Means()
    assert means.means(Accelerator(cpu=True)) == {}
    for value in (1.0, 2.0, 6.0):
        means.add({"loss": torch.tensor(value), "heatmaps": torch.tensor(value / 2)})
    assert means.means(Accelerator(cpu=True)) == {"loss": 3.0, "heatmaps": 1.5}


def test_means_go_on_from_a_state():
    first = Means(since=4)
    first.add({"loss": torch.tensor(1.0)})
    first.waited = 0.5
    second = Means()
    second.load_state_dict(first.state_dict(), share=1.0, device=torch.device("cpu"))
    second.add({"loss": torch.tensor(3.0)})
    assert second.means(Accelerator(cpu=True)) == {"loss": 2.0}
    assert (second.waited, second.since, first.count) == (0.5, 4, 1)
    nobody = Means()
    nobody.load_state_dict(first.state_dict(), share=0.0, device=torch.device("cpu"))
    assert nobody.means(Accelerator(cpu=True)) == {"loss": 0.0}


def test_bar_starts_where_the_run_is_and_counts_steps(capsys):
    bar = ProgressBar(total=10, done=4, shown=True)
    with bar as advance:
        advance(1)
    (task,) = bar.progress.tasks
    assert (task.completed, task.total, task.description) == (5, 10, "epoch 2")
    assert capsys.readouterr().err == ""  # no terminal
