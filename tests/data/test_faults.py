import pytest

from tokenpose.data.faults import Fault, is_id, raise_first


def fault(**changes):
    whole = {
        "section": "annotations",
        "position": 5,
        "field": "bbox",
        "kind": "missing",
        "message": "bbox must be there",
    }
    return Fault(**whole | changes)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"identity": 7, "image": "a.jpg"}, "annotation 7 in a.jpg"),
        ({"identity": 7}, "annotation 7"),
        ({"identity": [7]}, "annotations[5]"),
        ({"image": "a.jpg"}, "annotations[5] in a.jpg"),
        ({"section": "images", "identity": "x", "image": "a.jpg"}, "image x (a.jpg)"),
        ({"section": "categories"}, "categories[5]"),
        ({"section": "records", "image": "a.jpg"}, "record 5 in a.jpg"),
    ],
)
def test_record_is_named_by_its_id_else_by_its_place(changes, name):
    assert fault(**changes).record == name


def test_first_fault_that_stops_the_use_is_raised_with_file_record_and_advice():
    faults = [fault(stops=frozenset()), fault(position=6, stops=frozenset({"evaluation"})), fault(identity=7)]
    with pytest.raises(
        ValueError, match=r"^a\.json: annotation 7: bbox must be there; correct the record or remove it$"
    ):
        raise_first(faults, "a.json", "training")
    with pytest.raises(ValueError, match=r"^a\.json: annotations\[6\]: bbox must be there"):
        raise_first(faults, "a.json", "evaluation")
    raise_first(faults[:1], "a.json", "evaluation")


def test_ids_are_numbers_and_text():
    assert all(map(is_id, (0, 2**70, 0.5, "", "a")))
    assert not any(map(is_id, (None, True, float("nan"), [1], {})))
