"""The package as a whole: what importing it does, and what it offers."""

import inspect
import re
from pathlib import Path

import pytest

import tokenpose

ROOT = Path(__file__).parents[1]

# A new public name is added here too: on purpose, then, and not by accident.
PUBLIC_NAMES = [
    "Attention",
    "AttentionMaps",
    "ModelSpec",
    "PosePredictor",
    "Poses",
    "Skeleton",
    "attention_maps",
    "calibrate",
    "convert_official",
    "create_model",
    "create_transform",
    "decode",
    "detect",
    "evaluate",
    "export_onnx",
    "finetune",
    "keypoint_similarity",
    "list_models",
    "optimize",
    "predict",
    "push_to_hub",
    "record_attention",
    "register_backbone",
    "register_block",
    "register_model",
    "save_pretrained",
]

# What would be seen on a network: socket events (https://docs.python.org/3/library/audit_events.html).
REFUSE_NETWORK = """
import sys
def refuse(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}:
        sys.stderr.write(f"network: {event} {arguments}")
        raise OSError(f"no network here: {event}")
sys.addaudithook(refuse)
"""
RESOLVE_ALL = "import tokenpose\nfor name in tokenpose.__all__: getattr(tokenpose, name)\n"


def test_public_names_are_those_of_the_inventory():
    assert sorted(tokenpose.__all__) == PUBLIC_NAMES


def test_listing_names_everything_public_once():
    for name in PUBLIC_NAMES:
        getattr(tokenpose, name)
    listing = dir(tokenpose)
    assert set(PUBLIC_NAMES) <= set(listing)
    assert len(listing) == len(set(listing))


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_is_documented_and_bears_its_own_name(name):
    public = getattr(tokenpose, name)
    assert public.__name__ == name
    assert public.__doc__
    if inspect.isclass(public):
        methods = {key: value for key, value in vars(public).items() if not key.startswith("_") and callable(value)}
        assert [key for key, value in methods.items() if not value.__doc__] == []


@pytest.mark.parametrize("name", PUBLIC_NAMES)
def test_public_name_stands_in_the_reference(name):
    directives = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    assert f"{getattr(tokenpose, name).__module__}.{name}" in directives


def test_no_module_of_the_package_shadows_a_public_name():
    modules = {path.stem for path in Path(tokenpose.__file__).parent.iterdir()}
    assert modules.isdisjoint(PUBLIC_NAMES)


def test_unknown_name_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="create_modle"):
        _ = tokenpose.create_modle


def test_importing_says_nothing_and_is_lazy(run_python):
    heavy = "('torch', 'timm', 'numpy', 'PIL', 'pycocotools', 'accelerate', 'matplotlib', 'huggingface_hub')"
    code = f"import sys, tokenpose\nassert not sys.modules.keys() & set({heavy}), sys.modules.keys() & set({heavy})"
    process = run_python(code, "-W", "error")
    assert process.stdout == process.stderr == ""


@pytest.mark.parametrize("module", ["tokenpose.skeletons", "tokenpose.poses"])
def test_vocabulary_does_not_import_torch(run_python, module):
    run_python(f"import sys, {module}\nassert 'torch' not in sys.modules")


def test_using_every_public_name_says_nothing_and_touches_no_network(run_python):
    process = run_python(REFUSE_NETWORK + RESOLVE_ALL, "-W", "error")
    assert process.stdout == process.stderr == ""


def test_creating_a_model_touches_no_network(run_python):
    process = run_python(REFUSE_NETWORK + "import tokenpose\ntokenpose.create_model('tokenpose_t')\n")
    assert "network" not in process.stdout + process.stderr


def test_refusal_of_network_would_be_seen(run_python):
    code = REFUSE_NETWORK + "import socket\ntry: socket.create_connection(('localhost', 1))\nexcept OSError: pass"
    assert "network: socket.getaddrinfo" in run_python(code).stderr


def test_importing_adds_little_to_torch_and_timm(run_python):
    code = (
        "import time, torch, timm\nstart = time.process_time()\n"
        "import tokenpose\nmodel = tokenpose.create_model, tokenpose.predict\n"
        "print(time.process_time() - start)"
    )
    assert float(run_python(code).stdout) < 0.3  # seconds of processor time, so a busy machine does not fail it
