"""Datasets of Ray."""

from __future__ import annotations

from typing import Any

from .job import Job
from .shipped import Shipped

_BATCH_SIZE = 4096


def classify_ray(estimator: Any, frame: Any, job: Job, options: dict[str, Any]) -> Any:
    """Classify the texts batch by batch in actors, each of which has the estimator."""
    from ray.cloudpickle import dumps

    # Where they are not known, the actors see them: to find out would begin to compute.
    columns = frame.columns(fetch_if_missing=False)
    if columns is not None:
        job.check_columns(columns)
    return frame.map_batches(
        _Actor,
        fn_constructor_args=(Shipped(estimator, dumps), job),
        **{"batch_size": _BATCH_SIZE, "batch_format": "pyarrow", **options},
    )


class _Actor:
    def __init__(self, shipped: Shipped, job: Job) -> None:
        self._shipped, self._job = shipped, job

    def __call__(self, rows: Any) -> Any:
        self._job.check_columns(rows.column_names)
        return self._job.on_arrow(rows, self._shipped.call)
