import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenpose.data.json_records import JsonRecords

NUMBERS = st.integers() | st.floats(allow_nan=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
POLYGONS = st.lists(st.lists(NUMBERS, max_size=4), max_size=3)
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(["a", '"segmentation": [1]', "segmentation", "\\"]), VALUES | POLYGONS), max_size=5
)
INDENTS = st.sampled_from([None, 0, 1, "\t"])
CHUNKS = st.sampled_from([1, 2, 3, 7, 64, 1 << 20])


def read_sections(path, chunk, **options):
    with JsonRecords(path, chunk=chunk, **options) as opened:
        return {name: list(records) for name, records in opened.sections(path_names(path))}


def path_names(path):
    return tuple(json.loads(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("json") / "records.json"


@settings(deadline=None)
@given(st.dictionaries(st.text(), RECORDS | st.lists(VALUES, max_size=4)), INDENTS, CHUNKS, st.booleans())
def test_lists_of_an_object_are_what_the_library_reads(path, content, indent, chunk, ascii_only):
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", newline="")
    assert read_sections(path, chunk) == content


@settings(deadline=None)
@given(st.lists(VALUES, max_size=6), INDENTS, CHUNKS)
def test_a_list_is_what_the_library_reads(path, content, indent, chunk):
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
    with JsonRecords(path, chunk=chunk) as opened:
        assert opened.kind == "list"
        assert list(opened.records()) == content


def without_polygons(value):
    """What may differ: lists of numbers alone, at any depth, that are called segmentation."""
    if isinstance(value, list):
        return [without_polygons(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    bare = {name: without_polygons(entry) for name, entry in value.items()}
    return bare | ({"segmentation": None} if isinstance(value.get("segmentation"), list | int) else {})


@settings(deadline=None)
@given(st.dictionaries(st.text(), RECORDS), INDENTS, CHUNKS)
def test_polygons_that_are_not_asked_for_change_nothing_else(path, content, indent, chunk):
    path.write_text(json.dumps(content, indent=indent), encoding="utf-8")
    found = read_sections(path, chunk, without="segmentation")
    assert without_polygons(found) == without_polygons(content)


def test_polygons_are_not_read_and_text_that_looks_like_one_is(tmp_path):
    path = tmp_path / "a.json"
    record = {"segmentation": [[1, 2.5], [-3e4]], "note": '"segmentation": [1], "', "id": 7}
    path.write_text(json.dumps({"a": [record, {"segmentation": {"counts": [1]}}]}))
    found = read_sections(path, 1 << 20, without="segmentation")["a"]
    assert found == [record | {"segmentation": 0}, {"segmentation": {"counts": [1]}}]


@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_only_the_lists_asked_for_are_given(tmp_path, chunk):
    path = tmp_path / "a.json"
    path.write_text(' {"info": {"a": [1, 2]}, "b": [1, {"c": "]"}], "n": 12.5e1, "last": [3], "b2": []} \n')
    with JsonRecords(path, chunk=chunk) as opened:
        assert opened.kind == "object"
        assert [(name, list(records)) for name, records in opened.sections(("last", "b2"))] == [
            ("last", [3]),
            ("b2", []),
        ]


def test_records_that_were_left_are_passed_by(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, 2, 3], "b": [4]}')
    with JsonRecords(path) as opened:
        found = [(name, next(records)) for name, records in opened.sections(("a", "b"))]
    assert found == [("a", 1), ("b", 4)]


def test_a_byte_order_mark_is_no_fault(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf[1]")
    with JsonRecords(path) as opened:
        assert list(opened.records()) == [1]


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16-BE", "UTF-32"])
def test_other_encodings_than_utf8_are_refused_by_name(tmp_path, encoding):
    path = tmp_path / "a.json"
    path.write_bytes('{"images": []}'.encode(encoding))
    with (
        pytest.raises(ValueError, match=rf"a\.json is not JSON: it is {encoding[:6]}; save it as UTF-8$"),
        JsonRecords(path) as opened,
    ):
        assert opened.kind


FAULTS = {
    b"": "it is empty",
    b"  \n": "it is empty",
    b"{": "ends in the middle of the object",
    b'{"a': "ends in the middle of the object",
    b'{"a": ': "ends in the middle of a",
    b'{"a": [': "ends in the middle of a[0]",
    b'{"a": [1, {"b": 2': "ends in the middle of a[1]",
    b'{"a": [1, "b': "ends in the middle of a[1]",
    b'{"a": [1, 2': "ends in the middle of a[1]",
    b'{"a": [1],': "ends in the middle of the object",
    b'{"a": [1]': "ends in the middle of the object",
    b'{"a": [1, {"b" 2}]}': "Expecting ':' delimiter in a[1], before '2}]}'",
    b'{"a": [1,]}': "Expecting value in a[1], before ']}'",
    b'{"a": [1 2]}': "',' or ']' expected after a[0], before '2]}'",
    b'{"a": [1], "a": [2]}': "it has a twice",
    b'{"a": [1]} x': "there is more after its end, before 'x'",
    b'{"a" [1]}': "':' expected after the name a, before '[1]}'",
    b"{1: [1]}": "a name in quotes expected in the object, before '1: [1]}'",
    b'{"a": tru}': "Expecting value in a, before 'tru}'",
    b"[1, 2": "ends in the middle of record 1",
    b"nothing": "holds neither a JSON object nor a list, but 'nothing'",
    b'{"a": ["\xff"]}': "can't decode byte 0xff",
    b'{"a": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}": "a[0] is nested too deeply",
    b'{"a": [' + b"1" * 5000 + b"]}": "a[0]: Exceeds the limit (4300 digits)",
}


def read_all(path, chunk):
    with JsonRecords(path, chunk=chunk) as opened:
        if opened.kind == "list":
            list(opened.records())
        for _, records in opened.sections(("a",)) if opened.kind == "object" else ():
            list(records)


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize("content", FAULTS, ids=lambda content: FAULTS[content][:40])
def test_what_is_not_json_is_refused_by_place(tmp_path, content, chunk):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    chunk = max(chunk, len(content) // 100)
    message = rf"broken\.json is not JSON: .*{re.escape(FAULTS[content])}"
    if content == b"nothing":
        message = rf"broken\.json {re.escape(FAULTS[content])}"
    with pytest.raises(ValueError, match=message) as caught:
        read_all(path, chunk)
    assert "\n" not in str(caught.value)
