"""How fast models run, compared with the published computation, other runtimes and another model, all in one run.

Usage: python benchmarks/speed.py [--models tokenpose_t ...] [--batches 1 8 64] [--ways eager optimized ...]
           [--precisions fp32 bf16 fp16] [--photograph photo.jpg] [--output speed.json]

Each way has a process of its own, and they take turns: some calls each, round after round, while the others sleep, so
that a slow moment of the machine affects all of them. The figure is the median call. "of peak": the published way's
floating-point operations over the time, as a share of what a matrix product of 2048 (GPU: 8192; half precision on a
CPU: 512) reaches in the same precision, measured in turns. "memory": the peak of a pass besides weights and crops.
"differs": the largest difference from the published way's float32 heatmaps, as a share of their largest value.

Ways: "published" (benchmarks/published.py), "eager" (create_model), "optimized" (tokenpose.optimize), "compiled"
(torch.compile with frozen weights; on a GPU of the optimized model, with CUDA graphs), "onnxruntime" and "openvino" on
what export_onnx writes (CPU; OpenVINO for each size of batch), "vitpose" (transformers' VitPose-B, random weights, same
crops). Then the stages of the predictor on a photograph, for 1, 8 and 64 people. What OUTPUT already holds is not
measured again; if a way is missing, all ways of that model, precision and batch are measured, and with --photograph the
stages. An OUTPUT from another machine or other versions is refused. A batch of 64 has one turn.
"""

import argparse
import copy
import ctypes
import itertools
import json
import logging
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from published import Published, count_operations, decode_dark

ARCHITECTURES = ["tokenpose_t", "tokenpose_s_v1", "tokenpose_s_v2", "tokenpose_b", "tokenpose_l_d6", "tokenpose_l_d24"]
WAYS = ["published", "eager", "optimized", "compiled", "onnxruntime", "openvino", "vitpose"]
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PEOPLE = (1, 8, 64)
ROUNDS = 4

Way = Callable[[torch.Tensor], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=ARCHITECTURES)
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--precisions", nargs="+", choices=list(PRECISIONS), default=["fp32"])
    parser.add_argument("--seconds", type=float, default=2.0, help="for each way and batch, at least")
    parser.add_argument("--photograph", type=Path, help="for the stages; default: noise of 640x480 as JPEG")
    parser.add_argument("--output", type=Path, default=Path("speed.json"))
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)  # model, precision, way
    options = parser.parse_args()
    if options.worker:
        work(*options.worker)
        return
    found = read_output(options.output, {"forward": [], "stages": []})
    groups = []
    for name, precision in itertools.product(options.models, options.precisions):
        ways = [way for way in options.ways if is_possible(way, precision, name)]
        known = {(*of_cell(row), row["way"]) for row in found["forward"]}
        batches = [
            batch for batch in options.batches if any((name, precision, batch, way) not in known for way in ways)
        ]
        groups.append(Group(name, precision, batches, ways))
    if torch.cuda.is_available():  # their machine has enough cores to start all of them at once
        everybody = [worker for group in groups for worker in group.start()]
        with ThreadPoolExecutor(len(everybody) or 1) as pool:
            list(pool.map(Worker.get_ready, everybody))
    for group in groups:
        for worker in group.start():
            worker.get_ready()
        for batch in group.batches:  # all of the cell anew: ratios are of one run
            rows = race(group, batch, options.seconds)
            cell = (group.model, group.precision, batch)
            found["forward"] = [
                row for row in found["forward"] if of_cell(row) != cell or row["way"] not in group.ways
            ] + rows
            options.output.write_text(json.dumps(found, indent=1) + "\n")
        group.stop()
    if options.photograph or not found["stages"]:
        found["stages"] = measure_stages(options)
        options.output.write_text(json.dumps(found, indent=1) + "\n")
    print_tables(found)


# Forward passes


class Worker:
    """A process that runs one way on request."""

    def __init__(self, model: str, precision: str, way: str, batches: list[int]) -> None:
        self.way, self.batches = way, batches
        command = [sys.executable, __file__, "--worker", model, precision, way]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.prepared: dict[int, dict[str, Any]] = {}

    def get_ready(self) -> None:
        if not self.prepared:
            self.answer()  # it is there
            self.prepared = {batch: self.ask(prepare=batch) for batch in self.batches}

    def ask(self, **question: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.process.args} ended with {self.process.wait()}")
        return json.loads(line)


class Group:
    """The ways of one architecture in one precision."""

    def __init__(self, model: str, precision: str, batches: list[int], ways: list[str]) -> None:
        self.model, self.precision, self.batches, self.ways = model, precision, batches, ways
        self.workers: list[Worker] = []

    def start(self) -> list[Worker]:
        if self.batches and not self.workers:
            self.workers = [Worker(self.model, self.precision, way, self.batches) for way in self.ways]
        return self.workers

    def stop(self) -> None:
        for worker in self.workers:
            worker.process.terminate()


def of_cell(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["model"], row["precision"], row["batch"]


def race(group: Group, batch: int, seconds: float) -> list[dict[str, Any]]:
    """The rows of one architecture, precision and size of batch."""
    times: dict[str, list[float]] = {worker.way: [] for worker in group.workers}
    peaks = []
    for _ in range(ROUNDS if batch < 64 else 1):
        for worker in group.workers:
            answer = worker.ask(batch=batch, seconds=seconds / ROUNDS)
            times[worker.way] += answer["times"]
            peaks.append(answer["peak"])
    rows = []
    for worker in group.workers:
        spent, peak, prepared = statistics.median(times[worker.way]), statistics.median(peaks), worker.prepared[batch]
        operations = prepared["operations"] * batch
        rows.append({
            "model": group.model, "precision": group.precision, "batch": batch, "way": worker.way,
            "ms_per_image": 1000 * spent / batch, "images_per_second": batch / spent,
            "of_peak": operations / spent / peak, "peak_gflops": peak / 1e9,
            "memory_mb": prepared["memory"] / 1e6, "differs": prepared["differs"],
        })  # fmt: skip
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def work(name: str, precision: str, way: str) -> None:
    """The worker process: report that it is ready, then answer requests, each a line of JSON."""
    import tokenpose

    answers, sys.stdout = sys.stdout, sys.stderr  # where others may print
    device, dtype = choose_device(), PRECISIONS[precision]
    torch.manual_seed(0)
    model = with_weights(tokenpose.create_model(f"{name}.coco_256x192")).to(device)
    published = Published(copy.deepcopy(model))
    crop = torch.zeros(1, 3, *model.spec.image_size, device=device)
    operations = count_operations(published, crop)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        run = make_way(way, model.to(dtype), Path(folder))
        if way == "vitpose":
            operations = count_operations(run, crop.to(dtype))
        print(json.dumps("ready"), file=answers, flush=True)
        crops_of: dict[int, torch.Tensor] = {}
        for line in sys.stdin:
            question = json.loads(line)
            if "prepare" in question:
                crops = torch.randn(question["prepare"], 3, *model.spec.image_size, device=device).to(dtype)
                crops_of[question["prepare"]] = crops
                answer = {"operations": operations, **prepare(run, crops, None if way == "vitpose" else published)}
            else:
                crops = crops_of[question["batch"]]
                answer = {"peak": measure_peak(dtype, device), "times": time_calls(run, crops, question["seconds"])}
            print(json.dumps(answer), file=answers, flush=True)


def prepare(run: Way, crops: torch.Tensor, published: Way | None) -> dict[str, Any]:
    """How much memory a pass takes, and how far its first heatmaps are from the published way's."""
    run(crops)  # includes what is created on first use
    memory, heatmaps = measure_memory(lambda: run(crops))
    if published is None:
        return {"memory": memory, "differs": None}
    expected, found = published(crops[:4].float()).cpu(), torch.as_tensor(heatmaps)[:4].float().cpu()
    return {"memory": memory, "differs": float((found - expected).abs().max() / expected.abs().max())}


def time_calls(run: Way, crops: torch.Tensor, seconds: float) -> list[float]:
    """Calls in a row; the first, which finds another's data in the caches, doesn't count."""
    timed(lambda: run(crops))
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends or not times:
        times.append(timed(lambda: run(crops)))
    return times


def with_weights(model: Any) -> Any:
    """Random weights whose heatmaps aren't nearly 0, and batch norms that do something."""
    for name, parameter in model.named_parameters():
        if not name.startswith("backbone") and parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def is_possible(way: str, precision: str, model: str) -> bool:
    """ONNX files are float32, and the runtimes that are installed are for CPUs; VitPose is measured only once."""
    if way == "vitpose":
        return model == "tokenpose_s_v1"
    return way not in ("onnxruntime", "openvino") or (precision == "fp32" and not torch.cuda.is_available())


def make_way(name: str, model: Any, folder: Path) -> Way:
    import tokenpose

    if name == "published":
        return Published(model)
    if name == "eager":
        return model
    if name == "optimized":
        return tokenpose.optimize(model)
    if name == "compiled":
        if next(model.parameters()).is_cuda:
            return torch.compile(tokenpose.optimize(model), mode="reduce-overhead", dynamic=False)
        torch._inductor.config.freezing = True  # which folds batch norms and lays weights out
        return torch.compile(model, dynamic=False)
    if name == "vitpose":
        return make_vitpose(model)
    path = folder / "model.onnx"
    if not path.exists():
        tokenpose.export_onnx(model, path)
    return make_onnxruntime(path) if name == "onnxruntime" else make_openvino(path)


def make_vitpose(model: Any) -> Way:
    from transformers import VitPoseBackboneConfig, VitPoseConfig, VitPoseForPoseEstimation

    backbone = VitPoseBackboneConfig(out_features=["stage12"])
    config = VitPoseConfig(backbone_config=backbone, num_labels=len(model.spec.skeleton), use_simple_decoder=False)
    other = VitPoseForPoseEstimation(config).to(next(model.parameters())).eval()
    return lambda crops: other(crops).heatmaps


def make_onnxruntime(path: Path) -> Way:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    return lambda crops: session.run(None, {"crops": crops.numpy()})[0]


def make_openvino(path: Path) -> Way:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    network = openvino.Core().read_model(path)
    requests: dict[int, Any] = {}

    def run(crops: torch.Tensor) -> Any:
        if len(crops) not in requests:
            network.reshape(list(crops.shape))
            requests[len(crops)] = openvino.compile_model(network, "CPU", settings).create_infer_request()
        return requests[len(crops)].infer({"crops": crops.numpy()})["heatmaps"]

    return run


# The stages of a photograph


def measure_stages(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Where the time goes for 1, 8 and 64 people on one photograph: TokenPose-S, optimized; milliseconds for all."""
    import tokenpose
    from tokenpose.images import read_image

    torch.manual_seed(0)
    model = tokenpose.optimize(with_weights(tokenpose.create_model("tokenpose_s_v1.coco_256x192")).to(choose_device()))
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        photograph = options.photograph or draw_photograph(Path(folder) / "photograph.jpg")
        pixels = read_image(photograph)
        for people in PEOPLE:
            boxes = draw_boxes(people, pixels.shape[1], pixels.shape[2])
            stages = make_stages(model, photograph, pixels, boxes)
            milliseconds = {name: 1000 * spent for name, spent in take_turns(stages, options.seconds).items()}
            rows.append({"people": people, "size": list(pixels.shape[1:]), "ms": milliseconds})
    return rows


def make_stages(
    model: Any, photograph: Path, pixels: torch.Tensor, boxes: np.ndarray
) -> dict[str, Callable[[], object]]:
    """What happens to a photograph, step by step, and as a whole."""
    import tokenpose
    from tokenpose.geometry.flips import flip_heatmaps
    from tokenpose.images import read_image

    transform, predictor = tokenpose.create_transform(model), tokenpose.PosePredictor(model)
    pairs = model.spec.skeleton.flip_pairs
    people = transform(pixels, boxes)
    heatmaps = model(people.crops)
    cells, _ = tokenpose.decode(heatmaps)
    on_cpu = heatmaps.float().cpu().numpy()
    return {
        "decode the file": lambda: read_image(photograph),
        "crop": lambda: transform(pixels, boxes),
        "forward": lambda: model(people.crops),
        "flip pass": lambda: flip_heatmaps(model(people.crops.flip(-1)), pairs),
        "decode heatmaps": lambda: tokenpose.decode(heatmaps),
        "decode as published": lambda: decode_dark(on_cpu),
        "map back": lambda: transform.to_image(cells, people),
        "predictor, from pixels": lambda: predictor(pixels, boxes),
        "predictor, from the file": lambda: predictor(photograph, boxes),
    }


def draw_photograph(path: Path) -> Path:
    """640 x 480 of smooth noise, which gives a JPEG file of the usual size."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return path


def draw_boxes(people: int, height: int, width: int) -> np.ndarray:
    """Boxes of a third to two thirds of the height, within the image."""
    generator = np.random.default_rng(0)
    tall = generator.uniform(height / 3, height * 2 / 3, people)
    wide = tall * 0.5
    left, top = generator.uniform(0, width - wide), generator.uniform(0, height - tall)
    return np.stack((left, top, left + wide, top + tall), axis=1)


# Measuring


def choose_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def take_turns(runners: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of a call; in each round each runner has some calls in a row, of which the first doesn't count."""
    spent: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(ROUNDS):
        for name, run in runners.items():
            timed(run)
            ends = time.perf_counter() + seconds / ROUNDS
            while time.perf_counter() < ends or len(spent[name]) <= number:
                spent[name].append(timed(run))
    return {name: statistics.median(times) for name, times in spent.items()}


def timed(run: Callable[[], object]) -> float:
    synchronize()
    started = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - started


def measure_peak(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 2048 if dtype == torch.float32 else 512
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = min(timed(lambda: first @ second) for _ in range(5))
    return 2 * size**3 / best


def measure_memory(run: Callable[[], Any]) -> tuple[float, Any]:
    """The peak memory of a call above what was in use before it, in bytes, and the call's result."""
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = run()
        synchronize()
        return torch.cuda.max_memory_allocated() - before, result
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = read_status("VmRSS")
    result = run()
    return read_status("VmHWM") - before, result


def read_status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def read_output(path: Path, empty: dict[str, Any]) -> dict[str, Any]:
    """The rows that the file already has. Exits if they are from another machine or other versions."""
    here = describe_machine()
    found = json.loads(path.read_text()) if path.exists() else {**empty, "machine": here}
    there = found.get("machine", {})
    differ = [
        f"{name} {there.get(name)} there, {here.get(name)} here"
        for name in {**there, **here}
        if there.get(name) != here.get(name)
    ]
    if differ:
        raise SystemExit(f"{path} was measured elsewhere ({'; '.join(differ)}): name another --output")
    return found


def describe_machine() -> dict[str, Any]:
    from importlib.metadata import version
    from importlib.util import find_spec

    names = ("torch", "timm", "onnxruntime", "openvino", "transformers")
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    return {
        "processor": torch.cuda.get_device_name() if torch.cuda.is_available() else cpu,
        "threads": torch.get_num_threads(), "python": platform.python_version(),
        **{name: version(name) for name in names if find_spec(name)},
    }  # fmt: skip


# Tables


def print_tables(found: dict[str, Any]) -> None:
    print(f"\n{found['machine']}\n")
    print("| model | precision | batch | way | ms an image | images/s | times as fast | of peak | memory | differs |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    published = {
        (row["model"], row["batch"]): row["ms_per_image"]
        for row in found["forward"]
        if (row["way"], row["precision"]) == ("published", "fp32")
    }
    for row in sorted(
        found["forward"], key=lambda row: (ARCHITECTURES.index(row["model"]), row["precision"], row["batch"])
    ):
        base = published.get((row["model"], row["batch"]))
        ratio = f"{base / row['ms_per_image']:.2f}" if base else ""
        share = f"{row['of_peak']:.0%}"
        differs = f"{row['differs']:.0e}" if row["differs"] is not None else ""
        print(
            f"| {row['model']} | {row['precision']} | {row['batch']} | {row['way']} | {row['ms_per_image']:.1f} | "
            f"{row['images_per_second']:.1f} | {ratio} | {share} | {row['memory_mb']:.0f} MB | {differs} |"
        )
    stages = found["stages"]
    print(
        "\n| stage, ms | "
        + " | ".join(f"{row['people']} people" for row in stages)
        + " |\n|---|"
        + "---|" * len(stages)
    )
    for name in stages[0]["ms"]:
        print(f"| {name} | " + " | ".join(f"{row['ms'][name]:.2f}" for row in stages) + " |")


if __name__ == "__main__":
    logging.getLogger("tokenpose").setLevel(logging.ERROR)
    main()
