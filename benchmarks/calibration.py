"""How well calibrated scores hold: on held-out people, at several sizes, on other data, and what they say of v = 0.

Usage: python benchmarks/calibration.py VAL.json IMAGES [--other COCO.json IMAGES] [--model tokenpose_s_v1]
           [--weights FILE] [--size 256x192 --size 128x96] [--cache FOLDER]

A score is the probability to lie within 0.2 torso diameters (without a torso: keypoint similarity above 0.5). ECE is
over 10 bins of equal width, all keypoints pooled. "2-fold": everybody, with curves that were fitted on the other half's
images. "one half": curves of a random half, measured on the other one, mean and largest of ten splits; the halves'
shares of correct keypoints differ by chance, and no map of scores can know that. OTHER is measured with the curves of
all of VAL; its AP is over the keypoints that the model has. --cache keeps predictions, which take most of the time.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tokenpose
from tokenpose.commands.options import read_size
from tokenpose.data.annotations import read_with_columns
from tokenpose.data.coco_columns import CocoColumns
from tokenpose.data.samples import Samples
from tokenpose.data.sigmas import estimate_sigmas
from tokenpose.data.sources import ImageSource
from tokenpose.evaluation.calibration import fit_curves, measure_held_out
from tokenpose.evaluation.coco import make_results, measure_coco
from tokenpose.evaluation.ground_truth import make_ground_truth
from tokenpose.evaluation.reliability import find_correct, measure_reliability
from tokenpose.evaluation.run import BoxesToPredict, PredictedKeypoints, predict_boxes
from tokenpose.models.calibration import Curves, apply_curves
from tokenpose.models.zoo import find_tag

SPLITS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("annotations")
    parser.add_argument("images")
    parser.add_argument("--other", nargs=2, metavar=("COCO.json", "IMAGES"))
    parser.add_argument("--model", default="tokenpose_s_v1")
    parser.add_argument("--weights", help="a weights file, instead of the bundled weights")
    parser.add_argument("--size", action="append", help="HEIGHTxWIDTH; repeatable")
    parser.add_argument("--cache", type=Path, help="a folder for predictions")
    options = parser.parse_args()
    people, columns = read_with_columns(options.annotations)
    fitted, rows = {}, []
    print_heads("size", "flip test", "correct", "ECE of peaks", "2-fold", "one half, mean", "largest")
    for size, flip_test, names, peaks, points in predict(options, "val", people, options.images):
        samples = choose(people, names)
        correct, counted = find_correct(points, samples), samples.visible
        curves = fit_curves(peaks, correct, counted)
        fitted[size, flip_test] = Fitted(names, peaks, correct, counted, curves)
        rows.append((size, flip_test, names, points, peaks, apply_curves(peaks, curves)))
        halves = [measure_half(peaks, correct, counted, seed) for seed in range(SPLITS)]
        held_out = measure_held_out(peaks, correct, counted, people.image_index)
        raw = measure_reliability(peaks.clip(0, 1), correct, counted)
        print(
            f"| {size} | {say(flip_test)} | {held_out.share_correct:.1%} | {raw.ece:.3f} | {held_out.ece:.4f} "
            f"| {np.mean(halves):.4f} | {max(halves):.4f} |", flush=True,
        )  # fmt: skip
    print_transfer(fitted)
    if columns is not None:
        print_ap(options, "VAL", people, columns, rows)
    if options.other:
        other, columns = read_with_columns(options.other[0])
        rows = []
        for size, flip_test, names, peaks, points in predict(options, "other", other, options.other[1]):
            known = fitted[size, flip_test]
            lines = tuple(known.curves.lines[known.names.index(name)] for name in names)
            curves = Curves(known.curves.knots, lines)
            rows.append((size, flip_test, names, points, peaks, apply_curves(peaks, curves)))
        print_other(options, other, rows, read_flags(options.other[0], other))
        print_ap(options, "OTHER", other, columns, rows)


class Fitted(NamedTuple):
    names: tuple[str, ...]
    peaks: np.ndarray
    correct: np.ndarray
    counted: np.ndarray
    curves: Curves


class Predicted(NamedTuple):
    scores: np.ndarray
    keypoints: np.ndarray


def predict(
    options: Any, name: str, people: Samples, images: str
) -> Iterator[tuple[str, bool, tuple[str, ...], np.ndarray, np.ndarray]]:
    """For each size and with and without the flip test: peaks and keypoints of the names that both have."""
    start = {"weights": options.weights} if options.weights else {"pretrained": True}
    for size in options.size or ["256x192"]:
        model = tokenpose.create_model(options.model, image_size=read_size(size), **start)
        model.calibration = None
        names = tuple(key for key in model.spec.skeleton.keypoints if key in people.skeleton.keypoints)
        rows = [people.skeleton.index(key) for key in names]
        for flip_test in (False, True):
            kept = options.cache / f"{name}-{size}-{flip_test}.npz" if options.cache else None
            if kept is not None and kept.is_file():
                found = np.load(kept)
                scores, keypoints = found["scores"], found["keypoints"]
            else:
                predictor = tokenpose.PosePredictor(tokenpose.optimize(model), flip_test=flip_test)
                predicted = predict_boxes(
                    lambda images, boxes, many=predictor.many: many(images, boxes, "xywh"),
                    BoxesToPredict.of_samples(people), people, ImageSource(images), model.spec.skeleton,
                )  # fmt: skip
                scores, keypoints = predicted.scores, predicted.keypoints
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    np.savez(kept, scores=scores, keypoints=keypoints)
            yield size, flip_test, names, scores[:, rows], keypoints[:, rows]


def choose(people: Samples, names: tuple[str, ...]) -> Samples:
    """The same people with some of their keypoints, in the order of the names."""
    skeleton = tokenpose.Skeleton.from_names(names)
    rows = [people.skeleton.index(name) for name in names]
    if people.skeleton.sigmas is not None:
        sigmas = tuple(people.skeleton.sigmas[row] for row in rows)
        skeleton = replace(skeleton, sigmas=sigmas)
    return replace(people, skeleton=skeleton, keypoints=people.keypoints[:, rows], visible=people.visible[:, rows])


def measure_half(peaks: np.ndarray, correct: np.ndarray, counted: np.ndarray, seed: int) -> float:
    """The ECE of a random half of the people, with the curves of the other half."""
    order = np.random.default_rng(seed).permutation(len(peaks))
    ours, theirs = np.array_split(order, 2)
    curves = fit_curves(peaks[ours], correct[ours], counted[ours])
    return measure_reliability(apply_curves(peaks[theirs], curves), correct[theirs], counted[theirs]).ece


def print_transfer(fitted: dict) -> None:
    """The ECE of each kind of prediction with the curves of another."""
    print_heads("curves of (size, flip test)", *(f"{size}, {say(flip)}" for size, flip in fitted))
    for (size, flip), known in fitted.items():
        found = [
            measure_reliability(apply_curves(one.peaks, known.curves), one.correct, one.counted).ece
            for one in fitted.values()
        ]
        print(f"| {size}, {say(flip)} | {' | '.join(f'{ece:.3f}' for ece in found)} |")


def measure_ap(
    options: Any, people: Samples, columns: CocoColumns, names: tuple[str, ...], size: str, found: Predicted
) -> float:
    """COCO's AP of some of the data's keypoints; scores rank the people."""
    rows = [people.skeleton.index(name) for name in names]
    samples = choose(people, names)
    sigmas = np.array(samples.skeleton.sigmas or estimate_sigmas(samples).values)
    reduced = replace(
        columns, keypoints=columns.keypoints[:, rows], num_keypoints=np.full(len(columns.num_keypoints), np.nan)
    )
    truth = make_ground_truth(reduced)
    framing = find_tag(options.model)[2].replace(image_size=read_size(size))
    predicted = PredictedKeypoints(keypoints=found.keypoints, scores=found.scores)
    return measure_coco(
        truth, make_results(BoxesToPredict.of_samples(people), predicted, truth, sigmas, framing), sigmas
    )["AP"]


def print_ap(options: Any, title: str, people: Samples, columns: CocoColumns, rows: list[Any]) -> None:
    """AP by peaks and by the probabilities that were fitted to all of VAL."""
    print_heads(title, "flip test", "keypoints", "AP by peaks", "AP by probabilities")
    for size, flip, names, points, peaks, probabilities in rows:
        by_peaks, by_probabilities = (
            measure_ap(options, people, columns, names, size, Predicted(scores, points))
            for scores in (peaks, probabilities)
        )
        print(f"| {size} | {say(flip)} | {len(names)} | {by_peaks:.4f} | {by_probabilities:.4f} |", flush=True)


def print_other(options: Any, people: Samples, predicted: list[Any], flags: np.ndarray) -> None:
    """The ECE on other data, and what scores say of keypoints by their visibility."""
    print_heads("other data", "flip test", "correct", "mean score", "ECE", "AUC of v = 0", "of v = 1")
    for size, flip, names, points, _, scores in predicted:
        samples = choose(people, names)
        found = measure_reliability(scores, find_correct(points, samples), samples.visible)
        seen = flags[:, [people.skeleton.index(name) for name in names]]
        print(
            f"| {size} | {say(flip)} | {found.share_correct:.1%} | {scores[samples.visible].mean():.3f} "
            f"| {found.ece:.3f} | {auc(scores[seen == 0], scores[seen > 0]):.3f} "
            f"| {auc(scores[seen == 1], scores[seen == 2]):.3f} |"
        )
    size, flip, names, _, _, scores = predicted[0]
    seen = flags[:, [people.skeleton.index(name) for name in names]]
    print_heads(f"scores at {size}", "keypoints", "mean", "10 %", "25 %", "50 %", "75 %", "90 %")
    for flag in (0, 1, 2):
        some = scores[seen == flag]
        quantiles = " | ".join(f"{value:.2f}" for value in np.quantile(some, (0.1, 0.25, 0.5, 0.75, 0.9)))
        print(f"| v = {flag} | {len(some)} | {some.mean():.2f} | {quantiles} |")


def read_flags(path: str, people: Samples) -> np.ndarray:
    """COCO's visibility flags of the people, 0, 1 or 2."""
    records = {entry["id"]: entry for entry in json.loads(Path(path).read_text())["annotations"]}
    return np.array([records[identity]["keypoints"][2::3] for identity in people.annotation_ids])


def auc(low: np.ndarray, high: np.ndarray) -> float:
    """The probability that a score of the second kind is higher than one of the first; ties count half."""
    above = (high[:, None] > low[None]).mean()
    return float(above + (high[:, None] == low[None]).mean() / 2)


def print_heads(*heads: str) -> None:
    print(f"\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")


def say(flip_test: bool) -> str:
    return "yes" if flip_test else "no"


if __name__ == "__main__":
    main()
