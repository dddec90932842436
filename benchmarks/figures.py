"""The pictures of the page on attention, from the bundled weights.

Usage: python benchmarks/figures.py [FOLDER]

Writes PNG files into docs/pictures, unless FOLDER is given. The photograph is NASA's portrait of Eileen Collins (public
domain), from scikit-image. Needs the `plot` and `test` extras; the files are the same for the same
versions of torch, matplotlib and Pillow.
"""

import io
import sys
from pathlib import Path

import skimage.data
from matplotlib.figure import Figure
from PIL import Image

from tokenpose.attention.computation import attention_maps, keypoint_similarity
from tokenpose.attention.figures import draw_matrix
from tokenpose.models.create import create_model

BOX = [20.0, 10.0, 420.0, 512.0]
LARGEST = 150_000  # bytes
FOLDER = Path(__file__).parents[1] / "docs" / "pictures"


def draw_pictures() -> dict[str, Figure]:
    model = create_model("tokenpose_s_v1", pretrained=True)
    photograph = skimage.data.astronaut()
    maps = attention_maps(model, photograph, BOX)
    return {
        "layers": maps.plot("layers", "right_shoulder", image=photograph),
        "attention": maps.plot("matrix"),
        "constraints": maps.plot("constraints", image=photograph),
        "heatmaps": maps.plot("heatmaps", image=photograph),
        "similarity": draw_matrix(
            keypoint_similarity(model),
            maps.names,
            maps.names,
            title="Similarity of the learned keypoint tokens",
            label="softmax of inner products",
        ),
    }


def write_picture(figure: Figure, path: Path) -> None:
    """Write a PNG with 256 colors, chosen so that the rare colors of the maps are among them."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    picture = Image.open(buffer).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.name:<16} {picture.width}x{picture.height}, {size} bytes")
    if size > LARGEST:
        raise SystemExit(f"a picture of the page should have at most {LARGEST} bytes")


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in draw_pictures().items():
        write_picture(figure, folder / f"{name}.png")
