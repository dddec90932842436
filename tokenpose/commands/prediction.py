"""`tokenpose predict`."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import app, count, progress
from tokenpose.commands.options import (
    BatchSize,
    BoxesFile,
    Decoder,
    Detected,
    DetectionThreshold,
    Detector,
    Device,
    FlipTest,
    Model,
    Optimized,
    SingleBoxes,
    Weights,
    box_finder,
    choose_device,
    find_image_files,
    load_model,
    read_boxes,
)

logger = logging.getLogger(__name__)


@app.command("predict", short_help="Find people's keypoints; write pictures and COCO JSON.")
def predict_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files, or folders of them.")],
    boxes: BoxesFile = None,
    box: SingleBoxes = None,
    detected: Detected = False,
    detector: Detector = None,
    detection_threshold: DetectionThreshold = None,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="Where pictures and JSON files go.")] = Path(
        "poses"
    ),
    model: Model = None,
    weights: Weights = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Keypoints of a lower score are not drawn.")] = 0.15,
    draw_boxes: Annotated[bool, typer.Option("--draw-boxes", help="Draw the boxes too.")] = False,
    decoder: Decoder = "dark",
    flip_test: FlipTest = False,
    batch_size: BatchSize = 64,
    device: Device = None,
    optimized: Optimized = False,
) -> None:
    """Find people's keypoints; write a picture and a COCO JSON per image.

    For photo.jpg, photo.poses.jpg is the photograph with the skeleton (left blue, right orange), and photo.json holds
    images, categories and annotations as COCO keypoint files do; the third number of each keypoint is its score, and
    all keypoints are there, however low.

    TokenPose reads one box at a time and does not look for people: let a detector do that (its weights are downloaded
    on first use), or give each person's box. Without boxes the whole image is taken as one person. A boxes file is
    JSON, one of

    \b
      {"photo.jpg": [[x1, y1, x2, y2], ...], ...}                   corners, in pixels
      [{"file_name": "photo.jpg", "bbox": [x, y, width, height]}]   or "image_id", as in COCO results:
                                                                    the file's name without suffix
      {"images": [...], "annotations": [...], ...}                  a COCO annotation file; crowds are left out

    Images without boxes in the file get no poses, and a warning.

    \b
    Examples:
      tokenpose predict group.jpg --detect
      tokenpose predict photo.jpg --box 48,20,310,620
      tokenpose predict photographs/ --boxes boxes.json --output poses/
    """
    wanted = read_boxes(box, boxes, detected, detector, detection_threshold)
    target = choose_device(device)

    from tokenpose.jobs.photographs import Photograph, choose_photographs, predict_photographs, write_poses
    from tokenpose.predictor import PosePredictor

    photographs = choose_photographs(find_image_files(images, wanted), boxes, wanted, output)
    find_boxes = box_finder(bool(box or boxes), detected, detector, detection_threshold, target)
    predictor = PosePredictor(load_model(model, weights, target, optimized), decoder=decoder, flip_test=flip_test)
    output.mkdir(parents=True, exist_ok=True)
    people = 0
    failed: list[Photograph] = []
    with progress(len(photographs)) as advance:
        for photograph, poses in predict_photographs(predictor, photographs, batch_size, failed, find_boxes):
            write_poses(photograph, poses, threshold, draw_boxes)
            if detected and not len(poses):
                logger.warning("%s: nobody was found", photograph.path)
            people += len(poses)
            advance()
    done = len(photographs) - len(failed)
    where = photographs[0].picture if len(photographs) == done == 1 else output
    typer.echo(f"{count(people, 'person', 'people')} in {count(done, 'image', 'images')}: {where}")
    if failed:
        raise typer.Exit(1)
