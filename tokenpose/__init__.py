"""TokenPose: keypoints from a Transformer whose keypoints are tokens. Every public name is loaded on first use."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tokenpose.attention.computation import attention_maps as attention_maps
    from tokenpose.attention.computation import keypoint_similarity as keypoint_similarity
    from tokenpose.attention.maps import AttentionMaps as AttentionMaps
    from tokenpose.deploy.export import export_onnx as export_onnx
    from tokenpose.deploy.optimization import optimize as optimize
    from tokenpose.detection import detect as detect
    from tokenpose.geometry.decode import decode as decode
    from tokenpose.jobs.calibration import calibrate as calibrate
    from tokenpose.jobs.evaluation import evaluate as evaluate
    from tokenpose.jobs.training import finetune as finetune
    from tokenpose.models.attention import Attention as Attention
    from tokenpose.models.backbones import register_backbone as register_backbone
    from tokenpose.models.blocks import register_block as register_block
    from tokenpose.models.create import create_model as create_model
    from tokenpose.models.hub import push_to_hub as push_to_hub
    from tokenpose.models.official import convert_official as convert_official
    from tokenpose.models.recording import record_attention as record_attention
    from tokenpose.models.spec import ModelSpec as ModelSpec
    from tokenpose.models.weights import save_pretrained as save_pretrained
    from tokenpose.models.zoo import list_models as list_models
    from tokenpose.models.zoo import register_model as register_model
    from tokenpose.poses import Poses as Poses
    from tokenpose.predictor import PosePredictor as PosePredictor
    from tokenpose.predictor import predict as predict
    from tokenpose.skeletons import Skeleton as Skeleton
    from tokenpose.transforms import create_transform as create_transform

_MODULES = {
    "Attention": "models.attention",
    "AttentionMaps": "attention.maps",
    "ModelSpec": "models.spec",
    "PosePredictor": "predictor",
    "Poses": "poses",
    "Skeleton": "skeletons",
    "attention_maps": "attention.computation",
    "calibrate": "jobs.calibration",
    "convert_official": "models.official",
    "create_model": "models.create",
    "create_transform": "transforms",
    "decode": "geometry.decode",
    "detect": "detection",
    "evaluate": "jobs.evaluation",
    "export_onnx": "deploy.export",
    "finetune": "jobs.training",
    "keypoint_similarity": "attention.computation",
    "list_models": "models.zoo",
    "optimize": "deploy.optimization",
    "predict": "predictor",
    "push_to_hub": "models.hub",
    "record_attention": "models.recording",
    "register_backbone": "models.backbones",
    "register_block": "models.blocks",
    "register_model": "models.zoo",
    "save_pretrained": "models.weights",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'tokenpose' has no attribute {name!r}")
    value = getattr(import_module(f"tokenpose.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
