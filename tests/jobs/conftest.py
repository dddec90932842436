import json

import pytest
from accelerate.state import AcceleratorState

from tokenpose.models.zoo import architectures, register_model
from tokenpose.skeletons import COCO

from ..drawing import draw_people
from .small import TINY


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """The COCO file of eight drawn people; its folder holds the images."""
    return draw_people(tmp_path_factory.mktemp("drawn"), 8)


@pytest.fixture(autouse=True)
def _fresh_accelerator():
    """accelerate keeps one state a process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def _registered():
    """ "tiny" knows LSP's keypoints, "other" COCO's; forgotten after each test."""
    before = dict(architectures._parts)
    register_model("tiny", TINY)
    register_model("other", TINY.replace(skeleton=COCO))
    yield
    architectures._parts.clear()
    architectures._parts.update(before)


@pytest.fixture
def two_sets(people, tmp_path):
    """COCO files of the same people: without the head, and only the head under other names."""
    content = json.loads(people.read_text())
    for name, columns in (("body", slice(0, 12)), ("head", slice(12, 14))):
        category = {**content["categories"][0], "skeleton": []}
        category["keypoints"] = category["keypoints"][columns]
        part = {**content, "categories": [category], "annotations": []}
        for annotation in content["annotations"]:
            triples = annotation["keypoints"][3 * columns.start : 3 * columns.stop]
            part["annotations"].append({**annotation, "keypoints": triples})
        (tmp_path / f"{name}.json").write_text(json.dumps(part))
    return [f"{tmp_path / name}.json={people.parent}" for name in ("body", "head")]
