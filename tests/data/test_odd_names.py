"""Annotation files named "train + val.json" and images named "0:a.jpg", all the way through."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tokenpose.data.annotations import read_with_columns
from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import check_data
from tokenpose.evaluation.measure import measure
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.jobs.training_data import digest, read_training_data
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.skeletons import LSP

from ..drawing import draw_people

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=1,
    skeleton=LSP,
)  # fmt: skip


@pytest.fixture
def files(tmp_path) -> list[Path]:
    """ "train + val.json" of three drawn people and "1:b.json" of two, whose first image is "0:a.png" in both."""
    found = []
    for name, count, seed in (("train + val.json", 3, 0), ("1:b.json", 2, 1)):
        folder = tmp_path / name.removesuffix(".json")
        path = draw_people(folder, count, seed)
        content = json.loads(path.read_text())
        content["images"][0]["file_name"] = "0:a.png"
        shutil.move(folder / "images" / "000.png", folder / "images" / "0:a.png")
        (tmp_path / name).write_text(json.dumps(content))
        found.append(tmp_path / name)
    return found


def with_places(path: Path) -> str:
    return f"{path}={path.with_suffix('')}/images"


def test_training_reads_each_file_with_its_own_images_and_names_it(files):
    data = read_training_data([with_places(path) for path in files], [with_places(path) for path in files], None)
    assert data.people.origins == tuple(map(str, files))
    data.check_images()
    assert data.describe_validation() == "validating on 5 people, by their torso"
    data.held_out.visible[3] = False
    assert data.describe_validation().endswith(f"({files[0]} 3 of 3, {files[1]} 1 of 2)")
    (files[1].with_suffix("") / "images" / "0:a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no image 0:a\.png in .*1:b/images \(annotation 0 of .*1:b"):
        data.check_images()


def test_data_differ_where_the_same_names_are_of_other_files(files):
    both = [read_training_data([with_places(one), with_places(other)], with_places(one), None) for one, other in
            (files, (files[0], files[0]))]  # fmt: skip
    assert digest(both[0].people) != digest(both[1].people)


def test_evaluation_measures_the_file_by_its_name(files):
    samples, columns = read_with_columns(files[0])

    def find_labels(images, boxes):
        for number, (_, own) in enumerate(zip(images, boxes, strict=True)):
            scores = np.ones((1, len(LSP)), dtype=np.float32)
            yield Poses(keypoints=samples.keypoints[number][None], scores=scores, boxes=own, skeleton=LSP)

    source = ImageSource(files[0].with_suffix("") / "images")
    result = measure(find_labels, SPEC, files[0], samples, source, EvaluationSettings(), columns=columns)
    assert str(result).startswith("train + val.json: 3 people, labeled boxes in 3 images")
    assert result.coco is not None
    assert result.coco.figures["AP"] == pytest.approx(1)


def test_check_names_file_and_image(files):
    content = json.loads(files[0].read_text())
    content["annotations"][0]["bbox"] = None
    files[0].write_text(json.dumps(content))
    (found,) = (one for one in check_data(files[0]).findings if one.severity == "error")
    assert str(found).startswith(f"{files[0]}: annotation 0 in 0:a.png: bbox must be ")
