"""One function for the tables of every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from .job import Job
from .on_dask import classify_dask
from .on_ray import classify_ray
from .on_spark import classify_spark
from .results import Results

Road = Callable[[Any, Any, Job, dict[str, Any]], Any]


def classify_frame(
    estimator: Any,
    frame: Any,
    text_column: Any,
    *,
    output: str = "predict",
    missing: str = "raise",
    **engine_options: Any,
) -> Any:
    """Predict for the texts of a table, in the workers of the engine that the table is of.

    Parameters
    ----------
    estimator : classifier of texts
        One of this package, zero-shot or fitted, or any of scikit-learn, a pipeline for instance,
        whose ``predict`` takes a list of texts. It is sent to the workers as a pickle, which each
        of their processes loads once.
    frame : DataFrame of Dask, Spark or pandas, or Dataset of Ray
        The table, of any partitioning.
    text_column : object
        The name of the column of texts.
    output : {"predict", "proba"}, default="predict"
        ``"predict"`` adds one column, ``"predicted"``: the class, or of a classifier of any number
        of classes a text the list of them. ``"proba"`` adds a float32 column for each class, whose
        name is that of the class.
    missing : {"raise", "null"}, default="raise"
        What to do with rows whose text is missing (None, NaN, NA, null): ``"null"`` leaves what
        is added for them missing, too.
    **engine_options
        For the engine: of ``map_partitions`` of Dask, ``mapInArrow`` of Spark (``barrier``,
        ``profile``), ``map_batches`` of Ray (``compute``, ``num_gpus``, ``batch_size``, ...).

    Returns
    -------
    DataFrame or Dataset
        Of the same engine as `frame`: its columns, and behind them those of the results. Lazy
        where the engine is. pandas and Dask keep index, order and partitions, Spark its partitions.

    Raises
    ------
    ImportError
        If the engine lacks a package; the message names the extra.
    NotFittedError
        If the estimator knows no classes.
    TypeError
        If `frame` is of another kind, or the estimator does not predict so; in the workers, if a
        row is no text.
    ValueError
        If there is no such column, or one that would be added is there already; in the workers, if
        a text is missing. The message names the row by its index, or where the engine has none by
        its other columns.

    Notes
    -----
    A row's result depends on that row alone, so that it does not matter how rows are divided:
    results agree within the rounding that a batch of another size brings. Scheduling, retries and
    going on after a failure are the engine's.

    Examples
    --------
    >>> import pandas as pd
    >>> from skgliclass import GLiClassClassifier
    >>> from skgliclass.distributed import classify_frame
    >>> frame = pd.DataFrame({"text": ["The match went to extra time."]}, index=[7])
    >>> clf = GLiClassClassifier(labels=["travel", "cooking", "sport"])
    >>> classify_frame(clf, frame, "text")
                                text predicted
    7  The match went to extra time.     sport
    """
    road = _road_of(frame)
    for name, value, allowed in (
        ("output", output, ("predict", "proba")),
        ("missing", missing, ("raise", "null")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} is {value!r}; it must be {allowed[0]!r} or {allowed[1]!r}.")
    results = Results.of(estimator, output, nullable=missing == "null")
    return road(estimator, frame, Job(text_column, results), engine_options)


def _classify_pandas(
    estimator: Any, frame: pd.DataFrame, job: Job, options: dict[str, Any]
) -> pd.DataFrame:
    if options:
        raise TypeError(f"A frame of pandas takes no options, got {', '.join(options)}.")
    if frame.columns.nlevels > 1:
        raise ValueError(
            "The columns of the frame are a MultiIndex. Join the levels: frame.columns = "
            "['.'.join(map(str, names)) for names in frame.columns]."
        )
    job.check_columns(list(frame.columns))
    return job.on_pandas(frame, lambda method, texts: getattr(estimator, method)(texts))


_ROADS: dict[tuple[str, str], Road] = {
    ("pandas", "DataFrame"): _classify_pandas,
    ("dask.dataframe", "DataFrame"): classify_dask,
    ("pyspark.sql", "DataFrame"): classify_spark,
    ("ray.data", "Dataset"): classify_ray,
}


def _road_of(frame: Any) -> Road:
    """Find what knows a table, by its module: an engine that is not used is not imported."""
    for cls in type(frame).__mro__:
        for (module, name), road in _ROADS.items():
            if cls.__name__ == name and f"{cls.__module__}.".startswith(f"{module}."):
                return road
    raise TypeError(
        f"frame is a {type(frame).__name__} of {type(frame).__module__}; it must be a DataFrame of "
        f"pandas, Dask or Spark, or a Dataset of Ray.{_way_to_one(frame)}"
    )


def _way_to_one(frame: Any) -> str:
    for method in ("to_spark", "to_frame", "to_pandas"):
        if hasattr(frame, method):
            return f" Write frame.{method}()."
    return ""
