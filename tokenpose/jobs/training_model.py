"""The model that training starts from: the recipe's, with changes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from tokenpose.models.create import create_from_weights, create_model, read_model
from tokenpose.models.growth import grow_from
from tokenpose.models.spec import ModelSpec
from tokenpose.models.supervised import start_as_published, widen_start
from tokenpose.models.tokenpose import TokenPose
from tokenpose.models.zoo import published_batch_size
from tokenpose.skeletons import Skeleton
from tokenpose.training.recipes import Recipe
from tokenpose.training.settings import USUAL_BATCH_SIZE, Loss, TrainingSettings

_MODEL = {entry.name for entry in fields(ModelSpec)} - {"skeleton"}
_MODEL |= {"name", "pretrained", "weights", "grow", "backbone_pretrained"}
"""What a recipe's table ``model`` can hold."""
_OF_SMALLER = ("heatmap_activation", "box_padding", "crop_filter", "mean", "std")
"""What a model that grows takes from the smaller one, unless it is given: the head that is copied was trained so."""


def make_trainee(
    recipe: Recipe,
    changes: Mapping[str, Any],
    skeleton: Skeleton,
    name: str | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    grow: str | Path | None = None,
    **model_changes: Any,
) -> tuple[TokenPose, TrainingSettings]:
    """The model that training starts from, and the settings of the training.

    ``changes`` override the recipe's settings. ``name``, ``pretrained``, ``weights`` and ``model_changes`` are as in
    `tokenpose.create_model`, and override the recipe's model. The seed determines random weights. A batch size that
    neither the recipe nor ``changes`` name is that of the model's published training. ``weights`` without a ``name``:
    the model is that of the file. ``grow``: the weights file of a smaller model from which a new one starts
    (`tokenpose.models.growth.grow_from`).
    """
    settings = recipe.settings(changes)
    start = choose_start(recipe, name, pretrained=pretrained, weights=weights, grow=grow, **model_changes)
    given = {"name": name, "pretrained": pretrained, "weights": weights, "grow": grow, **model_changes}
    name, pretrained, weights = start.pop("name", None), start.pop("pretrained"), start.pop("weights", None)
    smaller = read_model(start.pop("grow")) if "grow" in start else None
    if smaller is not None:
        if _is_location(name):
            raise ValueError(f"{name} has weights of its own: only a new model can grow; give an architecture's name")
        of_smaller = {field: getattr(smaller.spec, field) for field in _OF_SMALLER}
        start = {**of_smaller, **start}
    is_new = not pretrained and weights is None and not _is_location(name)
    if settings.loss is not None or is_new:  # cross-entropy makes the outputs logits, and the spec has to say so
        fitting = "softmax" if settings.loss in (None, "cross_entropy") else "identity"
        start.setdefault("heatmap_activation", fitting)
    keypoints = start.pop("keypoints", skeleton)
    torch.manual_seed(settings.seed)
    with _naming(recipe, given):
        if name is None:
            model = create_from_weights(weights, keypoints=keypoints, **start)
        else:
            model = create_model(name, pretrained, weights=weights, keypoints=keypoints, **start)
    if model.spec.skeleton.keypoints == skeleton.keypoints:  # the data's skeleton knows more than names: flip pairs
        model.spec = model.spec.replace(skeleton=skeleton)
    if is_new:
        {"wide": widen_start, "published": start_as_published}[settings.start](model)
    if smaller is not None:
        grow_from(model, smaller)
    published = None if name is None or _is_location(name) else published_batch_size(name)
    return model, replace(settings, batch_size=settings.batch_size or published or USUAL_BATCH_SIZE)


@contextmanager
def _naming(recipe: Recipe, given: Mapping[str, Any]) -> Iterator[None]:
    """Put the recipe's name, and what was given in place of its values, in front of errors about its model."""
    try:
        yield
    except (TypeError, ValueError, LookupError, OSError) as error:
        changes = {name: value for name, value in given.items() if value is not None}
        if isinstance(error, KeyError | IndexError) or recipe.model.keys() <= changes.keys():
            raise
        kinds = (FileNotFoundError, OSError, LookupError, TypeError, ValueError)
        kind = next(kind for kind in kinds if isinstance(error, kind))
        changed = ", ".join(f"{name}={value}" for name, value in changes.items())
        raise kind(f"recipe {recipe.name}{f' with {changed}' if changed else ''}: {error}") from error


def choose_start(
    recipe: Recipe,
    name: str | None = None,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    grow: str | Path | None = None,
    **model_changes: Any,
) -> dict[str, Any]:
    """The arguments of `create_model`, and ``grow``: the recipe's model, with changes. All but ``keypoints`` are plain
    values. There is no name where weights are given without one, whose file then says what the model is. ``grow`` takes
    the place of a recipe's weights. Raises ValueError if both are given."""
    if grow is not None and (weights is not None or pretrained):
        raise ValueError("a model grows from the weights of grow alone: give neither weights nor pretrained")
    if unknown := sorted(recipe.model.keys() - _MODEL):
        raise ValueError(f"recipe {recipe.name}: model has no fields {', '.join(unknown)}")
    chosen: dict[str, Any] = {"name": "tokenpose_s_v1", "pretrained": False, **recipe.model}
    chosen |= {name: value for name, value in recipe.data.items() if name == "keypoints"}
    chosen = {key: tuple(value) if isinstance(value, list) else value for key, value in chosen.items()}
    given = {"name": name, "pretrained": pretrained, "weights": None if weights is None else str(weights)}
    chosen |= {key: value for key, value in given.items() if value is not None} | model_changes
    if grow is not None:
        chosen = {key: value for key, value in chosen.items() if key != "weights"} | {"grow": str(grow)}
    if weights is not None or grow is not None:
        chosen["pretrained"] = False
    elif pretrained:
        chosen.pop("weights", None)
    if weights is not None or chosen["pretrained"]:
        chosen.pop("grow", None)
    if name is None and "weights" in chosen and (weights is not None or "name" not in recipe.model):
        del chosen["name"]
    return chosen


def _is_location(name: str | None) -> bool:
    return name is not None and ":" in name


def complete_settings(settings: TrainingSettings, model: TokenPose) -> TrainingSettings:
    """The settings with what they leave open: the loss that fits the model, and the usual batch size.

    Raises ValueError for a loss that doesn't fit the model.
    """
    fitting: Loss = "cross_entropy" if model.spec.heatmap_activation == "softmax" else "squared_error"
    batch_size = settings.batch_size or USUAL_BATCH_SIZE
    settings = replace(settings, loss=settings.loss or fitting, batch_size=batch_size)
    if (settings.loss == "cross_entropy") != (fitting == "cross_entropy"):
        raise ValueError(
            f"loss {settings.loss!r} does not fit heatmap_activation {model.spec.heatmap_activation!r}: "
            'cross_entropy needs "softmax", the other losses "identity"; change the loss or the model'
        )
    return settings
