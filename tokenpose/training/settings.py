"""Settings of a training run: frozen, checked when made, saved with the run."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from tokenpose.data.augment import Augmentation
from tokenpose.data.batches import Cache
from tokenpose.data.settings import check_kinds

Loss = Literal["squared_error", "hard_keypoints", "cross_entropy"]
Optimizer = Literal["adamw", "adam"]
Schedule = Literal["cosine", "multi_step"]
Start = Literal["wide", "published"]
Precision = Literal["fp32", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained. Raises ValueError that names the field."""

    epochs: int = 100
    batch_size: int = 128
    """People an optimizer step, over all processes."""
    accumulate: int = 1
    """Parts that each process goes through one after another for a step: less memory, the same gradient (batch norms
    see the parts)."""
    optimizer: Optimizer = "adamw"
    """ "adam" as published: the decay is added to the gradient, of every parameter. "adamw": only matrices and kernels
    decay."""
    learning_rate: float = 1e-3
    backbone_rate: float = 1.0
    """The backbone's share of the learning rate."""
    token_rate: float = 1.0
    """The keypoint tokens' share of it: far above 1 they learn new keypoints while all else hardly changes."""
    freeze_backbone: bool = False
    """Leave the backbone, its batch-norm statistics included, as it is."""
    weight_decay: float = 0.05
    schedule: Schedule = "cosine"
    """To zero over the whole run; or, as published, a tenth of the rate from each of ``milestones`` on."""
    milestones: tuple[int, ...] = (200, 260)
    """Epochs."""
    clip: float = 1.0
    """Largest norm of the gradient; 0: any."""
    average: float = 0.999
    """Decay of the moving average of the weights, which is what is validated and saved; 0: no average."""
    start: Start = "wide"
    """Of a new model: "wide" tokens and attention, or as "published"."""
    loss: Loss | None = None
    """ "squared_error" as published, its variant "hard_keypoints", or "cross_entropy" over the cells of each heatmap,
    for models whose spec has a softmax activation. None: what goes with the model."""
    hardest: int = 8
    """How many keypoints of each person count for "hard_keypoints"."""
    guidance: float = 0.5
    """Weight of the cross-entropy between a keypoint token's attention over the visual tokens, in all blocks but the
    first third, and where the keypoint is."""
    patches: float = 1.0
    """Weight of the loss on heatmaps that a linear layer, dropped afterwards, reads off the visual tokens halfway
    and before the last block."""
    precision: Precision = "fp32"
    compile: bool = False
    """Compile backbone, blocks and heads."""
    graph: bool = False
    """Record a step as a CUDA graph and replay it, so that Python doesn't keep a GPU waiting: on one GPU, in fp32 or
    bf16."""
    channels_last: bool = True
    sync_batch_norm: bool = False
    """Batch norms over all processes, on GPUs."""
    seed: int = 0
    workers: int = 0
    """Processes that read images where they aren't cached; at most as many as there are cores."""
    cache: Cache = "ram"
    """Everybody's decoded window in memory ("ram"; of each process), on the "device", or "none": about 140 KB a person
    for 128x96 crops, 560 KB for 256x192; with half bodies 2.4 times as much."""
    validate_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_seconds: float = 120.0
    """Most seconds of work that an interruption loses."""
    predictions: int = 8
    """People of the validation file whose predictions are drawn after each epoch."""
    trackers: tuple[str, ...] = ()
    """Names that accelerate knows: "tensorboard", "wandb", ..."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_kinds(self)
        self._check_lists()
        self._check_numbers()
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                *most, last = (f'"{choice}"' for choice in choices if choice is not None)
                raise ValueError(f"{name} must be {', '.join(most)} or {last}; got {getattr(self, name)!r}")
        if list(self.milestones) != sorted(set(self.milestones)) or any(epoch < 1 for epoch in self.milestones):
            raise ValueError(f"milestones must be rising epochs, from 1 on; got {self.milestones}")

    def _check_lists(self) -> None:
        for name, kind, what in _LISTS:
            value = getattr(self, name)
            if not (isinstance(value, tuple) and all(type(entry) is kind for entry in value)):
                raise ValueError(f"{name} must be a list of {what}; got {value!r}")

    def _check_numbers(self) -> None:
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        for name in _NOT_NEGATIVE:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if abs(self.seed) >= 2**63:
            raise ValueError(f"seed must be a whole number of at most 63 bits; got {self.seed}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be in [0, 1); got {self.average}")
        if self.graph and self.precision == "fp16":
            raise ValueError("graph goes with fp32 and bf16: fp16 asks the GPU at each step whether to take it")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate can't be more than batch_size; got {self.accumulate} and {self.batch_size}")


_AT_LEAST_ONE = ("epochs", "batch_size", "accumulate", "hardest", "validate_every")
_POSITIVE = ("learning_rate", "backbone_rate", "token_rate")
_NOT_NEGATIVE = (
    "weight_decay", "clip", "guidance", "patches", "workers", "checkpoint_seconds", "predictions",
)  # fmt: skip
_LISTS = (("milestones", int, "epochs"), ("trackers", str, "names"))
_CHOICES = {
    "optimizer": get_args(Optimizer),
    "schedule": get_args(Schedule),
    "start": get_args(Start),
    "loss": (None, *get_args(Loss)),
    "precision": get_args(Precision),
    "cache": get_args(Cache),
}

WITHOUT_EFFECT = frozenset({"workers", "cache", "checkpoint_seconds", "predictions", "trackers"})
"""Fields that don't change what comes out: a run may be resumed with others."""
