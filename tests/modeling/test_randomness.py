"""Random numbers come from generators of their own: nobody else's draws are disturbed."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skgliclass.modeling.randomness import own_randomness, recomputation


def draw():
    """Draw in every way that layers draw."""
    q = torch.ones(1, 2, 5, 8)
    attention = nn.MultiheadAttention(8, 2, dropout=0.4)
    row = torch.ones(3, 1, 8)
    trunc = nn.init.trunc_normal_(torch.empty(3, 3))
    return [
        nn.Linear(4, 4).weight.detach(),
        nn.Embedding(3, 4).weight.detach(),
        nn.LSTM(8, 8, num_layers=2, dropout=0.5)(row)[0].detach(),
        trunc,
        nn.init.xavier_uniform_(torch.empty(3, 3)),
        nn.Dropout(0.3)(torch.ones(50)),
        F.scaled_dot_product_attention(q, q, q, dropout_p=0.5),
        attention(row, row, row)[0].detach(),
        torch.bernoulli(torch.full((9,), 0.5)),
    ]


def test_it_draws_as_the_global_generator_would_and_leaves_it_alone():
    state = torch.get_rng_state()
    with own_randomness(3):
        own = draw()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = draw()
    for a, b in zip(own, expected, strict=True):
        assert torch.equal(a, b)


def test_a_block_within_another_has_a_generator_of_its_own():
    with own_randomness(3):
        alone = draw()
    with own_randomness(7):
        first = torch.bernoulli(torch.full((99,), 0.5))
        with own_randomness(3):
            nested = draw()
        second = torch.bernoulli(torch.full((99,), 0.5))
    for a, b in zip(alone, nested, strict=True):
        assert torch.equal(a, b)
    with own_randomness(7):
        assert torch.equal(torch.bernoulli(torch.full((99,), 0.5)), first)
        assert torch.equal(torch.bernoulli(torch.full((99,), 0.5)), second)


def test_threads_do_not_disturb_each_other_nor_who_draws_besides():
    def many(seed):
        with own_randomness(seed):
            return torch.cat([F.dropout(torch.ones(200)) for _ in range(50)])

    alone = [many(seed) for seed in range(4)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = torch.cat([torch.rand(10) for _ in range(50)])
        torch.manual_seed(0)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(many, seed) for seed in range(4)]
            drawn = torch.cat([torch.rand(10) for _ in range(50)])
            at_once = [job.result() for job in running]
    assert torch.equal(drawn, expected)
    assert all(torch.equal(a, b) for a, b in zip(alone, at_once, strict=True))


def test_recomputed_activations_have_the_numbers_of_the_first_time():
    """Where masks differed, so would the gradient and the output that it belongs to."""
    x = torch.ones(400, requires_grad=True)
    state = torch.get_rng_state()
    with own_randomness(5):
        kept = checkpoint(F.dropout, x, **recomputation(x.device))
        again = checkpoint(lambda v: F.dropout(v * 2), x, **recomputation(x.device))
        (kept.sum() + again.sum()).backward()
    torch.testing.assert_close(x.grad, (kept + again).detach())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_error_leaves_the_thread_as_it_was():
    entered = Event()

    def fail():
        with own_randomness(1):
            entered.set()
            raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"):
        fail()
    assert entered.is_set()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        first = F.dropout(torch.ones(50))
        torch.manual_seed(3)
        assert torch.equal(F.dropout(torch.ones(50)), first)


def test_what_has_no_memory_is_not_drawn():
    """Nor does it change what is drawn besides."""
    state = torch.get_rng_state()
    with own_randomness(3):
        expected = draw()
    with own_randomness(3):
        with torch.device("meta"):
            layer = nn.Linear(4, 4)
            nn.init.xavier_uniform_(layer.weight)
            drawn = layer.weight.data.normal_()
        own = draw()
    assert drawn.is_meta
    assert drawn.data_ptr() == layer.weight.data_ptr()
    assert torch.equal(torch.get_rng_state(), state)
    for a, b in zip(own, expected, strict=True):
        assert torch.equal(a, b)
