"""Files are there whole, or as they were."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tokenpose.files import locked, make_folder, write_text, written_whole

full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_text_is_written_in_utf8(tmp_path):
    write_text(tmp_path / "a.json", "größer \N{BONE}\n")
    assert (tmp_path / "a.json").read_bytes() == "größer \N{BONE}\n".encode()
    assert names(tmp_path) == ["a.json"]


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
