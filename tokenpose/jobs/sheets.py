"""What the network sees: a training batch as a picture, its targets on top."""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from tokenpose.data.augment import Batch, check_skeleton
from tokenpose.data.batches import TrainingBatches, WindowDataset
from tokenpose.geometry.affine import resize_matrices, transform_points
from tokenpose.geometry.crops import crop_images
from tokenpose.jobs.training_data import TrainingData
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.training.settings import TrainingSettings
from tokenpose.visualize import contact_sheet, draw_poses

MOST_PEOPLE = 32
SHOWN_HEIGHT = 320
HEAT = (255.0, 64.0, 64.0)


def draw_first_batch(data: TrainingData, spec: ModelSpec, settings: TrainingSettings) -> UInt8[np.ndarray, "_ _ 3"]:
    """The first people of a run's first batch, augmented: the targets as heat, labelled keypoints as a pose."""
    check_skeleton(settings.augmentation, spec.skeleton)
    dataset = WindowDataset(data.people, data.source, spec, settings.augmentation, cache="none")
    batches = TrainingBatches(dataset, spec, settings.augmentation, batch_size=settings.batch_size, seed=settings.seed)
    return draw_batch(next(batches.epoch(0)), spec)


def draw_batch(batch: Batch, spec: ModelSpec) -> UInt8[np.ndarray, "_ _ 3"]:
    """A contact sheet of crops with their targets."""
    batch = Batch(*(values[:MOST_PEOPLE].cpu() for values in batch))
    std, mean = (torch.tensor(values).view(3, 1, 1) for values in (spec.std, spec.mean))
    crops = (batch.crops.float() * std + mean) * 255
    identity = torch.eye(2, 3).expand(len(crops), -1, -1)
    to_crop = resize_matrices(identity, spec.output_size, spec.image_size)
    heat = crop_images(batch.heatmaps.amax(dim=1, keepdim=True).expand(-1, 3, -1, -1), to_crop, spec.image_size)
    shown = crops + 0.6 * heat * (torch.tensor(HEAT).view(3, 1, 1) - crops)
    pictures = shown.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    keypoints = transform_points(batch.keypoints, to_crop)
    drawn = [
        draw_poses(picture, _pose(points, weights, spec), 0.5, scale=max(1.0, SHOWN_HEIGHT / spec.image_size[0]))
        for picture, points, weights in zip(pictures, keypoints, batch.weights, strict=True)
    ]
    return contact_sheet(drawn, columns=8, size=drawn[0].shape[:2])


def _pose(points: Float[Tensor, "keypoints 2"], weights: Float[Tensor, " keypoints"], spec: ModelSpec) -> Poses:
    height, width = spec.image_size
    return Poses(
        keypoints=points.unsqueeze(0).numpy(),
        scores=weights.unsqueeze(0).numpy(),
        boxes=np.array([[0, 0, width, height]], dtype=np.float32),
        skeleton=spec.skeleton,
    )
