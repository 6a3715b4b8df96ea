"""Frames of Spark."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from .job import Job
from .results import Results, check_pyarrow
from .shipped import Shipped


def classify_spark(estimator: Any, frame: Any, job: Job, options: dict[str, Any]) -> Any:
    """Classify the texts of each partition, batch by batch."""
    check_pyarrow("A frame of Spark", "spark")
    from pyspark.cloudpickle import dumps
    from pyspark.sql.types import StructType

    any_case = frame.sparkSession.conf.get("spark.sql.caseSensitive").lower() != "true"
    schema = frame.schema
    job = _with_spelling(job, schema.names, any_case=any_case)
    job.check_columns(schema.names, any_case=any_case)
    kind = schema[job.text_column].dataType
    if kind.typeName() not in {"string", "varchar", "char"}:
        raise TypeError(
            f"text_column={job.text_column!r} holds {kind.simpleString()}, not strings."
        )
    shipped = Shipped(estimator, dumps)

    def classify(batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            yield job.on_arrow(batch, shipped.call)

    return frame.mapInArrow(
        classify, StructType([*schema.fields, *_fields(job.results)]), **options
    )


def _with_spelling(job: Job, columns: list[str], *, any_case: bool) -> Job:
    """Write the column of texts as the frame does, in which Spark finds it in any case."""
    alike = [name for name in columns if name.casefold() == str(job.text_column).casefold()]
    if any_case and job.text_column not in columns and len(alike) == 1:
        return replace(job, text_column=alike[0])
    return job


def _fields(results: Results) -> list[Any]:
    from pyspark.sql import types

    if results.output == "proba":
        kind: Any = types.FloatType()
    else:
        kinds = {
            str: types.StringType(),
            int: types.LongType(),
            float: types.DoubleType(),
            bool: types.BooleanType(),
        }
        kind = kinds[results.kind]
    if results.is_list:
        kind = types.ArrayType(kind)
    return [types.StructField(name, kind) for name in results.names]
