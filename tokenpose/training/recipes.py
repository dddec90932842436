"""Recipes: named settings of a run, from the package or from the user's own TOML file."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from tokenpose.data.settings import Augmentation
from tokenpose.files import decode, foreign, is_number, listed, read_bytes, shown
from tokenpose.training.settings import TrainingSettings

MOST_BYTES = 1_000_000
"""How large a recipe's file can be."""

_TRAINING = frozenset(entry.name for entry in fields(TrainingSettings)) - {"augmentation"}
_AUGMENTATION = frozenset(entry.name for entry in fields(Augmentation))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings, model and data of a run. Everything that a recipe leaves out has its default."""

    name: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of TrainingSettings."""
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    """Fields of Augmentation."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """``name``, ``pretrained``, and changes of the model's spec."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """An earlier run's data. Its ``rename``, ``flip_pairs``, ``category``, ``boxes_from_keypoints`` and ``keypoints``
    apply to new data too."""

    def settings(self, changes: Mapping[str, Any] | None = None) -> TrainingSettings:
        """The recipe's settings with ``changes``, fields of TrainingSettings and of Augmentation by name.

        A change of ``epochs`` turns the recipe's ``min_steps`` off.
        Raises ValueError for unknown names and invalid values.
        """
        changes = changes or {}
        if unknown := sorted(changes.keys() - _TRAINING - _AUGMENTATION):
            raise ValueError(f"training has no settings {', '.join(unknown)}")
        augmentation = {**self.augmentation, **{k: v for k, v in changes.items() if k in _AUGMENTATION}}
        own = {k: v for k, v in self.training.items() if k != "min_steps" or "epochs" not in changes}
        training = {**own, **{k: v for k, v in changes.items() if k in _TRAINING}}
        training = {k: _tuples(v) for k, v in training.items()}  # files have lists
        return TrainingSettings(**training, augmentation=Augmentation(**augmentation))


def list_recipes() -> list[str]:
    """The names of the recipes in the package."""
    folder = files("tokenpose") / "recipes"
    return sorted(Path(str(entry)).stem for entry in folder.iterdir() if str(entry).endswith(".toml"))


def read_recipe(name: str | Path) -> Recipe:
    """Read a recipe: a name from the package, a TOML file, or the settings.json of a run.

    The top level has fields of TrainingSettings and the table ``augmentation`` those of Augmentation. The table
    ``model`` has the model's ``name``, ``pretrained``, ``weights`` (a file) and changes of its spec, and ``data`` has
    the data of an earlier run.
    Raises LookupError for an unknown name, FileNotFoundError, and ValueError that names file and field.
    """
    path = Path(name)
    if path.suffix not in (".toml", ".json"):
        if str(name) not in list_recipes():
            raise LookupError(
                f"there is no recipe {shown(str(name))}; there are {', '.join(list_recipes())}, and files (.toml, "
                ".json)"
            )
        path = Path(str(files("tokenpose") / "recipes" / f"{name}.toml"))
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}")
    content = _read(path)
    augmentation, model, data = (content.pop(name, {}) for name in ("augmentation", "model", "data"))
    for place, given, known in (("", content, _TRAINING), ("augmentation: ", augmentation, _AUGMENTATION)):
        if not isinstance(given, dict):
            raise ValueError(f"{path}: augmentation must be a table of settings; got {shown(given)}")
        if unknown := sorted(given.keys() - known):
            raise ValueError(f"{path}: {place}there are no settings {listed(unknown)}")
    _check_model(model, path)
    _check_data(data, path)
    recipe = Recipe(name=str(name), training=content, augmentation=augmentation, model=model, data=data)
    try:
        recipe.settings()
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    return recipe


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _check_model(model: Any, path: Path) -> None:
    if not isinstance(model, dict):
        raise ValueError(
            f"{path}: model must be a table of name, pretrained and changes of the spec; got {shown(model)}"
        )
    truth, text = (bool, "true or false"), (str, "text")
    kinds = {"name": text, "weights": text, "grow": text, "pretrained": truth, "backbone_pretrained": truth}
    for name, (kind, what) in kinds.items():
        if name in model and not isinstance(model[name], kind):
            raise ValueError(f"{path}: model: {name} must be {what}; got {shown(model[name])}")


def _check_data(data: Any, path: Path) -> None:
    if not isinstance(data, dict):
        raise ValueError(f"{path}: data must be a table of rename, flip_pairs and category; got {shown(data)}")
    names = data.get("rename") or {}
    if not (isinstance(names, dict) and all(isinstance(name, str) for name in names.values())):
        raise ValueError(f"{path}: data: rename must be a table of names; got {shown(names)}")
    chosen = data.get("category")
    several = isinstance(chosen, list) and chosen and all(isinstance(name, str) for name in chosen)
    for name in ("flip_pairs", "category"):
        if not isinstance(data.get(name), str | None) and not (several and name == "category"):
            raise ValueError(f"{path}: data: {name} must be text; got {shown(data[name])}")
    growth = data.get("boxes_from_keypoints")
    if growth is not None and not is_number(growth):
        raise ValueError(f"{path}: data: boxes_from_keypoints must be a number; got {shown(growth)}")


def _read(path: Path) -> dict[str, Any]:
    content = read_bytes(path, "a recipe", MOST_BYTES)
    with foreign(f"{path} is not {path.suffix[1:].upper()}"):
        text = decode(content)
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold settings by name; it holds {shown(values)}")
    return values
