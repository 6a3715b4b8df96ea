"""An estimator on its way to the workers, and in them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import pickle
import platform
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from threading import BoundedSemaphore, Lock
from typing import Any
from uuid import uuid4

import joblib

# Where several classifiers take turns on one cluster, their weights stay; those of long ago go.
_N_KEPT = 2
# The most that glibc takes.
_KEPT_BYTES = 32 * 2**20
_loaded: OrderedDict[str, Any] = OrderedDict()
_loading = Lock()
_PROCESS = uuid4().hex


class Shipped:
    """An estimator as bytes, which a process unpickles once, whatever copies of them it gets.

    Parameters
    ----------
    estimator : object
        Any.
    dumps : callable
        Makes the bytes. Each engine brings a function that can do so for steps of a pipeline that
        are functions of the user's script, as ``pickle`` cannot.
    """

    def __init__(self, estimator: Any, dumps: Callable[[Any], bytes]) -> None:
        self.data = dumps(estimator)
        self.digest = hashlib.sha256(self.data).hexdigest()
        self._from = _PROCESS

    def call(self, method: str, texts: list[str]) -> Any:
        """Call a method of the estimator with texts."""
        if self._from != _PROCESS:
            # An engine's own process, of which there is one a core. Most of them set this; torch
            # reads it when it is first imported.
            os.environ.setdefault("OMP_NUM_THREADS", "1")
            _keep_memory()
        estimator = self._load()
        with _places():
            return getattr(estimator, method)(texts)

    def _load(self) -> Any:
        with _loading:
            if self.digest not in _loaded:
                while len(_loaded) >= _N_KEPT:
                    _loaded.popitem(last=False)
                _loaded[self.digest] = pickle.loads(self.data)
            _loaded.move_to_end(self.digest)
            return _loaded[self.digest]


@cache
def _keep_memory() -> None:
    """Let the C library keep a few megabytes between micro-batches, where Dask tells it not to.

    Its workers start so that whatever is free goes back to the system, and every larger block when
    it is freed: each micro-batch would fetch its pages anew, which takes a fifth of the time.
    """
    if "MALLOC_TRIM_THRESHOLD_" in os.environ and platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        # What it would come to by itself: M_TRIM_THRESHOLD, and M_MMAP_THRESHOLD.
        library.mallopt(-1, 2 * _KEPT_BYTES)
        library.mallopt(-3, _KEPT_BYTES)


@cache
def _places() -> BoundedSemaphore:
    """Let as many threads of an engine compute at a time as there are processors for their own."""
    n_processors = joblib.cpu_count()
    written = os.environ.get("OMP_NUM_THREADS", "")
    n_threads = int(written) if written.isdigit() and int(written) else n_processors
    return BoundedSemaphore(max(1, n_processors // n_threads))
