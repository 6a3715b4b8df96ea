"""Group work into micro-batches and run them, on one thread or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

RunAll = Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], None]


def plan_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Group rows of similar length into micro-batches of bounded size.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        The tokens of each row.
    batch_tokens : int
        How many tokens a micro-batch may have, padding included. A longer row goes alone.

    Yields
    ------
    ndarray of int
        The rows of one micro-batch; the longest rows come first, so that running out of memory
        shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        n_rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + n_rows]
        start += n_rows


def group_by_length(
    lengths: NDArray[np.int64], max_tokens: int, fixed_cost: int
) -> list[NDArray[np.intp]]:
    """Divide a batch into micro-batches so that padding and their number cost least together.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        The tokens of each row.
    max_tokens : int
        How many tokens a micro-batch may have, padding included. A longer row goes alone.
    fixed_cost : int
        What a micro-batch costs besides its tokens, counted in tokens.

    Returns
    -------
    list of ndarray of int
        The rows of each micro-batch, the longest first.
    """
    order = np.argsort(-lengths, kind="stable")
    longest = np.maximum(lengths[order], 1)
    # cheapest[i] is what the i longest rows cost, and start[i] where their last group begins.
    cheapest = np.zeros(len(order) + 1)
    start = np.zeros(len(order) + 1, dtype=np.intp)
    for i in range(1, len(order) + 1):
        tokens = (i - np.arange(i)) * longest[:i]
        cost = cheapest[:i] + tokens + fixed_cost
        cost[:-1][tokens[:-1] > max_tokens] = np.inf
        start[i] = cost.argmin()
        cheapest[i] = cost[start[i]]
    groups = []
    stop = len(order)
    while stop:
        groups.append(order[start[stop] : stop])
        stop = start[stop]
    return groups[::-1]


def plan_windows(texts: Sequence[str], max_texts: int, max_characters: int) -> Iterator[slice]:
    """Divide texts into consecutive windows of bounded size.

    Parameters
    ----------
    texts : sequence of str
        The texts.
    max_texts, max_characters : int
        How much one window may hold. A longer text goes alone.

    Yields
    ------
    slice
        The rows of one window.
    """
    start = used = 0
    for i, text in enumerate(texts):
        if i > start and (i - start >= max_texts or used + len(text) > max_characters):
            yield slice(start, i)
            start, used = i, 0
        used += len(text)
    if start < len(texts):
        yield slice(start, len(texts))


@contextmanager
def worker_pool(n_jobs: int) -> Iterator[RunAll]:
    """Give a function that runs jobs on `n_jobs` threads sharing the processor's."""
    if n_jobs == 1:
        yield _run_in_order
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // n_jobs))
    try:
        with ThreadPoolExecutor(n_jobs) as pool:
            yield lambda run, jobs: _drain(pool, n_jobs, run, jobs)
    finally:
        torch.set_num_threads(threads)


def _run_in_order(run: Callable[..., None], jobs: Iterable[tuple[Any, ...]]) -> None:
    for job in jobs:
        run(*job)


def _drain(
    pool: ThreadPoolExecutor,
    n_jobs: int,
    run: Callable[..., None],
    jobs: Iterable[tuple[Any, ...]],
) -> None:
    pending = [pool.submit(_run_in_order, run, part) for part in _deal(list(jobs), n_jobs)]
    for future in pending:
        future.result()


def _deal(jobs: list[tuple[Any, ...]], n_hands: int) -> list[list[tuple[Any, ...]]]:
    """Deal like cards: the jobs are sorted by length, so each worker gets a like share."""
    return [jobs[i::n_hands] for i in range(n_hands)]
