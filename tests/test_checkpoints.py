"""Checkpoints between a plain classifier and a SUMixHead."""

import copy
import warnings

import pytest
import torch
from torch import nn

from sumix import SUMixHead, plain_state_dict

K, D = 5, 12


def network(classifier):
    return nn.ModuleDict({"body": nn.Sequential(nn.Linear(3, D), nn.BatchNorm1d(D)), "fc": classifier})


def assert_equal(one, other):
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("assign", [True, False])
def test_to_the_head_and_back(bias, normalized, assign):
    plain, headed = network(nn.Linear(D, K, bias=bias)), network(SUMixHead(D, K, normalized=normalized, bias=bias))
    before, checkpoint = copy.deepcopy(headed.state_dict()), plain.state_dict()
    names = list(checkpoint)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = headed.load_state_dict(checkpoint, assign=assign)
    told = [str(warning.message) for warning in caught]
    assert told == ["fc: the checkpoint has a plain linear layer, which becomes the classifier; the uncertainty branch "
                    "keeps the values it has"] * normalized  # fmt: skip
    assert not result.missing_keys and not result.unexpected_keys and list(checkpoint) == names
    assert torch.equal(headed["fc"].classifier.weight, plain["fc"].weight)
    for name, value in headed.state_dict().items():
        if "uncertainty" in name:
            assert torch.equal(value, before[name])
    assert all(parameter.requires_grad for parameter in headed.parameters())
    back = plain_state_dict(headed)
    assert sorted(back) == sorted(checkpoint)
    other = network(nn.Linear(D, K, bias=bias))
    other.load_state_dict(back)
    assert_equal(other.state_dict(), checkpoint)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        headed.load_state_dict(headed.state_dict())  # its own is as it was


def test_a_head_alone_and_wrapped_models():
    linear, head = nn.Linear(D, K), SUMixHead(D, K)
    with pytest.warns(UserWarning, match="SUMixHead: the checkpoint"):
        head.load_state_dict(linear.state_dict())
    assert_equal(plain_state_dict(head), linear.state_dict())
    for wrapper in (nn.DataParallel, torch.compile):
        assert sorted(plain_state_dict(wrapper(network(head)))) == sorted(network(linear).state_dict())
    assert_equal(plain_state_dict(linear), linear.state_dict())
    with pytest.raises(TypeError, match=r"model must be an nn\.Module, got OrderedDict"):
        plain_state_dict(linear.state_dict())


def test_what_does_not_fit_is_an_error():
    head = network(SUMixHead(D, K))
    with pytest.warns(UserWarning, match="uncertainty"), pytest.raises(RuntimeError, match=r"mismatch.*fc.classifier"):
        head.load_state_dict(network(nn.Linear(D, K + 1)).state_dict())
    with pytest.warns(UserWarning), pytest.raises(RuntimeError, match=r"Missing key.*fc.classifier.bias"):
        head.load_state_dict(network(nn.Linear(D, K, bias=False)).state_dict())
    both = head.state_dict() | {"fc.weight": torch.zeros(K, D)}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*fc.weight"):
        head.load_state_dict(both)
    state = head.state_dict()
    del state["fc.uncertainty.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*fc.uncertainty.weight"):
        head.load_state_dict(state)
