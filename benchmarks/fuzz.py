"""Change valid files at random, read them, and count what ends in neither a result nor a documented error.

Usage: python benchmarks/fuzz.py [--kinds NAME ...] [--count 10000] [--seed 0] [--output fuzz.json]

Bytes are changed, removed, repeated and inserted; in JSON and TOML also values, which become others that readers find
odd. An error counts as documented if it is a ValueError, TypeError, LookupError (but no KeyError or IndexError) or
OSError of one line with at most 2,000 characters that names the file. Reading that takes longer than ten seconds is a
finding too. The process may have --limit GB of address space. A finding is written to the folder --findings.
"""

import argparse
import io
import json
import random
import resource
import signal
import struct
import sys
import tarfile
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image

from tokenpose.attention.maps import AttentionMaps
from tokenpose.data.box_files import read_boxes_file
from tokenpose.data.coco import read_coco
from tokenpose.data.mpii import read_mpii
from tokenpose.data.sources import ImageSource
from tokenpose.images import read_image
from tokenpose.models.create import create_model, read_model
from tokenpose.models.official import read_published_checkpoint
from tokenpose.models.spec import ModelSpec
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.weights import save_pretrained, write_weights
from tokenpose.skeletons import Skeleton
from tokenpose.training.recipes import read_recipe

DOCUMENTED = (ValueError, TypeError, LookupError, OSError, FloatingPointError)
LONGEST_ERROR, LONGEST_READING = 2_000, 10
SPEC = ModelSpec(
    backbone="pixels", backbone_stride=1, image_size=(16, 16), patch_size=(8, 8), heatmap_size=(4, 4), width=8, heads=2,
    depth=1, skeleton=Skeleton.from_names(["left_eye", "right_eye"]),
)  # fmt: skip
ODD_BYTES = (
    b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"[" * 3000, b"{", b"}", b"]", b'"', b"-1", b"NaN", b"1e999",
    b"9" * 5000, b"null", b"true", b"\\u0000", b"\\ud800", b"../", b"~x/", b"PK\x03\x04", b"II*\0", b"\x80\x02",
)  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "a", "\0", "\ud800",
    "é" * 200, "../../etc/passwd", "~nobody_at_all/x", [], [[]], [1], [None] * 3, {}, {"a": 1}, [[[[]]]], "1", " ",
)  # fmt: skip

Reading = tuple[str, bytes, Callable[[Path], Any]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), metavar="NAME")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=8, help="GB of address space")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    parser.add_argument("--output", type=Path, default=Path("fuzz.json"))
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (int(options.limit * 1e9),) * 2)
    rows = []
    print(f"{'kind':24}{'changed':>9}{'read':>8}{'refused':>9}{'findings':>10}{'s':>7}", flush=True)
    for kind in options.kinds:
        start, outcomes = time.monotonic(), fuzz(kind, options.count, options.seed, options.findings)
        row = {"kind": kind, **{name: outcomes[name] for name in ("read", "refused", "finding")}}
        rows.append({**row, "seconds": round(time.monotonic() - start, 1), "seed": options.seed})
        row_of_table = f"{kind:24}{options.count:9}{row['read']:8}{row['refused']:9}{row['finding']:10}"
        print(f"{row_of_table}{rows[-1]['seconds']:7.0f}", flush=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["finding"] for row in rows))


def fuzz(kind: str, count: int, seed: int = 0, findings: Path | None = None) -> Counter[str]:
    """How many changed files of a kind were read, refused, or ended in something else."""
    chance, outcomes = random.Random(f"{kind} {seed}"), Counter[str]()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's and PyTorch's about broken files
        for name, content, read in (made := list(KINDS[kind](Path(folder) / "made"))):
            for number in range(count // len(made)):
                path = Path(folder) / f"{number}" / name
                path.parent.mkdir()
                path.write_bytes(change(content, name, chance))
                outcome = try_to_read(path, read)
                outcomes["finding" if outcome not in ("read", "refused") else outcome] += 1
                if outcome not in ("read", "refused") and findings is not None:
                    keep(path, outcome, findings)
                path.unlink()
                path.parent.rmdir()
    return outcomes


def try_to_read(path: Path, read: Callable[[Path], Any]) -> str:
    """ "read", "refused", or what else happened."""
    try:
        with no_longer_than(LONGEST_READING):
            read(path)
    except DOCUMENTED as error:
        text = str(error)
        is_named = path.name in text or path.parent.name in text or ".png" in text  # an image in an archive
        is_line = len(text.splitlines()) == 1 and len(text) <= LONGEST_ERROR
        if isinstance(error, KeyError | IndexError) or not is_named or not is_line:
            return f"{type(error).__name__}: {text[:300]!r}"
        return "refused"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{type(error).__name__}: {str(error)[:300]!r}"
    return "read"


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raise RuntimeError in code that takes longer."""

    def stop(*_: object) -> None:
        raise RuntimeError(f"reading took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def keep(path: Path, outcome: str, folder: Path) -> None:
    """Write a finding and its file."""
    folder.mkdir(parents=True, exist_ok=True)
    number = len(list(folder.glob("*.txt")))
    (folder / f"{number}-{path.name}").write_bytes(path.read_bytes())
    (folder / f"{number}.txt").write_text(outcome + "\n", errors="replace")


# Changes


def change(content: bytes, name: str, chance: random.Random) -> bytes:
    """The file with one to four changes."""
    if name.endswith(".json") and chance.random() < 0.6:
        value = json.loads(content)
        for _ in range(chance.randint(1, 3)):
            value = change_value(value, chance)
        return json.dumps(value).encode()
    changed = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        change_bytes(changed, chance)
    return bytes(changed)


def change_bytes(content: bytearray, chance: random.Random) -> None:
    place = chance.randrange(len(content) + 1)
    length = min(chance.choice((1, 1, 2, 4, 8, 64, 512)), len(content) - place)
    match chance.randrange(7):
        case 0:
            content[place : place + length] = chance.randbytes(length)
        case 1:
            del content[place : place + length]
        case 2:
            content[place:place] = content[place : place + length] * chance.choice((1, 2, 100))
        case 3:
            content[place:place] = chance.choice(ODD_BYTES)
        case 4:
            content[place : place + 4] = struct.pack(
                chance.choice("<>") + "I", chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 1000, 10**9))
            )
        case 5:
            del content[place:]
        case _:
            if place < len(content):
                content[place] ^= 1 << chance.randrange(8)


def change_value(value: Any, chance: random.Random) -> Any:
    """Another value in place of this one, or of one inside it."""
    if chance.random() < 0.12 or not isinstance(value, dict | list) or not value:
        return chance.choice(ODD_VALUES)
    places = list(value) if isinstance(value, dict) else list(range(len(value)))
    place = chance.choice(places)
    if isinstance(value, list):
        if chance.random() < 0.1:
            return value + [value[place]] * chance.choice((1, 5))
        if chance.random() < 0.1:
            return value[:place] + value[place + 1 :]
        return [*value[:place], change_value(value[place], chance), *value[place + 1 :]]
    if chance.random() < 0.1:
        return {key: entry for key, entry in value.items() if key != place}
    return {**value, place: change_value(value[place], chance)}


# Valid files: name, content, reader


def annotations(folder: Path) -> Iterator[Reading]:
    record = {
        "id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 400, "bbox": [1, 2, 20, 20], "num_keypoints": 2,
        "keypoints": [3, 4, 2, 9.5, 8, 1], "scores": [1, 0.5], "segmentation": [[1, 2, 3, 4, 5, 6]],
    }  # fmt: skip
    category = {"id": 1, "name": "fish", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}
    content = {
        "images": [{"id": index, "file_name": f"{index}.jpg", "width": 64, "height": 48} for index in (1, 2)],
        "annotations": [record, {**record, "id": 2, "image_id": 2}],
        "categories": [category],
    }
    yield "a.json", json.dumps(content).encode(), read_coco


def mpii(folder: Path) -> Iterator[Reading]:
    person = {
        "image": "a.jpg", "center": [100.5, 90], "scale": 1.5, "joints": [[float(i), 2.0 * i] for i in range(16)],
        "joints_vis": [1] * 16, "head_box": [1, 2, 3, 4],
    }  # fmt: skip
    yield "a.json", json.dumps([person, person]).encode(), read_mpii


def boxes(folder: Path) -> Iterator[Reading]:
    named = {"a.jpg": [[1, 2, 30, 40]], "b.jpg": []}
    results = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    coco = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": results, "categories": [{"id": 1, "name": "x"}]}
    for content in (named, results, coco):
        yield "a.json", json.dumps(content).encode(), read_boxes_file


def weights(folder: Path) -> Iterator[Reading]:
    folder.mkdir(exist_ok=True)
    write_weights(TokenPose(SPEC), folder / "a.safetensors", {"data": "none"})
    yield "a.safetensors", (folder / "a.safetensors").read_bytes(), read_model


def checkpoints(folder: Path) -> Iterator[Reading]:
    state = TokenPose(SPEC).state_dict()
    content = {"epoch": 1, "perf": np.float64(0.5), "state_dict": {f"module.{key}": state[key] for key in state}}
    for is_zip in (True, False):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
        yield "a.pth", buffer.getvalue(), read_published_checkpoint


def archives(kind: str) -> Callable[[Path], Iterator[Reading]]:
    def make(folder: Path) -> Iterator[Reading]:
        picture = io.BytesIO()
        Image.new("RGB", (8, 6)).save(picture, "PNG")
        buffer = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(buffer, "w") as archive:
                for number, method in enumerate((0, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
                    archive.writestr(f"images/{number}.png", picture.getvalue(), method)
        else:
            form = {"tar": tarfile.PAX_FORMAT, "tar of GNU": tarfile.GNU_FORMAT}[kind]
            with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
                for number in range(4):
                    info = tarfile.TarInfo(f"images/{'x' * 150 * (number == 3)}{number}.png")
                    info.size, info.pax_headers = (
                        len(picture.getvalue()),
                        {"comment": "x" * number},
                    )
                    archive.addfile(info, io.BytesIO(picture.getvalue()))
        yield f"a.{kind[:3]}", buffer.getvalue(), read_all

    def read_all(path: Path) -> None:
        source = ImageSource(path)
        for number in range(4):
            source.read(f"{'x' * 150 * (number == 3 and kind != 'zip')}{number}.png")

    return make


def recipes(folder: Path) -> Iterator[Reading]:
    text = (
        'epochs = 3\nbatch_size = 4\nsizes = [[64, 48], [32, 24]]\nlearning_rate = 1e-3\nloss = "cross_entropy"\n'
        '[model]\nname = "tokenpose_t"\ndepth = 2\n[augmentation]\nscale = 0.3\nrotation = 40.0\n'
        '[data]\nrename = {a = "b"}\ncategory = "fish"\n'
    )
    yield "a.toml", text.encode(), read_recipe
    settings = {"epochs": 3, "model": {"name": "tokenpose_t"}, "augmentation": {"scale": 0.3}, "data": {"rename": {}}}
    yield "a.json", json.dumps(settings).encode(), read_recipe


def pictures(folder: Path) -> Iterator[Reading]:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    exif[ExifTags.Base.Make] = "a camera"
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    for suffix in ("jpg", "png", "webp", "tif", "gif", "bmp"):
        buffer = io.BytesIO()
        form = Image.registered_extensions()[f".{suffix}"]
        Image.fromarray(pixels).save(buffer, form, **({"exif": exif} if suffix not in ("gif", "bmp") else {}))
        yield f"a.{suffix}", buffer.getvalue(), read_picture


def read_picture(path: Path) -> None:
    read_image(str(path))


def configs(folder: Path) -> Iterator[Reading]:
    folder.mkdir(exist_ok=True)
    save_pretrained(TokenPose(SPEC), folder)

    def read(path: Path) -> None:
        beside = path.with_name("model.safetensors")
        beside.symlink_to(folder / "model.safetensors")
        try:
            create_model(f"local-dir:{path.parent}")
        finally:
            beside.unlink()

    yield "config.json", (folder / "config.json").read_bytes(), read


def maps(folder: Path) -> Iterator[Reading]:
    from tokenpose import attention_maps

    folder.mkdir(exist_ok=True)
    attention_maps(TokenPose(SPEC).eval(), np.zeros((16, 16, 3), np.uint8), [0, 0, 16, 16]).save(folder / "a.npz")
    yield "a.npz", (folder / "a.npz").read_bytes(), AttentionMaps.load


KINDS: dict[str, Callable[[Path], Iterator[Reading]]] = {
    "annotations (COCO)": annotations,
    "annotations (MPII)": mpii,
    "boxes": boxes,
    "weights (.safetensors)": weights,
    "checkpoints (.pth)": checkpoints,
    "zip": archives("zip"),
    "tar": archives("tar"),
    "tar of GNU": archives("tar of GNU"),
    "recipes (.toml, .json)": recipes,
    "pictures with EXIF": pictures,
    "config.json": configs,
    "attention maps (.npz)": maps,
}

if __name__ == "__main__":
    sys.exit(main())
