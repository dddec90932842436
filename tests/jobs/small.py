"""A small model, short settings and what the tests of runs share."""

from tokenpose.data.augment import Augmentation
from tokenpose.data.coco import read_coco
from tokenpose.data.sources import ImageSource
from tokenpose.jobs.evaluation import measure_pck
from tokenpose.jobs.training_data import read_training_data
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import LSP
from tokenpose.training.settings import TrainingSettings

TINY = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(64, 48), patch_size=(16, 12), width=48, heads=4, depth=2,
    heatmap_activation="softmax", sigma=1.0, skeleton=LSP,
)  # fmt: skip
SETTINGS = TrainingSettings(
    epochs=3, batch_size=4, average=0.5, validate_every=2,
    augmentation=Augmentation(scale=0.1, rotation=10.0),
)  # fmt: skip
CHANGES = {
    **{name: value for name, value in vars(SETTINGS).items() if name != "augmentation"}, "scale": 0.1, "rotation": 10.0
}  # fmt: skip


def data_of(people):
    return read_training_data(people, people, people.parent)


def measured(model: TokenPose, people) -> float:
    return measure_pck(model, read_coco(people), ImageSource(people.parent)).mean
