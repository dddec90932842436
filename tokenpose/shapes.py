"""What the axes of tensors mean, once: the names that annotations share. Coordinates are (x, y), sizes (height, width).

Each frame has its own words, so that one signature can hold all three: ``image_height image_width`` in image pixels,
``height width`` in crop pixels, ``rows columns`` in heatmap cells.
"""

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

RgbImage = UInt8[Tensor, "3 image_height image_width"]
Pixels = Shaped[Tensor, "3 image_height image_width"]
"""An image of any dtype."""

Boxes = Float[Tensor, "people 4"]
Centers = Float[Tensor, "people 2"]
"""x and y of what a crop shows, in image pixels."""
Scales = Float[Tensor, "people 2"]
"""Width and height of what a crop shows, in image pixels."""

Matrices = Float[Tensor, "people 2 3"]
"""Affine maps, mostly image -> crop."""
Crops = Float[Tensor, "people 3 height width"]
CropFilter = Literal["bilinear", "area"]
"""What a crop's pixel shows: the place at its center, or the mean of the image's pixels that it covers."""

Heatmaps = Float[Tensor, "people keypoints rows columns"]
Cells = Int[Tensor, "people keypoints"]
"""Whole columns, or whole rows, of heatmaps."""

Keypoints = Float[Tensor, "people keypoints 2"]
Scores = Float[Tensor, "people keypoints"]
Visible = Bool[Tensor, "people keypoints"]
TargetWeights = Float[Tensor, "people keypoints"]
"""1 where a keypoint counts in the loss, else 0."""
Scalar = Float[Tensor, ""]

# Inside the network
Features = Float[Tensor, "people channels rows columns"]
"""A backbone's map."""
Tokens = Float[Tensor, "people tokens width"]
Queries = Float[Tensor, "people heads queries head_width"]
Keys = Float[Tensor, "people heads tokens head_width"]
AttentionRows = Float[Tensor, "people heads keypoints tokens"]
"""What each keypoint token attends to: softmax rows."""

# The same as numpy arrays, for labels and figures
KeypointArray = Float[np.ndarray, "people keypoints 2"]
VisibleArray = Bool[np.ndarray, "people keypoints"]
DistanceArray = Float[np.ndarray, "people keypoints"]
LengthArray = Float[np.ndarray, " people"]
"""A number for each person: a length, an area or a score."""
SigmaArray = Float[np.ndarray, " keypoints"]
RowArray = Int[np.ndarray, " _"]
"""Positions of rows in other arrays."""
