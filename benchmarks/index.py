"""Time and memory to read a large COCO keypoint file.

Usage: python benchmarks/index.py [PEOPLE [IMAGES [FILE.json]]]

Makes up a file like COCO's person_keypoints_train2017.json in a temporary folder: 150,000 people of 17 keypoints in
60,000 images, with polygons of 20 to 60 points and all the usual fields. Each reading is a process of its own. Measures
the seconds of reading the people for training, and people and ground truth for evaluation, and the peak memory of the
process, imports included. Prints a table, the reader's summary line, and JSON, which also goes to FILE.json.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tokenpose.skeletons import COCO

TRAINING = """
from tokenpose.data.coco import read_coco
def read(path):
    return read_coco(path)
"""
EVALUATION = """
from tokenpose.data.annotations import read_with_columns
from tokenpose.evaluation.ground_truth import make_ground_truth
def read(path):
    samples, columns = read_with_columns(path)
    return samples, make_ground_truth(columns)
"""
READ = """
import json, resource, sys, time
start = time.perf_counter()
result = read(sys.argv[1])
seconds = time.perf_counter() - start
samples = result[0] if isinstance(result, tuple) else result
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
print(json.dumps({"people": len(samples), "seconds": seconds, "peak_mb": peak, "line": samples.describe()}))
"""


READERS = {"training": TRAINING, "evaluation": EVALUATION}


def image(number: int) -> dict[str, Any]:
    return {
        "license": 4,
        "file_name": f"{number:012}.jpg",
        "coco_url": f"http://images.cocodataset.org/train2017/{number:012}.jpg",
        "height": 480,
        "width": 640,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010}_4e622c8349_z.jpg",
        "id": number,
    }


def annotation(number: int, image_id: int, random: np.random.Generator) -> dict[str, Any]:
    """A person as in COCO: a third of the keypoints aren't labeled, and one person in forty has no labels at all."""
    x, y, width, height = random.uniform((0, 0, 40, 40), (300, 180, 340, 300)).round(2).tolist()
    polygon = random.uniform((x, y), (x + width, y + height), (int(random.integers(20, 61)), 2)).round(2)
    keypoints = random.integers((int(x), int(y), 1), (int(x + width), int(y + height), 3), (17, 3))
    keypoints[random.random(17) < (1 if number % 40 == 39 else 1 / 3)] = 0
    return {
        "segmentation": [polygon.ravel().tolist()],
        "num_keypoints": int((keypoints[:, 2] > 0).sum()),
        "area": round(width * height * 0.6, 4),
        "iscrowd": 0,
        "keypoints": keypoints.ravel().tolist(),
        "image_id": image_id,
        "bbox": [x, y, width, height],
        "category_id": 1,
        "id": 100_000 + number,
    }


def write_file(path: Path, people: int, images: int) -> None:
    random = np.random.default_rng(0)
    category = {
        "supercategory": "person",
        "id": 1,
        "name": "person",
        "keypoints": list(COCO.keypoints),
        "skeleton": [[first + 1, second + 1] for first, second in COCO.limbs],
    }
    with path.open("w") as opened:
        opened.write('{"info": {"year": 2017}, "licenses": [], "images": ')
        json.dump([image(number) for number in range(images)], opened)
        opened.write(', "annotations": [')
        for number in range(people):
            record = annotation(number, number * images // people, random)
            opened.write((", " if number else "") + json.dumps(record))
        opened.write(f'], "categories": {json.dumps([category])}}}')


def measure(reader: str, path: Path) -> dict[str, Any]:
    program = [sys.executable, "-c", reader + READ, path]
    process = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(process.stdout.replace(f"{path}", path.name))


def main(people: int, images: int, output: Path | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.json"
        write_file(path, people, images)
        megabytes = path.stat().st_size / 1e6
        runs = {name: [measure(code, path) for _ in range(3)] for name, code in READERS.items()}
    print(f"{people} annotations in {images} images, {megabytes:.0f} MB\n")
    print("| reading | people | seconds | peak memory, MB |\n|---|---|---|---|")
    for name, readings in runs.items():
        for number, run in enumerate(readings, 1):
            print(f"| {name} {number} | {run['people']} | {run['seconds']:.2f} | {run['peak_mb']:.0f} |")
    result = {"annotations": people, "images": images, "file_mb": round(megabytes, 1), "runs": runs}
    print(f"\n{runs['training'][0]['line']}\n\n" + json.dumps(result))
    if output is not None:
        output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 150_000,
        int(sys.argv[2]) if len(sys.argv) > 2 else 60_000,
        Path(sys.argv[3]) if len(sys.argv) > 3 else None,
    )
