"""What PyTorch files may hold is known before PyTorch reads them."""

import argparse
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenpose.pickles import check_pickles, plain_numpy

TUPLE1, TUPLE2, REDUCE, STOP, POP = b"\x85", b"\x86", b"R", b".", b"0"
PLAIN = "is not a PyTorch checkpoint that holds nothing but tensors and plain values: it holds "
UNUSUAL = "has a pickle that PyTorch wouldn't write for weights, so it is not read"


def imported(name: str) -> bytes:
    module, _, entry = name.rpartition(".")
    return f"c{module}\n{entry}\n".encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def write_zip(path: Path, pickled: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return path


class Saved:
    """Unpickling it would run a command."""

    def __reduce__(self):
        return os.system, ("true",)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before 1.6"])
def test_what_training_code_saves_passes_and_is_read(tmp_path, is_zip):
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(layer.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3])
    layer(torch.zeros(1, 3)).sum().backward()
    optimizer.step()
    content = {
        "epoch": 3, "perf": np.float64(0.5), "steps": np.int64(4), "done": np.bool_(True), "loss": np.float32(2),
        "state_dict": layer.state_dict(), "parameter": layer.weight, "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(), "half": torch.zeros(2, dtype=torch.bfloat16), "size": torch.Size((1, 2)),
        "device": torch.device("cpu"), "dtype": torch.float16, "raw": b"\xff\x00" * 9,
        "names": ("a", ["b"], {"c": None}),
    }  # fmt: skip
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
    check_pickles(tmp_path / "a.pth")
    with plain_numpy():
        read = torch.load(tmp_path / "a.pth", weights_only=True)
    assert torch.equal(read["state_dict"]["weight"], layer.weight)
    assert read["schedule"]["milestones"] == Counter([2, 3])
    assert read["raw"] == b"\xff\x00" * 9


def test_numbers_of_earlier_versions_of_numpy_pass(tmp_path):
    torch.save({"perf": np.float64(0.5), "a": torch.ones(2)}, tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickled = archive.read("a/data.pkl").replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, pickled if name == "a/data.pkl" else content)
    check_pickles(tmp_path / "b.pth")
    with plain_numpy():
        assert torch.load(tmp_path / "b.pth", weights_only=True)["a"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (argparse.Namespace(a=1), "argparse.Namespace"),
        (np.zeros(3), "numpy._core.multiarray._reconstruct"),
        (Saved(), "posix.system"),
        ({1, 2}, "builtins.set"),
        (bytearray(5), "builtins.bytearray"),
        (3j, "builtins.complex"),
        (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_anything_else_is_named_with_the_way_to_save_weights_alone(tmp_path, value, name):
    for is_zip in (True, False):
        torch.save({"a": value}, tmp_path / "a.pth", _use_new_zipfile_serialization=is_zip)
        with pytest.raises(ValueError, match=PLAIN) as refusal:
            check_pickles(tmp_path / "a.pth")
        assert f"it holds '{name}'; where it was made, save the state dict alone: torch.save(" in str(refusal.value)


BOMBS = {
    "bytearray": imported("builtins.bytearray") + number(6 * 10**9) + TUPLE1 + REDUCE,
    "bytearray of Python 2": imported("__builtin__.bytearray") + number(6 * 10**9) + TUPLE1 + REDUCE,
    "tensor": imported("torch.Tensor") + number(6 * 10**9) + TUPLE1 + REDUCE,
    "storage": imported("torch.FloatStorage") + number(6 * 10**9) + TUPLE1 + REDUCE,
    "untyped storage": imported("torch.storage.UntypedStorage") + number(6 * 10**9) + TUPLE1 + REDUCE,
    "doubled": imported("_codecs.encode") + imported("_codecs.encode") + text("a") + text("utf-8") + TUPLE2 + REDUCE
    + text("hex") + TUPLE2 + REDUCE,
    "repeated": b"(" + text("a" * 9_000) + b"q\x01" + imported("_codecs.encode") + b"q\x02"
    + (b"h\x02h\x01" + text("latin1") + TUPLE2 + REDUCE) * 100 + b"l",
    "copies": b"]q\x01" + imported("collections.Counter") + b"q\x02"
    + (b"h\x02h\x01" + TUPLE1 + REDUCE) * 10,
    "sets": b"(" + b"\x8f" * 3_000 + b"t",
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_few_bytes_that_ask_for_much_are_refused(tmp_path, name, monkeypatch):
    monkeypatch.setattr("tokenpose.pickles.MOST_OPCODES", 2_000)  # of 2,000,000, which take seconds
    pickled = b"\x80\x02" + BOMBS[name] + STOP
    (tmp_path / "b.pth").write_bytes(pickled)
    for path in (write_zip(tmp_path / "a.pth", pickled), tmp_path / "b.pth"):
        with pytest.raises(ValueError, match=rf"{PLAIN}|{UNUSUAL}|has a pickle of more than 2,000 instructions"):
            check_pickles(path)


MALFORMED = r"is a broken PyTorch file|is not a file that torch\.save wrote|wouldn't write for weights"
BROKEN = [b"", b"\x80", b"\x80\x02c", b"\x80\x02R.", b"\x80\x02h\x07.", b"\x80\x02t.", b"\x80\x02X\xff\xff\xff\xff"]


@pytest.mark.parametrize("pickled", BROKEN)
def test_broken_pickles_are_refused(tmp_path, pickled):
    (tmp_path / "b.pth").write_bytes(pickled)
    for path in (write_zip(tmp_path / "a.pth", pickled), tmp_path / "b.pth"):
        with pytest.raises(ValueError, match=MALFORMED):
            check_pickles(path)


def test_pickles_that_torch_did_not_write_are_refused(tmp_path):
    (tmp_path / "a.pth").write_bytes(pickle.dumps(OrderedDict(a=1), protocol=2))
    with pytest.raises(ValueError, match=r"a\.pth is not a file that torch\.save wrote"):
        check_pickles(tmp_path / "a.pth")


def test_archives_that_hold_more_than_their_size_are_refused(tmp_path):
    path = write_zip(tmp_path / "a.pth", pickle.dumps({}, protocol=2))
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 2**31)  # the uncompressed size
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is not laid out as PyTorch writes files, so it is not read"):
        check_pickles(path)
    path.write_bytes(b"PK\x03\x04" + b"\0" * 40)
    with pytest.raises(ValueError, match=MALFORMED):
        check_pickles(path)


def test_files_that_no_checkpoint_is_as_large_as_are_refused(tmp_path):
    with (tmp_path / "a.pth").open("wb") as file:
        file.truncate(10**11)  # takes no room
    with pytest.raises(ValueError, match=r"a\.pth has 100,000,000,000 bytes, more than a PyTorch file can have"):
        check_pickles(tmp_path / "a.pth")
