import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import detection as torchvision_detection
from torchvision.models import get_model_weights, list_models
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from tokenpose import detection
from tokenpose.detection import COCO_PERSON, detect, load_detector
from tokenpose.models.create import create_model
from tokenpose.predictor import predict

HEIGHT, WIDTH = 60, 80
DEFAULT = "fasterrcnn_mobilenet_v3_large_fpn"


class Finder(nn.Module):
    """Finds the same things in every image, and remembers the images."""

    def __init__(self, *things: tuple[list[float], int, float]) -> None:
        super().__init__()
        self.boxes = torch.tensor([box for box, _, _ in things]).reshape(-1, 4)
        self.labels = torch.tensor([label for _, label, _ in things], dtype=torch.int64)
        self.scores = torch.tensor([score for _, _, score in things])
        self.images: list[Tensor] = []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        self.images += images
        return [{"boxes": self.boxes, "labels": self.labels, "scores": self.scores} for _ in images]


class Answer(nn.Module):
    """Answers what it was given."""

    def __init__(self, answer: object) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: list[Tensor]) -> object:
        return self.answer


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


# What is kept of what a detector finds


def test_people_come_most_confident_first_and_other_things_not_at_all(pixels):
    finder = Finder(([1, 2, 30, 40], COCO_PERSON, 0.6), ([5, 5, 9, 9], 18, 0.99), ([10.5, 3, 60, 50], COCO_PERSON, 0.9))
    boxes = detect(pixels, finder)
    assert boxes.tolist() == [[10.5, 3, 60, 50], [1, 2, 30, 40]]
    assert boxes.dtype == np.float32


def test_people_of_equal_scores_keep_their_order(pixels):
    finder = Finder(*(([x, 0.0, x + 5, 9.0], COCO_PERSON, 0.5) for x in range(40)))
    assert detect(pixels, finder)[:, 0].tolist() == list(range(40))


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 4), (0.25, 3), (0.5, 2), (0.51, 1), (1.0, 1)])
def test_threshold_is_the_least_score(pixels, threshold, count):
    finder = Finder(*(([1, 2, 30, 40], COCO_PERSON, score) for score in (0.0, 0.25, 0.5, 1.0)))
    assert len(detect(pixels, finder, threshold=threshold)) == count


def test_boxes_under_one_pixel_a_side_are_left_out(pixels):
    finder = Finder(
        ([1, 1, 1.9, 30], COCO_PERSON, 0.9), ([1, 1, 30, 1], COCO_PERSON, 0.9), ([1, 1, 2, 2], COCO_PERSON, 0.9)
    )
    assert detect(pixels, finder).tolist() == [[1, 1, 2, 2]]


@pytest.mark.parametrize("things", [(), (([1, 2, 30, 40], 18, 0.9),)], ids=["nothing", "a dog"])
def test_nobody_is_an_array_without_rows(pixels, things):
    boxes = detect(pixels, Finder(*things))
    assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)


# What a detector is shown


def test_path_pil_array_and_tensor_are_the_same_image_to_the_detector(pixels, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    finder = Finder()
    for image in (pixels, path, str(path), Image.fromarray(pixels), tensor, tensor / 255):
        detect(image, finder)
    assert len(finder.images) == 6
    for image in finder.images:
        assert image.dtype == torch.float32
        assert torch.equal(image, tensor / 255)


def test_photograph_is_turned_as_its_exif_orientation_says(pixels, tmp_path):
    path, finder = tmp_path / "turned.jpg", Finder()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    Image.fromarray(pixels).save(path, exif=exif)
    detect(path, finder)
    assert finder.images[0].shape == (3, WIDTH, HEIGHT)


def test_module_is_put_into_eval_mode_and_sees_no_gradients(pixels):
    class Watched(Finder):
        def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
            assert torch.is_inference_mode_enabled()
            assert not self.training
            return super().forward(images)

    finder = Watched().train()
    detect(pixels, finder)
    assert not finder.training


def test_module_in_half_precision_gives_float32_boxes(pixels):
    finder = Finder(([1, 2, 30, 40], COCO_PERSON, 0.6))
    finder.boxes, finder.scores = finder.boxes.half(), finder.scores.half()
    boxes = detect(pixels, finder)
    assert (boxes.tolist(), boxes.dtype) == ([[1, 2, 30, 40]], np.float32)


# A real detector, of a size for tests


@pytest.fixture(scope="module")
def small_rcnn() -> FasterRCNN:
    """torchvision's Faster R-CNN on one convolution, from random weights, without a least score of its own."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.ReLU())
    backbone.out_channels = 8
    return FasterRCNN(
        backbone,
        num_classes=2,
        rpn_anchor_generator=AnchorGenerator(sizes=((16, 32),), aspect_ratios=((1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(featmap_names=["0"], output_size=3, sampling_ratio=1),
        box_score_thresh=0.0,
        min_size=96,
        max_size=128,
    )


def test_boxes_of_a_faster_rcnn_are_ready_for_predict(small_rcnn, pixels):
    boxes = detect(pixels, small_rcnn, threshold=0.0)
    assert len(boxes) > 1
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
    assert boxes.min() >= 0
    assert (boxes[:, 2:] <= (WIDTH, HEIGHT)).all()
    with torch.inference_mode():
        [found] = small_rcnn([torch.from_numpy(pixels).permute(2, 0, 1) / 255])
    assert boxes.tolist() == found["boxes"][found["labels"] == 1].tolist()  # which torchvision sorts by score

    model = create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)
    poses = predict(model, pixels, boxes)
    assert poses.keypoints.shape == (len(boxes), 14, 2)
    np.testing.assert_array_equal(poses.boxes, boxes)


# By name


def test_detector_by_name_finds_what_its_module_finds(detector_weights, pixels):
    boxes = detect(pixels, detector_weights)
    assert 1 <= len(boxes) <= 6
    np.testing.assert_array_equal(boxes, detect(pixels, load_detector(detector_weights).module))
    assert not load_detector(detector_weights).module.training


def test_detector_by_name_is_loaded_once_for_each_device(detector_weights):
    module = load_detector(detector_weights).module
    assert load_detector(detector_weights).module is module
    assert load_detector(detector_weights, torch.device("cpu")).module is module
    assert load_detector(detector_weights, "meta").module is not module


def test_label_of_persons_is_looked_up_in_the_categories(detector_weights, pixels, monkeypatch):
    weights = get_model_weights(detector_weights).DEFAULT
    categories = ["__background__", "bicycle", "person", *weights.meta["categories"][3:]]
    monkeypatch.setitem(weights.meta, "categories", categories)
    assert load_detector(detector_weights).person == 2
    assert len(detect(pixels, detector_weights)) == 0  # the weights say 1, which is a bicycle now


def test_every_detector_of_torchvision_knows_persons_and_names_its_hash():
    names = list_models(module=torchvision_detection)
    assert DEFAULT in names
    for name in names:
        weights = get_model_weights(name).DEFAULT
        assert weights.meta["categories"].index("person") == COCO_PERSON
        assert re.search(r"-[0-9a-f]{8}\.pth$", weights.url)


def test_table_of_the_guide_holds_what_torchvision_publishes():
    guide = (Path(__file__).parents[1] / "docs" / "detect.md").read_text()
    rows = re.findall(r"^\| `(\w+)`.* \| ([\d.]+)[^|]*\| (\d+) \| ([\d.]+) \|$", guide, re.MULTILINE)
    assert len(rows) == 12
    for name, precision, size, operations in rows:
        published = get_model_weights(name).DEFAULT.meta
        assert float(precision) == published["_metrics"]["COCO-val2017"]["box_map"]
        assert float(size) == pytest.approx(published["_file_size"], abs=0.5)
        assert float(operations) == pytest.approx(published["_ops"], abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_boxes_found_on_a_gpu_are_those_found_on_the_cpu(detector_weights, pixels):
    on_gpu = detect(pixels, detector_weights, device="cuda")
    np.testing.assert_allclose(on_gpu, detect(pixels, detector_weights, device="cpu"), atol=0.1)


# Weights


@pytest.fixture
def empty_home(tmp_path, monkeypatch, detector_weights) -> Path:
    """The folder that weights would be downloaded to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


Publish = Callable[[str], list[str]]


@pytest.fixture
def publish(detector_folder, detector_weights, empty_home, tmp_path, monkeypatch) -> Iterator[Publish]:
    """Let a server on this machine have the detector's weights under a name that ends in -HASH.pth.

    HASH in the name stands for the hash that they have. Returns what the server is asked for.
    """
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    [weights] = detector_folder.rglob("*.pth")
    content = weights.read_bytes()
    (tmp_path / "public").mkdir()
    handler = partial(Handler, directory=str(tmp_path / "public"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def put(name: str) -> list[str]:
            name = name.replace("HASH", hashlib.sha256(content).hexdigest()[:8])
            (tmp_path / "public" / name).write_bytes(content)
            address = f"http://127.0.0.1:{server.server_port}/{name}"
            monkeypatch.setattr(get_model_weights(detector_weights).DEFAULT.value, "url", address)
            return asked

        yield put
        server.shutdown()


def test_weights_are_downloaded_once_in_silence(publish, empty_home, detector_weights, pixels, capfd):
    asked = publish("detector-HASH.pth")
    boxes = detect(pixels, detector_weights)
    assert len(boxes) > 0
    [path] = empty_home.iterdir()
    detection._load.cache_clear()
    np.testing.assert_array_equal(detect(pixels, detector_weights), boxes)
    assert asked == [f"/{path.name}"]
    assert capfd.readouterr() == ("", "")


def test_weights_of_another_hash_are_refused_and_not_kept(publish, empty_home, detector_weights, pixels):
    publish("detector-00000000.pth")
    with pytest.raises(
        OSError, match=r'detector-00000000\.pth can\'t be downloaded .*expected "00000000", got "'
    ) as info:
        detect(pixels, detector_weights)
    assert isinstance(info.value.__cause__, RuntimeError)
    assert list(empty_home.iterdir()) == []


def test_weights_without_a_hash_are_not_downloaded(publish, detector_weights, pixels):
    asked = publish("detector.pth")
    with pytest.raises(OSError, match=r"detector\.pth does not name its hash"):
        detect(pixels, detector_weights)
    assert asked == []


def test_without_a_network_the_error_says_which_file_goes_where(publish, empty_home, detector_weights, monkeypatch):
    monkeypatch.setattr(
        get_model_weights(detector_weights).DEFAULT.value, "url", "http://127.0.0.1:1/detector-0123abcd.pth"
    )
    with pytest.raises(OSError, match="urlopen error") as info:
        load_detector(detector_weights)
    message = str(info.value)
    assert message.startswith(
        "detector-0123abcd.pth can't be downloaded from http://127.0.0.1:1/detector-0123abcd.pth into "
        f"{empty_home}: <urlopen error "
    )
    assert message.endswith("; put the file there yourself, or give boxes instead of detecting people")


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return pytest.fail, ("code from a weights file was run",)


@pytest.mark.parametrize("content", ["garbage", "nothing", "part", "code", "other weights"])
def test_file_that_does_not_hold_the_weights_is_an_error_that_names_it(
    content, empty_home, detector_folder, detector_weights
):
    [good] = detector_folder.rglob("*.pth")
    path = empty_home / good.name
    empty_home.mkdir(parents=True)
    if content == "code":
        torch.save(Code(), path)
    elif content == "other weights":
        torch.save(OrderedDict(weight=torch.zeros(1)), path)
    else:
        path.write_bytes({"garbage": b"not weights", "nothing": b"", "part": good.read_bytes()[:100_000]}[content])
    with pytest.raises(OSError, match=re.escape(f"{path} does not hold the weights of {detector_weights}; delete it")):
        load_detector(detector_weights)


# Errors


def test_unknown_name_is_an_error_with_the_closest_names(pixels):
    with pytest.raises(LookupError, match="no detector named 'retinanet'; did you mean retinanet_resnet50_fpn, "):
        detect(pixels, "retinanet")
    with pytest.raises(LookupError, match="did you mean ssd300_vgg16"):
        detect(pixels, "ssd300_vgg61")
    with pytest.raises(LookupError, match="no detector named 'resnet18'"):  # which torchvision has, as a classifier
        detect(pixels, "resnet18")


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_outside_of_scores_is_an_error(pixels, threshold):
    with pytest.raises(ValueError, match=re.escape(f"threshold must be in 0..1, as scores are; got {threshold}")):
        detect(pixels, Finder(), threshold=threshold)


def test_detector_of_another_type_is_an_error(run_python):
    code = (
        "import numpy, tokenpose\nimage = numpy.zeros((9, 9, 3), dtype='uint8')\n"
        "try: tokenpose.detect(image, 3)\nexcept TypeError as error: print(error)"
    )
    assert run_python(code).stdout == "a detector is a name or a torch.nn.Module; got int\n"


def test_device_beside_a_module_is_an_error(pixels):
    with pytest.raises(ValueError, match=r"device='cpu' is for a detector's name; move the module itself"):
        detect(pixels, Finder(), device="cpu")


def test_image_is_read_before_weights_are_asked_for(empty_home):
    with pytest.raises(FileNotFoundError, match=r"there is no image none\.jpg"):
        detect("none.jpg", DEFAULT)


ANSWERS = {
    "a dict": {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)},
    "two images": [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}] * 2,
    "no scores": [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0)}],
    "another shape": [{"boxes": torch.zeros(2, 4), "labels": torch.zeros(2), "scores": torch.zeros(3)}],
    "flat boxes": [{"boxes": torch.zeros(4), "labels": torch.zeros(4), "scores": torch.zeros(4)}],
    "losses": {},
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_answer_of_another_form_is_an_error(pixels, answer):
    with pytest.raises(ValueError, match=r"a detector answers with a list of one dict, of the tensors boxes"):
        detect(pixels, Answer(ANSWERS[answer]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_boxes_and_scores_that_are_not_finite_are_an_error(pixels, value):
    for thing in (([1, 2, value, 40], COCO_PERSON, 0.9), ([1, 2, 30, 40], COCO_PERSON, value)):
        with pytest.raises(ValueError, match="not all finite"):
            detect(pixels, Finder(thing))
