"""Settings of a training run: frozen, checked when made, saved with the run."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from tokenpose.data.settings import Augmentation, Cache, check_settings, setting

Loss = Literal["squared_error", "hard_keypoints", "cross_entropy"]
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "multi_step"]
Start = Literal["wide", "published"]
Precision = Literal["fp32", "bf16", "fp16"]
Keep = Literal["last", "best"]
Size = tuple[int, int]

USUAL_BATCH_SIZE = 128
MOST_EPOCHS = 100
"""To which ``min_steps`` raises the number of epochs."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained. Raises ValueError that names the field."""

    epochs: int = setting(100, help="Number of passes over the training people.", panel="Optimization", at_least=1)
    min_steps: int = setting(
        0,
        help="Take at least this many steps where people are few: more epochs than --epochs, up to "
        f"{MOST_EPOCHS}. A recipe's value has no effect if --epochs is given.",
        panel="Optimization", at_least=0,
    )  # fmt: skip
    batch_size: int | None = setting(
        None,
        help="People in each optimizer step, over all processes. Default: as the model was published with, or "
        f"{USUAL_BATCH_SIZE}.",
        panel="Optimization", at_least=1,
    )  # fmt: skip
    sizes: tuple[Size, ...] = setting(
        (),
        help="Sizes of crops to train on, one for each batch, 128x96,192x144,256x192 for example, so that the weights "
        "serve all of them. The model's image size must be one of them. Default: only the model's.",
        panel="Data", metavar="HEIGHTxWIDTH,...", at_least=1,
    )  # fmt: skip
    accumulate: int = setting(
        1,
        help="Split each step into this many parts, to save memory. The gradient is the same, but batch norms see "
        "only the parts.",
        panel="Optimization", at_least=1,
    )  # fmt: skip
    optimizer: Optimizer = setting(
        "adamw",
        help='"adam" is the published one: it adds the weight decay to the gradient, for every parameter. "adamw" '
        "decays only matrices and kernels.",
        panel="Optimization",
    )  # fmt: skip
    learning_rate: float = setting(1e-3, help="Peak learning rate.", panel="Optimization", above=0)
    backbone_rate: float = setting(
        1.0, help="Learning rate of the backbone, relative to --learning-rate.", panel="Optimization", above=0
    )
    token_rate: float = setting(
        1.0,
        help="Learning rate of the keypoint tokens, relative to --learning-rate. With a value far above 1 they learn "
        "new keypoints while everything else hardly changes.",
        panel="Optimization", above=0,
    )  # fmt: skip
    freeze_backbone: bool = setting(
        False, help="Keep the backbone as it is, including its batch-norm statistics.", panel="Optimization"
    )
    weight_decay: float = setting(0.05, help="Weight decay of the optimizer.", panel="Optimization", at_least=0)
    schedule: Schedule = setting(
        "cosine",
        help='"cosine" lowers the learning rate to zero over the whole run. "multi_step" is the published schedule: it '
        "divides the learning rate by 10 at each of --milestones.",
        panel="Optimization",
    )  # fmt: skip
    milestones: tuple[int, ...] = setting(
        (200, 260),
        help="Epochs at which multi_step divides the learning rate by 10.",
        panel="Optimization", metavar="N,N,...", at_least=1,
    )  # fmt: skip
    clip: float = setting(
        1.0, help="Clip the norm of the gradient to this value; 0 turns clipping off.", panel="Optimization", at_least=0
    )
    average: float = setting(
        0.999,
        help="Decay of the moving average of the weights, which is validated and saved; 0 turns the average off.",
        panel="Optimization", at_least=0, below=1,
    )  # fmt: skip
    start: Start = setting(
        "wide",
        help='Initialization of a new model: "wide" keypoint tokens and attention, or "published".',
        panel="Model",
    )  # fmt: skip
    loss: Loss | None = setting(
        None,
        help='"squared_error" is the published loss, "hard_keypoints" its published variant. "cross_entropy" is over '
        "the cells of each heatmap, for models whose heatmap_activation is softmax. Default: the loss that fits the "
        "model; for a new model cross_entropy.",
        panel="Optimization",
    )  # fmt: skip
    hardest: int = setting(
        8,
        help="Number of keypoints of each person, those with the largest error, that hard_keypoints counts.",
        panel="Optimization", at_least=1,
    )  # fmt: skip
    guidance: float = setting(
        0.5,
        help="Weight of the auxiliary loss that pulls each keypoint token's attention to its keypoint, in all blocks "
        "except the first third; 0 turns it off.",
        panel="Optimization", at_least=0,
    )  # fmt: skip
    patches: float = setting(
        1.0,
        help="Weight of the auxiliary loss on heatmaps that a linear layer, dropped after training, predicts from the "
        "visual tokens halfway and before the last block; 0 turns it off.",
        panel="Optimization", at_least=0,
    )  # fmt: skip
    distillation: float = setting(
        1.0,
        help="Weight of the loss against the heatmaps of --teacher, relative to that against the labels.",
        panel="Optimization", above=0,
    )  # fmt: skip
    token_distillation: float = setting(
        0.0,
        help="Weight of the loss against the keypoint tokens that enter the head of --teacher, which must be as wide "
        "as the model's.",
        panel="Optimization", at_least=0,
    )  # fmt: skip
    grow_epochs: int = setting(
        5,
        help="With --grow: number of epochs, before those of the run, in which the new backbone learns the visual "
        "tokens of the smaller model; 0 skips this.",
        panel="Optimization", at_least=0,
    )  # fmt: skip
    grow_rate: float = setting(
        2e-3, help="With --grow: peak learning rate of those epochs.", panel="Optimization", above=0
    )
    precision: Precision = setting("fp32", help="Precision of the forward and backward pass.", panel="Run")
    compile: bool = setting(False, help="Compile backbone, blocks and heads with torch.compile.", panel="Run")
    graph: bool = setting(
        False,
        help="Record a step as a CUDA graph and replay it, to save Python's overhead: on one GPU, in fp32 or bf16.",
        panel="Run",
    )
    channels_last: bool = setting(True, help="Use the channels-last memory format for convolutions.", panel="Run")
    sync_batch_norm: bool = setting(
        False, help="Compute batch-norm statistics over all processes. Needs GPUs.", panel="Run"
    )
    seed: int = setting(
        0,
        help="Seed of the initial weights, the order of people and the augmentation.",
        panel="Run", above=-(2**63), below=2**63,
    )  # fmt: skip
    workers: int = setting(
        0,
        help="Processes that read images when they are not cached; at most one for each core is started.",
        panel="Data", at_least=0,
    )  # fmt: skip
    cache: Cache = setting(
        "ram",
        help='Where decoded people are kept: in memory ("ram", once for each process), on the "device", or "none". A '
        "person takes 3 bytes for each pixel of the photograph that crops can show: about 120 KB in LSPET, 380 KB in "
        "COCO, up to 9 MB in photographs of 12 megapixels.",
        panel="Data",
    )  # fmt: skip
    validate_every: int = setting(
        5, help="Epochs from one validation to the next. The last epoch is always validated.", panel="Run", at_least=1
    )
    keep: Keep = setting(
        "last",
        help='"best" also keeps the weights of the best validation, in best.safetensors: by AP for COCO\'s keypoints, '
        "by PCK for others or without pycocotools.",
        panel="Run",
    )  # fmt: skip
    checkpoint_seconds: float = setting(
        120.0, help="Seconds from one checkpoint to the next: the most that a crash can lose.", panel="Run", at_least=0
    )
    predictions: int = setting(
        8,
        help="Number of validation people whose predictions are drawn to predictions/, at most every 20 seconds.",
        panel="Run", at_least=0,
    )  # fmt: skip
    trackers: tuple[str, ...] = setting(
        (),
        help="Also log to these trackers, which accelerate must know: tensorboard, wandb, ...",
        panel="Run", metavar="NAME,...",
    )  # fmt: skip
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_settings(self)
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must increase; got {self.milestones}")
        if self.graph and self.precision == "fp16":
            raise ValueError('graph does not work with precision "fp16", whose loss scaling runs in Python; use "bf16"')
        if self.batch_size is not None and self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size; got {self.accumulate} and {self.batch_size}")

    @property
    def people_a_step(self) -> int:
        """The batch size, or the usual one."""
        return self.batch_size or USUAL_BATCH_SIZE

    def stretched(self, steps_an_epoch: int) -> "TrainingSettings":
        """With as many epochs as ``min_steps`` asks for, and as many validations as before."""
        epochs = max(self.epochs, min(MOST_EPOCHS, math.ceil(self.min_steps / steps_an_epoch)))
        return replace(self, epochs=epochs, validate_every=math.ceil(self.validate_every * epochs / self.epochs))


WITHOUT_EFFECT = frozenset({"workers", "cache", "checkpoint_seconds", "predictions", "trackers"})
"""Fields that don't change the result: a resumed run may have other values."""
