"""What a process keeps: its loaded models, and what is prepared for them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class RecentlyUsed(Generic[T]):
    """Keeps the few values that were asked for last; safe to use from several threads.

    Parameters
    ----------
    n_kept : int, default=16
        How many.
    """

    def __init__(self, n_kept: int = 16) -> None:
        self._n_kept = n_kept
        self._values: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Hashable) -> T | None:
        """Give the value of a key; None where it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def keep(self, key: Hashable, value: T) -> None:
        """Keep a value, in place of the one that was not asked for the longest."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            if len(self._values) > self._n_kept:
                self._values.popitem(last=False)


class ModelCache(Generic[T]):
    """Keeps loaded models; safe to use from several threads.

    A model stays as long as an object lives that used it last in one of its roles. Besides, the
    models used last stay up to a number.

    Parameters
    ----------
    n_kept : int, default=4
        From how many models on those that nobody uses are dropped.
    """

    def __init__(self, n_kept: int = 4) -> None:
        self._n_kept = n_kept
        self._models: OrderedDict[Hashable, tuple[Hashable, T]] = OrderedDict()
        # By identity: users may compare equal, and may be unhashable.
        self._used: dict[tuple[int, str], tuple[weakref.ref[Any], Hashable]] = {}
        self._lock = Lock()
        # Loading sets what is global in transformers and torch, so it happens one at a time; who
        # asks for a model that is here does not wait for it.
        self._loading = Lock()

    def get(
        self,
        key: Hashable,
        load: Callable[[], T],
        user: object | None = None,
        role: str = "",
        state: Hashable = None,
    ) -> T:
        """Give the model of a key, loaded now where it is not kept.

        Parameters
        ----------
        key : hashable
            Two models with equal keys are the same.
        load : callable
            Loads it.
        user : object, optional
            For whom; held weakly.
        role : str
            What the user needs it for, as one may use several models.
        state : hashable, optional
            That of what it is loaded from. A model of another state is dropped: nobody will ask
            for it again.
        """
        model = self._find(key, state, user, role)
        if model is not None:
            return model
        with self._loading:
            # Asked again, as another thread may have loaded it while this one waited.
            model = self._find(key, state, user, role)
            if model is None:
                model = load()
                self._put(key, (state, model), user, role)
        return model

    def _find(self, key: Hashable, state: Hashable, user: object | None, role: str) -> T | None:
        with self._lock:
            loaded_state, model = self._models.get(key, (None, None))
            if model is None:
                return None
            if loaded_state != state:
                # Before the new one is loaded, so that both need not fit into memory.
                del self._models[key]
                return None
            self._models.move_to_end(key)
            self._note(key, user, role)
            return model

    def _put(
        self, key: Hashable, entry: tuple[Hashable, T], user: object | None, role: str
    ) -> None:
        with self._lock:
            self._models[key] = entry
            self._note(key, user, role)
            # Here and not in a callback of the weak references: that could run while this very
            # thread holds the lock.
            self._used = {k: entry for k, entry in self._used.items() if entry[0]() is not None}
            in_use = {key, *(used for _, used in self._used.values())}
            # Those that were used last are at the end, so the others go first.
            for other in [k for k in self._models if k not in in_use]:
                if len(self._models) <= self._n_kept:
                    break
                del self._models[other]

    def _note(self, key: Hashable, user: object | None, role: str) -> None:
        if user is None:
            return
        entry = self._used.get((id(user), role))
        # A new object may have the number of one that is gone, and then a reference of its own.
        if entry is None or entry[0]() is not user or entry[1] != key:
            self._used[id(user), role] = weakref.ref(user), key
