"""Read and write the training format of GLiClass, and turn it into `X` and `y` and back."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from ..estimators.labels import LabelSet
from ..estimators.problem import checked_weights
from ..estimators.targets import multi_label_targets, single_label_targets
from ..estimators.texts import as_texts
from ..loading.sources import without_repeats
from ..prompts.checks import in_short, listed
from ..prompts.examples import PromptExample
from .examples import FIELDS, Example

EXTENSIONS = (".json", ".jsonl", ".json.gz", ".jsonl.gz")
"""The names that a file of examples may end with."""


def read_examples(path: str | Path, *, encoding: str = "utf-8") -> list[Example]:
    """Read examples in the training format of GLiClass.

    Parameters
    ----------
    path : str or path
        A ``.json`` file with a list of objects or a ``.jsonl`` file with one object a line, each
        also with ``.gz``. The fields of an object are ``text``, ``all_labels``, ``true_labels``
        and optionally ``prompt``, ``examples`` and ``weight``; others are kept in
        :attr:`Example.extra`.
    encoding : str, default="utf-8"
        Of the file; a byte order mark is no part of the text.

    Returns
    -------
    list of Example

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the content is not of this format; the message names the file, the row (or line,
        counted from one) and the field.
    """
    path = Path(path)
    return list(examples_of(_rows(path, _kind_of(path), encoding), str(path)))


def examples_of(rows: Iterable[tuple[str, Any]], name: str) -> Iterator[Example]:
    """Make examples of the objects of a file, one after the other.

    Parameters
    ----------
    rows : iterable of tuple (str, object)
        Where in the file each is, and what was read there.
    name : str
        What to call the file in an error.

    Raises
    ------
    ValueError
        If one is not of the format; the message names the file, the place and the field.
    """
    labels: tuple[str, ...] = ()
    for place, row in rows:
        # What is raised here does not pass through the generator, which names errors of its own.
        with _errors_named(f"{name}, {place}"):
            example = _from_json(row)
        if example.all_labels == labels:
            # Most files have few label sets: rows that follow each other share one in memory.
            object.__setattr__(example, "all_labels", labels)
        labels = tuple(example.all_labels)
        yield example


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write examples so that :func:`read_examples` and the ``gliclass`` package read them.

    Parameters
    ----------
    path : str or path
        Where to; the extension chooses the format, as in :func:`read_examples`.
    examples : iterable of Example
        The rows.

    Raises
    ------
    OSError
        If the file cannot be written.
    ValueError
        If the extension is unknown.
    TypeError
        If :attr:`Example.extra` holds what JSON cannot.
    """
    path = Path(path)
    kind = _kind_of(path)
    # All rows become text before the file is touched, so that an error leaves it as it was.
    lines = [json.dumps(_to_json(example), ensure_ascii=False) for example in examples]
    with opened_to_write(path, is_compressed=path.suffix.lower() == ".gz") as file:
        if kind == ".jsonl":
            file.writelines(f"{line}\n" for line in lines)
        else:
            file.write("[\n" + ",\n".join(lines) + "\n]\n" if lines else "[]\n")


class Arrays(NamedTuple):
    """Examples as scikit-learn takes them.

    Attributes
    ----------
    X : list of str of length n_samples
        The texts.
    y : ndarray of shape (n_samples,) or (n_samples, n_labels)
        The one true label of each text; or for any number of labels how far each holds, float32,
        with NaN where a row does not offer the label, so that nobody knows.
    labels : list of str of length n_labels
        The label set, in the order of the columns; the `labels` parameter of a classifier.
    sample_weight : ndarray of shape (n_samples,), float32, or None
        The weights; None where all are 1.
    """

    X: list[str]
    y: NDArray[Any]
    labels: list[str]
    sample_weight: NDArray[np.float32] | None


def is_single_label(examples: Iterable[Example]) -> bool:
    """Tell whether every row has exactly one true label, for certain."""
    # The two largest targets tell: no other label has a share beside a single 1.
    return all(sorted(row.targets)[-2:] in ([1.0], [0.0, 1.0]) for row in examples)


def to_arrays(examples: Sequence[Example], *, multi_label: bool | None = None) -> Arrays:
    """Turn examples into `X` and `y`, the way back from :func:`from_arrays`.

    What a classifier has parameters for and no rows, :attr:`Example.prompt` and
    :attr:`Example.examples`, is left behind, as is :attr:`Example.extra`.

    Parameters
    ----------
    examples : sequence of Example of length n_samples
        The rows. Their labels may be listed in different orders.
    multi_label : bool, optional
        Whether `y` is for :class:`GLiClassMultiLabelClassifier`; by default where some row does
        not have exactly one true label. If True, rows may offer different labels: `y` is NaN,
        which says that nobody knows, where a row does not offer one.

    Returns
    -------
    Arrays
        The labels are in the order in which they first occur.

    Raises
    ------
    ValueError
        If there are no rows, two rows have different label sets without ``multi_label=True``, or
        `multi_label` is False and a row does not have exactly one true label.

    Examples
    --------
    >>> from skgliclass.datasets import from_arrays, to_arrays
    >>> rows = from_arrays(["Rain.", "Goal!"], [{"sport": 0.2}, ["sport"]], multi_label=True)
    >>> rows[0].true_labels
    {'sport': 0.2}
    >>> X, y, labels, sample_weight = to_arrays(rows, multi_label=True)
    >>> y
    array([[0.2],
           [1. ]], dtype=float32)
    """
    if not examples:
        raise ValueError("There are no examples.")
    labels = list(dict.fromkeys(name for row in examples for name in row.all_labels))
    if not multi_label:
        _check_one_label_set(examples)
    if multi_label is None:
        multi_label = not is_single_label(examples)
    y = _target_matrix(examples, labels) if multi_label else _target_vector(examples)
    weights = np.asarray([row.weight for row in examples], dtype=np.float32)
    return Arrays(
        [row.text for row in examples], y, labels, None if (weights == 1).all() else weights
    )


def from_arrays(
    X: Any, y: Any, *, labels: Any = None, multi_label: bool = False, sample_weight: Any = None
) -> list[Example]:
    """Turn `X` and `y` as the classifiers take them into examples.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
        The texts.
    y : array-like
        As in the ``fit`` of :class:`GLiClassClassifier`, or of
        :class:`GLiClassMultiLabelClassifier` if `multi_label`. Soft targets are kept; a label
        that is not annotated, NaN, is none of those that the row has to choose from.
    labels : list, dict or nested dict, default=None
        As the classifiers' parameter. The examples hold the label texts that the model reads.
    multi_label : bool, default=False
        Whether a text may have any number of labels.
    sample_weight : array-like of shape (n_samples,), default=None
        How much each text counts.

    Returns
    -------
    list of Example of length n_samples
        Every row has all labels to choose from that are annotated.

    Raises
    ------
    ValueError, TypeError
        If a text, a label or a weight is at fault; the message names it.
    """
    texts = as_texts(X)
    label_set = None if labels is None else LabelSet.from_labels(labels, sort=not multi_label)
    targets = (multi_label_targets if multi_label else single_label_targets)(y, label_set)
    if len(texts) != len(targets.matrix):
        raise ValueError(f"There are {len(texts)} texts, but {len(targets.matrix)} rows of y.")
    weights = checked_weights(sample_weight, targets)
    names = targets.label_set.texts
    return [
        _example_of(text, row, names, weight, f"y[{i}]")
        for i, (text, row, weight) in enumerate(zip(texts, targets.matrix, weights, strict=True))
    ]


# Between JSON and examples.


def _from_json(row: Any) -> Example:
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is an object with text and labels, found {in_short(row)}.")
    missing = [name for name in ("text", "all_labels", "true_labels") if name not in row]
    if missing:
        fields = ", ".join(map(str, row)) or "none"
        raise ValueError(f"{missing[0]} is missing; the row has the fields {fields}.")
    return Example(
        row["text"],
        row["all_labels"],
        row["true_labels"],
        prompt=row.get("prompt"),
        examples=_in_context_examples(row.get("examples")),
        weight=1.0 if row.get("weight") is None else row["weight"],
        extra={name: value for name, value in row.items() if name not in FIELDS},
    )


def _in_context_examples(rows: Any) -> list[PromptExample]:
    if rows is None:
        return []
    if not isinstance(rows, list):
        raise ValueError(f"examples is {in_short(rows)}; it must be a list of objects.")
    examples = []
    for i, row in enumerate(rows):
        # The `gliclass` package reads both names, in this order.
        labels = row.get("labels", row.get("true_labels")) if isinstance(row, Mapping) else None
        if labels is None or "text" not in row:
            raise ValueError(f"examples[{i}] is {in_short(row)}; it must have text and labels.")
        # Of soft labels the prompt shows the names.
        names = list(labels) if isinstance(labels, Mapping) else labels
        try:
            examples.append(PromptExample(row["text"], names))
        except ValueError as error:
            raise ValueError(f"examples[{i}].{error}") from error
    return examples


def _to_json(example: Example) -> dict[str, Any]:
    true = example.true_labels
    row: dict[str, Any] = {
        "text": example.text,
        "all_labels": list(example.all_labels),
        "true_labels": dict(true) if isinstance(true, Mapping) else list(true),
    }
    if example.prompt is not None:
        row["prompt"] = example.prompt
    if example.examples:
        row["examples"] = [
            {"text": other.text, "labels": list(other.labels)} for other in example.examples
        ]
    if example.weight != 1.0:
        row["weight"] = example.weight
    return {**row, **example.extra}


# Files.


def _kind_of(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    kind = Path(name).suffix
    if kind not in (".json", ".jsonl"):
        raise ValueError(f"{path}: unknown extension; use one of {', '.join(EXTENSIONS)}.")
    return kind


def _rows(path: Path, kind: str, encoding: str) -> Iterator[tuple[str, Any]]:
    """Give every row with its place in the file."""
    with _opened_to_read(path, encoding) as file, _errors_named(str(path)):
        if kind == ".jsonl":
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield f"line {number}", _parsed(line, f"line {number}: ")
            return
        content = _parsed(file.read())
        if not isinstance(content, list):
            raise ValueError(
                f"a .json file holds a list of rows, found {in_short(content)}. One object a line "
                "is the .jsonl format."
            )
        yield from ((f"row {number}", row) for number, row in enumerate(content, 1))


def _parsed(text: str, place: str = "") -> Any:
    try:
        return json.loads(text, object_pairs_hook=without_repeats)
    except RecursionError as error:
        raise ValueError(f"{place}lists or objects are nested too deeply") from error
    except ValueError as error:
        hint = "" if place else " (one object a line is the .jsonl format)"
        raise ValueError(f"{place}not valid JSON: {error}{hint}") from error


@contextmanager
def _errors_named(place: str) -> Iterator[None]:
    """Say in an error where in which file it was found."""
    try:
        yield
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{place}: cannot be read: {error}") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def _opened_to_read(path: Path, encoding: str) -> TextIO:
    # utf-8-sig: some editors put a byte order mark before the text.
    encoding = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding=encoding)
    return path.open(encoding=encoding)


@contextmanager
def opened_to_write(path: Path, *, is_compressed: bool) -> Iterator[TextIO]:
    """Open a file for text in UTF-8, whose line ends stay as they are written."""
    if not is_compressed:
        # Windows would write another end of line.
        with path.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        return
    # Without the name and the time of writing, the same text gives the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as zipped,
        TextIOWrapper(zipped, encoding="utf-8", newline="\n") as file,
    ):
        yield file


# Between targets and labels.


def _target_matrix(examples: Sequence[Example], labels: list[str]) -> NDArray[np.float32]:
    column = {name: j for j, name in enumerate(labels)}
    matrix = np.full((len(examples), len(labels)), np.nan, dtype=np.float32)
    for i, row in enumerate(examples):
        matrix[i, [column[name] for name in row.all_labels]] = row.targets
    return matrix


def _target_vector(examples: Sequence[Example]) -> NDArray[Any]:
    for i, row in enumerate(examples):
        if not is_single_label([row]):
            raise ValueError(
                f"examples[{i}] does not have exactly one true label: {in_short(row.true_labels)}. "
                "Use multi_label=True."
            )
    return np.asarray([row.all_labels[row.targets.index(1.0)] for row in examples])


def _check_one_label_set(examples: Sequence[Example]) -> None:
    first = examples[0].all_labels
    for i, row in enumerate(examples):
        if set(row.all_labels) != set(first):
            raise ValueError(
                f"examples[{i}] has another label set than examples[0]: "
                f"{_difference(first, row.all_labels)}. The classifiers need one for all rows; "
                "with multi_label=True y is NaN where a row does not offer a label."
            )


def _example_of(
    text: str, row: NDArray[np.float32], names: Sequence[str], weight: np.float32, where: str
) -> Example:
    known = np.flatnonzero(~np.isnan(row)).tolist()
    if not known:
        raise ValueError(
            f"{where} is NaN for every label, and a row of the format needs labels to choose from. "
            "Drop it."
        )
    scores = {names[j]: _shortest(row[j]) for j in known if row[j] != 0}
    is_certain = all(score == 1 for score in scores.values())
    true_labels = list(scores) if is_certain else scores
    return Example(text, [names[j] for j in known], true_labels, weight=_shortest(weight))


def _shortest(value: np.float32) -> float:
    """Give the number that was written, 0.7, where a float32 is 0.699999988."""
    return float(str(value))


def _difference(expected: Iterable[str], labels: Iterable[str]) -> str:
    missing, more = (sorted(set(a) - set(b)) for a, b in ((expected, labels), (labels, expected)))
    return "; ".join(
        f"{word} {listed(names, 4)}"
        for word, names in (("it lacks", missing), ("it adds", more))
        if names
    )
