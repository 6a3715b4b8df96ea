"""What loading and saving must not do to their surroundings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

_lock = Lock()
_n_inside = 0
_restore: Callable[[], None] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the progress bars and loading reports of transformers from the user's screen.

    They are switched off for all threads, since transformers knows no other way. Where several
    threads are inside, the last one that leaves switches them on again.
    """
    global _n_inside, _restore
    is_inside = False
    # An interruption may come anywhere, also while they are being switched.
    try:
        with _lock:
            if _restore is None:
                _restore = _restorer()
            _n_inside, is_inside = _n_inside + 1, True
            if _n_inside == 1:
                _silence()
        yield
    finally:
        with _lock:
            _n_inside -= is_inside
            if _n_inside == 0 and _restore is not None:
                _restore()
                # Only now: what was interrupted is for the next one that leaves.
                _restore = None


def _silence() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _restorer() -> Callable[[], None]:
    """Give what switches on again what is on now."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    had_bars = logging.is_progress_bar_enabled()

    def restore() -> None:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()

    return restore
