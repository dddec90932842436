import json
import logging
from dataclasses import replace

import pytest

from tokenpose.data.augment import Augmentation
from tokenpose.jobs.training import train_model
from tokenpose.jobs.training_data import read_training_data
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP

from .small import SETTINGS, TINY, data_of


def hidden(people, names: tuple[str, ...], rows: slice) -> dict:
    """The COCO file's content without some keypoints of some people."""
    content = json.loads(people.read_text())
    for annotation in content["annotations"][rows]:
        for name in names:
            annotation["keypoints"][3 * LSP.index(name) + 2] = 0
    return content


def test_keypoints_are_renamed_and_given_their_pairs(people):
    names = {"right_ankle": "paw_a", "left_ankle": "paw_b"}
    data = read_training_data(people, people, people.parent, rename=names)
    assert data.skeleton.keypoints[0] == "paw_a"
    assert data.held_out.skeleton.keypoints[5] == "paw_b"
    pairs = "paw_a:paw_b,right_knee:left_knee"
    data = read_training_data(people, people, people.parent, rename=names, flip_pairs=pairs)
    assert data.skeleton.flip_pairs == ((0, 5), (1, 4))


def test_data_without_people_is_refused(people, tmp_path):
    content = json.loads(people.read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    (tmp_path / "crowd.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"crowd\.json has no labeled people; left out: 8 crowd"):
        read_training_data(tmp_path / "crowd.json", people, people.parent)


def test_people_held_out_with_other_keypoints_are_refused_by_file(people, tmp_path):
    content = json.loads(people.read_text())
    names = content["categories"][0]["keypoints"]
    content["categories"][0]["keypoints"] = [f"other_{name}" for name in names]
    (tmp_path / "others.json").write_text(json.dumps(content))
    data = read_training_data(people, tmp_path / "others.json", people.parent, flip_pairs="none")
    model = TokenPose(TINY.replace(skeleton=data.skeleton))
    message = rf"{people.name} and .*others\.json share no keypoint name: the first has {names[0]}.*, the second other_"
    with pytest.raises(ValueError, match=message):
        train_model(model, data, tmp_path / "run", SETTINGS)


def test_keypoints_are_renamed_where_the_validation_file_does_not_have_them(people, two_sets):
    data = read_training_data(two_sets, two_sets[0], None, rename={"neck": "throat"})
    assert "throat" in data.skeleton.keypoints
    assert "neck" not in data.skeleton.keypoints
    with pytest.raises(LookupError, match="has a keypoint 'tail' to rename"):
        read_training_data(two_sets, two_sets[0], None, rename={"tail": "throat"})


def test_people_that_validation_cannot_count_are_told_at_the_start(people, tmp_path, caplog):
    (tmp_path / "some.json").write_text(json.dumps(hidden(people, ("left_hip", "right_hip"), slice(3))))
    data = read_training_data(people, tmp_path / "some.json", people.parent)
    with caplog.at_level(logging.INFO, logger="tokenpose"):
        train_model(TokenPose(TINY), data, tmp_path / "run", replace(SETTINGS, epochs=1))
    line = "validating on 8 people, by their torso: 5 count, the others have no torso or no trained keypoint"
    assert [record.message for record in caplog.records].count(line) == 1
    both = read_training_data(people, [people, tmp_path / "some.json"], people.parent).describe_validation()
    assert both == (
        "validating on 16 people, by their torso: 13 count, the others have no torso or no trained keypoint "
        f"({people} 8 of 8, {tmp_path / 'some.json'} 5 of 8)"
    )
    assert data_of(people).describe_validation() == "validating on 8 people, by their torso"


def test_validation_that_counts_nobody_is_refused_at_the_start(people, tmp_path):
    # the head is all that is trained, and whom it is labeled of has no torso
    content = json.loads(people.read_text())
    category = content["categories"][0]
    category["keypoints"], category["skeleton"] = category["keypoints"][12:], []
    for annotation in content["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][36:]
    (tmp_path / "heads.json").write_text(json.dumps(content))
    (tmp_path / "bodies.json").write_text(json.dumps(hidden(people, ("neck", "head_top"), slice(8))))
    data = read_training_data(tmp_path / "heads.json", tmp_path / "bodies.json", people.parent)
    model = TokenPose(TINY.replace(skeleton=data.skeleton))
    with pytest.raises(
        ValueError, match=r"nobody in .*bodies\.json has both a torso and a labeled keypoint that is trained"
    ):
        train_model(model, data, tmp_path / "run", replace(SETTINGS, augmentation=Augmentation(flip=0.0)))
    assert not (tmp_path / "run").exists()


def test_shares_of_training_files_become_a_mixture(people, tmp_path):
    few = tmp_path / "a@b=c.json"
    content = json.loads(people.read_text())
    few.write_text(json.dumps(content | {"annotations": content["annotations"][:2]}))
    data = read_training_data([f"{few}={people.parent}@0.5", people], people, people.parent)
    assert [group.tolist() for group in data.mixture.groups] == [[0, 1], list(range(2, 10))]
    assert data.mixture.shares == (0.5, 0.5)
    assert read_training_data([few, people], people, people.parent).mixture is None
    with pytest.raises(ValueError, match=r"only people to train on can have a share of every batch; got .*@0\.5"):
        read_training_data(people, f"{people}@0.5", people.parent)
    with pytest.raises(ValueError, match=r"the shares of .* must add up to 1, and they add up to 0\.5"):
        read_training_data(f"{people}@0.5", people, people.parent)


def test_run_is_not_resumed_with_other_shares(people, tmp_path):
    settings = replace(SETTINGS, epochs=1, predictions=0)

    def data(share: str):
        return read_training_data([f"{people}@{share}", people], people, people.parent)

    train_model(TokenPose(TINY), data("0.5"), tmp_path / "run", settings)
    train_model(TokenPose(TINY), data("0.5"), tmp_path / "run", settings, resume=True)
    with pytest.raises(ValueError, match=r"shares \[0\.5, None\], not \[0\.25, None\]"):
        train_model(TokenPose(TINY), data("0.25"), tmp_path / "run", settings, resume=True)
