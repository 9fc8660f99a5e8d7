"""Attention and dropout written out for the CPU: equal to their definitions, forwards and backwards."""

import pytest
import torch

from skastw.core import functional
from skastw.core.functional import attention, dropout

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.bfloat16: 3e-2}


def draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def results(function, inputs):
    """Return the output and the gradients of a weighted sum of it."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    output = function(*inputs)
    output.backward(draw(*output.shape, dtype=output.dtype, seed=99))
    return [output.detach(), *(x.grad for x in inputs)]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_attention_is_a_softmax_of_scaled_products(dtype, padded, stored, monkeypatch):
    monkeypatch.setattr(functional, "MAX_SCORES", 10**9 if stored else 0)
    inputs = [draw(2, 3, 7, 4, dtype=dtype, seed=i) for i in range(3)]
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None] if padded else None

    def definition(query, key, value):
        scores = query.double() @ key.double().mT / 4**0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        return scores.softmax(-1) @ value.double()

    found, expected = results(lambda *x: attention(*x, mask), inputs), results(definition, inputs)
    for mine, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(mine.double(), exact.double(), atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


def test_hidden_keys_change_nothing_and_get_no_gradient():
    query, key, value = (draw(2, 3, 7, 4, seed=i) for i in range(3))
    mask = torch.arange(7) < torch.tensor([7, 4])[:, None]
    before, _, key_gradient, value_gradient = results(lambda *x: attention(*x, mask), [query, key, value])
    key[1, :, 4:], value[1, :, 4:] = 50.0, -50.0
    after = results(lambda *x: attention(*x, mask), [query, key, value])[0]
    torch.testing.assert_close(before, after)
    assert not key_gradient[1, :, 4:].any()
    assert not value_gradient[1, :, 4:].any()


def test_attention_gives_the_same_with_and_without_gradients():
    inputs = [draw(2, 3, 7, 4, seed=i) for i in range(3)]
    with_gradients = attention(*(x.requires_grad_() for x in inputs))
    with torch.inference_mode():
        torch.testing.assert_close(attention(*inputs), with_gradients.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_the_asked_share_and_keeps_the_mean(p, dtype):
    torch.manual_seed(0)
    dropped = dropout(torch.ones(200_000, dtype=dtype), p, training=True)
    assert abs(float((dropped == 0).double().mean()) - p) < 0.005
    assert abs(float(dropped.double().mean()) - 1) < 0.02
    assert len(dropped.unique()) == 2


def test_neighbours_are_dropped_independently():
    torch.manual_seed(0)
    kept = dropout(torch.ones(1000, 803), 0.5, training=True) > 0
    for axis in (0, 1):
        for lag in (1, 7, 8):
            equal = (
                kept.narrow(axis, lag, kept.shape[axis] - lag) == kept.narrow(axis, 0, kept.shape[axis] - lag)
            ).double()
            assert abs(float(equal.mean()) - 0.5) < 0.005


def test_what_was_dropped_gets_no_gradient():
    torch.manual_seed(0)
    x = draw(50, 30).requires_grad_()
    output = dropout(x, 0.25, training=True)
    output.sum().backward()
    assert torch.equal(x.grad, torch.where(output != 0, 1 / 0.75, 0.0).float())
    torch.testing.assert_close(output, torch.where(output != 0, x / 0.75, 0.0))


def test_dropout_follows_torchs_seed_and_not_the_strides():
    x = draw(4, 6).T
    torch.manual_seed(3)
    first = dropout(x, 0.5, training=True)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x.contiguous(), 0.5, training=True))
    assert not torch.equal(first, dropout(x, 0.5, training=True))


def test_without_training_or_without_probability_nothing_is_dropped():
    x = draw(5, 4)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
