import pytest
import torch

from tokenpose.models.create import create_model
from tokenpose.models.sizes import spec_of_size
from tokenpose.models.supervised import Supervised
from tokenpose.models.weights import write_weights
from tokenpose.models.zoo import architectures, register_model

SIZES = ((32, 24), (128, 96))


@pytest.fixture
def model(tiny, build, positions):
    return build(tiny.replace(image_size=(64, 48), positions=positions, heatmap_activation="softmax"))


@pytest.mark.parametrize("positions", ["sine_every_block", "sine", "learnable", "none"])
@pytest.mark.parametrize("size", SIZES)
def test_other_sizes_are_read_as_by_a_model_of_that_size_made_from_the_same_weights(
    model, size, generator, tmp_path, monkeypatch
):
    monkeypatch.setattr(architectures, "_parts", dict(architectures._parts))
    register_model("of_other_size", model.spec)
    write_weights(model, tmp_path / "model.safetensors")
    again = create_model("of_other_size", weights=tmp_path / "model.safetensors", image_size=size)
    crops = torch.randn(2, 3, *size, generator=generator)
    found = Supervised(model, sizes=SIZES).eval()(crops)
    torch.testing.assert_close(found.logits, again.logits(crops))
    assert found.grid == again.spec.grid_size


@pytest.mark.parametrize("positions", ["sine_every_block"])
def test_own_size_is_read_by_the_model_itself(model, generator):
    crops = torch.randn(2, 3, 64, 48, generator=generator)
    assert torch.equal(Supervised(model, sizes=SIZES).eval()(crops).logits, model.logits(crops))


@pytest.mark.parametrize("positions", ["learnable"])
def test_gradients_of_other_sizes_reach_all_weights(model, generator):
    network = Supervised(model, patch_blocks=(0,), guided_blocks=(0,), sizes=SIZES)
    found = network(torch.randn(2, 3, 32, 24, generator=generator))
    (found.logits.square().mean() + found.patches.square().mean() + found.attention.square().mean()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("positions", ["sine_every_block"])
def test_size_that_was_not_asked_for_is_refused_and_tables_are_not_saved(model):
    network = Supervised(model, sizes=SIZES)
    with pytest.raises(ValueError, match=r"takes crops of \(64, 48\), \(32, 24\), \(128, 96\); got \(96, 72\)"):
        network(torch.zeros(1, 3, 96, 72))
    assert network.state_dict().keys() == {f"model.{name}" for name in model.state_dict()}


def test_targets_are_as_wide_relative_to_the_heatmap(tiny):
    spec = tiny.replace(image_size=(256, 192), patch_size=(16, 12), sigma=2.0)
    small = spec_of_size(spec, (128, 96))
    assert (small.output_size, small.sigma) == ((32, 24), 1.0)
    assert spec_of_size(spec, (256, 192)) is spec
    assert spec_of_size(spec.replace(heatmap_size=(32, 24)), (128, 96)).heatmap_size == (16, 12)


def test_another_aspect_is_refused(tiny):
    message = r"sizes must have the aspect of the model's image_size \(64, 48\), .*; got \(64, 64\)"
    with pytest.raises(ValueError, match=message):
        spec_of_size(tiny.replace(image_size=(64, 48)), (64, 64))
