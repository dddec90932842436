import pytest

from tokenpose.data.formats.reading import read_json, read_text, read_yaml, show, take, take_number, take_size

from .exports import write


def test_a_byte_order_mark_is_skipped(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json") == [1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]".encode("utf-16"), "a.json: it is UTF-16; save it as UTF-8"),
        (b"\xff1", "a.json: .*invalid start byte; save it as UTF-8"),
        (b"{", "a.json is not JSON: Expecting property name"),
        (b"[" * 200_000, "a.json is nested too deeply"),
        (b"1" * 5_000, "a.json is not JSON: Exceeds the limit"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    write(tmp_path / "a.txt", "123456")
    with pytest.raises(ValueError, match="has 6 bytes; at most 5 are read"):
        read_text(tmp_path / "a.txt", most=5)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_text(tmp_path / "a")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read_text(tmp_path)


def test_aliases_of_yaml_are_refused_before_they_grow(tmp_path):
    lines = ["a0: &a0 [x, x]"] + [f"a{row}: &a{row} [*a{row - 1}, *a{row - 1}]" for row in range(1, 60)]
    with pytest.raises(ValueError, match="has aliases"):
        read_yaml(write(tmp_path / "bomb.yaml", "\n".join(lines)))


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "a: !!python/object/apply:os.getcwd []"])
def test_yaml_that_is_no_plain_mapping_is_refused(tmp_path, text):
    with pytest.raises(ValueError, match=r"a\.yaml (must hold a mapping|is not YAML)"):
        read_yaml(write(tmp_path / "a.yaml", text))


def test_values_in_errors_have_80_characters_at_most():
    assert len(show({"a" * 500: ["b" * 500] * 500})) <= 80


def test_fields_are_taken_by_kind():
    record = {"a": [1], "b": "2.5", "c": True, "w": 4, "h": 3.0}
    assert take(record, "a", list, "x") == [1]
    assert take_number(record, "b", "x") == 2.5
    assert take_size(record, ("w", "h"), "x") == (4, 3)
    with pytest.raises(ValueError, match=r"^x: a must be text; got \[1\]$"):
        take(record, "a", str, "x")
    with pytest.raises(ValueError, match=r"^x: c must be a finite number; got True$"):
        take_number(record, "c", "x")
    with pytest.raises(ValueError, match=r"^x: b must be a finite number; got 'nan'$"):
        take_number({"b": "nan"}, "b", "x")
    with pytest.raises(ValueError, match=r"^x: w and h must be whole numbers of pixels; got 0.0, 3.0$"):
        take_size({"w": 0, "h": 3}, ("w", "h"), "x")
    with pytest.raises(ValueError, match=r"^x must be an object; got 7$"):
        take(7, "a", str, "x")
