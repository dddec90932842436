import pickle

import pytest
import torch

from tokenpose.training.checkpoints import read_checkpoint, write_checkpoint

STATE = {"network": {"weight": torch.arange(3.0)}, "step": 7, "seconds": 1.5, "settings": {"loss": "cross_entropy"}}


def test_written_checkpoint_is_read_back(tmp_path):
    write_checkpoint(tmp_path / "checkpoint.pt", STATE)
    read = read_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(read["network"].pop("weight"), STATE["network"]["weight"])
    assert read == {**STATE, "network": {}}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_interrupted_writing_leaves_the_older_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, STATE)

    def interrupted(state, file):
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(path, {**STATE, "step": 8})
    assert read_checkpoint(path)["step"] == 7
    monkeypatch.undo()
    write_checkpoint(path, {**STATE, "step": 9})
    assert read_checkpoint(path)["step"] == 9
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*checkpoint\.pt to resume from"):
        read_checkpoint(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nor a zip"])
def test_unreadable_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint that can be read: "):
        read_checkpoint(tmp_path / "checkpoint.pt")


def test_truncated_checkpoint_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    write_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint that can be read: "):
        read_checkpoint(path)


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("pack", [torch.save, lambda state, path: path.write_bytes(pickle.dumps(state, 2))])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, capsys, pack):
    path = tmp_path / "checkpoint.pt"
    pack({"step": Harmful()}, path)
    with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint that can be read: "):
        read_checkpoint(path)
    assert "executed" not in capsys.readouterr().out


def test_file_of_something_else_is_refused(tmp_path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="is not a checkpoint of a run: it lacks step or settings"):
        read_checkpoint(tmp_path / "checkpoint.pt")
