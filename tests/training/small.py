"""A small model, its settings, and the parts of a run that tests put together."""

import json

import torch
from accelerate import Accelerator

from tokenpose.data.augment import Batch
from tokenpose.data.batches import TrainingBatches
from tokenpose.data.settings import Augmentation
from tokenpose.data.windows import WindowDataset
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import Supervised
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP
from tokenpose.training.settings import TrainingSettings
from tokenpose.training.step import TrainingStep

SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), skeleton=LSP, width=48, heads=4,
    depth=2, heatmap_activation="softmax", sigma=1.0,
)  # fmt: skip
SETTINGS = TrainingSettings(
    epochs=4, batch_size=4, learning_rate=2e-3, average=0.5,
    validate_every=2, augmentation=Augmentation(scale=0.1, rotation=10.0, color=0.1), checkpoint_seconds=0.0,
)  # fmt: skip


def first_batch(people, settings=SETTINGS) -> Batch:
    samples, source = people
    dataset = WindowDataset(samples, source, SPEC, settings.augmentation, settings.cache)
    batches = TrainingBatches(dataset, settings.augmentation, batch_size=settings.batch_size, seed=settings.seed)
    return next(batches.epoch(0))


def make_step(settings=SETTINGS, seed=0, total=12, spec=SPEC, advise=lambda: "rest") -> TrainingStep:
    torch.manual_seed(seed)
    network = Supervised(TokenPose(spec), patch_blocks=(0,), guided_blocks=(0, 1))
    accelerator = Accelerator(cpu=True, mixed_precision="no" if settings.precision == "fp32" else settings.precision)
    return TrainingStep(network, settings, accelerator, total, advise)


def log_of(output) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def assert_same(first, second) -> None:
    """To the bit, whatever is nested in whatever."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, list | tuple):
        assert len(first) == len(second)
        for a, b in zip(first, second, strict=True):
            assert_same(a, b)
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    else:
        assert first == second
