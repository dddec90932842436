"""Settings of a training run: frozen, checked when made, saved with the run."""

from dataclasses import dataclass, field
from typing import Literal

from tokenpose.data.augment import Augmentation

Loss = Literal["squared_error", "cross_entropy"]
Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How a model is trained. Rates are per optimizer step; AdamW, linear warm-up, cosine to zero.

    ``loss``: "squared_error" as published, or "cross_entropy" over the cells of each heatmap (for models whose spec
    has a softmax activation). Three helpers, by weight, whose parts are dropped after training: ``guidance``, the
    cross-entropy between a keypoint token's attention over the visual tokens in ``guided_blocks`` (None: all but the
    first third) and where the keypoint is; ``auxiliary``, the same loss on heatmaps that a small convolutional head
    reads off the backbone's map; ``patches``, the same on heatmaps that a linear layer reads off the visual tokens
    after ``patch_blocks`` (None: halfway, and the last but one). ``average``: decay of the moving average of the
    weights, which is what is validated and saved. ``precision``: "no" is float32.

    Raises ValueError that names the field.
    """

    epochs: int = 100
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 500
    clip: float = 1.0
    average: float = 0.999
    loss: Loss = "cross_entropy"
    guidance: float = 0.5
    guided_blocks: tuple[int, ...] | None = None
    auxiliary: float = 1.0
    patches: float = 1.0
    patch_blocks: tuple[int, ...] | None = None
    precision: Precision = "no"
    channels_last: bool = True
    seed: int = 0
    workers: int = 0
    cache: bool = True
    """Keep everybody's decoded window in memory: about 80 KB a person for 128x96 crops, 560 KB for 256x192."""
    validate_every: int = 5
    """Epochs between validations; the last epoch is always validated."""
    checkpoint_seconds: float = 120.0
    """Most seconds of work that an interruption loses."""
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive; got {getattr(self, name)}")
        for name in (
            "weight_decay",
            "warmup_steps",
            "guidance",
            "auxiliary",
            "patches",
            "workers",
            "checkpoint_seconds",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative; got {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be in [0, 1); got {self.average}")
        if self.loss not in ("squared_error", "cross_entropy"):
            raise ValueError(f'loss must be "squared_error" or "cross_entropy"; got {self.loss!r}')
        if self.precision not in ("no", "bf16", "fp16"):
            raise ValueError(f'precision must be "no", "bf16" or "fp16"; got {self.precision!r}')
