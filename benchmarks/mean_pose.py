"""A lower bound for every score: PCK of predicting the mean pose for everybody, whatever the photograph shows.

Usage: python benchmarks/mean_pose.py TRAIN.json VAL.json
The mean is that of the training people in their boxes' frames (published crop, 256x192); it is placed in each box.
"""

import sys

import numpy as np
import torch

from tokenpose.data.coco import read_coco
from tokenpose.data.samples import Samples
from tokenpose.evaluation.pck import PckResult, pck
from tokenpose.geometry.affine import crop_matrices, invert, transform_points
from tokenpose.geometry.boxes import center_and_scale

CROP = (256, 192)


def matrices(samples: Samples) -> torch.Tensor:
    center, scale = center_and_scale(torch.from_numpy(samples.boxes), CROP)
    return crop_matrices(center, scale, CROP)


def score_mean_pose(train: Samples, val: Samples) -> PckResult:
    in_crops = transform_points(torch.from_numpy(train.keypoints), matrices(train)).numpy()
    visible = train.visible[..., None]
    mean = (in_crops * visible).sum(axis=0) / visible.sum(axis=0)
    everybody = torch.from_numpy(np.broadcast_to(mean, val.keypoints.shape).astype(np.float32))
    predicted = transform_points(everybody, invert(matrices(val))).numpy()
    return pck(predicted, val.keypoints, val.visible, val.skeleton)


if __name__ == "__main__":
    print(score_mean_pose(read_coco(sys.argv[1]), read_coco(sys.argv[2])))
