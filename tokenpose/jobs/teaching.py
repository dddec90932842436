"""Teachers: what a trained model says about the crops of a training run, in the student's keypoints and sizes."""

import hashlib
import json
from copy import deepcopy
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from tokenpose.deploy.comparison import require_plain
from tokenpose.geometry.resizing import resize_maps
from tokenpose.models.create import create_model, read_model
from tokenpose.models.hub import is_location
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import TokenExits
from tokenpose.models.tokenpose import TokenPose, activate
from tokenpose.shapes import Crops, Heatmaps
from tokenpose.training.distillation import Taught
from tokenpose.training.settings import TrainingSettings

NOISE = 0.05
"""Cells below this share of a heatmap's peak are noise, in a teacher that was trained on squared errors."""


def read_teacher(teacher: TokenPose | str | Path) -> TokenPose:
    """A teacher: a model, a weights file or folder, a "local-dir:..." or "hf-hub:..." location, or a name of the zoo.

    Raises what `tokenpose.create_model` and `tokenpose.models.create.read_model` raise.
    """
    if isinstance(teacher, TokenPose):
        return require_plain(teacher, "teach with", "a teacher")
    if isinstance(teacher, str) and (is_location(teacher) or not _is_path(teacher)):
        return create_model(teacher, pretrained=not is_location(teacher))
    return read_model(teacher)


def name_teacher(teacher: TokenPose | str | Path | None) -> str | None:
    """What settings.json calls a teacher; None without one."""
    return teacher if teacher is None else "a model" if isinstance(teacher, TokenPose) else str(teacher)


def digest_model(model: TokenPose) -> str:
    """A hash of a model's spec and weights."""
    sizes = {"heatmap_size": model.spec.output_size, "head_hidden": model.spec.hidden_width}  # which may be left open
    whole = hashlib.sha256(json.dumps({**model.spec.to_dict(), **sizes}, sort_keys=True).encode())
    for name, values in sorted(model.state_dict().items()):
        whole.update(name.encode())
        whole.update(values.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return whole.hexdigest()


class Teacher:
    """Teaches a student of another architecture: a function of its crops, as `tokenpose.training` takes it.

    Keypoints are matched by name. Crops of another size or normalization are converted, and heatmaps resampled.

    Raises ValueError if the two share no keypoint, if their crops have other aspects, and if keypoint tokens are to be
    taught that are not as wide as the student's.
    """

    def __init__(
        self, model: TokenPose, student: ModelSpec, settings: TrainingSettings, device: torch.device | str = "cpu"
    ) -> None:
        spec = model.spec
        _check_match(spec, student, settings)
        self.model = deepcopy(model).to(device).eval().requires_grad_(False)
        if settings.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.teaches_tokens, self.is_distribution = settings.token_distillation > 0, settings.loss == "cross_entropy"
        names = student.skeleton.keypoints
        known = [name in spec.skeleton.keypoints for name in names]
        rows = [spec.skeleton.keypoints.index(name) if name in spec.skeleton.keypoints else 0 for name in names]
        self.known, self.rows = torch.tensor(known, device=device), torch.tensor(rows, device=device)
        std, own_std = (torch.tensor(each.std, device=device).view(3, 1, 1) for each in (student, spec))
        mean, own_mean = (torch.tensor(each.mean, device=device).view(3, 1, 1) for each in (student, spec))
        same = (student.mean, student.std) == (spec.mean, spec.std)
        self.renormalization = None if same else (std / own_std, (mean - own_mean) / own_std)

    @torch.no_grad()
    def __call__(self, crops: Crops, output_size: tuple[int, int]) -> Taught:
        """Targets for the student's normalized crops, of the size of its heatmaps."""
        if self.renormalization is not None:
            contrast, brightness = self.renormalization
            crops = crops * contrast + brightness
        heatmaps, tokens = self._see(resize_maps(crops, self.model.spec.image_size))
        mass = heatmaps.sum(dim=(-2, -1)) / (2 * torch.pi * self.model.spec.sigma**2)
        return Taught(
            heatmaps=resize_maps(heatmaps[:, self.rows] * self.known.view(-1, 1, 1), output_size),
            mass=mass[:, self.rows].clamp(max=1) * self.known,
            known=self.known,
            tokens=tokens[:, self.rows] if self.teaches_tokens else None,
        )

    def _see(self, crops: Crops) -> tuple[Heatmaps, Float[Tensor, "people keypoints features"]]:
        """The teacher's heatmaps, and the keypoint tokens that enter its head."""
        exits = TokenExits(self.model.spec)
        logits = self.model.read(self.model.backbone(crops), exits).float()
        heatmaps = activate(logits, self.model.spec)
        if self.is_distribution and self.model.spec.heatmap_activation == "identity":
            heatmaps = heatmaps * (heatmaps > NOISE * heatmaps.amax(dim=(-2, -1), keepdim=True)) * (heatmaps > 0)
        return heatmaps, exits.tokens


def _check_match(teacher: ModelSpec, student: ModelSpec, settings: TrainingSettings) -> None:
    names, known = student.skeleton.keypoints, teacher.skeleton.keypoints
    if not set(names) & set(known):
        raise ValueError(
            f"the teacher and the model share no keypoint name: the teacher has {', '.join(known)}, the model "
            f"{', '.join(names)}"
        )
    (height, width), (own_height, own_width) = student.image_size, teacher.image_size
    if height * own_width != own_height * width:
        raise ValueError(
            f"the teacher's crops are {own_height}x{own_width} and the model's {height}x{width}: teacher and model see "
            "the same crops, so their aspects must agree"
        )
    width, own_width = student.groups * student.width, teacher.groups * teacher.width
    if settings.token_distillation and width != own_width:
        raise ValueError(
            f"the keypoint tokens that enter the teacher's head have {own_width} channels and the model's {width}: set "
            "token_distillation to 0"
        )


def _is_path(text: str) -> bool:
    return Path(text).exists() or text.endswith(".safetensors") or "/" in text
