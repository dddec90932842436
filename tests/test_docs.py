"""The examples of the documentation run, in the order of their page and in one namespace."""

import re
from pathlib import Path

import pytest
import torch

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ["index.md", "models.md", "transforms.md", "detect.md", "attention.md", "hub.md", "extend.md"]
BEFORE = """
import warnings; warnings.simplefilter("error")
import numpy as np
from PIL import Image
for name in ("photo.jpg", "group.jpg", "b.jpg"):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)).save(name)
paths, boxes = ["photo.jpg", "b.jpg"], [[[48, 20, 310, 620]], [[10, 20, 210, 420]]]
"""  # what the pages take for granted
FENCE = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page: str) -> list[str]:
    """The page's Python blocks, but for those that say why they are not run."""
    return [block for reason, block in FENCE.findall(page) if not reason]


def with_lines_of(page: str) -> str:
    """The examples alone, each on the lines that it has in the page, so that an error tells the page's line."""
    code, written = "", 0
    for match in FENCE.finditer(page):
        if not match[1]:
            before = page.count("\n", 0, match.start(2))
            code += "\n" * (before - written) + match[2]
            written = before + match[2].count("\n")
    return code


@pytest.fixture(scope="module")
def torch_home(tmp_path_factory) -> Path:
    """What TORCH_HOME may name: random weights of the default detector."""
    from torchvision.models import get_model, get_model_weights

    name = "fasterrcnn_mobilenet_v3_large_fpn"
    path = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / Path(get_model_weights(name).DEFAULT.url).name
    path.parent.mkdir(parents=True)
    torch.save(get_model(name, weights=None, weights_backbone=None).state_dict(), path)
    return path.parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_examples_of_the_page_run_without_a_warning(name, run_python, torch_home):
    page = (DOCS / name).read_text()
    assert examples(page)
    code = f"exec({BEFORE!r})\n" + with_lines_of(page)[1:]
    run_python(code, "-W", "error", environment={"TORCH_HOME": str(torch_home)})


def test_parts_of_your_own_take_under_30_lines():
    lengths = [block.count("\n") for block in examples((DOCS / "extend.md").read_text())]
    assert len(lengths) >= 6
    assert max(lengths) < 30


def test_blocks_are_found_at_their_lines_and_marked_ones_are_left_out():
    page = "# A\n\n```python\na = 1\n```\n```text\nb\n```\n"
    page += "<!-- not run: needs a network -->\n```python\nc\n```\n```python\na\n```\n"
    assert examples(page) == ["a = 1\n", "a\n"]
    assert with_lines_of(page) == "\n\n\na = 1\n" + "\n" * 9 + "a\n"
