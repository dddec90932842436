"""The data doctor on Leeds Sports Pose Extended and COCO: faults planted in them, and alarms on them as they are."""

import io
import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import CheckResult, check_data
from tokenpose.doctor.pairs import check_pairs
from tokenpose.doctor.records import Records, read_records
from tokenpose.doctor.swaps import find_swaps
from tokenpose.skeletons import Skeleton


@pytest.fixture(scope="module")
def train(data_folder) -> Records:
    return read_records(data_folder / "lspet" / "person_keypoints_train.json")


@pytest.fixture(scope="module")
def val(data_folder) -> CheckResult:
    return check_data(data_folder / "lspet" / "person_keypoints_val.json", data_folder / "lspet" / "val.tar")


def pair_rows(records: Records, *names: str) -> list[list[int]]:
    return [[records.skeleton.index(f"left_{name}"), records.skeleton.index(f"right_{name}")] for name in names]


def exchanged(records: Records, people: np.ndarray, *names: str) -> np.ndarray:
    keypoints = records.keypoints.copy()
    for left, right in pair_rows(records, *names):
        keypoints[people, left], keypoints[people, right] = (
            records.keypoints[people, right],
            records.keypoints[people, left],
        )
    return keypoints


RECALLS = {  # measured: 0.40, 0.82, 0.86, 0.85, 0.93, 0.65, 0.45, 0.29
    ("ankle",): 0.3, ("knee",): 0.72, ("hip",): 0.76, ("shoulder",): 0.75, ("elbow",): 0.83, ("wrist",): 0.52,
    ("knee", "ankle"): 0.32, ("hip", "knee", "ankle"): 0.2,
}  # fmt: skip


@pytest.mark.parametrize("names", RECALLS)
def test_exchanged_sides_of_100_among_9000_are_found_as_often_as_measured(train, names):
    labeled = train.labeled()
    whole = labeled[:, np.ravel(pair_rows(train, *names))].all(axis=1)
    people = np.random.default_rng(0).choice(np.flatnonzero(whole), 100, replace=False)
    suspicions, named = find_swaps(exchanged(train, people, *names), labeled, train.skeleton)
    assert named == ()
    found = set(people.tolist()) & {suspicion.person for suspicion in suspicions}
    assert len(found) >= 100 * RECALLS[names]


def test_of_9000_people_as_they_are_154_are_suspected(train):
    suspicions, named = find_swaps(train.keypoints, train.labeled(), train.skeleton)
    assert named == ()
    assert 130 <= len(suspicions) <= 160
    scores = [suspicion.score for suspicion in suspicions]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] > 7


@pytest.mark.parametrize("count", [60, 300])
def test_few_people_suffice_for_most_of_exchanged_elbows_and_hips(train, count):
    people = np.random.default_rng(1).choice(len(train), count, replace=False)
    labeled = train.labeled()[people]
    clean = {one.person for one in find_swaps(train.keypoints[people], labeled, train.skeleton)[0]}
    assert len(clean) <= 0.05 * count
    for name in ("elbow", "hip"):
        pair = pair_rows(train, name)[0]
        both = np.flatnonzero(labeled[:, pair].all(axis=1))[:20]
        found = 0
        for person in both:  # one at a time
            keypoints = train.keypoints[people]
            keypoints[person, pair] = keypoints[person, pair[::-1]]
            found += int(person) in {one.person for one in find_swaps(keypoints, labeled, train.skeleton)[0]}
        assert found >= 0.6 * len(both)


def test_exchanging_everybody_as_a_whole_changes_nothing(train):
    labeled, order = train.labeled()[:500], np.arange(14)
    for left, right in train.skeleton.flip_pairs or ():
        order[[left, right]] = right, left
    one, other = (
        find_swaps(train.keypoints[:500][:, rows], labeled[:, rows], train.skeleton)[0]
        for rows in (np.arange(14), order)
    )
    assert [(a.person, a.pairs) for a in one] == [(a.person, a.pairs) for a in other]
    np.testing.assert_allclose([a.score for a in one], [a.score for a in other], rtol=1e-3)


def test_skeleton_without_limbs_is_judged_by_distances(data_folder, tmp_path, train):
    content = json.loads((data_folder / "lspet" / "person_keypoints_val.json").read_text())
    del content["categories"][0]["skeleton"]
    content["categories"][0]["keypoints"] = [f"{name}_x" for name in content["categories"][0]["keypoints"]]
    (tmp_path / "limbless.json").write_text(json.dumps(content))
    records = read_records(tmp_path / "limbless.json")
    assert records.skeleton.limbs == ()
    people = np.arange(0, 500, 10)
    keypoints, flags = records.keypoints.copy(), records.labeled()
    left, right = records.skeleton.index("left_elbow_x"), records.skeleton.index("right_elbow_x")
    keypoints[people[:, None], [left, right]] = keypoints[people[:, None], [right, left]]
    both = people[flags[people][:, [left, right]].all(axis=1)]
    found = {one.person for one in find_swaps(keypoints, flags, records.skeleton)[0]}
    assert len(found & set(both.tolist())) >= 0.6 * len(both)


def test_500_people_as_they_are_give_few_alarms(val):
    counts = {check: sum(found.values()) for check, found in val.counts().items()}
    assert counts.pop("left and right") <= 8
    assert counts.pop("repeated keypoints") == 2  # which are faults
    assert not any(counts.values()), counts


def test_coco_as_it_is_gives_few_alarms(data_folder):
    diagnosis = check_data(data_folder / "coco-mini" / "person_keypoints.json", data_folder / "coco-mini" / "images")
    counts = {check: sum(found.values()) for check, found in diagnosis.counts().items()}
    assert counts.pop("boxes") <= 4  # hidden keypoints, far outside of what is seen
    assert counts.pop("left and right") <= 3
    assert not any(counts.values()), counts
    assert diagnosis.files[0].people == 86


def test_photograph_of_validation_that_is_in_training_is_found(data_folder):
    """Of LSPET as it is: 08155.jpg and 09345.jpg are one photograph, and so are 00639.jpg and 06054.jpg."""
    folder = data_folder / "lspet"
    diagnosis = check_data(
        folder / "person_keypoints_train.json",
        [*folder.glob("*.tar")],
        val=folder / "person_keypoints_val.json",
    )
    assert {finding.images for finding in diagnosis.of_check("train and validation")} == {
        ("08155.jpg", "09345.jpg"),
        ("00639.jpg", "06054.jpg"),
    }
    assert len(diagnosis.of_check("duplicate images")) <= 21
    assert diagnosis.count("error") == 0


def test_copies_of_photographs_are_found(data_folder, tmp_path):
    folder = data_folder / "lspet"
    content, source = json.loads((folder / "person_keypoints_val.json").read_text()), ImageSource(folder / "val.tar")
    for number, image in enumerate(content["images"][:60]):
        picture = Image.open(io.BytesIO(source.read_bytes(image["file_name"]))).convert("RGB")
        if number % 3 == 0:
            picture = picture.resize((round(0.6 * picture.width), round(0.6 * picture.height)))
        if number % 3 == 1:
            picture = picture.convert("L")
        picture.save(tmp_path / f"copy{number}.jpg", quality=60)
        size = {"width": picture.width, "height": picture.height}
        content["images"].append({"id": 10**6 + number, "file_name": f"copy{number}.jpg", **size})
    (tmp_path / "copies.json").write_text(json.dumps(content))
    diagnosis = check_data(tmp_path / "copies.json", [folder / "val.tar", tmp_path])
    found = {finding.images for finding in diagnosis.of_check("duplicate images")}
    meant = {(f"copy{number}.jpg", image["file_name"]) for number, image in enumerate(content["images"][:60])}
    assert found == meant


def test_every_two_names_that_are_exchanged_leave_traces_in_the_pairs(data_folder):
    people = read_records(data_folder / "lspet" / "person_keypoints_val.json")
    assert check_pairs(people) == []
    some = people.skeleton.keypoints
    pairs = {frozenset(pair) for pair in people.skeleton.flip_pairs or ()}
    missed = []
    for first, second in combinations(range(14), 2):
        names = list(some)
        names[first], names[second] = names[second], names[first]
        skeleton = Skeleton(name="x", keypoints=tuple(names))
        if frozenset((first, second)) not in pairs and not check_pairs(replace(people, skeleton=skeleton)):
            missed.append((some[first], some[second]))
    assert missed == [("neck", "head_top")]
