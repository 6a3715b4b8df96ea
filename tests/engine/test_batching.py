"""Workers have their share of torch's threads, and nobody else's count changes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import active_count
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from threads import threads_of_a_new_thread

from skgliclass.engine.batching import (
    ahead,
    group_by_length,
    on_one_thread,
    plan_batches,
    plan_windows,
    worker_pool,
)
from skgliclass.engine.engine import Engine

# Who goes together.


@pytest.mark.parametrize(
    ("lengths", "n_tokens", "batches"),
    [
        ([], 10, []),
        ([3, 5, 5, 2], 10, [[1, 2], [0, 3]]),
        ([3, 5, 5, 2], 9, [[1], [2], [0, 3]]),
        ([4, 4, 4], 12, [[0, 1, 2]]),
        # A row that is too long goes alone, and rows of no tokens count as one.
        ([50, 1], 10, [[0], [1]]),
        ([0, 0, 0], 2, [[0, 1], [2]]),
    ],
)
def test_rows_of_like_length_go_together_the_longest_first(lengths, n_tokens, batches):
    found = plan_batches(np.asarray(lengths, dtype=np.int64), n_tokens)
    assert [batch.tolist() for batch in found] == batches


def cost_of(groups, lengths, fixed_cost):
    return sum(len(group) * max(1, lengths[group[0]]) + fixed_cost for group in groups)


def ways_to_divide(order):
    """Give every way to divide rows, in their order, into groups."""
    if not order:
        yield []
    for i in range(1, len(order) + 1):
        for rest in ways_to_divide(order[i:]):
            yield [order[:i], *rest]


@pytest.mark.parametrize("fixed_cost", [0, 3, 100])
@pytest.mark.parametrize("max_tokens", [1, 12, 40])
def test_groups_cost_least_of_all_ways_to_divide_a_batch(max_tokens, fixed_cost):
    lengths = np.random.default_rng(fixed_cost).integers(0, 15, size=7)
    found = [group.tolist() for group in group_by_length(lengths, max_tokens, fixed_cost)]
    order = np.argsort(-lengths, kind="stable").tolist()
    assert [row for group in found for row in group] == order
    allowed = [
        groups
        for groups in ways_to_divide(order)
        if all(len(g) == 1 or len(g) * max(1, lengths[g[0]]) <= max_tokens for g in groups)
    ]
    assert found in allowed
    least = min(cost_of(groups, lengths, fixed_cost) for groups in allowed)
    assert cost_of(found, lengths, fixed_cost) == least


def test_no_rows_are_no_group():
    assert group_by_length(np.zeros(0, dtype=np.int64), 10, 1) == []


@pytest.mark.parametrize(
    ("texts", "windows"),
    [
        ([], []),
        (["a"] * 5, [(0, 3), (3, 5)]),
        (["a"] * 3, [(0, 3)]),
        (["abcdef", "abcd", "a", "b"], [(0, 2), (2, 4)]),
        (["x" * 50, "a", "x" * 10, "b"], [(0, 1), (1, 2), (2, 3), (3, 4)]),
    ],
)
def test_windows_hold_few_texts_and_characters(texts, windows):
    found = plan_windows(texts, 3, 10)
    assert [(window.start, window.stop) for window in found] == windows


def test_items_are_made_one_ahead_in_their_order():
    made = []

    def make():
        for i in range(4):
            made.append(i)
            yield i

    for i in ahead(make()):
        assert len(made) <= i + 2
    assert made == [0, 1, 2, 3]
    assert list(ahead([])) == []
    # What is false is an item, too.
    assert list(ahead([0, None, False])) == [0, None, False]


# Workers.


def counts_of_workers(n_workers):
    return list(worker_pool(n_workers)(lambda _: torch.get_num_threads(), range(20)))


@pytest.mark.parametrize(("n_workers", "share"), [(2, 2), (4, 1), (9, 1)])
def test_workers_share_the_threads(four_threads, n_workers, share):
    assert counts_of_workers(n_workers) == [share] * 20
    assert torch.get_num_threads() == 4
    assert threads_of_a_new_thread() == 4


def test_one_thread_is_the_calling_one_alone(four_threads):
    with on_one_thread():
        assert torch.get_num_threads() == 1
        assert threads_of_a_new_thread() == 4
    assert torch.get_num_threads() == 4
    # What others choose afterwards counts here too.
    torch.set_num_threads(3)
    assert torch.get_num_threads() == 3


def test_overlapping_calls_change_no_count(four_threads):
    def call(n_workers):
        before = torch.get_num_threads()
        shares = set(counts_of_workers(n_workers))
        return before, shares, torch.get_num_threads()

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(call, [2, 4, 2, 3, 4, 2] * 10))
    for n_workers, result in zip([2, 4, 2, 3, 4, 2] * 10, results, strict=True):
        assert result == (4, {4 // n_workers}, 4)
    assert torch.get_num_threads() == 4
    assert threads_of_a_new_thread() == 4


def test_workers_are_kept_and_do_not_pile_up():
    for _ in range(3):
        counts_of_workers(4)
    n_threads = active_count()
    for _ in range(30):
        counts_of_workers(4)
    assert active_count() <= n_threads


def test_an_error_of_a_job_is_raised_and_ends_the_others():
    done = []

    def fail_at_three(i):
        done.append(i)
        if i == 3:
            raise ValueError("three")
        return i

    with pytest.raises(ValueError, match="three"):
        list(worker_pool(2)(fail_at_three, range(100_000)))
    n_done = len(done)
    assert n_done < 100_000
    # Nothing goes on behind the caller's back.
    assert list(worker_pool(2)(lambda i: i, range(2))) in ([0, 1], [1, 0])
    assert len(done) == n_done


def test_a_caller_may_leave_early():
    results = iter(worker_pool(2)(lambda i: i, range(1000)))
    next(results)
    results.close()
    assert sorted(worker_pool(2)(lambda i: i, range(9))) == list(range(9))


_FORKED = """
import multiprocessing, sys
import numpy as np
from skgliclass import GLiClassClassifier

clf = GLiClassClassifier(labels=["sport", "travel"], trainable="all", max_epochs=1,
                         random_state=0, device="cpu")
few, many = ["a goal in the last minute " * 20], ["a goal", "a trip to the sea"] * 40
expected = clf.predict_proba(few), clf.predict_proba(many)

def child():
    for texts, scores in zip((few, many), expected):
        np.testing.assert_allclose(clf.predict_proba(texts), scores, atol=1e-5)
    clf.fit(many[:2], ["sport", "travel"])

process = multiprocessing.get_context("fork").Process(target=child)
process.start()
process.join(60)
sys.exit("it hangs" if process.exitcode is None and not process.kill() else process.exitcode)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_forked_process_predicts_and_fits(n_threads):
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    subprocess.run([sys.executable, "-c", _FORKED], env=environment, check=True, timeout=120)


@pytest.mark.parametrize(
    ("device", "tokens", "workers"), [("cpu", 512, 4), ("cuda", 65_536, 2), ("mps", 8192, 2)]
)
def test_micro_batches_suit_the_device(four_threads, device, tokens, workers):
    network = SimpleNamespace(device=torch.device(device), config=None)
    loaded = SimpleNamespace(network=network, composer=lambda _: None, position_limit=None)
    chosen = Engine(loaded, max_length=128)
    assert (chosen.batch_tokens, chosen.n_workers) == (tokens, workers)
    told = Engine(loaded, max_length=128, batch_tokens=7, n_jobs=3)
    assert (told.batch_tokens, told.n_workers) == (7, 3)


def batches_on(device, lengths):
    network = SimpleNamespace(device=torch.device(device), config=None)
    loaded = SimpleNamespace(network=network, composer=lambda _: None, position_limit=None)
    return Engine(loaded, max_length=128).batches(lengths)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_micro_batches_hold_every_row_once(device):
    lengths = np.random.default_rng(0).integers(0, 2000, size=300)
    found = batches_on(device, lengths)
    assert sorted(np.concatenate(found).tolist()) == list(range(300))
    assert len(batches_on(device, lengths[:0])) == 0


def test_a_processor_computes_little_padding_and_ends_with_small_batches():
    # As many texts are: many short ones and a few long ones.
    lengths = np.sort(np.random.default_rng(0).lognormal(4, 0.7, size=24).astype(int) + 10)
    padded = [len(rows) * int(lengths[rows].max()) for rows in batches_on("cpu", lengths)]
    assert sum(padded) < 1.06 * lengths.sum()
    assert padded == sorted(padded, reverse=True)
