"""Mirroring: exchange left and right keypoints, and mirror heatmaps back."""

from collections.abc import Sequence

from tokenpose.shapes import Heatmaps
from tokenpose.skeletons import IndexPairs, explain_unknown_flip_pairs


def flip_order(keypoints: int, flip_pairs: IndexPairs | None, names: Sequence[str] = ()) -> list[int]:
    """For each keypoint, the index of the keypoint that it becomes in a mirrored image.

    Raises ValueError if the pairs are unknown (None), with the reason if the keypoints' names are given.
    """
    if flip_pairs is None:
        reason = f"their names don't tell ({explain_unknown_flip_pairs(names)})" if names else "their names don't tell"
        raise ValueError(
            f"mirroring needs to know which keypoints change sides: {reason}; "
            "give flip_pairs (a Skeleton's, or --flip-pairs; () or none if none does), or turn mirroring off (flip 0)"
        )
    order = list(range(keypoints))
    for first, second in flip_pairs:
        order[first], order[second] = second, first
    return order


def flip_heatmaps(heatmaps: Heatmaps, flip_pairs: IndexPairs | None) -> Heatmaps:
    """Turn heatmaps of a mirrored crop into heatmaps of the crop: mirror them and exchange left and right. No shift."""
    return heatmaps.flip(-1)[:, flip_order(heatmaps.shape[1], flip_pairs)]
