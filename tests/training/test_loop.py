import json
import re
import signal
from pathlib import Path

import pytest
import torch

from tokenpose.data.batches import TrainingBatches
from tokenpose.data.windows import WindowDataset
from tokenpose.training.checkpoints import read_checkpoint, write_checkpoint
from tokenpose.training.folder import RunFolder
from tokenpose.training.loop import Trainer
from tokenpose.training.settings import TrainingSettings

from .small import SETTINGS, SPEC, assert_same, log_of, make_step

pytestmark = pytest.mark.usefixtures("fresh_accelerator")


@pytest.fixture(scope="module")
def whole(people, tmp_path_factory):
    """(trainer, figures, log) of a run that nothing interrupted."""
    trainer = make_trainer(people, tmp_path_factory.mktemp("whole"))
    figures = trainer.train()
    return trainer, figures, log_of(trainer.folder.path)


class Interrupted(TrainingBatches):
    """Batches that stop as by Ctrl-C after so many."""

    left = 10**9

    def epoch(self, epoch: int, start: int = 0):
        for batch in super().epoch(epoch, start):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def make_trainer(people, output, settings=SETTINGS, stop_after=10**9, validate=None, seed=0) -> Trainer:
    samples, source = people
    dataset = WindowDataset(samples, source, SPEC, settings.augmentation, settings.cache)
    batches = Interrupted(dataset, settings.augmentation, batch_size=settings.batch_size, seed=settings.seed)
    batches.left = stop_after
    folder = RunFolder(output, settings)
    step = make_step(settings, seed, settings.epochs * batches.batch_count, advise=folder.advise)
    return Trainer(step, folder, batches, validate or count_parameters)


def count_parameters(network) -> dict[str, float]:
    """In place of an evaluation: a figure that follows from the averaged weights."""
    return {"size": sum(parameter.abs().sum().item() for parameter in network.parameters())}


def state_of(trainer: Trainer) -> dict:
    return {
        "network": dict(trainer.step.network.state_dict()),
        "average": dict(trainer.step.average.state_dict()),
        "optimizer": trainer.step.optimizer.state_dict()["state"],
        "schedule": trainer.step.schedule.state_dict()["last_epoch"],
        "step": trainer.step.number,
    }


def test_losses_fall_and_every_epoch_is_logged(people, tmp_path):
    settings = TrainingSettings(**{**vars(SETTINGS), "epochs": 12, "validate_every": 5, "checkpoint_seconds": 100.0})
    trainer = make_trainer(people, tmp_path / "run", settings)
    figures = trainer.train()
    log = log_of(tmp_path / "run")
    assert [line["epoch"] for line in log] == list(range(1, 13))
    assert [line["step"] for line in log] == list(range(3, 37, 3))
    assert log[-1]["samples"] == 36 * 4
    assert [line["epoch"] for line in log if "size" in line] == [5, 10, 12]  # the last epoch is always validated
    assert figures["size"] == pytest.approx(log[-1]["size"], abs=1e-4)
    for part in ("loss", "heatmaps", "patches", "guidance"):
        assert log[-1][part] < 0.95 * log[0][part], part
    for line in log:
        assert line["loss"] == pytest.approx(sum(line[p] for p in ("heatmaps", "patches", "guidance")), abs=1e-3)
    assert log[-1]["rate"] == pytest.approx(0, abs=1e-12)
    assert log[0]["seconds"] <= log[-1]["seconds"]


@pytest.mark.parametrize(("seconds", "drawn"), [(0.0, [1, 2, 3, 4]), (1000.0, [1, 4])])
def test_pictures_are_drawn_first_last_and_not_too_often(people, tmp_path, monkeypatch, seconds, drawn):
    monkeypatch.setattr("tokenpose.training.progress.PICTURE_SECONDS", seconds)
    settings = TrainingSettings(**{**vars(SETTINGS), "epochs": 4, "validate_every": 1})
    trainer = make_trainer(people, tmp_path / "run", settings)
    curves, predictions = [], []
    monkeypatch.setattr(trainer.folder, "draw_curve", lambda: curves.append(len(log_of(tmp_path / "run"))))
    trainer.draw = lambda network: predictions.append(trainer.step.number // trainer.batches.batch_count)
    trainer.train()
    assert curves == predictions == drawn


@pytest.mark.parametrize("stop_after", [1, 3, 4, 11])  # in an epoch, at its end, in the next, before the last step
def test_resumed_run_equals_an_uninterrupted_one_to_the_bit(people, whole, tmp_path, stop_after):
    # every step is saved
    uninterrupted, figures, log = whole
    first = make_trainer(people, tmp_path / "parts", stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert first.step.number == stop_after
    second = make_trainer(people, tmp_path / "parts", seed=1)  # other weights, which the checkpoint replaces
    second.resume()
    assert second.step.number == stop_after
    assert second.train() == figures
    assert_same(state_of(second), state_of(uninterrupted))
    assert [line["epoch"] for line in log_of(tmp_path / "parts")] == [1, 2, 3, 4]
    assert log_of(tmp_path / "parts")[-1]["size"] == log[-1]["size"]


@pytest.mark.parametrize("stop_at", [1, 2])  # the first validation, after epoch 2, or the last
def test_run_interrupted_while_validating_validates_when_resumed(people, whole, tmp_path, stop_at):
    calls = []

    def interrupted(network) -> dict[str, float]:
        calls.append(network)
        if len(calls) == stop_at:
            raise KeyboardInterrupt
        return count_parameters(network)

    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path / "parts", validate=interrupted).train()
    second = make_trainer(people, tmp_path / "parts")
    second.resume()
    assert second.train() == whole[1]
    validated = [line["epoch"] for line in log_of(tmp_path / "parts") if "size" in line]
    assert validated == [2, 4]


# Extensions


def test_finished_run_is_extended_with_a_fresh_annealing(people, whole, tmp_path, caplog):
    make_trainer(people, tmp_path).train()
    second = make_trainer(people, tmp_path, seed=1)
    second.resume(extend=2)
    assert (second.epochs, second.step.total, second.step.number) == (6, 18, 12)
    assert second.step.rate == SETTINGS.learning_rate
    second.train()
    log = log_of(tmp_path)
    assert [line["epoch"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert [line["rate"] for line in log[:4]] == [line["rate"] for line in whole[2]]
    assert log[4]["rate"] == pytest.approx(SETTINGS.learning_rate / 2)
    assert log[5]["rate"] == pytest.approx(0, abs=1e-12)
    assert "size" in log[5]


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_interrupted_extension_is_resumed_to_the_bit_without_saying_extend_again(people, tmp_path, stop_after):
    for name, stops in (("whole", (10**9,)), ("parts", (stop_after, 10**9))):
        make_trainer(people, tmp_path / name).train()
        for number, stop in enumerate(stops):
            trainer = make_trainer(people, tmp_path / name, stop_after=stop)
            trainer.resume(extend=0 if number else 2)
            if stop < 10**9:
                with pytest.raises(KeyboardInterrupt):
                    trainer.train()
            else:
                trainer.train()
        if name == "whole":
            expected = state_of(trainer)
    assert_same(state_of(trainer), expected)


def test_extension_of_a_run_that_is_not_finished_is_refused(people, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path, stop_after=7).train()
    with pytest.raises(ValueError, match=r"has 2 of 4 epochs: it can be extended when it is finished; resume it with"):
        make_trainer(people, tmp_path).resume(extend=3)
    second = make_trainer(people, tmp_path)
    second.resume()
    second.train()
    third = make_trainer(people, tmp_path)
    third.resume(extend=3)
    assert third.epochs == 7


# The best validation


def scored(trainer: Trainer, scores: list[int]) -> Trainer:
    """A trainer whose validations have these scores, and write which they are to the weights file."""

    def validate(network) -> dict[str, float]:
        done = trainer.epochs_done + 1
        trainer.folder.weights.write_text(f"of epoch {done}")
        return {"pck": float(scores[done - 1]), "other": -float(scores[done - 1])}

    trainer.validate = validate
    return trainer


KEPT = TrainingSettings(**{**vars(SETTINGS), "validate_every": 1, "keep": "best"})


@pytest.mark.parametrize(("scores", "best"), [([1, 3, 2, 3], 2), ([1, 2, 3, 4], 4), ([5, 2, 3, 4], 1)])
def test_weights_of_the_best_validation_are_kept_beside_the_last(people, tmp_path, scores, best):
    trainer = scored(make_trainer(people, tmp_path, KEPT), scores)
    trainer.train()
    assert trainer.folder.best.read_text() == f"of epoch {best}"
    assert trainer.folder.weights.read_text() == "of epoch 4"


def test_best_validation_is_remembered_when_a_run_is_resumed(people, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        scored(make_trainer(people, tmp_path, KEPT, stop_after=7), [1, 5, 4, 3]).train()
    second = scored(make_trainer(people, tmp_path, KEPT), [9, 9, 4, 3])
    second.resume()
    second.train()
    assert second.folder.best.read_text() == "of epoch 2"


def test_second_score_decides_where_the_first_is_the_same(people, tmp_path):
    trainer = scored(make_trainer(people, tmp_path, KEPT), [1, 1, 1, 1])
    validate = trainer.validate
    trainer.validate = lambda network: {**validate(network), "other": [1.0, 3.0, 2.0, 0.0][trainer.epochs_done]}
    trainer.train()
    assert trainer.folder.best.read_text() == "of epoch 2"


def test_only_the_last_is_kept_if_nothing_else_is_asked_for(people, tmp_path):
    trainer = scored(make_trainer(people, tmp_path), [4, 3, 2, 1])
    trainer.train()
    assert not trainer.folder.best.exists()


def test_last_line_of_the_log_says_what_to_do_next(people, tmp_path, caplog):
    caplog.set_level("INFO")
    scored(make_trainer(people, tmp_path, KEPT), [1, 2, 3, 4]).train()
    assert caplog.messages[-1] == "pck 4 after 4 epochs: validation still rising: --resume --extend 8 continues"


def test_resumed_run_logs_no_epoch_twice(people, tmp_path):
    # nothing is saved within an epoch here, so after a kill what came after the validation of epoch 2 is done again
    settings = TrainingSettings(**{**vars(SETTINGS), "checkpoint_seconds": 1000.0})
    killed = make_trainer(people, tmp_path, settings, stop_after=10)
    killed._leave = lambda error: None
    with pytest.raises(KeyboardInterrupt):
        killed.train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2, 3]
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"epoch": 4, "st')  # cut off in the middle of a line
    second = make_trainer(people, tmp_path, settings)
    second.resume()
    assert second.step.number == 6
    second.train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2, 3, 4]


def test_interrupted_run_saves_the_step_that_it_reached_and_says_so(people, tmp_path, caplog):
    settings = TrainingSettings(**{**vars(SETTINGS), "checkpoint_seconds": 1000.0})
    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path, settings, stop_after=10).train()
    message = "stopped by Ctrl-C at step 10 of 12; the checkpoint has step 10: the same command with --resume continues"
    assert message in caplog.text
    second = make_trainer(people, tmp_path, settings)
    second.resume()
    assert second.step.number == 10


def test_image_that_cannot_be_read_ends_the_run_after_the_step_before(people, tmp_path, caplog, monkeypatch):
    settings = TrainingSettings(**{**vars(SETTINGS), "checkpoint_seconds": 1000.0, "cache": "none"})
    trainer = make_trainer(people, tmp_path, settings)
    source = people[1]
    decode, calls = source.read, []

    def read(name):
        calls.append(name)
        if len(calls) == 18:  # in the fifth batch
            raise OSError(f"{name} can't be decoded: image file is truncated")
        return decode(name)

    monkeypatch.setattr(source, "read", read)
    with pytest.raises(
        OSError, match=r"\d{3}\.png can't be decoded: image file is truncated \(annotation \d+ of .*people\.json\)"
    ):
        trainer.train()
    message = "stopped by an error at step 4 of 12; the checkpoint has step 4: once it is fixed, the same"
    assert message in caplog.text
    monkeypatch.undo()
    second = make_trainer(people, tmp_path, settings, seed=1)
    second.resume()
    assert second.step.number == 4
    second.train()
    assert second.step.number == 12


def test_signal_that_killed_a_reading_process_as_well_is_the_runs_ending(people, tmp_path, caplog, monkeypatch):
    settings = TrainingSettings(**{**vars(SETTINGS), "checkpoint_seconds": 1000.0})
    trainer = make_trainer(people, tmp_path, settings)
    epoch = trainer.batches.epoch

    def killed(number: int, start: int = 0):
        yield next(epoch(number, start))
        trainer.interruptions.pending = signal.SIGTERM
        raise ChildProcessError("a process that reads images was killed")

    monkeypatch.setattr(trainer.batches, "epoch", killed)
    with pytest.raises(SystemExit):
        trainer.train()
    assert "stopped by a signal at step 1 of 12; the checkpoint has step 1" in caplog.text


def test_new_run_in_the_place_of_an_old_one_is_refused_and_leaves_its_log(people, tmp_path):
    make_trainer(people, tmp_path).train()
    with pytest.raises(FileExistsError, match="belongs to an earlier run: resume it, or use another output"):
        make_trainer(people, tmp_path).train()
    assert [line["epoch"] for line in log_of(tmp_path)] == [1, 2, 3, 4]


def test_run_that_was_killed_before_its_first_checkpoint_begins_again(people, tmp_path):
    settings = TrainingSettings(**{**vars(SETTINGS), "epochs": 1})
    make_trainer(people, tmp_path, settings)._start_files()
    assert (tmp_path / "settings.json").exists()
    make_trainer(people, tmp_path, settings).train()


def test_trainer_that_is_refused_makes_no_folder(people, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        make_trainer(people, tmp_path / "none").resume()
    assert not (tmp_path / "none").exists()


def test_epoch_that_was_interrupted_has_the_means_of_all_its_steps(people, whole, tmp_path):
    def without_times(lines: list[dict[str, float]]) -> list[dict[str, float]]:
        return [{name: line[name] for name in line if name not in ("seconds", "waiting")} for line in lines]

    for stop_after in (2, 3, 10):
        output = tmp_path / str(stop_after)
        trainer = make_trainer(people, output, stop_after=stop_after)
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
        again = make_trainer(people, output)
        again.resume()
        again.train()
        assert without_times(log_of(output)) == without_times(whole[2])


@pytest.fixture
def stopped(people, tmp_path) -> Path:
    """The checkpoint of a run of an epoch and a step."""
    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path / "run", stop_after=4).train()
    return tmp_path / "run" / "checkpoint.pt"


def refused(people, checkpoint: Path) -> str:
    with pytest.raises(ValueError, match="^" + re.escape(str(checkpoint.parent))) as raised:
        make_trainer(people, checkpoint.parent).resume()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_damaged_checkpoint_is_refused_in_a_line(people, stopped):
    state = read_checkpoint(stopped)
    write_checkpoint(stopped, {name: value for name, value in state.items() if name != "identity"})
    assert "checkpoint.pt is damaged (it lacks identity): start again in another output, with" in refused(
        people, stopped
    )
    for name in ("network", "average", "optimizer"):
        part = {key: value for key, value in list(state[name].items())[:-1]}
        write_checkpoint(stopped, {**state, name: part})
        assert "checkpoint.pt is damaged (" in refused(people, stopped), name


def test_file_in_the_checkpoints_place_is_refused_in_a_line(people, stopped):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, stopped)
    assert "checkpoint.pt is not a checkpoint that can be read: " in refused(people, stopped)
    for content in (b"", b"some text\n", b"1234", b"}", b"\x80\x02}q\x00."):
        stopped.write_bytes(content)
        assert "checkpoint.pt is not a checkpoint " in refused(people, stopped), content


def test_resuming_with_other_settings_is_refused_by_name(people, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path, stop_after=1).train()
    changed = TrainingSettings(**{**vars(SETTINGS), "learning_rate": 1e-4, "epochs": 5})
    other = make_trainer(people, tmp_path, changed)
    message = (
        r"checkpoint\.pt belongs to a run with other settings \(epochs 4, not 5; learning_rate 0\.002, not 0\.0001\): "
        "use another output"
    )
    with pytest.raises(ValueError, match=message):
        other.resume()


def test_refused_resume_leaves_the_old_runs_settings_file(people, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        make_trainer(people, tmp_path, stop_after=1).train()
    with pytest.raises(ValueError, match="other settings"):
        make_trainer(people, tmp_path, TrainingSettings(**{**vars(SETTINGS), "epochs": 5})).resume()
    assert json.loads((tmp_path / "settings.json").read_text())["epochs"] == 4


def test_resuming_without_a_checkpoint_is_refused(people, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .* to resume from"):
        make_trainer(people, tmp_path).resume()


def test_weights_that_are_not_finite_are_neither_validated_nor_saved(people, tmp_path, monkeypatch):
    settings = TrainingSettings(**{**vars(SETTINGS), "batch_size": 12, "validate_every": 1})
    validated = []
    trainer = make_trainer(people, tmp_path, settings, validate=lambda network: validated.append(network) or {})
    bias = trainer.step.network.model.head[3].bias.data
    monkeypatch.setattr(
        trainer.step.schedule, "step", lambda: bias.fill_(float("nan"))
    )  # in place of a step that explodes
    message = r"weights are not finite after step 1: model\.head\.3\.bias; learning rate 0\.002: try a lower one"
    with pytest.raises(FloatingPointError, match=message):
        trainer.train()
    assert not validated
    assert not trainer.folder.checkpoint.exists()


def test_loss_that_is_not_finite_stops_the_run_and_leaves_the_checkpoint(people, tmp_path):
    trainer = make_trainer(people, tmp_path, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.batches.left = 100
    with torch.no_grad():
        trainer.step.network.model.head[3].bias[0] = float("nan")
    with pytest.raises(
        FloatingPointError,
        match=r"the loss is not finite at step 2 \(loss nan, heatmaps nan, .*\); weights are not finite: "
        r"model\.head\.3\.bias; learning rate 0\.00.*: try a lower one",
    ):
        trainer.train()
    resumed = make_trainer(people, tmp_path)
    resumed.resume()
    assert resumed.step.number == 2
    assert torch.isfinite(resumed.step.network.model.head[3].bias).all()


def test_validation_sees_the_averaged_weights(people, tmp_path):
    seen = []

    def validate(network) -> dict[str, float]:
        seen.append(network.model.head[3].weight.clone())
        return {"pck": 50.0}

    trainer = make_trainer(people, tmp_path, validate=validate)
    assert trainer.train() == {"pck": 50.0}
    assert len(seen) == 2
    assert torch.equal(seen[-1], trainer.step.average.module.model.head[3].weight)
    assert not torch.equal(seen[-1], trainer.step.network.model.head[3].weight)
