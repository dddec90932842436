"""The examples of the documentation run, in the order of their page and in one namespace."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from typer.testing import CliRunner

from tokenpose.cli import app
from tokenpose.models.create import create_model
from tokenpose.models.weights import write_weights
from tokenpose.training.recipes import list_recipes, read_recipe

from .drawing import draw_people

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ["index.md", "models.md", "transforms.md", "detect.md", "attention.md", "hub.md", "extend.md", "speed.md"]
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


# Commands, in a folder of drawn people

COMMANDS = ["finetune.md", "train.md", "distributed.md", "label.md", "data.md", "check.md", "evaluate.md", "speed.md"]
SHELL = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = "tokenpose_t.lsp_256x192"


def commands(page: str) -> list[list[str]]:
    """The page's shell commands, but for those that say why they are not run."""
    text = "".join(block for reason, block in SHELL.findall(page) if not reason)
    return [shlex.split(line) for line in text.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder with what the pages speak of: train.json, val.json, own_val.json, images/, run/model.safetensors, ..."""
    folder = tmp_path_factory.mktemp("docs")
    path = draw_people(folder, 12)
    content = json.loads(path.read_text())
    for name, rows in (("train", slice(8)), ("val", slice(8, 12))):
        part = {**content, "annotations": content["annotations"][rows], "images": content["images"][rows]}
        text = json.dumps(part)
        (folder / f"{name}.json").write_text(text)
        (folder / f"own_{name}.json").write_text(text.replace('"neck"', '"throat"').replace('"head_top"', '"crown"'))
    boxes = [
        {"image_id": person["image_id"], "category_id": 1, "bbox": person["bbox"], "score": 0.9}
        for person in content["annotations"][8:]
    ]
    (folder / "boxes.json").write_text(json.dumps(boxes))
    (folder / "mine.toml").write_text("epochs = 2\n")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (640, 640, 3), dtype=np.uint8)).save(folder / "photo.jpg")
    label_flies(folder / "flies", content)
    torch.manual_seed(0)
    (folder / "weights").mkdir()
    write_weights(create_model(SMALL, image_size=(64, 48), depth=2, heads=4), folder / "weights" / "model.safetensors")
    return folder


def label_flies(folder: Path, content: dict[str, Any]) -> None:
    """The drawn people, as labelme labels them."""
    folder.mkdir()
    for image, person in zip(content["images"], content["annotations"], strict=True):
        shutil.copy(folder.parent / "images" / image["file_name"], folder)
        positions = np.array(person["keypoints"], dtype=float).reshape(-1, 3)[:, :2].tolist()
        shapes = [
            {"label": name, "points": [position], "shape_type": "point", "group_id": 1, "flags": {}}
            for name, position in zip(content["categories"][0]["keypoints"], positions, strict=True)
        ]
        size = {"imageWidth": image["width"], "imageHeight": image["height"]}
        labels = {"version": "5.5.0", "shapes": shapes, "imagePath": image["file_name"], **size}
        (folder / image["file_name"]).with_suffix(".json").write_text(json.dumps(labels))


@pytest.fixture
def workplace(data, tmp_path, monkeypatch) -> Path:
    """A copy of it for a page's commands."""
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_of_the_page_run(name, workplace, request):
    page = (DOCS / name).read_text()
    if name == "speed.md":
        request.getfixturevalue("unchecked")
    if not any("train" in command[:2] for command in commands(page)):
        (workplace / "weights").rename(workplace / "run")
    for command in commands(page):
        if command[0] == "tokenpose":
            arguments = command[1:]
            if arguments[0] == "train" and "--epochs" not in arguments:
                arguments += ["--epochs", "1"]  # the page's runs, shortened
            result = CliRunner().invoke(app, arguments)
            AcceleratorState._reset_state(reset_partial_state=True)
            assert result.exit_code == 0, (command, result.output)
        else:
            module = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}[
                command[0]
            ]
            done = subprocess.run(
                [sys.executable, "-m", module, *command[1:]], env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
                capture_output=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, (command, done.stdout + done.stderr)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["finetune.md", "label.md"])
def test_python_of_the_page_runs_in_the_folder_of_its_commands(name, workplace, run_python):
    code = with_lines_of((DOCS / name).read_text())
    run_python(f"import os; os.chdir({str(workplace)!r})\n{code[1:]}")


def test_every_recipe_is_on_the_page():
    page = (DOCS / "train.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == ["coco", "mpii", "lsp", "tokens", "finetune"]
    assert sorted(["coco", "mpii", "lsp", "tokens", "finetune"]) == list_recipes()


def test_recipe_on_the_page_is_one(tmp_path):
    (block,) = re.findall(r"^```toml\n(.*?)^```$", (DOCS / "train.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(block)
    assert read_recipe(tmp_path / "mine.toml").settings().augmentation.rotation == 15
