"""Group work into micro-batches and run them, on one thread or several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from threading import Event
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")
RunAll = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


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
    # Quadratic in the rows, which are those of one training batch or its labels. Prediction, with
    # thousands of rows in a window, uses `plan_batches`.
    for i in range(1, len(order) + 1):
        tokens = (i - np.arange(i)) * longest[:i]
        cost = cheapest[:i] + tokens + fixed_cost
        # The last choice is the row alone, which is allowed at any length.
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


def n_threads() -> int:
    """Tell how many threads torch computes with in the calling thread."""
    return torch.get_num_threads()


@contextmanager
def worker_pool(n_workers: int) -> Iterator[RunAll]:
    """Give a function that runs jobs on some workers, which share torch's threads.

    Workers with a thread each waste less than one pass at a time on all threads: nothing waits
    inside a pass, and the processor's caches are not shared.

    Parameters
    ----------
    n_workers : int
        How many jobs run at a time. A single job is run on all threads.

    Yields
    ------
    callable
        Takes a function and jobs to call it with, like :func:`map`, and gives the results as they
        come, in the calling thread. The thread counts that the caller sees do not change.
    """
    if n_workers == 1:
        yield map
        return
    n_threads = torch.get_num_threads()
    # Torch keeps the count for each thread, and a common one for threads that are still to start.
    share = max(1, n_threads // n_workers)
    try:
        with ThreadPoolExecutor(
            n_workers, initializer=torch.set_num_threads, initargs=(share,)
        ) as pool:
            yield partial(_run_at_once, pool)
    finally:
        # The workers' counts have become the common one, too.
        torch.set_num_threads(n_threads)


def _run_at_once(
    pool: ThreadPoolExecutor, run: Callable[[Any], T], jobs: Iterable[Any]
) -> Iterator[T]:
    waiting = list(jobs)
    if len(waiting) < 2:
        yield from map(run, waiting)
        return
    stopped = Event()

    def run_unless_stopped(job: Any) -> tuple[T] | None:
        if stopped.is_set():
            return None
        try:
            # In a tuple, to tell a result of None from a job that was not run.
            return (run(job),)
        except BaseException:
            stopped.set()
            raise

    pending = [pool.submit(run_unless_stopped, job) for job in waiting]
    try:
        for future in as_completed(pending):
            result = future.result()
            if result is not None:
                yield result[0]
    finally:
        # After an error or an interruption, no more than what has begun is finished.
        stopped.set()


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Prepare the next item in another thread while one is used.

    Parameters
    ----------
    items : iterable
        Whose next item takes time to make.

    Yields
    ------
    object
        The items, in their order.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        # One item ahead and no more: each is a window of texts, and memory is bounded by two of
        # them.
        pending: Future[Any] = pool.submit(next, iterator, end)
        while (item := pending.result()) is not end:
            pending = pool.submit(next, iterator, end)
            yield item
