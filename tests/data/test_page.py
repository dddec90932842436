"""The files that docs/data.md shows are read, and give what it says."""

import json
import re
from pathlib import Path

import pytest

from tokenpose.data.annotations import read_annotations

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
COCO_FILE, SCORED_RECORD, MPII_FILE = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def write(tmp_path):
    def save(content):
        (tmp_path / "people.json").write_text(content)
        return tmp_path / "people.json"

    return save


def test_smallest_coco_file_of_the_page_is_read(write):
    samples = read_annotations(write(COCO_FILE))
    assert samples.boxes.tolist() == [[100, 50, 200, 300]]
    assert samples.visible.tolist() == [[True, True, False]]
    assert (samples.skeleton.name, samples.skeleton.flip_pairs) == ("fly", ((1, 2),))


def test_scores_of_the_page_weigh_its_keypoints(write):
    content = {**json.loads(COCO_FILE), "annotations": [json.loads(SCORED_RECORD)]}
    assert read_annotations(write(json.dumps(content))).weights.tolist() == [pytest.approx([0.9, 0.4, 0.0])]


def test_mpii_file_of_the_page_is_read(write):
    samples = read_annotations(write(MPII_FILE))
    assert samples.keypoints[0, 0].tolist() == [619, 393]
    assert samples.visible.all()


def test_line_of_the_page_is_that_of_the_real_file(data_folder):
    path = data_folder / "coco-mini" / "person_keypoints.json"
    line = read_annotations(path).describe().replace(str(path), "people.json")
    assert f"```text\n{line}\n```" in PAGE
