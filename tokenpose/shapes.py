"""What the axes of tensors mean, once: the names that annotations share. Coordinates are (x, y), sizes (height, width).

Each frame has its own words, so that one signature can hold all three: ``image_height image_width`` in image pixels,
``height width`` in crop pixels, ``rows columns`` in heatmap cells.
"""

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

Heatmaps = Float[Tensor, "people keypoints rows columns"]
Cells = Int[Tensor, "people keypoints"]
"""Whole columns, or whole rows, of heatmaps."""

Keypoints = Float[Tensor, "people keypoints 2"]
Scores = Float[Tensor, "people keypoints"]
Visible = Bool[Tensor, "people keypoints"]
TargetWeights = Float[Tensor, "people keypoints"]
"""1 where a keypoint counts in the loss, else 0."""
