"""Tell the user, and scikit-learn's callbacks, how a fit is going."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

from .state import FitState

if TYPE_CHECKING:
    from ..training.loop import Progress

_Method = TypeVar("_Method", bound=Callable[..., Any])

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: _Method) -> _Method:
        """Stand in where scikit-learn has no callbacks."""
        return method


__all__ = [
    "BAR_FROM_TEXTS",
    "CallbackSupportMixin",
    "FitCallbacks",
    "say",
    "scoring_bar",
    "with_callbacks",
]

BAR_FROM_TEXTS = 500
"""How many texts take long enough for a bar that nobody asked for."""

_CALLERS_OF_MANY = (
    "joblib.parallel",
    "joblib._parallel_backends",
    "joblib.externals.loky",
    "sklearn.model_selection",
)


class FitCallbacks:
    """Passes the events of one training on to a progress bar and to the estimator's callbacks.

    Parameters
    ----------
    estimator : estimator
        The one that is being fitted, whom scikit-learn's callbacks are told.
    make_context : callable
        Gives scikit-learn's context of the callbacks for a number of epochs, or None if the
        estimator has none. Called when the training begins.
    max_epochs, n_steps : int
        How many epochs and optimizer steps the training will have at most.
    verbose : int or None
        Whether to show a progress bar; None leaves it to who is watching.
    """

    def __init__(
        self,
        estimator: Any,
        make_context: Callable[[int], Any],
        *,
        max_epochs: int,
        n_steps: int,
        verbose: int | None,
    ) -> None:
        self._estimator = estimator
        self._make_context = make_context
        self._max_epochs, self._n_steps, self._verbose = max_epochs, n_steps, verbose
        self._context: Any = None
        self._epoch_context: Any = None

    def __enter__(self) -> FitCallbacks:
        # Only now: a job that fails before it trains leaves no empty bar behind.
        self._bar = tqdm(total=self._n_steps, unit="step", disable=not _shows_bar(self._verbose))
        self._context = self._make_context(self._max_epochs)
        if self._context is not None:
            self._context.call_on_fit_task_begin(estimator=self._estimator)
            self._begin_epoch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        # After an error no task ended; the decorator of scikit-learn tears the callbacks down.
        if self._context is not None and kind is None:
            self._context.call_on_fit_task_end(estimator=self._estimator)

    def on_step(self, loss: float) -> None:
        """Note an optimizer step."""
        self._bar.update()
        # A refresh would draw the bar at every step; update draws it as often as eyes can follow.
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

    def on_epoch(self, progress: Progress, make_state: Callable[[], FitState]) -> bool:
        """Note an epoch, after which a fit would leave a state; True asks to stop."""
        if progress.validation is not None:
            self._bar.set_description(f"validation score {progress.validation.score:.4f}")
        # Epoch 0 is the state before training, which is no epoch to scikit-learn.
        if self._epoch_context is None or progress.epoch == 0:
            return False
        stop = self._epoch_context.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=lambda: {"_fit_state": make_state()},
        )
        if not stop:
            self._begin_epoch()
        return bool(stop)

    def _begin_epoch(self) -> None:
        context = self._context
        assert context is not None
        # An epoch more than were announced would be an error of scikit-learn's.
        done = len(context._children_map)
        if context.max_subtasks is None or done < context.max_subtasks:
            self._epoch_context = context.subcontext(task_name="epoch")
            self._epoch_context.call_on_fit_task_begin(estimator=self._estimator)


@contextmanager
def scoring_bar(n_texts: int, verbose: int | None) -> Iterator[Callable[[float], None]]:
    """Show a progress bar over texts, and give what moves it on."""
    # Unasked, a bar over texts that are done in a moment is but noise on a terminal.
    if not _shows_bar(verbose) or (verbose is None and n_texts < BAR_FROM_TEXTS):
        # One that is made and not shown would take a part of the time of a single text.
        yield lambda steps: None
        return
    with tqdm(total=n_texts, unit="text") as bar:
        yield whole_steps(bar.update)


def say(what: str, verbose: int | None) -> None:
    """Write a line where a progress bar would be shown, too."""
    if _shows_bar(verbose):
        tqdm.write(what, file=sys.stderr)


def _shows_bar(verbose: int | None) -> bool:
    if verbose is not None:
        return bool(verbose)
    return _is_watched() and not _is_one_of_many()


def _is_watched() -> bool:
    """Tell whether a person sees what is written now: in a terminal or a notebook."""
    if sys.stderr is not None and sys.stderr.isatty():
        return True
    # Whoever runs in a notebook has it imported; to import it here would take time.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _is_one_of_many() -> bool:
    """Tell whether a search, a cross-validation or a pool of workers makes this call."""
    if multiprocessing.parent_process() is not None:
        return True
    # With n_jobs=1 they run in the caller's own thread, which says so nowhere but on its stack.
    frame = sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if str(frame.f_globals.get("__name__", "")).startswith(_CALLERS_OF_MANY):
            return True
    return False


def whole_steps(update: Callable[[int], object]) -> Callable[[float], None]:
    """Pass on progress that comes in fractions once it adds up to whole texts."""
    # A text in several chunks or passes counts in parts, which a bar would show as 3.9999/4.
    done = passed_on = 0.0

    def advance(amount: float) -> None:
        nonlocal done, passed_on
        done += amount
        step = round(done) - passed_on
        if step:
            update(int(step))
            passed_on += step

    return advance
