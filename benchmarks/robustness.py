"""How far the scores of a weights file fall when photographs, boxes or the input's size are not as in training.

Usage: python benchmarks/robustness.py VAL.json IMAGES [--other COCO.json IMAGES] [--model tokenpose_s_v1]
           [--weights FILE] [--keypoints NAME ...] [--rows ROW ...] [--people N] [--flip-test]
           [--output robustness.json]

Each row shows the same people in another way: in gray, at half the resolution (squares of 2 x 2 pixels are averaged),
compressed as JPEG of quality 20, in boxes that are shifted and scaled at random by up to 10 or 20 % of their size, in a
photograph that ends at the hips, or in crops of half or three quarters of the model's size. Changes are made in memory.

VAL is measured by PCK@0.2 of the torso (by the box if nobody has one), OTHER by PCK@0.2 of the box's longer side and by
COCO's AP, all over the keypoints that model and file share. Predictions are compared in the photograph's own pixels
with the labels of the whole person. Each difference is to the row "as is" over the same keypoints; where the photograph
ends at the hips, these are the keypoints that are left in it.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from speed import describe_machine
from torch import Tensor
from torch.nn import functional

import tokenpose
from tokenpose.data.annotations import read_with_columns
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.combine import read_image_of
from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import estimate_sigmas
from tokenpose.data.sources import ImageSource, Source
from tokenpose.evaluation.coco import make_results, measure_coco
from tokenpose.evaluation.ground_truth import make_ground_truth
from tokenpose.evaluation.pck import pck
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints, predict_boxes
from tokenpose.evaluation.units import Unit, choose_unit

AS_IS = "as is"
QUALITY = 20
HIPS = ("left_hip", "right_hip")

Photograph = UInt8[Tensor, "3 height width"]
Size = tuple[int, int]


class Shown(NamedTuple):
    """How a row shows the people, each in a photograph of their own."""

    boxes: Float[np.ndarray, "people 4"]
    """x, y, width, height in the photograph that is shown."""
    visible: Bool[np.ndarray, "people keypoints"]
    """The labeled keypoints that it shows."""
    alter: Callable[[Photograph, int], Photograph] = lambda photograph, _: photograph
    """Makes it from the person's photograph, given the person's number."""
    zoom: float = 1.0
    """Its size relative to the person's photograph."""


class Row(NamedTuple):
    """A way to show people, and the size of their crops relative to the model's."""

    show: Callable[[Samples], Shown]
    size: float = 1.0


def show_as_is(people: Samples) -> Shown:
    return Shown(people.boxes, people.visible)


def show_gray(people: Samples) -> Shown:
    return Shown(people.boxes, people.visible, lambda photograph, _: turn_gray(photograph))


def show_half(people: Samples) -> Shown:
    return Shown(people.boxes / 2, people.visible, lambda photograph, _: halve(photograph), zoom=0.5)


def show_compressed(people: Samples) -> Shown:
    return Shown(people.boxes, people.visible, lambda photograph, _: compress(photograph))


def show_jittered(share: float, people: Samples) -> Shown:
    """Boxes shifted by up to this share of their width and height, and scaled by up to this share."""
    draws = share * np.random.default_rng(0).uniform(-1, 1, (len(people), 3))
    extent = people.boxes[:, 2:] * (1 + draws[:, 2:])
    center = people.boxes[:, :2] + (0.5 + draws[:, :2]) * people.boxes[:, 2:]
    return Shown(np.concatenate((center - extent / 2, extent), axis=1).astype(np.float32), people.visible)


def show_to_hips(people: Samples) -> Shown:
    """Photographs and boxes that end at the mean height of the labeled hips; people without hips have no keypoint."""
    hips = [people.skeleton.index(name) for name in HIPS]
    counts = people.visible[:, hips].sum(axis=1)
    heights = (people.keypoints[:, hips, 1] * people.visible[:, hips]).sum(axis=1) / np.maximum(counts, 1)
    # pixel centers are at integers, so a photograph of n rows ends at n - 0.5; boxes count from its edge
    rows = np.round(heights + 0.5).astype(int)
    is_cut = (counts > 0) & (rows > people.boxes[:, 1] + 1)
    boxes = people.boxes.copy()
    boxes[is_cut, 3] = np.minimum(boxes[:, 3], rows - boxes[:, 1])[is_cut]
    left = people.visible & is_cut[:, None] & (people.keypoints[..., 1] <= rows[:, None] - 0.5)
    return Shown(boxes, left, lambda photograph, person: photograph[:, : rows[person] if is_cut[person] else None])


def turn_gray(photograph: Photograph) -> Photograph:
    return _from_pillow(_to_pillow(photograph).convert("L"))


def halve(photograph: Photograph) -> Photograph:
    """The means of squares of 2 x 2 pixels; an odd last row or column is left out."""
    return functional.avg_pool2d(photograph.float(), 2).round().to(torch.uint8)


def compress(photograph: Photograph) -> Photograph:
    file = BytesIO()
    _to_pillow(photograph).save(file, "JPEG", quality=QUALITY)
    return _from_pillow(Image.open(file))


def _to_pillow(photograph: Photograph) -> Image.Image:
    return Image.fromarray(photograph.permute(1, 2, 0).contiguous().numpy())


def _from_pillow(image: Image.Image) -> Photograph:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


ROWS = {
    AS_IS: Row(show_as_is),
    "gray": Row(show_gray),
    "half the resolution": Row(show_half),
    f"JPEG, quality {QUALITY}": Row(show_compressed),
    "boxes +-10 %": Row(partial(show_jittered, 0.1)),
    "boxes +-20 %": Row(partial(show_jittered, 0.2)),
    "cut off at the hips": Row(show_to_hips),
    "input of half the size": Row(show_as_is, size=0.5),
    "input of 3/4 the size": Row(show_as_is, size=0.75),
}


@dataclass(frozen=True)
class Alone:
    """Every person in a photograph of their own, which is changed as it is read; the name is the person's number."""

    people: Samples
    source: Source
    alter: Callable[[Photograph, int], Photograph]

    def read(self, name: str) -> Photograph:
        person = int(name)
        photograph = read_image_of(self.source, self.people, int(self.people.image_index[person]))
        return self.alter(photograph, person).contiguous()


class Data(NamedTuple):
    """Labeled people, and how they are measured."""

    people: Samples
    source: Source
    unit: Unit
    columns: CocoColumns | None = None
    """What the people were read from, for AP."""


MakeModel = Callable[[Size | None], Any]
"""A model for crops of that size; None: of its own."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations")
    parser.add_argument("images")
    parser.add_argument("--other", nargs=2, metavar=("COCO.json", "IMAGES"))
    parser.add_argument("--model", default="tokenpose_s_v1")
    parser.add_argument("--weights", help="a weights file, instead of the bundled weights")
    parser.add_argument("--keypoints", nargs="+", help="measure only these of the model's keypoints")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--people", type=int, help="only the first people of VAL")
    parser.add_argument("--flip-test", action="store_true")
    parser.add_argument("--output", type=Path, default=Path("robustness.json"))
    options = parser.parse_args()
    start: dict[str, Any] = {"weights": options.weights} if options.weights else {"pretrained": True}
    start |= {"keypoints": options.keypoints} if options.keypoints else {}

    def make_model(size: Size | None) -> Any:
        return tokenpose.create_model(options.model, **start, **({} if size is None else {"image_size": size}))

    people, _ = read_with_columns(options.annotations)
    people = people.take(slice(options.people))
    data = {"VAL": Data(people, ImageSource(options.images), choose_unit(people))}
    if options.other:
        people, columns = read_with_columns(options.other[0])
        data["OTHER"] = Data(people, ImageSource(options.other[1]), choose_unit(people, "box"), columns)
    found: dict[str, Any] = {
        "machine": describe_machine(),
        "model": options.model,
        "weights": Path(options.weights).name if options.weights else "bundled",
        "image_size": make_model(None).spec.image_size,
        "flip_test": options.flip_test,
        "data": {},
    }
    for title, one in data.items():
        rows = measure_rows(make_model, one, options.rows, options.flip_test)
        found["data"][title] = {"people": len(one.people), "unit": one.unit.name, "rows": rows}
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    print_table(found["data"])


def measure_rows(
    make_model: MakeModel, data: Data, names: list[str] | None = None, flip_test: bool = False
) -> dict[str, dict[str, Any]]:
    """For each of the rows: PCK and, with columns, AP, both in percent, and the same of "as is" over its keypoints."""
    predictors = {}
    plain = None
    rows = {}
    for name in dict.fromkeys((AS_IS, *(names or ROWS))):
        row = ROWS[name]
        if row.size not in predictors:
            predictors[row.size] = make_predictor(make_model, row.size, flip_test)
        predictor = predictors[row.size]
        shown = row.show(data.people)
        predicted = predict_shown(predictor, shown, data)
        plain = predicted if plain is None else plain
        figures, before = (measure(predictor.model, one, shown, data) for one in (predicted, plain))
        before = {f"{kind}_as_is": figure for kind, figure in before.items() if kind != "keypoints"}
        rows[name] = {"image_size": predictor.model.spec.image_size, **figures, **before}
        print(f"{name}: {json.dumps(rows[name])}", flush=True)
    return rows


def make_predictor(make_model: MakeModel, size: float, flip_test: bool) -> tokenpose.PosePredictor:
    model = make_model(None)
    if size != 1:
        height, width = model.spec.image_size
        model = make_model((round(height * size), round(width * size)))
    return tokenpose.PosePredictor(tokenpose.optimize(model), flip_test=flip_test)


def predict_shown(predictor: tokenpose.PosePredictor, shown: Shown, data: Data) -> PredictedKeypoints:
    """What is found of people as they are shown, in pixels of their own photographs."""
    count = len(data.people)
    alone = replace(
        data.people, files=tuple(map(str, range(count))), image_ids=np.arange(count), image_index=np.arange(count),
        boxes=shown.boxes, origin_index=None,
    )  # fmt: skip
    predicted = predict_boxes(
        lambda images, boxes: predictor.many(images, boxes, "xywh"), BoxesToPredict.of_samples(alone), alone,
        Alone(data.people, data.source, shown.alter), predictor.model.spec.skeleton,
    )  # fmt: skip
    return replace(predicted, keypoints=(predicted.keypoints + 0.5) / shown.zoom - 0.5)  # images begin at -0.5


def measure(model: Any, predicted: PredictedKeypoints, shown: Shown, data: Data) -> dict[str, float]:
    """PCK over the keypoints that are shown and, if the data has columns, AP."""
    people = data.people
    known = np.array([name in model.spec.skeleton.keypoints for name in people.skeleton.keypoints])
    result = pck(
        predicted.keypoints, people.keypoints, shown.visible & known, people.skeleton, threshold=0.2, unit=data.unit
    )
    figures = {"keypoints": result.keypoint_count, "pck": result.mean}
    if data.columns is None:
        return figures
    return {**figures, "ap": 100 * measure_ap(model, predicted, shown, data, data.columns, np.flatnonzero(known))}


def measure_ap(
    model: Any, predicted: PredictedKeypoints, shown: Shown, data: Data, columns: CocoColumns, known: np.ndarray
) -> float:
    """COCO's AP over some of the keypoints, without those that are not shown."""
    people = data.people
    sigmas = np.array(people.skeleton.sigmas or estimate_sigmas(people).values)[known]
    labels = columns.keypoints.copy()
    rows = {identity: row for row, identity in enumerate(columns.ids)}
    for identity, visible in zip(people.annotation_ids, shown.visible, strict=True):
        labels[rows[identity], ~visible, 2] = 0
    truth = make_ground_truth(
        replace(columns, keypoints=labels[:, known], num_keypoints=np.full(len(columns), np.nan))
    )  # which are counted again
    boxes = replace(BoxesToPredict.of_samples(people), boxes=(shown.boxes / shown.zoom).astype(np.float32))
    found = PredictedKeypoints(keypoints=predicted.keypoints[:, known], scores=predicted.scores[:, known])
    return measure_coco(truth, make_results(boxes, found, truth, sigmas, model.spec), sigmas)["AP"]


def print_table(data: dict[str, Any]) -> None:
    columns = [(title, "pck", f"PCK@0.2 by {one['unit']}") for title, one in data.items()]
    columns += [("OTHER", "ap", "AP")] if "OTHER" in data else []
    heads = [f"{title}, {head} | difference" for title, _, head in columns]
    print(f"\n| row | {' | '.join(heads)} |\n|---{'|---' * 2 * len(columns)}|")
    for name, first in next(iter(data.values()))["rows"].items():
        label = "{}, {}x{}".format(name, *first["image_size"]) if ROWS[name].size != 1 else name
        cells = []
        for title, kind, _ in columns:
            row = data[title]["rows"][name]
            cells += [f"{row[kind]:.1f}", "" if name == AS_IS else f"{row[kind] - row[f'{kind}_as_is']:+.1f}"]
        print(f"| {label} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
