"""Sheets of people: labeled and predicted poses side by side, and training batches as the network sees them."""

from pathlib import PurePath

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.data.augment import Batch, check_skeleton
from tokenpose.data.batches import TrainingBatches
from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.sources import Source
from tokenpose.data.windows import WindowDataset
from tokenpose.evaluation.settings import SHEET_COUNT, SheetSettings
from tokenpose.geometry.affine import resize_matrices, transform_points
from tokenpose.geometry.crops import crop_images
from tokenpose.images import write_image
from tokenpose.jobs.training_data import TrainingData
from tokenpose.models.sizes import specs_of_sizes
from tokenpose.models.spec import ModelSpec
from tokenpose.poses import Poses
from tokenpose.predictor import PosePredictor
from tokenpose.shapes import RgbImage
from tokenpose.training.settings import TrainingSettings
from tokenpose.visualize import Picture, contact_sheet, crop_picture, draw_poses, scale_to_fit

PERSON_SIDE = 240
"""Pixels of a side of each half of a person's picture, labeled and predicted."""

MOST_PEOPLE = 32
"""How many people of a batch are drawn."""
SHOWN_HEIGHT = 320
"""Smaller crops are enlarged to this many pixels in height."""
HEAT = (255.0, 64.0, 64.0)


def draw_sheet(predictor: PosePredictor, people: Samples, source: Source, count: int, threshold: float) -> Picture:
    """Draw the first people: the labeled pose on the left, the predicted one, from ``threshold`` on, on the right."""
    pictures, captions = [], []
    for index in range(min(count, len(people))):
        image = read_image_of(source, people, int(people.image_index[index]))
        predicted = predictor(image, people.boxes[index : index + 1], "xywh")
        labeled = _labeled_pose(people, index, predicted.boxes)
        halves = _draw_half(image, labeled, 0.5), _draw_half(image, predicted, threshold)
        line = np.full((len(halves[0]), 2, 3), 255, dtype=np.uint8)
        pictures.append(np.concatenate((halves[0], line, halves[1]), axis=1))
        captions.append(PurePath(people.file_of(index)).name)
    return contact_sheet(pictures, columns=5, size=(PERSON_SIDE, 2 * PERSON_SIDE + 2), captions=captions)


def _labeled_pose(people: Samples, index: int, boxes: Float[np.ndarray, "1 4"]) -> Poses:
    """One person's labels, with a score of 1 for a labeled keypoint and 0 for another."""
    return Poses(
        keypoints=people.keypoints[index : index + 1],
        scores=people.visible[index : index + 1].astype(np.float32),
        boxes=boxes,
        skeleton=people.skeleton,
    )


def _draw_half(image: RgbImage, poses: Poses, threshold: float) -> Picture:
    """One person's surroundings with the pose on top."""
    picture, poses = crop_picture(image.permute(1, 2, 0).numpy(), poses)
    return draw_poses(picture, poses, threshold, scale=scale_to_fit(picture, (PERSON_SIDE, PERSON_SIDE)))


def write_sheet(
    predictor: PosePredictor,
    people: Samples,
    source: Source,
    settings: SheetSettings,
    errors: Float[np.ndarray, " people"] | None = None,
) -> None:
    """Write a sheet of people to the file of the settings, if they name one. ``errors``: of each person, if known."""
    if settings.sheet is None:
        return
    if settings.sheet_order == "worst" and errors is not None:
        people = people.take(np.argsort(np.nan_to_num(-errors, nan=np.inf), kind="stable"))  # unknown ones last
    picture = draw_sheet(
        predictor, people, source, settings.sheet_count or SHEET_COUNT, settings.sheet_threshold or 0.0
    )
    write_image(picture, settings.sheet)


def draw_first_batch(data: TrainingData, spec: ModelSpec, settings: TrainingSettings) -> Picture:
    """Draw the first people of a run's first batch, augmented, with the targets as heat and the labels as a pose."""
    check_skeleton(settings.augmentation, spec.skeleton)
    specs = specs_of_sizes(spec, settings.sizes)
    dataset = WindowDataset(data.people, data.source, specs, settings.augmentation, cache="none")
    batches = TrainingBatches(
        dataset, settings.augmentation, batch_size=settings.people_a_step, seed=settings.seed, mixture=data.mixture
    )
    batch = next(batches.epoch(0))
    return draw_batch(batch, next(spec for spec in specs if spec.image_size == tuple(batch.crops.shape[2:])))


def draw_batch(batch: Batch, spec: ModelSpec) -> Picture:
    """Draw a contact sheet of crops with their targets."""
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
        draw_poses(
            picture, _pose(points, (weights > 0).float(), spec), 0.5, scale=max(1.0, SHOWN_HEIGHT / spec.image_size[0])
        )
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
