"""The device and the model that options name."""

import torch

from tokenpose.commands.choices import choose_device, choose_model, choose_named_model
from tokenpose.commands.options import DEFAULT_MODEL
from tokenpose.models.create import create_model

from .running import BOX, run


def test_model_that_contradicts_the_weights_is_an_error(photos, weights):
    result = run("predict", "photos/a.png", "--box", BOX, "--weights", weights, "--model", "tokenpose_b", exit_code=1)
    assert "model.safetensors is not a tokenpose_b" in result.stderr


def test_unknown_device_is_wrong_usage(photos):
    assert (
        "unknown device 'abacus'; give cpu, cuda"
        in run("predict", "photos/a.png", "--box", BOX, "--device", "abacus", exit_code=2).stderr
    )
    if not torch.cuda.is_available():
        result = run("predict", "photos/a.png", "--box", BOX, "--device", "cuda:1", exit_code=2)
        assert "there is no cuda device on this machine; use cpu" in result.stderr


def test_device_is_cuda_only_if_it_is_there(monkeypatch):
    for there, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr("torch.cuda.is_available", lambda there=there: there)
        assert choose_device(None) == device
    assert choose_device("cuda:1") == "cuda:1"
    assert choose_device("cpu") == "cpu"


def test_without_a_name_the_model_is_the_default_one_or_that_of_the_weights(weights, model):
    shipped = create_model(DEFAULT_MODEL, pretrained=True)
    assert choose_model(None, None, "cpu").spec == shipped.spec
    assert choose_model(None, weights, "cpu").spec == model.spec


def test_model_is_titled_by_its_weights_file_or_its_name(weights):
    assert choose_named_model(None, weights, "cpu")[0] == str(weights)
    assert choose_named_model(None, None, "cpu")[0] == create_model(DEFAULT_MODEL, pretrained=True).card["name"]


def test_model_is_optimized_only_if_that_is_asked_for(weights, monkeypatch):
    seen = []
    monkeypatch.setattr("tokenpose.deploy.optimization.optimize", lambda model: seen.append(model) or model)
    choose_model(None, weights, "cpu")
    assert seen == []
    optimized = choose_model(None, weights, "cpu", optimized=True)
    assert seen == [optimized]
