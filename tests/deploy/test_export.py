"""export_onnx: what other runtimes compute from the file is what the model gives."""

import importlib.util
import json
import logging
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tokenpose.deploy import comparison, export
from tokenpose.deploy.export import export_onnx
from tokenpose.deploy.optimization import optimize
from tokenpose.models.blocks import VitBlock, blocks
from tokenpose.models.create import create_model
from tokenpose.models.recording import record_attention
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unchecked")]

SMALL = ModelSpec(backbone="stem", image_size=(64, 48), skeleton=Skeleton.from_count(5), width=48, heads=4, depth=2)


def make(spec: ModelSpec = SMALL) -> TokenPose:
    torch.manual_seed(0)
    return TokenPose(spec).eval()


def difference(found: np.ndarray, expected: Tensor) -> float:
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> tuple[TokenPose, Path]:
    """The pretrained model, and its file."""
    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    model = create_model("tokenpose_s_v1", pretrained=True)
    jaxtyping.config.update("jaxtyping_disable", True)  # as `unchecked` does, which is of single tests
    export_onnx(model, path)
    jaxtyping.config.update("jaxtyping_disable", False)
    return model, path


@pytest.mark.parametrize("batch", [1, 2, 7])
@torch.inference_mode()
def test_onnx_runtime_gives_the_models_heatmaps_for_any_batch(shipped, batch, generator):
    model, path = shipped
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    crops = torch.randn(batch, 3, 256, 192, generator=generator)
    (heatmaps,) = session.run(["heatmaps"], {"crops": crops.numpy()})
    assert difference(heatmaps, model(crops)) <= 1e-4


@torch.inference_mode()
def test_openvino_gives_the_models_heatmaps(shipped, generator):
    import openvino

    model, path = shipped
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    crops = torch.randn(3, 3, 256, 192, generator=generator)
    assert difference(compiled({"crops": crops.numpy()})["heatmaps"], model(crops)) <= 1e-4


def test_file_is_one_valid_file_that_carries_the_spec(shipped):
    model, path = shipped
    assert [found.name for found in path.parent.iterdir()] == ["model.onnx"]
    content = onnx.load(path)
    onnx.checker.check_model(content, full_check=True)
    metadata = {entry.key: entry.value for entry in content.metadata_props}
    assert ModelSpec.from_json(metadata["tokenpose.spec"]) == model.spec
    assert json.loads(metadata["tokenpose.spec"])["image_size"] == [256, 192]
    (crops,), (heatmaps,) = content.graph.input, content.graph.output
    sizes = [
        [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim] for value in (crops, heatmaps)
    ]
    assert sizes == [["batch", 3, 256, 192], ["batch", 14, 64, 48]]


@pytest.mark.parametrize(
    "spec",
    [
        SMALL.replace(groups=2, head_layers=1, positions="learnable"),
        *(
            SMALL.replace(block=block, positions="none", backbone="pixels", backbone_stride=1, patch_size=(16, 12))
            for block in blocks
            if block != SMALL.block
        ),
        SMALL.replace(backbone="hrnet_w32", heatmap_activation="softmax"),
        SMALL.replace(backbone="timm/resnet18", backbone_stride=8, patch_size=(2, 2)),
    ],
    ids=lambda spec: f"{spec.backbone}, {spec.block}",
)
@torch.inference_mode()
def test_other_parts_export_too(spec, tmp_path, generator):
    model = make(spec)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    crops = torch.randn(4, 3, 64, 48, generator=generator)
    assert difference(session.run(None, {"crops": crops.numpy()})[0], model(crops)) <= 1e-4


def test_model_stays_as_it_was(tmp_path):
    model = make().train()
    export_onnx(model, tmp_path / "model.onnx")
    assert model.training


def test_file_that_disagrees_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "TOLERANCE", 1e-12)
    (tmp_path / "model.onnx").write_bytes(b"old")
    with pytest.raises(ValueError, match=r"the ONNX file differ from the model's by \d\.\de-\d+ of the largest value"):
        export_onnx(make(), tmp_path / "model.onnx")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [("model.onnx", b"old")]


class Doubting(nn.Module):
    """A block that looks at values."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.block = VitBlock(spec)

    def forward(self, tokens: Tensor, queries: int | None = None) -> Tensor:
        return self.block(tokens if tokens.mean() > 0 else -tokens, queries)


def test_part_that_onnx_cannot_express_is_named_in_one_line(tmp_path, capfd):
    if "doubting" not in blocks:
        blocks.add("doubting", Doubting)
    with pytest.raises(ValueError, match="block 'doubting' can't be written as ONNX: ") as caught:
        export_onnx(make(SMALL.replace(block="doubting")), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert "".join(capfd.readouterr()) == ""
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_says_so(tmp_path):
    model, path = make(), tmp_path / "model.onnx"
    with pytest.raises(TypeError, match=r"TokenPose is needed.*got Linear"):
        export_onnx(nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match=r"float32; the model has torch\.float16: model\.float\(\) first"):
        export_onnx(make().half(), path)
    broken = TokenPose(SMALL)
    nn.init.constant_(broken.backbone.conv1.weight, float("nan"))
    with pytest.raises(ValueError, match=r"weights aren't finite: 'backbone\.conv1\.weight' holds NaN"):
        export_onnx(broken, path)
    with pytest.raises(ValueError, match="on the meta device, without weights"):
        export_onnx(make().to("meta"), path)
    with pytest.raises(ValueError, match=r"given to tokenpose\.optimize"):
        export_onnx(optimize(model), path)
    with pytest.raises(ValueError, match=r"given to torch\.compile"):
        export_onnx(torch.compile(model), path)
    with record_attention(model), pytest.raises(ValueError, match="being recorded"):
        export_onnx(model, path)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_remedy_is_named(tmp_path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxscript" else found(name))
    with pytest.raises(ModuleNotFoundError, match=r'need onnxscript: pip install "tokenpose\[export\]"'):
        export_onnx(make(), tmp_path / "model.onnx")


def test_folder_without_right_to_write_is_an_os_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(IsADirectoryError, match=r"is a folder: name the ONNX file"):
        export_onnx(make(), tmp_path)
    with pytest.raises(OSError, match="file"):
        export_onnx(make(), tmp_path / "file" / "model.onnx")


def test_exporters_keep_their_logs_to_themselves(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    export_onnx(make(), tmp_path / "model.onnx")
    assert [record.name.partition(".")[0] for record in caplog.records] == ["tokenpose"]
