from typing import Any

import pytest

from tokenpose.doctor.findings import Finding


def finding(**changes: Any) -> Finding:
    whole = {"check": "boxes", "severity": "error", "file": "a.json", "record": "annotation 7 in b.jpg"}
    return Finding(**{**whole, "message": "its box has no area", "advice": "draw it again", **changes})


def test_finding_reads_as_file_record_message_and_advice():
    assert str(finding()) == "a.json: annotation 7 in b.jpg: its box has no area; draw it again"
    assert str(finding(record="")) == "a.json: its box has no area; draw it again"


def test_ids_that_json_readers_may_not_expect_are_written_as_text():
    assert finding(annotations=(7, "a", [1], None)).to_dict()["annotations"] == [7, "a", "[1]", "None"]


def test_unknown_checks_are_refused():
    with pytest.raises(
        ValueError, match=r"a check is one of records, corrected values, missing images.*; got 'colors'"
    ):
        finding(check="colors")
