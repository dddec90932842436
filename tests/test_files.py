"""Files are there whole, or as they were."""

import lzma
import os
import re
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from pathlib import Path

import pytest

from tokenpose.files import (
    check_encoding,
    decode,
    expand,
    explain,
    foreign,
    listed,
    locked,
    make_folder,
    read_bytes,
    read_pieces,
    shown,
    write_text,
    written_whole,
)  # fmt: skip

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_text_is_written_in_utf8(tmp_path):
    write_text(tmp_path / "a.json", "größer \N{BONE}\n")
    assert (tmp_path / "a.json").read_bytes() == "größer \N{BONE}\n".encode()
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("text", ["{}", "[1]", '{"größe": 1}', "a", ""])
def test_text_is_read_with_or_without_a_byte_order_mark(text):
    assert decode(text.encode()) == decode(text.encode("utf-8-sig")) == text


@pytest.mark.parametrize("text", ["{}", "[1]", '{"größe": 1}', "epochs = 3"])
@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16-LE", "UTF-16-BE", "UTF-32", "UTF-32-LE", "UTF-32-BE"])
def test_other_encodings_are_refused_by_name(text, encoding):
    for mark in ("", "\N{BYTE ORDER MARK}"):
        with pytest.raises(ValueError, match=f"^it is {encoding[:6]}; save it as UTF-8$"):
            decode((mark + text).encode(encoding))


def test_bytes_that_are_not_utf8_are_told():
    with pytest.raises(ValueError, match=r"^'utf-8' codec can't decode byte 0xe9 in position 2: .*; save it as UTF-8$"):
        decode('["é"]'.encode("latin-1"))
    check_encoding(b"")


@full
def test_full_disk_is_told_by_file_and_leaves_what_was_there(tmp_path):
    path = tmp_path / "settings.json"
    write_text(path, "first")
    (tmp_path / "settings.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"settings\.json can't be written \(No space left on device\)$"):
        write_text(path, "second")
    assert path.read_text() == "first"
    assert names(tmp_path) == ["settings.json"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, ValueError])
def test_interruption_leaves_what_was_there(tmp_path, stop):
    def write_half(path: Path) -> None:
        with written_whole(path) as partial:
            partial.write_text("half of")
            raise stop

    path = tmp_path / "a.npz"
    path.write_text("first")
    with pytest.raises(stop):
        write_half(path)
    assert path.read_text() == "first"
    assert names(tmp_path) == ["a.npz"]


def test_error_keeps_its_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere/a\.json can't be written \(No such file or directory\)$"):
        write_text(tmp_path / "nowhere" / "a.json", "text")
    with pytest.raises(IsADirectoryError, match=r"can't be written \(Is a directory\)$"):
        write_text(tmp_path, "text")


def test_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.json", tmp_path / "there" / "target.json"
    link.symlink_to(target)
    write_text(link, "text")
    assert link.is_symlink()
    assert target.read_text() == "text"


@full
def test_device_is_written_to_and_stays_a_device():
    with pytest.raises(OSError, match=r"^/dev/full can't be written \(No space left on device\)$"):
        write_text("/dev/full", "text")
    assert Path("/dev/full").is_char_device()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_text(pipe, "text")
    reader.join()
    assert read == ["text"]


@pytest.mark.skipif(os.name != "posix", reason="modes are of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_mode_follows_the_umask_whatever_wrote_the_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        with written_whole(tmp_path / "private.bin") as partial:
            partial.touch(0o600)
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert (tmp_path / "private.bin").stat().st_mode & 0o777 == mode


HOLD = """
import sys, time
from pathlib import Path
from tokenpose.files import locked
with locked(Path(sys.argv[1]), "held"):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name != "posix", reason="without effect elsewhere")
def test_file_is_held_by_one_process_until_that_is_killed(tmp_path):
    path = tmp_path / ".lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "ready\n"
    with pytest.raises(BlockingIOError, match="busy"), locked(path, "busy"):
        pass
    other.kill()
    other.communicate()
    assert path.exists()
    with locked(path, "busy"):
        assert path.exists()
    assert not path.exists()


def test_folder_and_its_parents_are_made_unless_they_are_there(tmp_path):
    for _ in range(2):
        make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["", "b", "b/c"])
def test_file_in_the_way_of_a_folder_is_named(tmp_path, below):
    (tmp_path / "a").touch()
    with pytest.raises(OSError, match=r"a is a file, where a folder is needed; choose another output$"):
        make_folder(tmp_path / "a" / below)


# Foreign files


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a"] * 5000, "['a', " + "'a', " * 14 + "'..."),
        ({"b": 1, "a": None}, "{'b': 1, 'a': None}"),
        ("x" * 200, "'" + "x" * 76 + "..."),
        (10**5000, "<int>"),
        (nested(100_000), "<list>"),
        (float("nan"), "nan"),
    ],
    ids=["long", "dict", "text", "digits", "nested", "nan"],
)
def test_foreign_value_is_shown_in_80_characters_at_most(value, text):
    assert shown(value) == text
    assert len(shown(value)) <= 80


def test_names_are_listed_up_to_a_length():
    assert listed(["nose", "tail"]) == "nose, tail"
    assert listed(["nose"] * 1000, most=20) == "nose, nose, nose,..."
    assert listed(["no\nse", "\x07"]) == "no\\nse, \\x07"


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (lzma.LZMAError("Corrupt input data"), "Corrupt input data"),
        (b"\xff".decode, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (OverflowError("too large"), "OverflowError: too large"),
        (tarfile.ReadError("empty file"), "empty file"),
        (zipfile.BadZipFile("Bad CRC-32"), "Bad CRC-32"),
        (struct.error("unpack requires a buffer of 4 bytes"), "error: unpack requires a buffer of 4 bytes"),
        (zlib.error("Error -3"), "Error -3"),
        (MemoryError(), "it claims more than the memory holds"),
        (EOFError(), "EOFError"),
        (KeyError("size"), "KeyError: 'size'"),
        (NotImplementedError("compression type 97\n(unknown)"), "compression type 97 (unknown)"),
        (OSError("no TIFF"), "no TIFF"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_whatever_a_reader_raises_becomes_one_line_that_names_the_file(error, reason):
    def read() -> None:
        if isinstance(error, Exception):
            raise error
        error()

    with (
        pytest.raises(ValueError, match=rf"^a\.zip is broken at b\.jpg: {re.escape(reason)}$") as refusal,
        foreign("a.zip is broken at b.jpg"),
    ):
        read()
    assert explain(refusal.value.__cause__) == reason


def test_errors_of_the_system_and_of_the_user_pass():
    with pytest.raises(FileNotFoundError, match="No such file"), foreign("a.zip is broken"):
        Path("/nowhere/a.zip").read_bytes()
    with (
        pytest.raises(ValueError, match=r"^a\.zip is broken: \[Errno 22\] Invalid argument$"),
        foreign("a.zip is broken"),
    ):
        raise OSError(22, "Invalid argument")  # of a seek to before the start
    with pytest.raises(KeyboardInterrupt), foreign("a.zip is broken"):
        raise KeyboardInterrupt
    with pytest.raises(OSError, match=r"^b is broken: 3$"), foreign("b is broken", raises=OSError):
        raise ValueError("3")


def test_unknown_home_folder_is_refused():
    with pytest.raises(FileNotFoundError, match="'~nobody_here/a' starts with a home folder that is not known"):
        expand("~nobody_here/a")
    assert expand("~") == Path.home()


def test_file_larger_than_its_kind_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "a.toml").open("wb") as file:
        file.truncate(10**11)  # takes no room
    with pytest.raises(
        ValueError, match=r"a\.toml has 100,000,000,000 bytes, more than a recipe can have \(1,000\); is"
    ):
        read_bytes(tmp_path / "a.toml", "a recipe", 1000)
    (tmp_path / "b.toml").write_bytes(b"x" * 1000)
    assert len(read_bytes(tmp_path / "b.toml", "a recipe", 1000)) == 1000


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_file_without_an_end_is_refused():
    with pytest.raises(ValueError, match="/dev/zero has more bytes than a recipe can have"):
        read_bytes(Path("/dev/zero"), "a recipe", 1000)
    with open("/dev/zero", "rb") as zeros, pytest.raises(ValueError, match="it unpacks to more than 1,000 bytes"):
        read_pieces(zeros, 1000, 64)
