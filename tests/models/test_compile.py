"""torch.compile and torch.export, in an interpreter without the import hook, which breaks the graph."""

import pytest

from tokenpose.models.blocks import blocks

PREPARE = """
import torch, warnings
from tokenpose.models.blocks import blocks
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton
torch.manual_seed(0)
spec = ModelSpec(backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=2)
specs = {
    "published": spec,
    "groups, learnable": spec.replace(groups=2, head_layers=1, positions="learnable", heatmap_activation="softmax"),
    **{
        f"{block}, no positions": spec.replace(block=block, positions="none") for block in blocks if block != spec.block
    },
}
def check(name, found, expected):
    error = ((found - expected).abs().max() / expected.abs().max()).item()
    print(name, error)
    assert found.shape == expected.shape and error <= 1e-4, (name, error)
"""


SPECS = 2 + len(list(blocks)) - 1
"""How many ``specs`` there are."""


@pytest.mark.slow
def test_compiled_model_equals_eager_and_is_one_graph(run_python):
    code = PREPARE + (
        "for name, spec in specs.items():\n"
        "    model = TokenPose(spec).eval()\n"
        "    compiled = torch.compile(model, fullgraph=True, backend='aot_eager', dynamic=True)\n"
        "    with torch.no_grad():\n"
        "        for batch in (2, 5):\n"
        "            images = torch.randn(batch, 3, 64, 48)\n"
        "            check(name, compiled(images), model(images))\n"
    )
    assert run_python(code).stdout.count("\n") == 2 * SPECS


@pytest.mark.slow
def test_compiled_model_trains_as_eager(run_python):
    code = PREPARE + (
        "import copy\n"
        "model = TokenPose(specs['published']).train()\n"
        "compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend='aot_eager')\n"
        "images = torch.randn(4, 3, 64, 48)\n"
        "for one in (model, compiled): one(images).square().mean().backward()\n"
        "for (name, a), b in zip(model.named_parameters(), compiled.parameters()): check(name, b.grad, a.grad)\n"
    )
    run_python(code)


@pytest.mark.slow
def test_model_compiled_to_machine_code_equals_eager(run_python):
    code = PREPARE + (
        "import shutil\n"
        "if not (shutil.which('c++') or shutil.which('g++') or shutil.which('clang++')): raise SystemExit('skip')\n"
        "model = TokenPose(spec).eval()\n"
        "images = torch.randn(2, 3, 64, 48)\n"
        "with torch.no_grad(): check('inductor', torch.compile(model, fullgraph=True)(images), model(images))\n"
    ).replace("raise SystemExit('skip')", "print('skip'); raise SystemExit(0)")
    if run_python(code).stdout == "skip\n":
        pytest.skip("torch.compile needs a C++ compiler")


@pytest.mark.slow
def test_exported_model_equals_eager_for_any_batch(run_python):
    code = PREPARE + (
        "import io\n"
        "for name, spec in specs.items():\n"
        "    model = TokenPose(spec).eval()\n"
        "    batch = torch.export.Dim('batch', min=1, max=64)\n"
        "    program = torch.export.export(model, (torch.randn(2, 3, 64, 48),), dynamic_shapes=({0: batch},))\n"
        "    saved = io.BytesIO()\n"
        "    torch.export.save(program, saved)\n"
        "    again = torch.export.load(io.BytesIO(saved.getvalue())).module()\n"
        "    with torch.no_grad():\n"
        "        for size in (1, 2, 7):\n"
        "            images = torch.randn(size, 3, 64, 48)\n"
        "            check(name, program.module()(images), model(images))\n"
        "            check(name, again(images), model(images))\n"
    )
    assert run_python(code).stdout.count("\n") == 6 * SPECS
