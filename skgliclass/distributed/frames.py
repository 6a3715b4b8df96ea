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
    estimator : classifier
        Zero-shot or fitted, of this package or any other whose ``predict`` takes a list of texts.
    frame : DataFrame of Dask, Spark or pandas, or Dataset of Ray
        The table, of any partitioning.
    text_column : object
        The name of the column of texts.
    output : {"predict", "proba"}, default="predict"
        ``"predict"`` adds the column ``"predicted"``: the class, or with any number of classes a
        text the list of them; ``"proba"`` a float32 column for each class, by its name.
    missing : {"raise", "null"}, default="raise"
        Whether a row without a text (None, NaN, NA, null) is an error, or its result missing, too.
    **engine_options
        Of ``map_partitions`` of Dask, ``mapInArrow`` of Spark or ``map_batches`` of Ray.

    Returns
    -------
    DataFrame or Dataset
        Of the same engine, and lazy where that is: the columns of `frame`, and behind them those
        of the result. pandas and Dask keep index and order.

    Raises
    ------
    ValueError
        If there is no such column, or one that would be added is there already, or no classes are
        known (NotFittedError); in the workers, if a text is missing, which is named by its index.
    TypeError
        If `frame` is of another kind, or the estimator does not predict so; in the workers, if a
        row is no text.
    ImportError
        If a package is missing; the message names the extra.

    Examples
    --------
    >>> import pandas as pd
    >>> from skgliclass import GLiClassClassifier
    >>> clf = GLiClassClassifier(labels=["travel", "cooking", "sport"])
    >>> classify_frame(clf, pd.DataFrame({"text": ["A match in extra time."]}, index=[7]), "text")
                         text predicted
    7  A match in extra time.     sport
    """
    road = _road_of(frame)
    _check_choice("output", output, "predict", "proba")
    _check_choice("missing", missing, "raise", "null")
    results = Results.of(estimator, output, nullable=missing == "null")
    return road(estimator, frame, Job(text_column, results), engine_options)


def _check_choice(name: str, value: Any, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}; it must be {' or '.join(map(repr, allowed))}.")


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
