import pytest

from tokenpose.data.formats.xml_elements import parse_fragment, read_elements

from .exports import write


def test_only_the_wanted_elements_are_given_whole_and_in_order(tmp_path):
    path = write(tmp_path / "a.xml", "<all><no/><a x='1'><b>t</b></a><c><a x='2'/></c></all>")
    elements = list(read_elements(path, ["a"]))
    assert [element.get("x") for element in elements] == ["1", "2"]
    assert elements[0].findtext("b") == "t"


def test_entities_are_refused_before_they_grow(tmp_path):
    bomb = "<!DOCTYPE a [<!ENTITY b 'x'><!ENTITY c '&b;&b;'>]><a>&c;</a>"
    with pytest.raises(ValueError, match="has a document type"):
        list(read_elements(write(tmp_path / "a.xml", bomb), ["a"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a><b></a>", "is not XML: mismatched tag"),
        ("", "is not XML: no element found"),
        ("<a>" * 65, "more than 64 elements within each other"),
        ("<a>&lol;</a>", "is not XML: undefined entity"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        list(read_elements(write(tmp_path / "a.xml", text), ["a"]))


def test_an_element_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tokenpose.data.formats.xml_elements.LARGEST", 100)
    with pytest.raises(ValueError, match="an element of more than 100 characters"):
        list(read_elements(write(tmp_path / "a.xml", f"<a>{'x' * 200}</a>"), ["a"]))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        list(read_elements(tmp_path / "a.xml", ["a"]))


def test_a_fragment_has_several_elements():
    assert [element.tag for element in parse_fragment("<line/><circle/>")] == ["line", "circle"]
