"""`tokenpose predict`."""

from pathlib import Path
from typing import Annotated

import typer

from tokenpose.commands.app import Command, app, count, progress
from tokenpose.commands.choices import choose_device, choose_model
from tokenpose.commands.options import (
    OUTPUT,
    BatchSizeOption,
    BoxesOption,
    BoxOption,
    DecoderOption,
    DetectionThresholdOption,
    DetectOption,
    DetectorOption,
    DeviceOption,
    FlipTestOption,
    ModelOption,
    OptimizeOption,
    WeightsOption,
    find_image_files,
    read_box_options,
)

OutputOption = Annotated[
    Path, typer.Option("--output", metavar="DIR", help="Folder for pictures and JSON files.", rich_help_panel=OUTPUT)
]
ThresholdOption = Annotated[
    float,
    typer.Option("--threshold", metavar="SCORE", help="Minimum score of a keypoint to draw.", rich_help_panel=OUTPUT),
]
DrawBoxesOption = Annotated[bool, typer.Option("--draw-boxes", help="Draw the boxes too.", rich_help_panel=OUTPUT)]


@app.command("predict", cls=Command, short_help="Find people's keypoints, and write pictures and COCO JSON.")
def predict_command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES", help="Image files or folders.")],
    detect: DetectOption = False,
    detector: DetectorOption = None,
    detection_threshold: DetectionThresholdOption = None,
    box: BoxOption = None,
    boxes: BoxesOption = None,
    model: ModelOption = None,
    weights: WeightsOption = None,
    decoder: DecoderOption = "dark",
    flip_test: FlipTestOption = False,
    optimized: OptimizeOption = False,
    batch_size: BatchSizeOption = 64,
    device: DeviceOption = None,
    output: OutputOption = Path("poses"),
    threshold: ThresholdOption = 0.15,
    draw_boxes: DrawBoxesOption = False,
) -> None:
    """Find people's keypoints, and write a picture and a COCO JSON file for each image.

    For photo.jpg, predict writes photo.poses.jpg, the photograph with the skeletons on top (left blue, right orange),
    and photo.json in the form of COCO keypoint files: images, categories and annotations. It lists every keypoint with
    v = 2, and their scores, from 0 to 1, beside them in "scores": training takes the file as it is.

    TokenPose finds the keypoints of one person in a box. The boxes come from a detector (--detect, whose weights are
    downloaded on first use), from --box or from --boxes. Without any of them, each whole image is one person. A file
    for --boxes is JSON in one of these forms:

    \b
      {"photo.jpg": [[x1, y1, x2, y2], ...], ...}                   corners, in pixels
      [{"file_name": "photo.jpg", "bbox": [x, y, width, height]}]   or "image_id", as in COCO results:
                                                                    the file's name without suffix
      {"images": [...], "annotations": [...], ...}                  COCO annotations; crowds are left out

    An image without boxes in the file gets no poses and a warning.

    \b
    Examples:
      tokenpose predict group.jpg --detect
      tokenpose predict photo.jpg --box 48,20,310,620
      tokenpose predict photographs/ --boxes boxes.json --output poses/
    """
    choice = read_box_options(box, boxes, detect, detector, detection_threshold)
    target = choose_device(device)

    from tokenpose.jobs.box_source import choose_box_source
    from tokenpose.jobs.photographs import choose_photographs, write_photographs
    from tokenpose.predictor import PosePredictor

    paths = find_image_files(images, choice)
    source = choose_box_source(*choice, target)
    photographs = choose_photographs(paths, source, output)
    predictor = PosePredictor(choose_model(model, weights, target, optimized), decoder=decoder, flip_test=flip_test)
    with progress(len(photographs)) as tick:
        done = write_photographs(
            predictor, photographs, source.find, batch_size, threshold=threshold, draw_boxes=draw_boxes, tick=tick
        )
    where = photographs[0].picture if len(photographs) == done.images == 1 else output
    typer.echo(f"{count(done.people, 'person', 'people')} in {count(done.images, 'image', 'images')}: {where}")
    if done.failed:
        raise typer.Exit(1)
