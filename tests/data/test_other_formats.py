import json
import re
import subprocess
import sys

import pytest

from tokenpose.data.annotations import read_annotations
from tokenpose.doctor.check import check_data

from .fly_files import record

KEYPOINT = {"type": "keypointlabels", "value": {"x": 10.0, "y": 20.0, "keypointlabels": ["tip"]}}
IMPORT = r"; make a COCO file of it: tokenpose import \S+\.json --from label-studio --output data\.json$"

LISTS = {
    "Label Studio": (
        [{"id": 7, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": [KEYPOINT]}]}],
        rf"is neither a COCO keypoint file nor MPII's: it looks like Label Studio's JSON{IMPORT}",
    ),
    "Label Studio, its short form": (
        [{"id": 7, "image": "/data/upload/1/a.png", "kp": [KEYPOINT["value"]], "annotator": 1, "annotation_id": 3}],
        rf"it looks like Label Studio's JSON{IMPORT}",
    ),
    "COCO results": (
        [{"image_id": 3, "category_id": 1, "keypoints": [1, 2, 0.5], "score": 0.7}],
        r"neither a COCO keypoint file nor MPII's: it looks like COCO results, which are predictions",
    ),
    "COCO's annotations alone": (
        [record()],
        r"MPII's records have center, image, joints, scale, and the first one here has 'id', 'image_id', 'category_id'",
    ),
}

OBJECTS = {
    "labelme": (
        {"version": "5", "shapes": [], "imagePath": "a.png"},
        r"it looks like labelme's JSON: .* --from labelme ",
    ),
    "VIA": ({"_via_settings": {}, "_via_img_metadata": {}}, r"it looks like a project of VIA: .* --from via --output"),
    "a task": ({"id": 7, "data": {}, "annotations": []}, r"has no images, categories; it looks like one task of Label"),
}


@pytest.mark.parametrize("read", [read_annotations, check_data], ids=["training", "the check"])
@pytest.mark.parametrize("kind", [*LISTS, *OBJECTS])
def test_file_of_another_format_is_refused_with_what_it_looks_like(tmp_path, kind, read):
    content, message = (LISTS | OBJECTS)[kind]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read(path)
    assert str(error.value).startswith(f"{path} is n")


def test_lists_that_are_mpiis_or_may_be_keep_their_own_messages(tmp_path):
    (tmp_path / "a.json").write_text('[{"image": "a.jpg"}]')
    with pytest.raises(ValueError, match=r"record 0 in a\.jpg: center must be 2 finite numbers"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[{}, 3]")
    with pytest.raises(ValueError, match="record 0: image must be text"):
        read_annotations(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("[]")
    assert len(read_annotations(tmp_path / "a.json")) == 0


def test_command_to_give_is_quoted(tmp_path):
    (tmp_path / "my data.json").write_text(json.dumps(LISTS["Label Studio"][0]))
    with pytest.raises(ValueError, match=re.escape(f"tokenpose import '{tmp_path / 'my data.json'}' --from")):
        read_annotations(tmp_path / "my data.json")


def test_check_says_so_in_one_line(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(LISTS["Label Studio"][0]))
    run = subprocess.run(
        [sys.executable, "-m", "tokenpose", "check", tmp_path / "a.json"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "Label Studio's JSON" in run.stderr
    assert "people" not in run.stdout
