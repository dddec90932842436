from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from tokenpose.models.attention import Attention
from tokenpose.models.backbones import backbones
from tokenpose.models.blocks import blocks
from tokenpose.models.create import create_model
from tokenpose.models.registry import Registry
from tokenpose.models.spec import ModelSpec
from tokenpose.models.weights import save_pretrained
from tokenpose.models.zoo import architectures, register_model
from tokenpose.skeletons import Skeleton


@pytest.fixture
def pets() -> Registry[int]:
    registry: Registry[int] = Registry("pet")
    registry.add("hamster", 1)
    registry.add("goldfish", 2)
    return registry


def test_part_is_found_by_its_name(pets):
    assert pets.find("hamster") == 1
    assert list(pets) == ["hamster", "goldfish"]


def test_decorator_keeps_and_gives_back_the_part(pets):
    @pets.register("parrot")
    def parrot() -> None: ...

    assert pets.find("parrot") is parrot


def test_unknown_name_is_refused_with_the_closest(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'hamstre'; did you mean hamster\?"):
        pets.find("hamstre")


def test_first_letters_are_refused_with_the_names_that_start_so(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'g'; did you mean goldfish\?"):
        pets.find("g")


def test_name_close_to_nothing_is_refused_with_all(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'x'; did you mean goldfish, hamster\?"):
        pets.find("x")


def test_taken_name_is_refused(pets):
    with pytest.raises(ValueError, match="a pet named 'hamster' is registered already; choose another name"):
        pets.add("hamster", 3)
    assert pets.find("hamster") == 1


def test_unknown_name_may_be_one_that_is_not_registered_yet(pets):
    with pytest.raises(LookupError, match=r"Register your own first \(tokenpose.register_pet\)$"):
        pets.find("hamstre")


class Eighths(nn.Module):
    channels, stride = 7, 8

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 7, 8, stride=8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolution(images)


class AttentionOnly(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.attention = Attention(spec.width, spec.heads, spec.softmax_scale)

    def forward(self, tokens: torch.Tensor, queries: int | None = None) -> torch.Tensor:
        return tokens[:, :queries] + self.attention(tokens, queries)


@pytest.fixture
def registered() -> Iterator[None]:
    """A backbone, a block and a model of a user's, forgotten after the test."""
    before = [(registry, dict(registry._parts)) for registry in (backbones, blocks, architectures)]
    backbones.add("eighths", Eighths)
    blocks.add("attention only", AttentionOnly)
    parts = {
        "backbone": "eighths",
        "backbone_stride": 8,
        "block": "attention only",
        "width": 16,
        "heads": 2,
        "head_hidden": 24,
    }
    sizes = {"image_size": (64, 48), "patch_size": (2, 2), "depth": 2, "skeleton": Skeleton.from_count(3)}
    register_model("mine", ModelSpec(**parts, **sizes))
    yield
    for registry, names in before:
        registry._parts.clear()
        registry._parts.update(names)


@pytest.fixture
def saved(registered: None, tmp_path: Path) -> Path:
    save_pretrained(create_model("mine"), tmp_path / "saved")
    return tmp_path / "saved"


@torch.no_grad()
def test_model_of_registered_parts_comes_back_from_its_folder(saved, generator):
    images = torch.randn(1, 3, 64, 48, generator=generator)
    named, found = create_model("mine", weights=saved), create_model(f"local-dir:{saved}")
    assert named.spec == found.spec == create_model("mine").spec
    assert isinstance(found.backbone, Eighths)
    assert torch.equal(named(images), found(images))


@pytest.mark.parametrize(
    ("registry", "name", "kind"), [(backbones, "eighths", "backbone"), (blocks, "attention only", "block")]
)
def test_a_folder_whose_parts_are_not_registered_is_refused_with_kind_and_name(registry, name, kind, saved):
    del registry._parts[name]
    message = rf"there is no {kind} named '{name}'; did you mean .*own first \(tokenpose.register_{kind}\)"
    for wanted in ({"name": "mine", "weights": saved}, {"name": f"local-dir:{saved}"}):
        with pytest.raises(LookupError, match=message):
            create_model(**wanted)


def test_a_model_that_is_not_registered_is_refused_with_kind_and_name(saved):
    del architectures._parts["mine"]
    with pytest.raises(LookupError, match=r"no model named 'mine'; .*own first \(tokenpose.register_model\)"):
        create_model("mine", weights=saved)
