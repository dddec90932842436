"""Read small files that claim to be huge, and measure the memory that each of them takes.

Usage: python benchmarks/hostile.py [--bombs NAME ...] [--limit 8] [--most 1.5] [--output hostile.json]

Every file is under 10 MB. It is written and read in a process of its own, which may have ``--limit`` GB of address
space: without that, some of these files would stop the machine. "memory" is the process's peak beyond what it held when
the file was ready. The program ends with 1 if a file takes more than ``--most`` GB or ends in anything but a result or
an error of the kinds that the library documents.
"""

import argparse
import importlib
import io
import json
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

REFUSALS = (ValueError, LookupError, TypeError, OSError)
SIDE = 13_300  # of pictures with a little less than 179 million pixels, which Pillow reads
Reader = Callable[[], Any]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bombs", nargs="+", default=list(BOMBS), metavar="NAME")
    parser.add_argument("--limit", type=float, default=8, help="GB of address space of a process")
    parser.add_argument("--most", type=float, default=1.5, help="GB that a file may take")
    parser.add_argument("--output", type=Path, default=Path("hostile.json"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options.limit)))
        return 0
    rows = [run(name, options.limit) for name in options.bombs]
    print(f"{'file':34}{'kB':>8}{'GB':>8}{'s':>7}  outcome")
    for row in rows:
        print(f"{row['bomb']:34}{row['kB']:8}{row['GB']:8.2f}{row['s']:7.1f}  {row['outcome']}")
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["GB"] > options.most or not row["is_expected"] for row in rows))


def run(name: str, limit: float) -> dict[str, Any]:
    """Measure a file in a process of its own."""
    command = [sys.executable, __file__, "--child", name, "--limit", str(limit)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or [""])[-1]
        outcome = f"exit code {process.returncode}: {last:.100}"
        return {"bomb": name, "kB": 0, "GB": float("nan"), "s": 0.0, "outcome": outcome, "is_expected": False}
    return json.loads(process.stdout.splitlines()[-1])


def measure(name: str, limit: float) -> dict[str, Any]:
    """Write the file, read it, and say what it took."""
    warm_up()
    with tempfile.TemporaryDirectory() as folder:
        path, read = BOMBS[name](Path(folder))
        size = path.stat().st_size
        assert size < 10_000_000, size
        resource.setrlimit(resource.RLIMIT_AS, (int(limit * 1e9),) * 2)
        reset_peak()
        before, start = peak(), time.monotonic()
        outcome, is_expected = "read", True
        try:
            read()
        except Exception as error:
            outcome = f"{type(error).__name__}: {' '.join(str(error).replace(folder, '').split())[:150]}"
            is_expected = isinstance(error, REFUSALS)
        seconds = time.monotonic() - start
    return {
        "bomb": name, "kB": size // 1000, "GB": max(0.0, peak() - before), "s": round(seconds, 1), "outcome": outcome,
        "is_expected": is_expected,
    }  # fmt: skip


def warm_up() -> None:
    """Import what reading needs, which takes memory too."""
    for module in (
        "models.create",
        "models.official",
        "data.sources",
        "data.box_files",
        "data.coco",
        "data.mpii",
    ):
        importlib.import_module(f"tokenpose.{module}")
    importlib.import_module("tokenpose.models.create").create_model("tokenpose_t", depth=1)


def peak() -> float:
    """The most memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def reset_peak() -> None:
    """Let the peak begin anew (Linux), since writing the file took memory too."""
    Path("/proc/self/clear_refs").write_text("5")


# Weights


def spec_bomb(width: int, ratio: float, **changes: Any) -> Callable[[Path], tuple[Path, Reader]]:
    """A few tensors, and a spec that claims a large model."""

    def write(folder: Path) -> tuple[Path, Reader]:
        import torch
        from safetensors.torch import save_file

        from tokenpose.models.create import read_model
        from tokenpose.models.spec import ModelSpec
        from tokenpose.models.weights import head_tensors
        from tokenpose.skeletons import Skeleton

        values = {
            "backbone": "pixels", "backbone_stride": 1, "image_size": (8, 8), "patch_size": (4, 4),
            "heatmap_size": (2, 2), "depth": 1, "heads": 1, "positions": "none", "head_hidden": 1,
            "skeleton": Skeleton.from_names(["a"]), "width": width, "mlp_ratio": ratio, **changes,
        }  # fmt: skip
        spec = ModelSpec(**values)
        weight, bias = head_tensors(spec)
        tensors = {
            "tokenizer.keypoint_tokens": torch.zeros(1, 1, width), weight: torch.zeros(4, 1), bias: torch.zeros(4),
            "encoder.groups.0.0.attention_norm.bias": torch.zeros(1),
        }  # fmt: skip
        path = folder / "a.safetensors"
        save_file(tensors, path, {"format": "pt", "spec": spec.to_json(), "card": "{}"})
        return path, lambda: read_model(path)

    return write


def many_positions(folder: Path) -> tuple[Path, Reader]:
    """A whole small model with as many tokens as a spec can have, whose sine table is not in the file."""
    from tokenpose.models.create import read_model
    from tokenpose.models.spec import ModelSpec
    from tokenpose.models.tokenpose import TokenPose
    from tokenpose.models.weights import write_weights
    from tokenpose.skeletons import Skeleton

    spec = ModelSpec(
        backbone="pixels", backbone_stride=1, image_size=(256, 256), patch_size=(1, 1), heatmap_size=(2, 2),
        width=1000, depth=1, heads=1, mlp_ratio=0.01, positions="sine", skeleton=Skeleton.from_names(["a"]),
    )  # fmt: skip
    path = folder / "a.safetensors"
    write_weights(TokenPose(spec), path, half=True)
    return path, lambda: read_model(path)


def checkpoint_bomb(pickled: bytes, is_zip: bool = True) -> Callable[[Path], tuple[Path, Reader]]:
    def write(folder: Path) -> tuple[Path, Reader]:
        from tokenpose.models.official import read_published_checkpoint

        path = folder / "a.pth"
        if is_zip:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
                archive.writestr("archive/version", "3\n")
                archive.writestr("archive/byteorder", "little")
        else:
            path.write_bytes(b"\x80\x02" + pickled + b".")
        return path, lambda: read_published_checkpoint(path)

    return write


def called(name: str, number: int) -> bytes:
    module, _, entry = name.rpartition(".")
    return f"c{module}\n{entry}\n".encode() + b"\x8a\x08" + struct.pack("<q", number) + b"\x85R"


def encoded() -> bytes:
    """One text of 9 MB, encoded a thousand times."""
    text = b"X" + struct.pack("<I", 9_000_000) + b"a" * 9_000_000
    again = b"h\x02h\x01X\x06\x00\x00\x00latin1\x86R"
    return b"(" + text + b"q\x01c_codecs\nencode\nq\x02" + again * 1000 + b"l"


def config_bomb(folder: Path) -> tuple[Path, Reader]:
    from tokenpose.models.create import create_model

    spec_bomb(16, 1.0)(folder)
    (folder / "a.safetensors").rename(folder / "model.safetensors")
    (folder / "config.json").write_bytes(b"[" + b"{}," * 3_000_000 + b"1]")
    return folder / "config.json", lambda: create_model(f"local-dir:{folder}")


# Archives


def zip_bomb(method: int, size: int, stated: int | None = None) -> Callable[[Path], tuple[Path, Reader]]:
    """One image of zeros in a zip file."""

    def write(folder: Path) -> tuple[Path, Reader]:
        from tokenpose.data.sources import ImageSource

        path, zeros = folder / "a.zip", bytes(1 << 24)
        with (
            zipfile.ZipFile(path, "w", method, compresslevel=9) as archive,
            archive.open("a.jpg", "w", force_zip64=True) as file,
        ):
            for _ in range(size >> 24):
                file.write(zeros)
        if stated is not None:
            real = struct.pack("<Q", size >> 24 << 24)
            content = path.read_bytes().replace(real, struct.pack("<Q", stated))
            path.write_bytes(content.replace(real[:4], struct.pack("<I", stated)))
        return path, lambda: ImageSource(path).read("a.jpg")

    return write


def tar_bomb(folder: Path) -> tuple[Path, Reader]:
    """Headers for the whole archive, which tarfile copies for each of thousands of files."""
    import tarfile

    from tokenpose.data.sources import ImageSource

    path = folder / "a.tar"
    headers = {f"k{index}": "v" for index in range(50_000)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for index in range(15_000):
            archive.addfile(tarfile.TarInfo(f"{index}.jpg"))
    return path, lambda: ImageSource(path)


# Pictures


def picture(mode: str, suffix: str, side: int = SIDE, **options: Any) -> Callable[[Path], tuple[Path, Reader]]:
    """A picture of one color, which compresses well."""

    def write(folder: Path) -> tuple[Path, Reader]:
        from PIL import Image

        from tokenpose.images import read_image

        path = folder / f"a.{suffix}"
        Image.MAX_IMAGE_PIXELS = None
        Image.new(mode, (side, side)).save(path, **options)
        Image.MAX_IMAGE_PIXELS = 1024 * 1024 * 1024 // 4 // 3
        return path, lambda: read_image(str(path))

    return write


def turned(folder: Path) -> tuple[Path, Reader]:
    from PIL import ExifTags, Image

    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return picture("RGB", "jpg", exif=exif.tobytes())(folder)


def tags(size: int) -> bytes:
    """EXIF data or a TIFF file in which thousands of tags claim the same bytes."""
    count = min(60_000, size // 24)
    content = size - 12 * count - 100
    entries = b"".join(
        struct.pack("<HHII", 1000 + index, 1, content, 10 + 12 * count + 4) for index in range(count)
    )  # type 1: bytes
    return b"II*\0" + struct.pack("<IH", 8, count) + entries + bytes(4 + content)


def exif_bomb(suffix: str) -> Callable[[Path], tuple[Path, Reader]]:
    def write(folder: Path) -> tuple[Path, Reader]:
        from PIL import Image

        from tokenpose.images import read_image

        path, exif = folder / f"a.{suffix}", tags(4_000_000)
        if suffix == "tif":
            path.write_bytes(exif)
        elif suffix == "jpg":
            buffer = io.BytesIO()
            Image.new("RGB", (8, 8)).save(buffer, "JPEG")
            content = buffer.getvalue()
            parts = [b"Exif\0\0" + exif[place : place + 65_000] for place in range(0, len(exif), 65_000)]
            segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
            path.write_bytes(content[:2] + segments + content[2:])
        else:
            Image.new("RGB", (8, 8)).save(path)
            content = path.read_bytes()
            chunk = b"eXIf" + exif
            chunk = struct.pack(">I", len(exif)) + chunk + struct.pack(">I", zlib.crc32(chunk))
            path.write_bytes(content[:33] + chunk + content[33:])
        return path, lambda: read_image(str(path))

    return write


# Annotations, boxes, settings


def coco_bomb(folder: Path) -> tuple[Path, Reader]:
    """A category of 4096 keypoints, and many annotations without any."""
    from tokenpose.data.coco import read_coco

    names = [f"k{index}" for index in range(4096)]
    annotations = [{"id": index, "image_id": 1, "category_id": 1, "iscrowd": 0} for index in range(140_000)]
    content = {
        "images": [{"id": 1, "file_name": "a", "width": 9, "height": 9}],
        "categories": [{"id": 1, "name": "a", "keypoints": names}],
        "annotations": annotations,
    }
    path = folder / "a.json"
    path.write_text(json.dumps(content))
    return path, lambda: read_coco(path)


def boxes_bomb(folder: Path) -> tuple[Path, Reader]:
    from tokenpose.data.box_files import read_boxes_file

    path = folder / "a.json"
    path.write_text('{"a.jpg":[' + "[0,0,1,1]," * 990_000 + "[0,0,1,1]]}")
    return path, lambda: read_boxes_file(path)


def recipe_bomb(folder: Path) -> tuple[Path, Reader]:
    from tokenpose.training.recipes import read_recipe

    path = folder / "a.toml"
    path.write_text("a = [" + "[]," * 3_000_000 + "]")
    return path, lambda: read_recipe(path)


def maps_bomb(folder: Path) -> tuple[Path, Reader]:
    from tokenpose.attention.maps import AttentionMaps

    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("facts.npy", npy(b"<U2", (), "{}".encode("utf-32-le")))
        with archive.open("to_image.npy", "w", force_zip64=True) as file:
            file.write(npy(b"<f4", (1_000_000_000,), b""))
            for _ in range(4_000_000_000 >> 24):
                file.write(bytes(1 << 24))
    return path, lambda: AttentionMaps.load(path)


def npy(dtype: bytes, shape: tuple[int, ...], data: bytes) -> bytes:
    header = b"{'descr': '%s', 'fortran_order': False, 'shape': %s, }" % (dtype, repr(shape).encode())
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def matlab_bomb(folder: Path) -> tuple[Path, Reader]:
    from tokenpose.data.mpii import read_mpii

    count = 500_000_000  # doubles
    name = b"headboxes_src"
    body = b"".join((
        struct.pack("<IIII", 6, 8, 6, 0), struct.pack("<IIii", 5, 8, 1, count),
        struct.pack("<II", 1, len(name)) + name.ljust(16, b"\0"), struct.pack("<II", 9, 8 * count),
    ))  # fmt: skip
    packer = zlib.compressobj(9)
    packed = [packer.compress(struct.pack("<II", 14, len(body) + 8 * count) + body)]
    packed += [packer.compress(bytes(1 << 24)) for _ in range(8 * count >> 24)]
    element = b"".join((*packed, packer.flush()))
    path = folder / "a.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(element)) + element)
    records = folder / "a.json"
    records.write_text("[]")
    return path, lambda: read_mpii(records, ground_truth=path)


BOMBS: dict[str, Callable[[Path], tuple[Path, Reader]]] = {
    "spec: width 4096, MLP x 20": spec_bomb(4096, 20),
    "spec: width 16384, MLP x 100": spec_bomb(16384, 100),
    "spec: timm's largest ConvNeXt": spec_bomb(
        64, 1, backbone="timm/convnext_xxlarge", backbone_stride=4, image_size=(64, 64), patch_size=(4, 4)
    ),
    "weights: 65,536 positions": many_positions,
    "checkpoint: bytearray, zip": checkpoint_bomb(called("builtins.bytearray", 6 * 10**9)),
    "checkpoint: bytearray, old form": checkpoint_bomb(called("builtins.bytearray", 6 * 10**9), is_zip=False),
    "checkpoint: bytearray of 3 GB": checkpoint_bomb(called("builtins.bytearray", 3 * 10**9)),
    "checkpoint: text encoded again": checkpoint_bomb(encoded()),
    "checkpoint: nine million sets": checkpoint_bomb(b"(" + b"\x8f" * 9_000_000 + b"t"),
    "config.json: three million objects": config_bomb,
    "zip: image of 1.6 GB": zip_bomb(zipfile.ZIP_DEFLATED, 1_600_000_000),
    "zip: image of 5 GB": zip_bomb(zipfile.ZIP_DEFLATED, 5_000_000_000),
    "zip: bz2 that states 100 bytes": zip_bomb(zipfile.ZIP_BZIP2, 800_000_000, stated=100),
    "zip: LZMA that states 100 bytes": zip_bomb(zipfile.ZIP_LZMA, 800_000_000, stated=100),
    "tar: headers for all files": tar_bomb,
    "PNG: 177 megapixels": picture("RGB", "png"),
    "PNG: 177 megapixels, palette": picture("P", "png"),
    "PNG: 177 megapixels, 16 bits": picture("I;16", "png"),
    "PNG: 177 megapixels, alpha": picture("RGBA", "png"),
    "JPEG: 177 megapixels, turned": turned,
    "JPEG: 177 megapixels, CMYK": picture("CMYK", "jpg"),
    "WebP: 177 megapixels": picture("RGB", "webp", lossless=True, method=0),
    "GIF: 177 megapixels": picture("P", "gif"),
    "JPEG 2000: 177 megapixels": picture("RGB", "jp2"),
    "TIFF: 177 megapixels": picture("RGB", "tif", compression="tiff_deflate"),
    "EXIF: tags in a PNG": exif_bomb("png"),
    "EXIF: tags in a JPEG": exif_bomb("jpg"),
    "TIFF: tags": exif_bomb("tif"),
    "COCO: people without keypoints": coco_bomb,
    "boxes: a million": boxes_bomb,
    "recipe: three million lists": recipe_bomb,
    "attention maps: 4 GB of zeros": maps_bomb,
    "MATLAB: 4 GB of zeros": matlab_bomb,
}

if __name__ == "__main__":
    sys.exit(main())
