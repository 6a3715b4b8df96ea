"""What a fit is to learn: the texts with their targets and weights, and those to judge by."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..exceptions import NonFiniteScoresError
from ..prompts.checks import in_short, listed
from ..prompts.examples import PromptExample
from .calibration import negative_log_likelihood, score_of
from .containers import is_missing, values_in
from .labels import LabelSet, plain_class
from .scoring import ScoringPlan
from .targets import (
    NameOfSome,
    Targets,
    first_of_types,
    is_number,
    missing_rows,
    row_name,
    rows_left,
)

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.votes import KeptTexts, Store
    from ..training.data import TrainingSet

LEARNS_FROM_TEXTS = ("auto", "labels")
"""What `trainable` has to be for texts without labels to teach anything."""


class Texts(Sized, Iterable[str], Protocol):
    """Texts that are gone through once or more, of which not all have to be in memory."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learnt.

    Attributes
    ----------
    label_set : LabelSet
        The classes and their label texts; empty where every row has labels of its own.
    training : ExampleWindows
        What to learn from.
    validation : Examples or None
        What to judge by.
    label_weights : ndarray of shape (n_classes,) or None
        How much each class's text-label pairs weigh.
    n_set_aside : int
        How many of the texts to learn from became validation data.
    others : sequence of str
        Texts of none of the classes, which nothing is learnt from.
    unlabelled : Texts
        Texts whose classes nobody knows.
    passed : mapping of str to sequence of str
        All texts, by the names under which the user passed them.
    """

    label_set: LabelSet
    training: ExampleWindows
    validation: Examples | None
    label_weights: NDArray[np.float32] | None = None
    n_set_aside: int = 0
    others: Sequence[str] = ()
    unlabelled: Texts = ()
    passed: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Given:
    """What a user gives to learn from.

    Attributes
    ----------
    texts : list of str
        Those that `y` has labels of.
    y, sample_weight : Any
        As they were passed.
    unlabelled : list of str
        The texts without labels.
    places : ndarray of shape (n_texts,), optional
        Which rows of what was passed have labels; by default all.
    passed : dict of str to list of str
        All texts, by the names under which they were passed.
    """

    texts: list[str]
    y: Any
    sample_weight: Any
    unlabelled: list[str] = field(default_factory=list)
    places: NDArray[np.intp] | None = None
    passed: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, texts: list[str], y: Any, sample_weight: Any) -> Given:
        """Give what was passed, whose texts are called `X`."""
        return cls(texts, y, sample_weight, passed={"X": texts})

    def named(self, column: str) -> str:
        """Give what to call the rows of a column that was passed which have labels."""
        return column if self.places is None else NameOfSome(column, self.places.tolist())

    @property
    def has_label(self) -> NDArray[np.bool_]:
        """Which rows of what was passed as `X` have labels."""
        is_labelled = np.zeros(len(self.passed["X"]), dtype=np.bool_)
        is_labelled[slice(None) if self.places is None else self.places] = True
        return is_labelled

    @property
    def has_no_labels(self) -> bool:
        """Whether there are texts, and none of them has a label."""
        return bool(self.unlabelled) and not self.texts

    def without_missing(self, known: Collection[Any], *, multi_label: bool) -> Given:
        """Put the texts whose row of `y` says nothing among those without labels."""
        n = len(self.texts)
        if self.y is None:
            has_none = np.ones(n, dtype=np.bool_)
        else:
            has_none = missing_rows(self.y, known, multi_label=multi_label)
        if not has_none.any():
            return self
        check_as_many(n, len(has_none), "X", "y")
        places = np.flatnonzero(~has_none)
        weights = read_weights(self.sample_weight, n, may_lack=has_none)
        return Given(
            [self.texts[i] for i in places],
            rows_left(self.y, ~has_none, known) if len(places) else None,
            None if weights is None else weights[places],
            [self.texts[i] for i in np.flatnonzero(has_none)],
            places,
            self.passed,
        )

    def beside(self, unlabelled: list[str]) -> Given:
        """Give the same with further texts without labels."""
        passed = {**self.passed, "unlabelled": unlabelled}
        return replace(self, unlabelled=[*self.unlabelled, *unlabelled], passed=passed)


@contextmanager
def naming_rows(passed: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Name the row of what the user passed that a model gives no numbers for.

    Whoever has the texts scored has sorted, split and thinned them out.
    """
    try:
        yield
    except NonFiniteScoresError as error:
        text = error.text
        places = (row_name(name, x.index(text)) for name, x in passed.items() if text in x)
        place = next(places, None)
        if place is None:
            raise
        raise NonFiniteScoresError(error.model, text, place) from None


def check_learns_from_texts(trainable: str, label_set: LabelSet | None, n_texts: int) -> None:
    """Refuse texts without labels where nothing is learnt from them.

    Raises
    ------
    ValueError
        It says what to set.
    """
    if label_set is None:
        raise ValueError(
            f"{n_texts} texts have no labels, and without labels=... nothing says what to choose "
            "from. Set labels to the classes, or leave these texts out."
        )
    if trainable not in LEARNS_FROM_TEXTS:
        raise ValueError(
            f"{n_texts} texts have no labels (y is None, NaN or -1, or they are unlabelled), from "
            f'which trainable={trainable!r} learns nothing. Set trainable="labels" or "auto", or '
            "leave these texts out."
        )


class ExampleWindows(ABC):
    """Labelled texts, of which one window at a time has to be in memory."""

    @property
    @abstractmethod
    def sizes(self) -> Sequence[int]:
        """How many texts each window has."""

    @abstractmethod
    def windows(self, first: int = 0) -> Iterator[Examples]:
        """Give the windows from one of them on, always the same."""

    @property
    @abstractmethod
    def shares_classes(self) -> bool:
        """Whether all texts have the same classes, in the same prompt."""

    @property
    @abstractmethod
    def text_lengths(self) -> NDArray[np.int64]:
        """How many characters each text has, of shape (n_texts,)."""

    @property
    @abstractmethod
    def class_counts(self) -> NDArray[np.float64]:
        """How many texts each class holds for, in any order; of those that all texts share."""

    @property
    def texts_a_class(self) -> float:
        """How many texts a class holds for, on average over those that hold for any."""
        counts = self.class_counts
        return float(counts.sum() / max(1, (counts > 0).sum()))

    @property
    def identity(self) -> str:
        """What tells these texts and labels from others, where there are several windows."""
        return ""

    def __len__(self) -> int:
        """Count the texts."""
        return sum(self.sizes)


class Examples(ExampleWindows):
    """Labelled texts: all with the same classes, or each with labels of its own."""

    matrix: NDArray[np.float32] | None = None
    """The targets of shape (n_texts, n_classes), where all texts have the same classes."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the texts."""

    @property
    def shares_classes(self) -> bool:
        """Whether all texts have the same classes, in the same prompt."""
        return self.matrix is not None

    @property
    def sizes(self) -> Sequence[int]:
        """How many texts each window has: all of them in one."""
        return (len(self),)

    def windows(self, first: int = 0) -> Iterator[Examples]:
        """Give the one window."""
        return iter([self][first:])

    @abstractmethod
    def prompt_examples(
        self,
        engine: Engine,
        plan: ScoringPlan,
        store: Store | None,
        *,
        exclude_self: bool = False,
    ) -> Sequence[Sequence[PromptExample]] | None:
        """Choose what each text's prompt shows, as :meth:`ScoringPlan.examples_for` does."""

    @abstractmethod
    def logits(
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
    ) -> Sequence[NDArray[np.float32]] | NDArray[np.float32]:
        """Score each text against its labels."""

    @abstractmethod
    def judge(self, logits: Any, multi_label: bool) -> tuple[float, float]:
        """Give the score, accuracy or micro-F1 at one half, and the mean cross-entropy."""

    @abstractmethod
    def training_set(
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
        label_weights: NDArray[np.float32] | None,
    ) -> TrainingSet:
        """Tokenise what is to be learnt."""

    @abstractmethod
    def worth_showing(self, plan: ScoringPlan) -> list[PromptExample]:
        """Give the texts that prompts may show, with the labels that are likelier than not.

        A text without a weight or without a word is not shown.
        """

    @abstractmethod
    def worth_keeping(self, plan: ScoringPlan) -> KeptTexts:
        """Give the texts that may vote on others, with all that is known of their labels."""


@dataclass(frozen=True, eq=False)
class SharedExamples(Examples):
    """Texts that all have the same classes.

    Attributes
    ----------
    texts : sequence of str of length n_texts
    matrix : ndarray of shape (n_texts, n_classes), float32
        How far each class holds; NaN where nobody knows.
    weights : ndarray of shape (n_texts,) or None
        How much each text counts.
    """

    texts: Sequence[str]
    matrix: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def text_lengths(self) -> NDArray[np.int64]:
        """How many characters each text has."""
        return np.fromiter(map(len, self.texts), np.int64, len(self))

    @property
    def class_counts(self) -> NDArray[np.float64]:
        """How many texts each class holds for, but for those that do not count."""
        counted = self.matrix if self.weights is None else self.matrix[self.weights > 0]
        return np.asarray(np.nansum(counted, axis=0, dtype=np.float64))

    def take(self, rows: NDArray[np.intp]) -> SharedExamples:
        """Give some of the examples."""
        weights = None if self.weights is None else self.weights[rows]
        return SharedExamples([self.texts[i] for i in rows], self.matrix[rows], weights)

    def prompt_examples(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        store: Store | None,
        *,
        exclude_self: bool = False,
    ) -> list[list[PromptExample]] | None:
        return plan.examples_for(engine, self.texts, store, exclude_self=exclude_self)

    def logits(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
    ) -> NDArray[np.float32]:
        count = plan.counted(self.texts)
        logits = engine.logits(self.texts, **plan.arguments(examples, count))
        return plan.class_logits(logits, count)

    def judge(self, logits: Any, multi_label: bool) -> tuple[float, float]:  # noqa: D102
        return (
            score_of(logits, self.matrix, multi_label),
            negative_log_likelihood(logits, self.matrix, multi_label),
        )

    def training_set(  # noqa: D102
        self,
        engine: Engine,
        plan: ScoringPlan,
        examples: Sequence[Sequence[PromptExample]] | None,
        label_weights: NDArray[np.float32] | None,
    ) -> TrainingSet:
        from ..training.data import LabelledRows, make_training_set

        engine.warn_of_alike_labels([plan.class_texts])
        return make_training_set(
            engine,
            self.texts,
            plan.class_texts,
            LabelledRows.shared(self.matrix),
            weights=self.weights,
            label_weights=label_weights,
            task_description=plan.options.task_description,
            examples=examples,
            example_format=plan.options.example_format,
            change=plan.change,
        )

    def worth_showing(self, plan: ScoringPlan) -> list[PromptExample]:  # noqa: D102
        label_texts = plan.label_set.texts
        weights = np.ones(len(self)) if self.weights is None else self.weights
        return [
            PromptExample(text, [label_texts[k] for k in np.flatnonzero(row > 0.5).tolist()])
            for text, row, weight in zip(self.texts, self.matrix, weights, strict=True)
            if weight > 0 and text.strip() and _tells_a_label(row)
        ]

    def worth_keeping(self, plan: ScoringPlan) -> KeptTexts:  # noqa: D102
        from ..engine.votes import KeptTexts

        return KeptTexts.of(self.texts, plan.label_set.texts, self.matrix, self.weights)


def _tells_a_label(row: NDArray[np.float32]) -> bool:
    """Tell whether an example of this text would be true: without labels it says none holds."""
    return bool((row > 0.5).any() or not np.isnan(row).any())


def check_same_length(texts: Sequence[Any], targets: Targets, X: str, y: str) -> None:
    """Refuse texts and targets of different numbers, named as the user knows them."""
    check_as_many(len(texts), len(targets.matrix), X, y)


def check_as_many(n_texts: int, n_labels: int, X: str, y: str) -> None:
    """Refuse different numbers of texts and of rows with their labels."""
    if n_texts != n_labels:
        raise ValueError(
            f"{X} and {y} have inconsistent numbers of samples: {n_texts} texts, but {n_labels} "
            "labels."
        )


def leave_out(
    is_other: NDArray[np.bool_],
    texts: list[str],
    targets: Targets,
    sample_weight: Any,
    name: str,
) -> tuple[list[str], Targets, Any, list[str]]:
    """Take away the texts of none of the classes, and give them, too.

    Raises
    ------
    ValueError
        If no other text is left.
    """
    if not is_other.any():
        return texts, targets, sample_weight, []
    if is_other.all():
        raise ValueError(f"{name} is other=... for all texts; give texts of the classes, too.")
    if sample_weight is not None:
        sample_weight = checked_weights(sample_weight, targets)[~is_other]
    of_classes = [text for text, is_out in zip(texts, is_other, strict=True) if not is_out]
    others = [text for text, is_out in zip(texts, is_other, strict=True) if is_out]
    return of_classes, Targets(targets.label_set, targets.matrix[~is_other]), sample_weight, others


def example_weights(
    targets: Targets,
    sample_weight: Any,
    class_weight: Any,
    multi_label: bool,
    name: str = "sample_weight",
) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
    """Turn `sample_weight` and `class_weight` into weights of texts and of labels.

    The rows of `sample_weight` are called as `name` says.

    Returns
    -------
    weights : ndarray of shape (n_samples,) or None
        For one label a text both are here.
    label_weights : ndarray of shape (n_classes,) or None
        For any number of labels, what each class's pairs weigh.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, the shape does not fit, a class is unknown, or
        nothing has a positive weight.
    """
    weights = checked_weights(sample_weight, targets)
    known = ~np.isnan(targets.matrix)
    if not (weights[:, None] * known).any():
        raise ValueError(
            "sample_weight is zero for all samples that are annotated; there is nothing to learn "
            "from."
        )
    of_text = None if sample_weight is None else weights
    if class_weight is None:
        return of_text, None
    of_class = _weights_of_classes(targets, weights, class_weight)
    # Of one class a text the true one alone weighs.
    counted = known if multi_label else targets.matrix > 0
    if not ((weights > 0)[:, None] & (of_class > 0) & counted).any():
        raise ValueError(
            "class_weight is zero for all classes that occur"
            + ("" if sample_weight is None else " in samples with a positive sample_weight")
            + "; there is nothing to learn from."
        )
    if multi_label:
        return of_text, of_class
    products = weights.astype(np.float64) * of_class[targets.matrix.argmax(axis=1)]
    _check_are_weights(products, name, " times the class_weight of its class")
    return products.astype(np.float32), None


def checked_weights(sample_weight: Any, targets: Targets) -> NDArray[np.float32]:
    """Give the weight of each text, 1 where the user gave none; refuse what is no weight."""
    n = len(targets.matrix)
    weights = read_weights(sample_weight, n)
    if weights is None:
        return np.ones(n, dtype=np.float32)
    if not weights.any():
        raise ValueError("sample_weight is zero for all samples; there is nothing to learn from.")
    return weights


def read_weights(
    sample_weight: Any, n: int, may_lack: NDArray[np.bool_] | None = None
) -> NDArray[np.float32] | None:
    """Give the weights of so many texts where the user gave any; refuse what is no weight.

    Of those in `may_lack`, which do not count, the weight may be missing, and is 0 then.
    """
    if sample_weight is None:
        return None
    if isinstance(sample_weight, np.ndarray) and sample_weight.ndim == 0:
        sample_weight = sample_weight[()]
    if is_number(sample_weight):
        # One number for all texts is fine with scikit-learn, too.
        sample_weight = [sample_weight] * n
    weights = _numbers(sample_weight, may_lack)
    if weights.shape != (n,):
        raise ValueError(
            f"sample_weight has shape {weights.shape}, but there are {n} samples; expected ({n},)."
        )
    if may_lack is not None:
        weights = np.where(may_lack & np.isnan(weights), 0, weights)
    _check_are_weights(weights, "sample_weight")
    return weights.astype(np.float32)


_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
_WHAT_WEIGHTS_ARE = (
    f"a weight is 0 or a finite number from {_SMALLEST:.2g} to {_LARGEST:.2g}, as float32 holds "
    "them. Multiply all of them by the same number where they are of another size"
)


def _are_weights(numbers: Any) -> NDArray[np.bool_]:
    """Tell which of some numbers can be weights: NaN, which compares with nothing, cannot."""
    numbers = np.asarray(numbers)
    return np.asarray((numbers == 0) | ((numbers >= _SMALLEST) & (numbers <= _LARGEST)))


def _check_are_weights(weights: NDArray[np.float64], name: str, times: str = "") -> None:
    """Refuse what is no weight, with the name of its row, and what it was multiplied by."""
    bad = np.flatnonzero(~_are_weights(weights))
    if len(bad):
        i = int(bad[0])
        raise ValueError(f"{row_name(name, i)}{times} is {weights[i]}; {_WHAT_WEIGHTS_ARE}.")


def _numbers(sample_weight: Any, may_lack: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
    """Read weights from any container, none of which is missing but where it may be."""
    # Of an array with more dimensions, which is no column of weights, the shape is told.
    is_array = isinstance(sample_weight, np.ndarray) and not np.ma.isMaskedArray(sample_weight)
    if not (is_array and sample_weight.dtype.kind in "biuf"):
        values = values_in(sample_weight, "sample_weight", of="weights", each="1.0, 2.0")
        if may_lack is not None and len(values) == len(may_lack):
            is_absent = zip(values, may_lack.tolist(), strict=True)
            values = [np.nan if lacks and is_missing(v) else v for v, lacks in is_absent]
        for i in first_of_types(values):
            if not is_number(values[i]):
                raise ValueError(
                    f"sample_weight[{i}] is {in_short(values[i])}; it must be a number, and none "
                    "may be missing."
                )
        # Whole numbers have no end in Python, and become infinite.
        sample_weight = [np.inf if v > 1e308 else v for v in values]
    return np.asarray(sample_weight, dtype=np.float64)


def _weights_of_classes(
    targets: Targets, weights: NDArray[np.float32], class_weight: Any
) -> NDArray[np.float32]:
    if isinstance(class_weight, str):
        return _balanced(targets.matrix, weights)
    classes = targets.label_set.classes.tolist()
    weights_by_class = {
        plain_class(key, f"a class of class_weight, {key!r},"): weight
        for key, weight in class_weight.items()
    }
    unknown = [key for key in weights_by_class if key not in classes]
    if unknown:
        raise ValueError(
            f"class_weight names unknown classes: {unknown[:5]}; the classes are {listed(classes)}."
        )
    for value, weight in weights_by_class.items():
        if not (is_number(weight) and _are_weights(weight)):
            raise ValueError(f"class_weight[{value!r}] is {in_short(weight)}; {_WHAT_WEIGHTS_ARE}.")
    return np.asarray([weights_by_class.get(value, 1.0) for value in classes], dtype=np.float32)


def _balanced(matrix: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make up for the frequencies of classes, in which a text with a weight of two is there twice.

    As scikit-learn's "balanced", whose own function takes one class a text.
    """
    present = np.nansum(matrix * weights[:, None], axis=0, dtype=np.float64)
    is_seen = present > 0
    mean = present.sum() / max(1, int(is_seen.sum()))
    balanced = np.divide(mean, present, out=np.ones_like(present), where=is_seen)
    return np.minimum(balanced, _LARGEST).astype(np.float32)


def split_off_validation(
    examples: SharedExamples, fraction: float, multi_label: bool, random_state: Any
) -> tuple[SharedExamples, SharedExamples]:
    """Set examples aside, with all classes in both parts where there are enough of each.

    Parameters
    ----------
    examples : SharedExamples
        All of them.
    fraction : float
        The share to set aside.
    multi_label : bool
        With any number of labels a text there is no stratification.
    random_state : int, RandomState or None
        The source of randomness.

    Returns
    -------
    training, validation : SharedExamples

    Raises
    ------
    ValueError
        If there are fewer than two examples.
    """
    # Where nothing is annotated there is nothing to judge by.
    candidates = np.flatnonzero(~np.isnan(examples.matrix).all(axis=1))
    n = len(candidates)
    if n < 2:
        raise ValueError(
            f"validation_fraction={fraction} cannot be set aside from {n} example(s). Give more, "
            "or pass X_val and y_val."
        )
    # Sets of labels are too many to have each in both parts.
    classes = None if multi_label else examples.matrix.argmax(axis=1)
    n_validation = min(n - 1, max(1, round(fraction * n)))
    if classes is not None:
        counts = np.bincount(classes)
        n_classes = int((counts > 0).sum())
        # train_test_split refuses to stratify a class of one text, or into a part with fewer texts
        # than there are classes.
        if counts[counts > 0].min() < 2 or min(n_validation, n - n_validation) < n_classes:
            classes = None
    # Imported here: who classifies needs no splitting, whose import takes long.
    from sklearn.model_selection import train_test_split

    _, validation = train_test_split(
        candidates, test_size=n_validation, random_state=random_state, stratify=classes
    )
    # In the order given: what is learnt must not depend on how the split shuffled.
    training = np.setdiff1d(np.arange(len(examples)), validation)
    return examples.take(training), examples.take(np.sort(validation))
