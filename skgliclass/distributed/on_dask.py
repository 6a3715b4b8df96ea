"""Frames of Dask."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pandas as pd

from .job import Job
from .shipped import Shipped


def classify_dask(estimator: Any, frame: Any, job: Job, options: dict[str, Any]) -> Any:
    """Classify the texts of each partition where it is."""
    from cloudpickle import dumps
    from dask import delayed

    # What it does not know, it hands to the function in the workers.
    known = signature(frame.map_partitions).parameters.keys() - {"func", "args", "kwargs", "meta"}
    unknown = sorted(options.keys() - known)
    if unknown:
        raise TypeError(f"map_partitions of Dask has no option {', '.join(unknown)}.")
    job.check_columns(list(frame.columns))
    shipped = Shipped(estimator, dumps)
    # A task of the graph, which is computed again where all workers that held it died; what is
    # scattered would be lost.
    classifier = delayed(shipped, name=f"classifier-{shipped.digest}", traverse=False)
    empty = job.on_pandas(frame._meta.iloc[:0], shipped.call)
    return frame.map_partitions(_classify_partition, classifier, job, meta=empty, **options)


def _classify_partition(partition: pd.DataFrame, shipped: Shipped, job: Job) -> pd.DataFrame:
    return job.on_pandas(partition, shipped.call)
