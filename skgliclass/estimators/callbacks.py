"""Tell the user, and scikit-learn's callbacks, how a fit is going."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from tqdm import tqdm

if TYPE_CHECKING:
    from ..training.loop import Progress
    from ..training.options import TrainingOptions

_Method = TypeVar("_Method", bound=Callable[..., Any])

try:  # scikit-learn 1.9 and later
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands in where scikit-learn has no callbacks."""

    def with_callbacks(method: _Method) -> _Method:
        """Stand in where scikit-learn has no callbacks."""
        return method


__all__ = ["CallbackSupportMixin", "FitCallbacks", "with_callbacks"]


class FitCallbacks:
    """Passes the events of one training on to a progress bar and to the estimator's callbacks.

    Parameters
    ----------
    estimator : estimator
        The one that is being fitted.
    options : TrainingOptions
        How it is trained.
    n_samples : int
        How many texts it is trained on.
    state_of : callable
        Makes a fitted state of weights, for callbacks that want to predict.
    """

    def __init__(
        self,
        estimator: Any,
        options: TrainingOptions,
        n_samples: int,
        state_of: Callable[[Any], Any],
    ) -> None:
        self._estimator = estimator
        self._state_of = state_of
        n_steps = options.max_epochs * math.ceil(n_samples / options.batch_size)
        self._bar = tqdm(total=n_steps, unit="step", disable=not estimator.verbose)
        self._context: Any = None
        self._epoch_context: Any = None
        if getattr(estimator, "_skl_callbacks", None):
            self._context = estimator._init_callback_context(max_subtasks=options.max_epochs)

    def __enter__(self) -> FitCallbacks:
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
        if self._context is not None and kind is None:
            self._context.call_on_fit_task_end(estimator=self._estimator)

    def on_step(self, loss: float) -> None:
        """Note an optimizer step."""
        self._bar.update()
        self._bar.set_postfix(loss=f"{loss:.4f}", refresh=False)

    def on_epoch(self, progress: Progress) -> bool:
        """Note an epoch; True asks to stop."""
        if progress.validation is not None:
            self._bar.set_description(f"validation score {progress.validation.score:.4f}")
        if self._epoch_context is None or progress.epoch == 0:
            return False
        stop = self._epoch_context.call_on_fit_task_end(
            estimator=self._estimator,
            reconstruction_attributes=lambda: {"_fit_state": self._state_of(progress.weights())},
        )
        if not stop:
            self._begin_epoch()
        return bool(stop)

    def _begin_epoch(self) -> None:
        context = self._context
        assert context is not None
        done = len(context._children_map)
        if context.max_subtasks is None or done < context.max_subtasks:
            self._epoch_context = context.subcontext(task_name="epoch")
            self._epoch_context.call_on_fit_task_begin(estimator=self._estimator)
