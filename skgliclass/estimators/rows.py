"""Rows with label sets of their own: scored, judged and learnt from as other texts are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..exceptions import warn
from ..prompts.checks import in_short, listed
from ..prompts.examples import PromptExample, can_show_examples, check_labels_known
from .calibration import negative_log_likelihood, score_of
from .containers import Frame, check_one_column, open_container
from .labels import LabelSet, sorted_order
from .problem import Examples, ExampleWindows, SharedExamples
from .scoring import ScoringPlan
from .targets import Targets, is_number

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.votes import KeptTexts, Store, VoteCount
    from ..training.data import TrainingSet


@runtime_checkable
class Row(Protocol):
    """A text with labels of its own; :class:`skgliclass.datasets.Example` is one."""

    @property
    def text(self) -> str:
        """What is classified."""

    @property
    def all_labels(self) -> Sequence[str]:
        """The labels to choose from."""

    @property
    def targets(self) -> Sequence[float]:
        """How far each of them holds."""

    @property
    def prompt(self) -> str | None:
        """The task description; None for the estimator's."""

    @property
    def examples(self) -> Sequence[PromptExample]:
        """What the prompt shows, before what the estimator's shows."""

    @property
    def weight(self) -> float:
        """How much the row counts in training."""


@runtime_checkable
class RowWindows(Protocol):
    """Rows of which one window at a time is in memory."""

    @property
    def sizes(self) -> Sequence[int]:
        """How many rows each window has."""

    @property
    def identity(self) -> str:
        """What tells these rows from others, for a checkpoint to know them by."""

    @property
    def n_with_one_label(self) -> int:
        """How many rows offer one label alone."""

    @property
    def shared_labels(self) -> Sequence[str] | None:
        """The labels of every row, where all have the same ones and the same prompt."""

    @property
    def text_lengths(self) -> Sequence[int]:
        """How many characters the text of each row has."""

    @property
    def label_counts(self) -> Mapping[str, float]:
        """How many rows each label holds for, of those that all rows share."""

    def windows(self, first: int = 0) -> Iterator[Sequence[Row]]:
        """Give the windows from one of them on, always the same."""


@dataclass(frozen=True, eq=False)
class LabelledText:
    """A :class:`Row` that is to be classified among classes that were passed with it.

    Attributes
    ----------
    text : str
        What is classified.
    label_set : LabelSet
        The classes, in the order in which they were passed.
    all_labels : sequence of str
        Their names.
    has_texts : bool
        Whether label texts were passed, too; otherwise a class of the estimator has its own.
    order : tuple of int
        That in which the model reads them.
    """

    text: str
    label_set: LabelSet
    all_labels: Sequence[str]
    has_texts: bool
    order: tuple[int, ...]
    targets: Sequence[float] = ()
    prompt: str | None = None
    examples: Sequence[PromptExample] = ()
    weight: float = 1.0


def rows_in(X: Any) -> Sequence[Row] | None:
    """Give rows that are passed in place of texts; None where these are others."""
    if not isinstance(X, list | tuple) or not X:
        return None
    # To ask whether it is a row by its form takes long, and it is a text as good as always.
    if isinstance(X[0], str) or not isinstance(X[0], Row):
        return None
    for i, row in enumerate(X):
        if not isinstance(row, Row):
            raise TypeError(
                f"X[{i}] is {in_short(row)}, but X[0] is an Example; give Examples alone, or texts."
            )
    return X


def label_each(texts: Sequence[str], labels: Any, *, multi_label: bool) -> list[LabelledText]:
    """Give each text the labels to choose from.

    Parameters
    ----------
    texts : sequence of str of length n_texts
        The texts.
    labels : sequence of length n_texts of label sets
        Each in any form of the `labels` parameter of a classifier.
    multi_label : bool
        Whether the model reads them in the order given, or sorted, as with that parameter.

    Returns
    -------
    list of LabelledText

    Raises
    ------
    ValueError, TypeError
        If there are not as many label sets as texts, or one is none; the message names it.
    """
    hint = "For one label set for all texts write set_params(labels=...)."
    if isinstance(labels, str | Mapping | set | frozenset) or not isinstance(labels, Iterable):
        raise TypeError(
            f"labels is {in_short(labels)}; it must be a list with a label set for each text. "
            + hint
        )
    rows = open_container(labels, "labels")
    if isinstance(rows, Frame):
        check_one_column(rows, "labels", "label sets")
        rows = rows.cells[:, 0]
    label_sets = list(rows)
    if len(label_sets) != len(texts):
        raise ValueError(
            f"labels has {len(label_sets)} label sets, but X has {len(texts)} texts; give one for "
            f"each. {hint}"
        )
    if label_sets and all(isinstance(of_text, str) for of_text in label_sets):
        raise TypeError(
            f"labels[0] is the string {label_sets[0]!r}; it must hold the labels to choose from "
            f"for X[0], as a list. {hint}"
        )
    known: dict[Hashable, LabelledText] = {}
    return [
        replace(_labelled(i, of_text, known, multi_label), text=text)
        for i, (text, of_text) in enumerate(zip(texts, label_sets, strict=True))
    ]


def _labelled(
    i: int, labels: Any, known: dict[Hashable, LabelledText], multi_label: bool
) -> LabelledText:
    """Read the labels of a text, once for all that have the same."""
    key = _key_of(labels)
    if key is not None and key in known:
        return known[key]
    try:
        label_set = LabelSet.from_labels(labels, sort=False)
        order = np.arange(len(label_set)) if multi_label else sorted_order(label_set.classes)
    except (TypeError, ValueError) as error:
        raise type(error)(f"In labels[{i}], those of X[{i}]: {error}") from error
    names = tuple(map(str, label_set.classes.tolist()))
    labelled = LabelledText(
        "", label_set, names, isinstance(labels, Mapping), tuple(order.tolist())
    )
    if key is not None:
        known[key] = labelled
    return labelled


def _key_of(labels: Any) -> Hashable:
    if not isinstance(labels, list | tuple):
        return None
    # With their types: True equals 1, but reads otherwise.
    key = tuple((type(value), value) for value in labels)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def columns_of(row: Row, plan: ScoringPlan) -> list[int] | None:
    """Give the columns of a row's labels; None where these are not the classes as they are read."""
    own_texts = _own_texts(row)
    # Asked for again and again, mostly of rows with the same labels.
    key = "columns", tuple(row.all_labels), own_texts
    if key not in plan.known_of_rows:
        columns = plan.columns_of(row.all_labels)
        if columns is not None and own_texts is not None:
            read = [plan.label_set.texts[j] for j in columns]
            columns = columns if list(own_texts) == read else None
        plan.known_of_rows[key] = columns
    found: list[int] | None = plan.known_of_rows[key]
    return found


def count_one_choice(rows: Sequence[Row] | RowWindows) -> tuple[int, int]:
    """Count the rows that offer one label alone, and all of them."""
    if isinstance(rows, RowWindows):
        return rows.n_with_one_label, sum(rows.sizes)
    return sum(len(row.all_labels) == 1 for row in rows), len(rows)


def warn_of_one_choice(n_rows: int, n_all: int) -> None:
    """Warn of texts that get one class, and have no second one to choose from."""
    if n_rows:
        warn(
            f"{n_rows} of {n_all} rows offer one label alone, which always gets a probability "
            "of 1: nothing is learnt from them, and all of them are right. Give every row all the "
            "labels to choose from, the wrong ones, too; or ask whether each label holds with "
            "GLiClassMultiLabelClassifier (--multi-label)."
        )


def label_set_of(row: Row) -> LabelSet:
    """Give the labels of a row, in its order."""
    if isinstance(row, LabelledText):
        return row.label_set
    # They were checked when the row was made.
    return LabelSet(np.asarray(row.all_labels, dtype=object), tuple(row.all_labels))


def label_set_of_all(rows: Sequence[Row]) -> LabelSet:
    """Give the labels that any row has, in the order in which they first come."""
    sets = [label_set_of(row) for row in rows]
    return sets[0].extended([value for of_row in sets for value in of_row.classes.tolist()])


def own_classes(rows: Sequence[Row], label_set: LabelSet) -> NDArray[np.bool_]:
    """Tell for each row which classes of a label set it has to choose from."""
    column = {value: j for j, value in enumerate(label_set.classes.tolist())}
    is_own = np.zeros((len(rows), len(label_set)), dtype=np.bool_)
    for i, row in enumerate(rows):
        is_own[i, [column[value] for value in label_set_of(row).classes.tolist()]] = True
    return is_own


def numbers_by_class(y: Any, rows: Sequence[Row]) -> Any:
    """Name the classes of numbers that are in the order of each row's own labels.

    What is no such thing, as its rows have not as many numbers as labels or name their classes,
    comes back as it is.
    """
    classes = [label_set_of(row).classes.tolist() for row in rows]
    opened = open_container(y, "y")
    if isinstance(opened, Frame) or len(opened) != len(rows):
        return y
    are_arrays = isinstance(opened, np.ndarray) and opened.ndim == 2
    cells = [row.tolist() if isinstance(row, np.ndarray) else row for row in opened]
    are_arrays = are_arrays or all(isinstance(row, np.ndarray) for row in opened)
    has_numbers = any(is_number(value) for of_row in classes for value in of_row)
    # Lists of numbers may be label sets; arrays are what predict gives.
    if has_numbers and not are_arrays:
        return y
    for row, of_row in zip(cells, classes, strict=True):
        is_row = isinstance(row, list | tuple) and len(row) == len(of_row)
        if not is_row or not all(value is None or is_number(value) for value in row):
            return y
    return [dict(zip(of_row, row, strict=True)) for row, of_row in zip(cells, classes, strict=True)]


def check_among_own(targets: Targets, is_own: NDArray[np.bool_]) -> None:
    """Refuse what holds of a text though it is none of its labels.

    Raises
    ------
    ValueError
        It names the first such text.
    """
    foreign = (targets.matrix > 0) & ~is_own
    if not foreign.any():
        return
    i, j = (int(k[0]) for k in np.nonzero(foreign))
    classes = targets.label_set.classes
    raise ValueError(
        f"y[{i}] has the class {classes[j : j + 1].tolist()[0]!r}, which is none of the labels of "
        f"X[{i}]: {listed(classes[is_own[i]].tolist())}."
    )


def _own_texts(row: Row) -> tuple[str, ...] | None:
    """Give the label texts that were passed with a row."""
    return row.label_set.texts if isinstance(row, LabelledText) and row.has_texts else None


def _order(row: Row) -> Sequence[int]:
    """Give the order in which the model reads the labels of a row."""
    if isinstance(row, LabelledText):
        return row.order
    names = row.all_labels
    # Sorted, so that a score does not depend on the order in which a row lists its labels.
    return sorted(range(len(names)), key=names.__getitem__)


def _plain_texts_in_order(row: Row, plan: ScoringPlan) -> tuple[str, ...]:
    """Give the label texts of a row, in the order in which the model reads them."""
    own_texts = _own_texts(row)
    # Numbers are in another order than their names.
    order = row.order if isinstance(row, LabelledText) else None
    key = "texts", tuple(row.all_labels), own_texts, order
    if key not in plan.known_of_rows:
        texts = own_texts or [plan.plain_text_of(name) for name in row.all_labels]
        plan.known_of_rows[key] = tuple(texts[j] for j in _order(row))
    found: tuple[str, ...] = plan.known_of_rows[key]
    return found


def _texts_in_order(row: Row, plan: ScoringPlan) -> tuple[str, ...]:
    """Give what the model reads for the labels of a row, in its order."""
    plain = _plain_texts_in_order(row, plan)
    key = "as read", plain
    if key not in plan.known_of_rows:
        plan.known_of_rows[key] = tuple(map(plan.worded, plain))
    found: tuple[str, ...] = plan.known_of_rows[key]
    return found


class RowError(ValueError):
    """A row is at fault; the message says which, counted from one."""


# Not RowExamples for all rows: with the same classes a fit tunes thresholds and a temperature, and
# reads the same matrix, in the same order of labels, as from X and y.
def examples_of_rows(rows: Sequence[Row], plan: ScoringPlan) -> Examples:
    """Give rows to a fit: as texts with the same classes, where that is what they are."""
    columns = [columns_of(row, plan) for row in rows]
    if any(c is None or _changes_prompt(row, plan) for row, c in zip(rows, columns, strict=True)):
        return RowExamples(rows)
    matrix = _matrix_of_classes(rows, columns, len(plan.label_set))
    weights = np.asarray([row.weight for row in rows], dtype=np.float32)
    return SharedExamples([row.text for row in rows], matrix, weights)


@dataclass(frozen=True, eq=False)
class StreamedExamples(ExampleWindows):
    """Rows for a fit, each window as :func:`examples_of_rows` gives it.

    Attributes
    ----------
    rows : RowWindows
    plan : ScoringPlan
        How the fitted estimator will score texts.
    """

    rows: RowWindows
    plan: ScoringPlan

    @property
    def sizes(self) -> Sequence[int]:
        """How many texts each window has."""
        return self.rows.sizes

    @property
    def identity(self) -> str:
        """What tells these texts and labels from others."""
        return self.rows.identity

    @property
    def shares_classes(self) -> bool:
        """Whether all texts have the same classes, in the same prompt."""
        labels = self.rows.shared_labels
        return labels is not None and self.plan.columns_of(labels) is not None

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """How many characters each text has."""
        return np.asarray(self.rows.text_lengths, dtype=np.int64)

    @property
    def class_counts(self) -> NDArray[np.float64]:
        """How many texts each class holds for, of those that hold for any."""
        return np.asarray(list(self.rows.label_counts.values()), dtype=np.float64)

    def windows(self, first: int = 0) -> Iterator[Examples]:
        """Give the windows from one of them on."""
        # No name for a window, which would keep it in memory while the next one is read.
        return map(self._examples, self.rows.windows(first))

    def _examples(self, rows: Sequence[Row]) -> Examples:
        # With label sets of their own there is no end of them.
        self.plan.known_of_rows.clear()
        return examples_of_rows(rows, self.plan)


def _changes_prompt(row: Row, plan: ScoringPlan) -> bool:
    return bool(row.examples) or row.prompt not in (None, plan.options.task_description)


@dataclass(frozen=True, eq=False)
class RowExamples(Examples):
    """Texts that each have a label set, and maybe a prompt, of their own.

    A row whose labels are the classes of the estimator is scored as any of its texts. With other
    labels it is scored as with `labels` set to these, sorted where they come from a file, but
    without the labelled texts and the hierarchy of the estimator, which name its classes.

    Attributes
    ----------
    rows : sequence of Row
    """

    rows: Sequence[Row]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """How many characters each text has."""
        return np.asarray([len(row.text) for row in self.rows], dtype=np.int64)

    @property
    def class_counts(self) -> NDArray[np.float64]:
        """Nothing: the rows share no classes."""
        return np.zeros(0)

    def prompt_examples(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        store: Store | None,
        *,
        exclude_self: bool = False,
    ) -> list[list[PromptExample]] | None:
        examples = self._examples_of_rows(engine, plan)
        of_classes = [i for i, row in enumerate(self.rows) if columns_of(row, plan)]
        texts = [self.rows[i].text for i in of_classes]
        shared = None
        if texts:
            shared = plan.examples_for(engine, texts, store, exclude_self=exclude_self)
        for k, i in enumerate(of_classes):
            examples[i].extend(plan.examples if shared is None else shared[k])
        return examples if any(examples) else None

    def logits(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
        *,
        on_progress: Callable[[float], object] | None = None,
    ) -> list[NDArray[np.float32]]:
        scores = [np.empty(0, dtype=np.float32)] * len(self)
        with engine.warning_once() as engine_of_all:
            for rows in self._groups(plan):
                of_group = RowExamples([self.rows[i] for i in rows])
                logits = of_group._logits_of_group(
                    engine_of_all,
                    plan.described(self.rows[rows[0]].prompt),
                    None if examples is None else [examples[i] for i in rows],
                    on_progress,
                )
                for i, values in zip(rows, logits, strict=True):
                    scores[i] = values
        return scores

    def judge(self, logits: Any, multi_label: bool) -> tuple[float, float]:  # noqa: D102
        targets = [np.asarray(row.targets, dtype=np.float32) for row in self.rows]
        if multi_label:
            # Micro-F1 and the mean take every pair alike, whatever its label: one column holds all.
            pairs = np.concatenate(logits)[:, None], np.concatenate(targets)[:, None]
            return score_of(*pairs, True), negative_log_likelihood(*pairs, True)
        # Row by row, since those of different lengths make no matrix.
        parts = [(a[None], b[None]) for a, b in zip(logits, targets, strict=True)]
        return (
            float(np.mean([score_of(a, b, False) for a, b in parts])),
            float(np.mean([negative_log_likelihood(a, b, False) for a, b in parts])),
        )

    def training_set(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
        label_weights: NDArray[np.float32] | None,
    ) -> TrainingSet:
        from ..training.data import LabelledRows, make_training_set

        names = sorted({name for row in self.rows for name in row.all_labels})
        index = {name: k for k, name in enumerate(names)}
        # In the order in which such rows are scored.
        pairs = [sorted(zip(row.all_labels, row.targets, strict=True)) for row in self.rows]
        default = plan.options.task_description
        sets = dict.fromkeys(tuple(row.all_labels) for row in self.rows)
        engine.warn_of_alike_labels([[plan.text_of(name) for name in names] for names in sets])
        return make_training_set(
            engine,
            [row.text for row in self.rows],
            [plan.text_of(name) for name in names],
            LabelledRows.ragged(
                [[index[name] for name, _ in row] for row in pairs],
                [[target for _, target in row] for row in pairs],
            ),
            weights=np.asarray([row.weight for row in self.rows], dtype=np.float32),
            task_description=[default if row.prompt is None else row.prompt for row in self.rows],
            examples=examples,
            example_format=plan.options.example_format,
            change=plan.change,
        )

    def worth_showing(self, plan: ScoringPlan) -> list[PromptExample]:  # noqa: D102
        return [
            PromptExample(row.text, [plan.plain_text_of(name) for name in _likely_labels(row)])
            for row in self.rows
            if row.weight > 0 and row.text.strip() and columns_of(row, plan)
        ]

    def worth_keeping(self, plan: ScoringPlan) -> KeptTexts:  # noqa: D102
        from ..engine.votes import KeptTexts

        rows = [row for row in self.rows if columns_of(row, plan)]
        columns = [columns_of(row, plan) for row in rows]
        return KeptTexts.of(
            [row.text for row in rows],
            plan.label_set.texts,
            _matrix_of_classes(rows, columns, len(plan.label_set)),
            np.asarray([row.weight for row in rows], dtype=np.float32),
        )

    def _counted(self, plan: ScoringPlan) -> VoteCount | None:
        """Begin to count the votes on rows with labels of their own, where there are any."""
        if plan.votes is None:
            return None
        sets: dict[tuple[str, ...], int] = {}
        plain = [_plain_texts_in_order(row, plan) for row in self.rows]
        set_of_row = np.asarray([sets.setdefault(texts, len(sets)) for texts in plain])
        return plan.votes.count([row.text for row in self.rows], list(sets), set_of_row)

    def _examples_of_rows(self, engine: Engine, plan: ScoringPlan) -> list[list[PromptExample]]:
        """Give what rows bring along, in the words that the model reads for their labels."""
        n_rows = sum(bool(row.examples) for row in self.rows)
        if n_rows and not can_show_examples(engine.composer):
            if engine.warns:
                warn(
                    f"{n_rows} of {len(self)} rows have in-context examples, which are not used: "
                    "the model has no place for them"
                )
            # They were made for another model; the rest of the rows is good for this one, too.
            return [[] for _ in self.rows]
        for number, row in enumerate(self.rows, 1):
            try:
                check_labels_known(row.examples, row.all_labels, "examples")
            except ValueError as error:
                raise RowError(f"in row {number}, {error}") from error
        return [
            [PromptExample(e.text, [plan.text_of(name) for name in e.labels]) for e in row.examples]
            for row in self.rows
        ]

    def _groups(self, plan: ScoringPlan) -> list[list[int]]:
        """Put rows together that one call of the engine scores."""
        groups: dict[Hashable, list[int]] = {}
        for i, row in enumerate(self.rows):
            has_classes = columns_of(row, plan) is not None
            # A shortlist chooses from one label set for all texts of a call.
            alone = plan.options.shortlist is not None and not has_classes
            labels = _texts_in_order(row, plan) if alone else None
            groups.setdefault((has_classes, row.prompt, labels), []).append(i)
        return list(groups.values())

    def _logits_of_group(
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
        on_progress: Callable[[float], object] | None,
    ) -> list[NDArray[np.float32]]:
        texts = [row.text for row in self.rows]
        columns = [columns_of(row, plan) for row in self.rows]
        if columns[0] is not None:
            count = plan.counted(texts)
            arguments = plan.arguments(examples, count)
            logits = engine.logits(texts, **arguments, on_progress=on_progress)
            logits = plan.class_logits(logits, count)
            return [values[order] for values, order in zip(logits, columns, strict=True)]
        label_texts = [_texts_in_order(row, plan) for row in self.rows]
        has_one_label_set = plan.options.shortlist is not None
        count = self._counted(plan)
        logits = engine.logits(
            texts,
            label_texts[0] if has_one_label_set else label_texts,
            plan.options,
            examples=examples,
            embedder=plan.embedder,
            change=plan.change,
            on_vectors=None if count is None else count.take,
            on_progress=on_progress,
        )
        if count is not None:
            logits = count.added(logits)
        return [
            # Also drops the columns by which the engine fills up a smaller label set.
            values[np.argsort(_order(row))]
            for row, values in zip(self.rows, logits, strict=True)
        ]


def _matrix_of_classes(
    rows: Sequence[Row], columns: Sequence[list[int] | None], n_classes: int
) -> NDArray[np.float32]:
    """Give the targets of rows whose labels are the classes."""
    matrix = np.zeros((len(rows), n_classes), dtype=np.float32)
    for i, row in enumerate(rows):
        matrix[i, columns[i]] = row.targets
    return matrix


def _likely_labels(row: Row) -> list[str]:
    pairs = zip(row.all_labels, row.targets, strict=True)
    return [name for name, target in pairs if target > 0.5]
