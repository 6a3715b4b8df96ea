"""Group work into micro-batches and run them, on one thread or several."""

from __future__ import annotations

import ctypes
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar, cast

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
    for i in range(1, len(order) + 1):
        # No group that ends here has more rows than fit when all are as short as its last.
        first = max(0, i - max(1, max_tokens // int(longest[i - 1])))
        tokens = (i - np.arange(first, i)) * longest[first:i]
        cost = cheapest[first:i] + tokens + fixed_cost
        # The last choice is the row alone, which is allowed at any length.
        cost[:-1][tokens[:-1] > max_tokens] = np.inf
        start[i] = first + cost.argmin()
        cheapest[i] = cost[start[i] - first]
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


def worker_pool(n_workers: int) -> RunAll:
    """Give a function that runs jobs on some workers, which share torch's threads.

    Workers with a thread each waste less than one pass at a time on all threads: nothing waits
    inside a pass, and the processor's caches are not shared.

    Parameters
    ----------
    n_workers : int
        How many jobs run at a time. A single job is run on all threads.

    Returns
    -------
    callable
        Takes a function and jobs to call it with, like :func:`map`, and gives the results as they
        come, in the calling thread. No thread count changes but those of the workers.
    """
    if _is_forked and n_threads() > 1:
        # What computed with several threads before the fork waits for threads that are gone.
        return partial(_run_at_once, _workers_with(n_threads()), n_workers, fewest=1)
    if n_workers == 1:
        return map
    return partial(_run_at_once, _workers_with(max(1, n_threads() // n_workers)), n_workers)


_MOST_THREADS = 256

_workers: dict[int, ThreadPoolExecutor] = {}
"""The worker threads by their share of torch's threads; they are kept from call to call."""

_starting = Lock()
_is_forked = False


@contextmanager
def computing_here() -> Iterator[None]:
    """Let the calling thread compute by itself, which it could not in a forked process.

    There it would wait for the threads that it computed with before the fork; with one thread it
    needs none.
    """
    count = n_threads()
    if not _is_forked or count == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(count)


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Let the calling thread compute small things by itself.

    Between products of small matrices threads wait for each other longer than they compute, and
    many times so where other programs need the processors. No other thread's count changes.
    """
    count = n_threads()
    if count == 1:
        yield
        return
    before = _set_own_threads(1)
    try:
        yield
    finally:
        _set_own_threads(count, before)


def _workers_with(share: int) -> ThreadPoolExecutor:
    with _starting:
        if share not in _workers:
            _workers[share] = ThreadPoolExecutor(
                _MOST_THREADS, "skgliclass", initializer=_take_share, initargs=(share,)
            )
        return _workers[share]


def _take_share(share: int) -> None:
    """Set how many threads a worker computes with, when it starts."""
    with _starting:
        # This thread is given the common count when it first asks for it, which has to be before.
        common = n_threads()
        if common == share:
            return
        _set_own_threads(share)
        if n_threads() == share:
            return
        # Torch sets the common count, too, for threads that are still to start.
        torch.set_num_threads(share)
        # Not in the calling thread, whose own count may be another.
        repair = Thread(target=torch.set_num_threads, args=(common,))
        repair.start()
        repair.join()


def _set_own_threads(n: int, of_mkl: int | None = None) -> int:
    """Set the count of the calling thread alone, where the libraries that compute are found.

    Parameters
    ----------
    n : int
        How many threads.
    of_mkl : int, optional
        How many threads MKL uses, where that is something else; 0 means the common count.

    Returns
    -------
    int
        How many MKL used before, likewise.
    """
    # For OpenMP and MKL the count is one of the calling thread. Torch's own function has no way to
    # leave the common one alone, and a thread that starts meanwhile would keep it for good.
    library = ctypes.CDLL(torch._C.__file__)
    before = 0
    for name, count in (
        ("omp_set_num_threads", n),
        ("MKL_Set_Num_Threads_Local", n if of_mkl is None else of_mkl),
    ):
        function = getattr(library, name, None)
        if function is not None:
            before = function(ctypes.c_int(count))
    return before if hasattr(library, "MKL_Set_Num_Threads_Local") else 0


def _forget_workers() -> None:
    """Begin anew in a forked process, where the threads of the old one do not run."""
    global _starting, _is_forked
    _workers.clear()
    _starting, _is_forked = Lock(), True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


def _run_at_once(
    pool: ThreadPoolExecutor,
    n_workers: int,
    run: Callable[[Any], T],
    jobs: Iterable[Any],
    *,
    fewest: int = 2,
) -> Iterator[T]:
    waiting = deque(jobs)
    n_jobs = len(waiting)
    if n_jobs < fewest:
        yield from map(run, waiting)
        return
    results: SimpleQueue[tuple[T | None, BaseException | None]] = SimpleQueue()

    def work() -> None:
        # Workers take the jobs themselves: none waits until the calling thread has time for it.
        while True:
            try:
                job = waiting.popleft()
            except IndexError:
                return
            try:
                results.put((run(job), None))
            except BaseException as error:
                # Here, as the calling thread may only get to it when others have begun the rest.
                waiting.clear()
                results.put((None, error))

    running: list[Future[None]] = []
    try:
        running.extend(pool.submit(work) for _ in range(min(n_workers, n_jobs)))
        for _ in range(n_jobs):
            result, error = results.get()
            if error is not None:
                raise error
            yield cast("T", result)
    finally:
        # After an interruption, no more than what has begun is finished.
        waiting.clear()
        wait(running)


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
