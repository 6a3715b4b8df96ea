"""The base of both classifiers: fitting, saving and loading."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence, Sized
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils import Tags, check_random_state
from typing_extensions import Self

from ..files import checked_folder
from .base import BaseGLiClass
from .callbacks import CallbackSupportMixin, FitCallbacks, say, scoring_bar, with_callbacks
from .choice import automatic_trainable
from .fit import FitJob, FitOutcome, run, training_options
from .hierarchy import Hierarchy, nest
from .label_fit import encoded, penalty_of
from .labels import LabelSet, plain_labels
from .parameters import check_count
from .persistence import (
    SavedClassifier,
    check_width,
    json_of,
    push_classifier,
    read_classifier,
    write_classifier,
)
from .problem import (
    LEARNS_FROM_TEXTS,
    Examples,
    Given,
    Problem,
    SharedExamples,
    Texts,
    check_learns_from_texts,
    check_same_length,
    checked_weights,
    example_weights,
    leave_out,
    split_off_validation,
)
from .rows import (
    Row,
    RowExamples,
    RowWindows,
    StreamedExamples,
    check_among_own,
    columns_of,
    count_one_choice,
    examples_of_rows,
    label_each,
    label_set_of,
    label_set_of_all,
    numbers_by_class,
    own_classes,
    rows_in,
    warn_of_one_choice,
)
from .saved_file import errors_naming_file
from .scores import Alternatives, RowScores, Scores
from .scoring import ScoringPlan
from .state import NO_LABELS, FitState, Snapshot
from .suggestion import choose_rows
from .targets import (
    Targets,
    check_all_known,
    check_classes,
    first_label_set,
    name_of_left,
    read_classes,
    with_new_classes,
)
from .texts import row_index
from .tuning import Tunes

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..loading.hub import Commit
    from ..loading.loaded import LoadedModel
    from .learnt_rows import LearntRows


# Mixins come first: the tags of each add to those of the classes to its right.
class BaseGLiClassClassifier(CallbackSupportMixin, ClassifierMixin, BaseGLiClass):
    """What the single-label and the multi-label classifier share."""

    # Those that the code here reads by name; training reads its own by the names of its options.
    n_retrieved: int
    retrieval_backend: str
    verbose: int | None
    class_weight: Any
    early_stopping: bool
    validation_fraction: float
    trainable: str
    label_penalty: Any
    calibrate: bool | str
    max_epochs: int | str
    warm_start: bool
    checkpoint_folder: str | Path | None
    random_state: Any

    # What the kinds of classifiers do differently.

    def _targets(
        self, y: Any, label_set: LabelSet | None, name: str = "y", *, unseen: bool = False
    ) -> Targets:
        raise NotImplementedError

    def _agrees(
        self, chosen: NDArray[np.bool_], targets: Targets
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Tell for each text whether what is chosen is right, and whether that can be known.

        The classes to choose from have the first columns of the targets.
        """
        raise NotImplementedError

    def _wants_thresholds(self) -> bool:
        return False

    def _wants_min_probability(self) -> bool:
        return False

    def _is_other(self, targets: Targets) -> NDArray[np.bool_]:
        """Tell which texts are of none of the classes, and not to be learnt from."""
        return np.zeros(len(targets.matrix), dtype=np.bool_)

    # Predicting.

    @property
    def temperature_(self) -> float:
        """What logits are divided by before they become probabilities."""
        return self._snapshot_for_attribute("temperature_").temperature

    @property
    def vote_share_(self) -> float:
        """How much the votes of neighbours count where there are many of them."""
        from ..engine.votes import VoteStore

        store = self._snapshot_for_attribute("vote_share_").store_for(self.n_retrieved)
        return float(store.share) if isinstance(store, VoteStore) else 0.0

    @overload
    def predict_proba(self, X: Any, labels: None = None) -> NDArray[np.float32]: ...

    @overload
    def predict_proba(self, X: Any, labels: Sequence[Any]) -> list[NDArray[np.float32]]: ...

    def predict_proba(self, X: Any, labels: Any = None) -> Any:
        """Give the probability of every class.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of ``classes_``: the softmax of the logits where a text has one class,
            and otherwise their sigmoid, whose rows do not sum to one. With `labels` a list of
            arrays of shape (n_labels of the text,), in the order of its labels.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a row is missing or not a text, or a label set is none.
        """
        return self._scores(X, labels).each(lambda scores: scores.probabilities)

    @overload
    def predict_log_proba(self, X: Any, labels: None = None) -> NDArray[np.float32]: ...

    @overload
    def predict_log_proba(self, X: Any, labels: Sequence[Any]) -> list[NDArray[np.float32]]: ...

    def predict_log_proba(self, X: Any, labels: Any = None) -> Any:
        """Give the logarithm of the probability of every class.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            The logarithm of what :meth:`predict_proba` gives, made of the logits, so that it is
            finite where a probability rounds to 0. With `labels` a list of arrays of shape
            (n_labels of the text,).
        """
        return self._scores(X, labels).each(lambda scores: scores.log_probabilities)

    def score(
        self, X: Any, y: Any, sample_weight: Any = None, labels: Sequence[Any] | None = None
    ) -> float:
        """Give the share of texts whose prediction is right.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts; or a list of :class:`skgliclass.datasets.Example`, as in :meth:`predict`.
        y : array-like
            The labels, read as :meth:`fit` reads them. Where a text may have any number of
            classes, all of them have to be right (subset accuracy): of soft targets those above
            one half are true, and what is not annotated, NaN, counts neither way, and a row of
            nothing else is left out.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each text counts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`. `y` names classes among
            these; numbers in place of label sets are in the order of a text's labels, as
            :meth:`predict` gives them, or in that in which the labels of all texts first come.

        Returns
        -------
        float
            Between 0 and 1. A text of a class that `fit` did not see in its `y` is wrong.

        Raises
        ------
        NotFittedError
            If there are no labels: neither ``labels=`` nor a ``fit``.
        ValueError, TypeError
            If a text or a label is at fault; the message names it.
        """
        self._validate_params()
        rows = self._rows(X, labels)
        if rows is not None:
            classes, targets = self._targets_among_own(y, rows)
            check_same_length(rows, targets, "X", "y")
            weights = checked_weights(sample_weight, targets)
            chosen = self._row_scores(rows, chooses=True).chosen_of(classes)
        else:
            snapshot = self._snapshot_with_labels()
            classes = snapshot.label_set.classes.tolist()
            # A fold may hold a class that the one that was learnt from had no text of; a class that
            # is not among those that the user named is a mistake, here as in `fit`.
            targets = self._targets(y, snapshot.label_set, unseen=self.labels is None)
            texts = self._texts(X)
            check_same_length(texts, targets, "X", "y")
            weights = checked_weights(sample_weight, targets)
            scores = self._scores(X, snapshot=snapshot, texts=texts, chooses=True)
            chosen = scores.chosen_of(classes)
        right, is_known = self._agrees(chosen, targets)
        if not (weights * is_known).any():
            raise ValueError("sample_weight is zero for all texts that are annotated.")
        return float(np.average(right, weights=weights * is_known))

    def _targets_among_own(self, y: Any, rows: Sequence[Row]) -> tuple[list[Any], Targets]:
        """Read the labels of rows, each among its own; give the classes that any row has, too."""
        label_set = label_set_of_all(rows)
        if self._multi_label:
            y = numbers_by_class(y, rows)
        targets = self._targets(y, label_set, unseen=True)
        if len(targets.matrix) == len(rows):
            is_own = own_classes(rows, targets.label_set)
            check_among_own(targets, is_own)
            if self._multi_label:
                targets.matrix[~is_own] = np.nan
        return label_set.classes.tolist(), targets

    def predict_frame(self, X: Any, labels: Sequence[Any] | None = None) -> pd.DataFrame:
        """Give the probability of every class as a frame.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        DataFrame of shape (n_samples, n_classes)
            The probabilities. The rows have the index of `X` where it is a pandas object; the
            columns are the classes. With `labels` there is a column for each label that any text
            has, in the order in which they come, and NaN where a text does not have it.
        """
        return self._scores(X, labels).frame(row_index(X))

    def predict_top(
        self, X: Any, k: int | None = 3, labels: Sequence[Any] | None = None
    ) -> pd.DataFrame:
        """Give the most probable classes of each text, with their probabilities.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        k : int, default=3
            How many; None gives all of them. A text with fewer classes has as many as there are.
        labels : sequence of length n_samples of label sets, default=None
            What to choose from for each text, as in :meth:`predict`.

        Returns
        -------
        DataFrame with min(k, n_classes) rows for each text
            The rows of a text follow each other, the most probable class first, and have its
            label in the index of `X`, or its position where `X` is no pandas object; so
            ``X.to_frame().join(clf.predict_top(X))`` puts them beside the texts. The columns are
            ``rank``, from 1 on, ``label``, ``probability``, and ``predicted``, whether
            :meth:`predict` chooses the class.

        Raises
        ------
        ValueError
            If `k` is no positive integer.
        """
        _check_k(k)
        return self._scores(X, labels, chooses=True).ranking(k, row_index(X))

    def predict_nested(self, X: Any) -> list[dict[str, Any]]:
        """Give the probability of every class, nested as the hierarchy in ``labels=`` is.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        list of dict of length n_samples
            For ``labels={"topic": ["sport", "travel"]}`` dicts such as
            ``{"topic": {"sport": 0.9, "travel": 0.1}}``.

        Raises
        ------
        ValueError
            If ``labels=`` is no hierarchy.
        """
        snapshot = self._snapshot_with_labels()
        tree = _branches_of(snapshot)
        names = [tree.names[i] for i in tree.leaves]
        scores = self._scores(X, snapshot=snapshot).each(lambda scores: scores.probabilities)
        labels = plain_labels(snapshot.labels)
        return [nest(labels, dict(zip(names, row, strict=True))) for row in scores.tolist()]

    def predict_branches(self, X: Any) -> pd.DataFrame:
        """Give the probability of every branch of the hierarchy in ``labels=``.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.

        Returns
        -------
        DataFrame of shape (n_samples, n_branches)
            With the index of `X` where it is a pandas object, and a column for each branch by its
            dotted name. A branch's probability is the sum of its classes' where a text has one
            class. Where it may have any number, it is the largest of theirs, which is the least
            that the probability of "any of them" can be.

        Raises
        ------
        ValueError
            If ``labels=`` is no hierarchy.
        """
        snapshot = self._snapshot_with_labels()
        tree = _branches_of(snapshot)
        scores = self._scores(X, snapshot=snapshot).each(lambda scores: scores.probabilities)
        of_nodes = tree.node_probabilities(scores, self._multi_label)
        columns = [tree.names[i] for i in tree.branches]
        return pd.DataFrame(of_nodes[:, tree.branches], index=row_index(X), columns=columns)

    def embed(self, X: Any) -> NDArray[np.float32]:
        """Give the vector by which the model represents each text, for clustering or search.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts; of one that does not fit, the beginning is read.

        Returns
        -------
        ndarray of shape (n_samples, width)
            The pooled and projected representations, without labels in the prompt, so that they
            compare by their cosine whatever the labels are.
        """
        return self._text_vectors(X)

    def suggest_rows(self, X: Any, n_rows: int, y: Any = None) -> NDArray[np.intp]:
        """Choose the texts whose labels would teach most: unlike each other, and unsure.

        They are nearest to the centres of a k-means of the texts' vectors, in which a text weighs
        the more the less sure the classifier is of it. It works before any ``fit``, too. Blank
        texts, copies of texts with a label and further copies of one text come when nothing else is
        left.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        n_rows : int
            How many to choose; fewer come back where there are fewer without a label.
        y : array-like of shape (n_samples,), default=None
            The labels so far, as in :meth:`fit`: None, NaN or -1 where there is none.

        Returns
        -------
        ndarray of shape (n_rows,), int
            Positions in `X`, in ascending order, the same with the same `random_state`.

        Raises
        ------
        ValueError
            If `n_rows` is no positive integer, `X` and `y` differ in length, there are no labels to
            choose from, or `y` has one that is not among them; the message names its row.
        """
        check_count("n_rows", n_rows)
        snapshot = self._snapshot_with_labels()
        texts = self._texts(X)
        given = self._without_missing(Given.of(texts, y, None), snapshot.label_set)
        # Nothing is learnt from them, but a label that is none is a mistake, as in `fit`.
        self._targets_of(given, snapshot.label_set)
        plan, engine = self._plan(snapshot), self._engine(snapshot.weights)
        store = snapshot.store_for(plan.n_retrieved)
        examples = plan.examples_for(engine, texts, store)
        with scoring_bar(len(texts), self.verbose) as on_progress:
            x, logits = encoded(engine, plan, texts, examples, on_progress)
        count = plan.voted_by(store).counted(texts)
        if count is not None:
            count.take(slice(0, len(texts)), x)
            logits = count.added(logits)
        return choose_rows(
            texts,
            x,
            logits / np.float32(snapshot.temperature),
            int(n_rows),
            multi_label=self._multi_label,
            labelled=given.has_label,
            random_state=check_random_state(self.random_state),
        )

    # Rows with labels of their own.

    def _rows(self, X: Any, labels: Any) -> Sequence[Row] | None:
        if labels is None:
            return rows_in(X)
        return label_each(self._texts(X), labels, multi_label=self._multi_label)

    def _row_scores(self, rows: Sequence[Row], *, chooses: bool, exact: bool = False) -> RowScores:
        """Score every row among its own labels, in their order.

        What was tuned for the classes, temperature and thresholds, says nothing about other labels.
        """
        self._validate_params()
        snapshot = self._snapshot()
        plan = self._plan(snapshot)
        if not self._multi_label and not exact:
            warn_of_one_choice(*count_one_choice(rows))
        known: dict[Hashable, Alternatives] = {}
        among = [self._among_own(row, plan, snapshot, known, chooses=chooses) for row in rows]
        examples = RowExamples(rows)
        engine = self._engine(snapshot.weights, exact=exact)
        engine = engine.without_warnings() if exact else engine
        store = snapshot.store_for(plan.n_retrieved)
        in_prompts = examples.prompt_examples(engine, plan, store)
        plan = plan.voted_by(store)
        with scoring_bar(len(rows), self.verbose and not exact) as on_progress:
            logits = examples.logits(engine, plan, in_prompts, on_progress=on_progress)
        parts = [Scores(values[None], of_row) for values, of_row in zip(logits, among, strict=True)]
        if engine.rounding:
            close = self._close_rows(rows, parts, plan, snapshot, engine.rounding)
            if close:
                again = self._row_scores([rows[i] for i in close], chooses=chooses, exact=True)
                for i, part in zip(close, again.parts, strict=True):
                    parts[i] = part
        return RowScores(parts)

    def _close_rows(
        self,
        rows: Sequence[Row],
        parts: Sequence[Scores],
        plan: ScoringPlan,
        snapshot: Snapshot,
        rounding: float,
    ) -> list[int]:
        """Tell which rows rounding might decide, also where only probabilities are asked for."""
        known: dict[Hashable, Alternatives] = {}
        close = []
        for i, (row, part) in enumerate(zip(rows, parts, strict=True)):
            among = self._among_own(row, plan, snapshot, known, chooses=True)
            if len(replace(part, among=among).close_calls(rounding)):
                close.append(i)
        return close

    def _among_own(
        self,
        row: Row,
        plan: ScoringPlan,
        snapshot: Snapshot,
        known: dict[Hashable, Alternatives],
        *,
        chooses: bool,
    ) -> Alternatives:
        """Give what a row is classified among, made once for all rows with the same labels."""
        label_set, columns = label_set_of(row), columns_of(row, plan)
        # With their types, as 1 and "1" have one name.
        key = columns is None, tuple((type(value), value) for value in label_set.classes.tolist())
        if key in known:
            return known[key]
        if columns is None:
            known[key] = self._among(Snapshot(label_set, None, None), chooses=chooses)
        else:
            among = self._among(snapshot, chooses=chooses)
            cutoff = among.cutoff
            if cutoff is not None and cutoff.ndim:
                cutoff = cutoff[columns]
            known[key] = replace(among, classes=label_set.classes, cutoff=cutoff)
        return known[key]

    def _fit_rows(
        self,
        rows: Sequence[Row] | RowWindows,
        validation: Sequence[Row] | None,
        others: Sequence[str] = (),
        unlabelled: Texts = (),
    ) -> FitOutcome:
        """Learn from rows as :meth:`fit` does, and tell what it gave.

        With windows every epoch goes through them in their order, and through the rows of each in
        random order.

        Without `labels` there are no classes afterwards: what was learnt serves any labels. Rows
        have weights of their own; `class_weight` does not count. The texts in `others` are of none
        of the classes, and nobody knows of which those in `unlabelled` are. Where the user stopped
        it, which `interrupted` tells, the classifier has the best weights so far.
        """
        self._validate_params()
        labels_parameter = self._read_labels(self.labels)
        if len(unlabelled):
            check_learns_from_texts(self.trainable, labels_parameter, len(unlabelled))
        label_set = labels_parameter or NO_LABELS
        plan = self._plan(Snapshot(label_set, labels_parameter, self.labels))
        training = (
            StreamedExamples(rows, plan)
            if isinstance(rows, RowWindows)
            else examples_of_rows(rows, plan)
        )
        held_out = None if validation is None else examples_of_rows(validation, plan)
        self._check_for_classes(held_out)
        if not self._multi_label:
            warn_of_one_choice(*count_one_choice(rows))
        problem = Problem(label_set, training, held_out, others=others, unlabelled=unlabelled)
        job = self._job(problem, labels_parameter, self._fit_state)
        self._check_held_out(problem, job.options.trainable)
        outcome = run(job)
        self._store(outcome)
        return outcome

    def _check_held_out(self, problem: Problem, trainable: str) -> None:
        """Refuse what is tuned on held-out rows where there are none."""
        if problem.validation is not None or not self._needs_held_out(problem.others, trainable):
            return
        wanted = {
            "early_stopping=True": self.early_stopping,
            "calibrate=True": self._asks_to_calibrate(),
            'threshold="auto"': self._wants_thresholds(),
            'min_probability="auto"': bool(problem.others),
        }
        name = next(name for name, is_wanted in wanted.items() if is_wanted)
        raise ValueError(
            f"{name} needs held-out rows with trainable={trainable!r}: give --validation or "
            '--validation-fraction. Only with trainable="labels", and rows that all have the same '
            "labels, are rows held out in turn."
        )

    def _check_for_classes(self, held_out: Examples | None) -> None:
        """Refuse what is tuned or kept for classes where rows have labels of their own."""
        wanted = {
            "calibrate": self._asks_to_calibrate(),
            'threshold="auto"': self._wants_thresholds(),
        }
        name = next((name for name, is_wanted in wanted.items() if is_wanted), None)
        if name is not None and held_out is not None and held_out.matrix is None:
            raise ValueError(
                f"{name} needs held-out rows that all have the same labels, and neither examples "
                "nor a prompt of their own."
            )
        if self.n_retrieved and self.labels is None:
            raise ValueError(
                f"n_retrieved={self.n_retrieved} needs rows that all have the same labels, as "
                "their texts are shown with these."
            )

    # Fitting.

    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        unlabelled: Any = None,
    ) -> Self:
        """Learn from labelled texts, from texts without labels, or from both.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like, default=None
            One class a text (`other` for a text of none), or for the multi-label classifier an
            indicator matrix, a sparse matrix, a frame whose columns are the classes in their
            order, or a list of label sets. Numbers between 0 and 1 in a matrix are soft targets, as
            are those of a dict of class to number in place of a label set; NaN says that nobody
            annotated whether the class holds, and stays out of the loss and of every score. Lists
            of numbers are label sets where `labels` are numbers, else the rows of a matrix. With
            `labels`, a `y` or rows of it that are None, NaN or -1 are of texts without labels.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each text with a label counts; it may be missing (NaN, None) for one without.
        X_val, y_val : default=None
            Held-out texts and labels, in place of a part of `X`, for all that is tuned on such.
        unlabelled : default=None
            Further texts, without labels: needs `labels`, and ``trainable="labels"`` or ``"auto"``.

        Returns
        -------
        self
            The fitted classifier. If anything fails, it is left as it was before.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a text or a label is at fault; the message names it.
        FloatingPointError
            If the loss or the weights become infinite or not a number.
        KeyboardInterrupt
            If the user stops it, after the best weights so far were stored: on held-out texts the
            best of all whole epochs and of those before. Before the first step nothing changes.

        Warns
        -----
        TruncationWarning
            Once, with a count, if texts do not fit, so that the beginning of each is read.
        """
        self._validate_params()
        labels_parameter = self._read_labels(self.labels)
        given = self._given(X, y, sample_weight, labels_parameter, unlabelled)
        problem = self._problem(given, (X_val, y_val), labels_parameter)
        outcome = run(self._job(problem, labels_parameter, self._fit_state, may_split=True))
        self._store(outcome)
        outcome.check_not_interrupted()
        outcome.remove_checkpoint()
        return self

    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> Self:
        """Learn from more labelled texts, beside those of earlier calls.

        With ``trainable="labels"``, and with ``"auto"`` unless the model was tuned before, the
        vectors of all rows so far are kept, those of ``fit`` included, and what is learnt is what
        one fit of all of them would learn. They are saved, too: 1.5 kB a row at a width of 384.
        Otherwise the model is trained for one epoch, from where the last call stopped. With
        ``max_epochs=0`` nothing is learnt: the classes and the texts of `n_retrieved` are kept.

        Parameters
        ----------
        X : list, tuple, ndarray, Series or one-column frame of shape (n_samples,)
            The texts.
        y : array-like
            The labels, as in :meth:`fit`, but of every text: those without go into :meth:`fit`.
        classes : array-like, default=None
            All classes that are known by now. Needed in the first call unless ``labels=`` was
            given, which has to name all of them; may be left out afterwards. A later call that
            names more adds these: the model reads classes as texts, so that what it learnt serves
            new ones, too. With ``labels=`` they are added by ``set_params(labels=...)``. What was
            tuned for the old classes, such as a temperature, does not outlast them; the texts that
            are kept for `n_retrieved` do.
        sample_weight : array-like of shape (n_samples,), default=None
            How much each text counts.

        Returns
        -------
        self
            The classifier. If anything fails, it is left as it was before.

        Raises
        ------
        ValueError, TypeError, FloatingPointError, KeyboardInterrupt
            As in :meth:`fit`.
        """
        self._validate_params()
        state, labels_parameter = self._fit_state, self._read_labels(self.labels)
        if state is not None and self.trainable in LEARNS_FROM_TEXTS:
            state.check_keeps_rows()
        label_set = Snapshot.of(state, labels_parameter, self.labels).label_set
        label_set = self._known_so_far(label_set, classes, may_add=labels_parameter is None)
        # Only the first of several calls says what the columns of X are like.
        given = Given.of(self._texts(X, reset=state is None), y, sample_weight)
        problem = self._problem(given, (None, None), label_set, is_first=state is None)
        self._check_all_labelled(problem)
        outcome = run(self._job(problem, labels_parameter, state, one_epoch=True))
        self._store(outcome)
        outcome.check_not_interrupted()
        return self

    def _known_so_far(self, label_set: LabelSet, classes: Any, *, may_add: bool) -> LabelSet:
        """Give the classes of a call of partial_fit: those so far, and those that it names."""
        classes = None if classes is None else read_classes(classes)
        if classes is not None and label_set and may_add:
            label_set = with_new_classes(classes, label_set, multi_label=self._multi_label)
        if not label_set:
            if classes is None:
                raise ValueError(
                    "classes must be passed on the first call to partial_fit, unless labels= is "
                    "given."
                )
            label_set = first_label_set(classes, multi_label=self._multi_label)
        if classes is not None:
            check_classes(classes, label_set, multi_label=self._multi_label)
        return label_set

    def _given(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        label_set: LabelSet | None,
        unlabelled: Any,
    ) -> Given:
        """Read the texts of a fit, and tell those without labels from the others."""
        given = Given.of(self._texts(X, reset=True), y, sample_weight)
        if label_set is not None and self.trainable in ("auto", "labels"):
            given = self._without_missing(given, label_set)
        if not _is_none_left(unlabelled):
            given = given.beside(self._texts(unlabelled, name="unlabelled"))
        if given.unlabelled:
            check_learns_from_texts(self.trainable, label_set, len(given.unlabelled))
        return given

    def _without_missing(self, given: Given, label_set: LabelSet) -> Given:
        """Tell texts without labels from the others by their rows of `y`."""
        known = {*label_set.classes.tolist(), self._other()}
        return given.without_missing(known, multi_label=self._multi_label)

    def _targets_of(self, given: Given, label_set: LabelSet | None) -> Targets:
        """Read the labels of the texts that have any."""
        if given.has_no_labels and label_set is not None:
            return Targets(label_set, np.zeros((0, len(label_set)), dtype=np.float32))
        targets = self._targets(given.y, label_set, given.named("y"))
        check_same_length(given.texts, targets, "X", "y")
        return targets

    def _problem(
        self,
        given: Given,
        held_out: tuple[Any, Any],
        label_set: LabelSet | None,
        *,
        is_first: bool = True,
    ) -> Problem:
        """Read what the user gave."""
        texts, sample_weight = given.texts, given.sample_weight
        targets = self._targets_of(given, label_set)
        if is_first:
            self._warn_of_one_class(targets.label_set)
        is_other = self._is_other(targets)
        texts, targets, sample_weight, others = leave_out(
            is_other, texts, targets, sample_weight, "y"
        )
        weights, label_weights = None, None
        if texts:
            weights, label_weights = example_weights(
                targets,
                sample_weight,
                self.class_weight,
                self._multi_label,
                name_of_left(given.named("sample_weight"), ~is_other),
            )
        training = SharedExamples(texts, targets.matrix, weights)
        validation, held_out_others, held_out_texts = self._held_out(*held_out, targets.label_set)
        # Nothing is learnt from them, so that all of them serve as held-out texts.
        others = [*others, *held_out_others]
        return Problem(
            targets.label_set,
            training,
            validation,
            label_weights,
            others=others,
            unlabelled=given.unlabelled,
            passed={**given.passed, "X_val": held_out_texts},
        )

    def _check_all_labelled(self, problem: Problem) -> None:
        """Refuse texts of no class, and those without labels, in a part of the rows."""
        if problem.others:
            raise ValueError(
                f"y is other={self._other()!r} for {len(problem.others)} texts, which tune "
                "min_probability beside held-out texts of the classes; partial_fit holds none out. "
                "Leave these texts out, or call fit."
            )
        assert isinstance(problem.training, SharedExamples)
        check_all_known(problem.training.matrix)

    def _with_held_out(self, problem: Problem, trainable: str) -> Problem:
        """Set a part of the rows aside where held-out texts are needed and none were given."""
        training = problem.training
        is_needed = problem.validation is None and self._needs_held_out(problem.others, trainable)
        if not is_needed or not isinstance(training, SharedExamples) or not len(training):
            return problem
        kept, validation = split_off_validation(
            training,
            self.validation_fraction,
            self._multi_label,
            check_random_state(self.random_state),
        )
        n_set_aside = len(training) - len(kept)
        return replace(problem, training=kept, validation=validation, n_set_aside=n_set_aside)

    def _held_out(
        self, X_val: Any, y_val: Any, label_set: LabelSet
    ) -> tuple[SharedExamples | None, list[str], list[str]]:
        """Read held-out texts: those of the classes, those of none, and all of them."""
        if (X_val is None) != (y_val is None):
            missing = "y_val" if y_val is None else "X_val"
            raise ValueError(f"{missing} is missing: X_val and y_val have to be given together.")
        if X_val is None:
            return None, [], []
        all_texts = self._texts(X_val, name="X_val")
        targets = self._targets(y_val, label_set, "y_val")
        check_same_length(all_texts, targets, "X_val", "y_val")
        is_other = self._is_other(targets)
        texts, targets, _, others = leave_out(is_other, all_texts, targets, None, "y_val")
        return SharedExamples(texts, targets.matrix), others, all_texts

    def _needs_held_out(self, others: Sequence[str], trainable: str) -> bool:
        tunes = self._tunes(trainable)
        wants = tunes.is_asked_for or tunes.thresholds or (bool(others) and tunes.min_probability)
        # What is convex is learnt again without a part of the rows, whose turn comes to all.
        learns_again = trainable == "labels" and self.max_epochs != 0 and self.hierarchy != "path"
        return self.early_stopping or (wants and not learns_again)

    def _tunes(self, trainable: str) -> Tunes:
        asks = self._asks_to_calibrate()
        is_automatic = isinstance(self.calibrate, str)
        return Tunes(
            asks or (is_automatic and trainable == "labels" and self.max_epochs != 0),
            self._wants_thresholds(),
            self._wants_min_probability(),
            is_asked_for=asks,
        )

    def _asks_to_calibrate(self) -> bool:
        """Tell whether a temperature is asked for, rather than left to what is learnt."""
        return bool(self.calibrate) and not isinstance(self.calibrate, str)

    def _job(
        self,
        problem: Problem,
        labels_parameter: LabelSet | None,
        last: FitState | None,
        *,
        one_epoch: bool = False,
        may_split: bool = False,
    ) -> FitJob:
        """Gather what a fit needs, and what it starts from: the last fit, if it goes on from it."""
        plan = self._plan_of_fit(problem.label_set, labels_parameter)
        if last is None or not (one_epoch or self.warm_start):
            last = FitState(NO_LABELS)
        engine = self._engine(last.weights, trains=True)
        trainable = self._chosen_trainable(
            problem, engine, one_epoch=one_epoch, is_tuned=last.is_tuned
        )
        if may_split:
            problem = self._with_held_out(problem, trainable)
        start = self._start_after(last, problem.label_set, labels_parameter, one_epoch=one_epoch)
        if trainable != "labels":
            # The vectors of the rows are not those of the weights to come.
            start = replace(start, rows=None)
        options = training_options(
            vars(self),
            len(problem.training),
            multi_label=self._multi_label,
            one_epoch=one_epoch,
        )
        options = replace(options, trainable=trainable)
        n_votes = plan.n_retrieved if engine.compares_vectors else 0
        steps_per_epoch = sum(-(-size // options.batch_size) for size in problem.training.sizes)
        return FitJob(
            engine=engine,
            problem=problem,
            plan=replace(plan, n_retrieved=0) if n_votes else plan,
            options=options,
            callbacks=FitCallbacks(
                self,
                self._callback_context,
                max_epochs=options.max_epochs,
                n_steps=options.max_epochs * steps_per_epoch,
                verbose=self.verbose,
            ),
            start=start,
            retrieval_backend=self.retrieval_backend,
            tunes=self._tunes(trainable),
            has_all_texts=not one_epoch,
            starts_from_labels=self.trainable == "auto" and not one_epoch,
            label_penalty=penalty_of(self.label_penalty),
            verbose=self.verbose,
            checkpoint_folder=None if one_epoch else self._checked_checkpoint_folder(),
            n_votes=n_votes,
        )

    def _start_after(
        self,
        last: FitState,
        label_set: LabelSet,
        labels_parameter: LabelSet | None,
        *,
        one_epoch: bool,
    ) -> FitState:
        """Give what a fit starts from where it goes on from the last one."""
        # By their texts, which the model reads: integers in y may stand for the same classes.
        if one_epoch and label_set.texts == last.label_set.texts:
            # More texts for the same labels: what was tuned for these stays in use.
            return replace(last, label_set=label_set, labels_parameter=labels_parameter)
        start = FitState(
            label_set,
            labels_parameter,
            last.weights,
            change=last.change,
            comes_tuned=last.comes_tuned,
        )
        if one_epoch:
            # Of texts that were kept, the labels that stay are labels still.
            rows = self._rows_for(last.rows, last.label_set.texts, label_set.texts)
            start = replace(start, store=last.store, rows=rows)
        return start

    def _rows_for(
        self, rows: LearntRows | None, texts: Sequence[str], among: Sequence[str]
    ) -> LearntRows | None:
        """Give the rows that `partial_fit` goes on from, of classes with such texts for others."""
        if rows is None:
            return None
        return rows.for_texts(texts, among, multi_label=self._multi_label)

    def _plan_of_fit(self, label_set: LabelSet, labels_parameter: LabelSet | None) -> ScoringPlan:
        """Give how texts will be scored, once it is known that the classes can be predicted."""
        snapshot = Snapshot(label_set, labels_parameter, self.labels)
        if label_set:
            # Otherwise what was learnt could neither predict nor be loaded.
            self._cutoff(snapshot)
        return self._plan(snapshot)

    def _chosen_trainable(
        self, problem: Problem, engine: Engine, *, one_epoch: bool, is_tuned: bool
    ) -> str:
        """Tell what a fit changes."""
        trainable = self.trainable
        if trainable == "auto":
            trainable = automatic_trainable(
                problem, engine, vars(self), goes_on=one_epoch, is_tuned=is_tuned
            )
            if self.max_epochs != 0:
                self._tell_choice(problem, trainable)
        if trainable == "labels":
            self._check_learns_labels(problem, engine, one_epoch=one_epoch)
        elif len(problem.unlabelled) and not engine.loaded.zero_shot:
            raise ValueError(
                f"{len(problem.unlabelled)} texts have no labels, which teach nothing to a model "
                f"without trained classification heads, as model={str(self.model)!r} is. Leave "
                "these texts out, or choose a GLiClass checkpoint."
            )
        return trainable

    def _tell_choice(self, problem: Problem, trainable: str) -> None:
        n_unlabelled = len(problem.unlabelled)
        say(
            f'trainable="auto" is "{trainable}" here, with {len(problem.training)} labelled rows'
            + (f", {n_unlabelled} texts without labels" if n_unlabelled else "")
            + f" and {len(problem.label_set) or 'any number of'} classes.",
            self.verbose,
        )

    def _check_learns_labels(self, problem: Problem, engine: Engine, *, one_epoch: bool) -> None:
        """Refuse what label vectors and biases alone are not learnt from."""
        self._check_trained(engine.loaded)
        if not problem.training.shares_classes:
            raise ValueError(
                f"trainable={self.trainable!r} learns what is particular to the classes, but rows "
                'have labels or prompts of their own. Set trainable="all", "head" or "lora".'
            )
        if one_epoch and self.class_weight == "balanced":
            raise ValueError(
                'class_weight="balanced" depends on all rows, but partial_fit brings more with '
                "every call. Give class_weight as a dict, or sample_weight."
            )

    def _checked_checkpoint_folder(self) -> str | Path | None:
        if self.checkpoint_folder is not None and not isinstance(self.random_state, Integral):
            raise ValueError(
                f"checkpoint_folder={str(self.checkpoint_folder)!r} needs an int as random_state, "
                f"which is {self.random_state!r}: another process could not go on with the same "
                "random numbers."
            )
        return self.checkpoint_folder

    def _callback_context(self, max_epochs: int) -> Any:
        # set_callbacks makes the attribute; scikit-learn before 1.9 has neither it nor contexts.
        if not getattr(self, "_skl_callbacks", None):
            return None
        return self._init_callback_context(max_subtasks=max_epochs)

    def _store(self, outcome: FitOutcome) -> None:
        """Set everything that a fit leaves, once nothing can fail any more."""
        # In one piece: a prediction in another thread sees all of the last fit or all of this.
        self._fit_state = outcome.state
        if self._carried is not None and self._carried.asked_for != self._asked_for():
            self._carried = None
        self.trainable_ = outcome.trainable
        self.n_iter_ = outcome.n_iter
        self.loss_curve_ = list(outcome.loss_curve)
        self.best_loss_ = min(outcome.loss_curve, default=None)
        self.validation_scores_ = outcome.validation_scores

    # Saving and loading.

    def save_pretrained(
        self, folder: str | Path, *, gliclass_compatible: bool = True, keep_rows: bool = True
    ) -> None:
        """Write the model and this classifier to a folder, whole or not at all.

        The folder is a checkpoint that the ``gliclass`` package loads too, with one file beside
        it for the classes, label texts, thresholds and parameters, and a short page about it all
        (``README.md``). A checkpoint or classifier that was saved there is replaced in one step:
        whatever happens meanwhile, the old one or the new one is what :meth:`from_pretrained`
        loads. Other files in the folder stay, and so does a ``README.md`` that was changed.

        Parameters
        ----------
        folder : str or path
            Where to; made if missing.
        gliclass_compatible : bool, default=True
            Whether the ``gliclass`` package loads the model, too. It takes twice the space where
            texts and labels share an encoder, as in the embedded model (189 instead of 98 MB), and
            a path to this folder in ``config.json``.
        keep_rows : bool, default=True
            Whether the rows from which label vectors were learnt, as vectors of numbers, are
            written, too, which :meth:`partial_fit` goes on from: 1.5 GB for a million rows of 384
            numbers, and 8 bytes a row and class. Predictions do not need them.

        Raises
        ------
        OSError
            If there is a file of this name, or the folder cannot be written, for instance as the
            disk is full. What was there is as it was.
        TypeError
            If a class or a parameter has a value that could not be read back as it is.
        ValueError
            If `folder` is empty.
        UntrainedModelError
            If the model has no trained heads.
        """
        self._validate_params()
        place = checked_folder(folder)
        snapshot = self._snapshot()
        saved = self._to_save(snapshot, keep_rows=keep_rows)
        loaded = self._model_to_save(snapshot)
        base = self._base_model(exact=True)
        write_classifier(place, loaded, saved, gliclass_compatible=gliclass_compatible)
        if snapshot.weights is not None and _is_folder(self.model, place):
            # The files that the tuned weights belong to are gone.
            self._carry(base)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        commit_description: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        create_pr: bool = False,
        gliclass_compatible: bool = True,
        keep_rows: bool = False,
    ) -> str:
        """Put the model and this classifier into a repository on the hub, in one commit.

        It holds what :meth:`save_pretrained` writes, and ``from_pretrained(repo_id)`` loads it. The
        files of a checkpoint or classifier that is there are replaced; others stay, and so does a
        ``README.md`` that was changed. Folders of this machine are not named in it.

        Parameters
        ----------
        repo_id : str
            ``"owner/name"``; of a name alone the token tells the owner. Made if missing.
        commit_message, commit_description : str, optional
            The first line about the commit, ``"Upload GLiClassClassifier"`` or such, and the rest.
        private : bool, optional
            Whether others may not see a repository that is made; by default as its owner has set.
        token : str or bool, optional
            A token that may write; by default that in ``HF_TOKEN`` or of ``hf auth login``.
        revision : str, optional
            The branch, made if missing; by default ``"main"``.
        create_pr : bool, default=False
            Whether to open a pull request, in place of changing the branch ``"main"``.
        gliclass_compatible : bool, default=True
            As in :meth:`save_pretrained`.
        keep_rows : bool, default=False
            As there, but not by default: they are made of your texts. Texts that predictions
            retrieve (`n_retrieved`) are always there.

        Returns
        -------
        str
            The address of the commit, or of the pull request.

        Raises
        ------
        OSError
            If the hub cannot be reached, or the token does not allow it; the message says what to
            do. What was in the repository is as it was.
        TypeError, ValueError, UntrainedModelError
            As :meth:`save_pretrained`, or if `repo_id` or `revision` is none.
        """
        from ..loading.hub import Commit

        message = commit_message or f"Upload {type(self).__name__}"
        commit = Commit(message, commit_description, revision, create_pr)
        return self._push(repo_id, commit, private, token, gliclass_compatible, keep_rows)

    def _push(
        self,
        repo_id: str,
        commit: Commit,
        private: bool | None,
        token: str | bool | None,
        gliclass_compatible: bool,
        keep_rows: bool,
    ) -> str:
        from ..loading.hub import HubRepository

        self._validate_params()
        snapshot = self._snapshot()
        saved = self._to_save(snapshot, keep_rows=keep_rows)
        loaded = self._model_to_save(snapshot)
        repository = HubRepository.made(repo_id, private=private, token=token)
        return push_classifier(
            repository, commit, loaded, saved, gliclass_compatible=gliclass_compatible
        )

    def _model_to_save(self, snapshot: Snapshot) -> LoadedModel:
        # As for training: what is loaded to predict alone may lack what a checkpoint needs.
        loaded = self._engine(snapshot.weights, trains=True).loaded
        self._check_trained(loaded)
        return loaded

    def _to_save(self, snapshot: Snapshot, *, keep_rows: bool) -> SavedClassifier:
        """Give all that a folder holds besides the model."""
        from ..engine.votes import VoteStore

        change, texts = snapshot.change, snapshot.label_set.texts
        store = snapshot.store_for(self.n_retrieved)
        saved = SavedClassifier(
            type(self).__name__,
            self.get_params(deep=False),
            snapshot.labels,
            snapshot.label_set,
            snapshot.temperature,
            snapshot.thresholds,
            store.among(texts) if isinstance(store, VoteStore) else store,
            snapshot.min_probability,
            change=None if change is None else change.of_texts(texts),
            rows=self._rows_for(snapshot.rows, snapshot.fitted_texts, texts) if keep_rows else None,
            is_tuned=snapshot.is_tuned,
        )
        # Before the model is loaded: what cannot be saved is named at once.
        json_of(saved)
        return saved

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        **parameters: Any,
    ) -> Self:
        """Load a classifier that :meth:`save_pretrained` wrote, or any other checkpoint.

        What is loaded is in memory from then on, and goes along in a pickle: neither needs the
        folder again. A clone has the name of the folder alone. A hub repository is looked up in
        every call; where the hub cannot be reached, its last copy on this machine is read.

        Parameters
        ----------
        model : str or path
            A folder or a hub id.
        revision : str, optional
            The branch, tag or commit of a hub repository.
        token : str or bool, optional
            A token for a repository that is not public. By default, and for True, the one in
            ``HF_TOKEN`` or of ``hf auth login``, which a clone needs, too: it has no other.
        **parameters
            Parameters of the classifier to set anew.

        Returns
        -------
        classifier
            It predicts as the one that was saved.

        Raises
        ------
        OSError
            If there is no such model.
        ValueError
            If its files are damaged, of a later version or not supported; the message names the
            file, and of ``skgliclass.json`` the field.

        Warns
        -----
        UserWarning
            If a later version saved it with parameters that this version does not have. They are
            left out.
        """
        from ..loading.sources import look_up, read_whole

        if not isinstance(model, str):
            # A path is a folder, also where it is called as the embedded model is.
            model = str(Path(model).absolute())
        look_up(model, revision, token=token)
        return read_whole(model, revision, lambda name: cls._from_files(name, revision, parameters))

    @classmethod
    def _from_files(cls, model: str, revision: str | None, parameters: dict[str, Any]) -> Self:
        known = cls._get_param_names()
        saved = read_classifier(model, revision, cls.__name__, known, parameters)
        place = {"model": model, "revision": revision}
        own = {} if saved is None else {**saved.parameters, "labels": saved.labels}
        # In place of the model that was tuned stands the folder, which holds the tuned weights.
        classifier = cls(**{**own, **parameters, **place})
        state = None if saved is None or not saved.label_set else cls(**own)._state_of(saved)
        classifier._validate_params()
        loaded = classifier._base_model(exact=True)
        if saved is not None:
            check_width(saved, loaded.network.config.encoder_config.hidden_size)
        classifier._carry(loaded)
        if state is not None and classifier._carried is not None:
            from ..training.tuned_weights import TunedWeights

            weights = TunedWeights(base=classifier._carried.digest)
            classifier._fit_state = replace(state, weights=weights)
        return classifier

    def _state_of(self, saved: SavedClassifier) -> FitState:
        """Give what was saved, once it is known to go with these parameters."""
        state = FitState(
            saved.label_set,
            # The file's, not ones passed now: by the difference a change is noticed.
            self._read_labels(saved.labels),
            temperature=saved.temperature,
            thresholds=saved.thresholds,
            store=saved.store,
            min_probability=saved.min_probability,
            change=saved.change,
            rows=saved.rows,
            comes_tuned=saved.is_tuned,
        )
        snapshot = Snapshot.of(state, state.labels_parameter, saved.labels)
        with errors_naming_file(saved.path):
            self._validate_params()
            ScoringPlan.of(vars(self), snapshot, multi_label=self._multi_label, embedder=None)
            self._cutoff(snapshot)
        return state

    def _carry(self, loaded: LoadedModel) -> None:
        from ..loading.carried import CarriedModel

        self._carried = CarriedModel.of(loaded, *self._asked_for())

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self._multi_label
        tags.classifier_tags.multi_class = not self._multi_label
        tags.target_tags.required = self.labels is None
        tags.target_tags.multi_output = self._multi_label
        tags.target_tags.single_output = not self._multi_label
        return tags


def _is_none_left(unlabelled: Any) -> bool:
    """Tell whether there are no texts, as at the end of rounds in which people label them."""
    if unlabelled is None or isinstance(unlabelled, str):
        return unlabelled is None
    return isinstance(unlabelled, Sized) and len(unlabelled) == 0


def _is_folder(model: str | os.PathLike[str], place: Path) -> bool:
    folder = Path(model).expanduser()
    return folder.is_dir() and folder.samefile(place)


def _check_k(k: Any) -> None:
    if k is not None and (isinstance(k, bool) or not isinstance(k, Integral) or int(k) < 1):
        raise ValueError(f"k={k!r}; it must be an integer of at least 1, or None for all.")


def _branches_of(snapshot: Snapshot) -> Hierarchy:
    tree = Hierarchy.of(snapshot.labels, snapshot.label_set.texts)
    if tree is None:
        raise ValueError(
            "labels is no hierarchy, so that there are no branches. Give a dict of lists or "
            'dicts, such as labels={"topic": ["sport", "travel"]}, or use predict_frame.'
        )
    return tree
