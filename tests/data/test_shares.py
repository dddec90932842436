from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokenpose.data.shares import check_shares, mix, split_share
from tokenpose.skeletons import LSP

from .parts import people_of


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("train.json", "train + val.json", "a@b.json", "a=b.json", "people@0.5", "x@1.json"):
        Path(name).touch()
    for name in ("images", "crops@0.25", "im=ages"):
        Path(name).mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("text", "before", "share"),
    [
        ("train.json", "train.json", None),
        ("train.json@0.5", "train.json", 0.5),
        ("train.json=images@0.5", "train.json=images", 0.5),
        ("train.json@1", "train.json", 1.0),
        ("train + val.json@0.25", "train + val.json", 0.25),
        ("a@b.json", "a@b.json", None),
        ("a@b.json@0.5", "a@b.json", 0.5),
        ("a@b.json=images@.5", "a@b.json=images", 0.5),
        ("a=b.json@0.5", "a=b.json", 0.5),
        ("a=b.json=im=ages@0.5", "a=b.json=im=ages", 0.5),
        ("people@0.5", "people@0.5", None),  # a file of that name
        ("people@0.5@0.25", "people@0.5", 0.25),
        ("x@1.json", "x@1.json", None),
        ("train.json=crops@0.25", "train.json=crops@0.25", None),  # a folder of that name
        ("train.json=crops@0.25@0.5", "train.json=crops@0.25", 0.5),
        ("missing.json@0.5", "missing.json", 0.5),
        ("train.json@half", "train.json@half", None),  # no such file, as reading says
    ],
)
def test_share_follows_the_last_at_sign_unless_a_path_has_it(text, before, share):
    assert split_share(text) == (before, share)
    assert split_share(Path(before)) == (Path(before), None)


@pytest.mark.parametrize("share", ["0", "-0.5", "1.01", "nan", "inf"])
def test_share_of_nothing_or_more_than_all_is_refused(share):
    with pytest.raises(ValueError, match=rf"the share of train\.json must be above 0 and at most 1; got {share}"):
        split_share(f"train.json@{share}")


def test_shares_that_do_not_add_up_are_refused_in_a_line():
    check_shares(["a", "b", "c"], [0.1, 0.2, 0.7])
    check_shares(["a", "b"], [0.3, None])
    with pytest.raises(ValueError, match=r"the shares of a, b must add up to 1, and they add up to 1\.1; lower one"):
        check_shares(["a", "b"], [0.5, 0.6])
    with pytest.raises(ValueError, match=r"add up to 0\.8; or leave one out: its file then takes the rest"):
        check_shares(["a", "b"], [0.5, 0.3])
    with pytest.raises(ValueError, match="the shares add up to 1, which leaves nothing for c"):
        check_shares(["a", "b", "c"], [0.5, 0.5, None])


def test_files_without_a_share_are_one_group():
    samples = replace(
        people_of(LSP, 6), files=tuple("abc"), image_ids=np.arange(3), image_index=np.array([0, 1, 1, 2, 2, 2]),
        origins=("one", "two", "three"), origin_index=np.array([0, 1, 2]),
    )  # fmt: skip
    mixture = mix(samples, [None, 0.5, None])
    assert [group.tolist() for group in mixture.groups] == [[1, 2], [0, 3, 4, 5]]
    assert mixture.shares == (0.5, 0.5)
    assert mix(samples, [None, None, None]) is None
    with pytest.raises(ValueError, match="two has a share and no labeled people"):
        mix(samples.take(np.array([0, 5])), [None, 0.5, None])
