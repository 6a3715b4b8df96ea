"""How an estimator's texts are scored: what prompts hold, and what becomes of the logits."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..engine.change import LogitChange
from ..engine.options import ScoringOptions
from ..prompts.checks import check_unicode
from .examples import read_examples
from .hierarchy import Hierarchy
from .labels import LabelSet
from .parameters import fill, plain_number
from .state import Snapshot

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.votes import Store, VoteCount, Votes
    from ..prompts.examples import PromptExample


@dataclass(frozen=True, eq=False)
class ScoringPlan:
    """How an estimator's texts are scored.

    Attributes
    ----------
    label_set : LabelSet
        The classes whose logits are asked for; empty where there are none.
    multi_label : bool
        Whether each class is judged on its own.
    options : ScoringOptions
        How the engine is asked.
    label_template : str or None
        What the model reads around every label text, with ``{}`` in its place.
    examples : tuple of PromptExample
        What every prompt shows.
    n_retrieved : int
        How many of the nearest labelled texts a prompt shows before these, or how many vote.
    hierarchy : Hierarchy or None
        Along which the scores of classes and of branches combine.
    embedder : Engine or None
        What embeds texts and labels for the shortlist; None if the model itself does.
    change : LogitChange or None
        What was learnt without touching the model, by what it reads for the labels.
    votes : Votes or None
        Whose votes scores of labels are combined with, in place of neighbours in the prompt.
    """

    label_set: LabelSet
    multi_label: bool
    options: ScoringOptions
    label_template: str | None = None
    examples: tuple[PromptExample, ...] = ()
    n_retrieved: int = 0
    hierarchy: Hierarchy | None = None
    embedder: Engine | None = None
    change: LogitChange | None = None
    votes: Votes | None = None

    @classmethod
    def of(
        cls,
        parameters: Mapping[str, Any],
        snapshot: Snapshot,
        *,
        multi_label: bool,
        embedder: Engine | None,
    ) -> ScoringPlan:
        """Read an estimator's parameters.

        Raises
        ------
        ValueError, TypeError
            If an example is at fault, or parameters do not go together; the message names it.
        """
        task_description = parameters["task_description"] or ""
        check_unicode(task_description, "task_description")
        _check_template(parameters["label_template"])
        values = {**parameters, "task_description": task_description}
        # Examples name classes as `labels` does, whatever integers stand for them in `y`.
        named = snapshot.labels_parameter or snapshot.label_set
        plan = cls(
            snapshot.label_set,
            multi_label,
            fill(ScoringOptions, values),
            parameters["label_template"],
            # Estimators that do not keep labelled texts have no parameter of this name.
            n_retrieved=plain_number(parameters.get("n_retrieved", 0)),
            hierarchy=_hierarchy(parameters, snapshot),
            embedder=embedder,
        )
        examples = read_examples(parameters["examples"], named)
        plan = replace(plan, examples=tuple(map(plan.worded_example, examples)))
        return plan.changed_by(snapshot.change)

    def changed_by(self, change: LogitChange | None) -> ScoringPlan:
        """Give the same with what was learnt for label texts."""
        return replace(self, change=None if change is None else change.worded(self.worded))

    def voted_by(self, store: Store | None, *, leaves_out_own: bool = False) -> ScoringPlan:
        """Give the same with the votes of labelled texts, where it is these that count.

        Parameters
        ----------
        store : ExampleStore, VoteStore or None
            The labelled texts; others than those that vote are shown in the prompt.
        leaves_out_own : bool, default=False
            Whether a labelled text has no vote on itself.
        """
        from ..engine.votes import Votes, VoteStore

        if not self.n_retrieved or not isinstance(store, VoteStore) or not store.share:
            return self
        votes = Votes(store, self.n_retrieved, self.multi_label, leaves_out_own)
        return replace(self, votes=votes)

    def added(self, logits: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add what was learnt to logits of :attr:`label_texts`, of texts with the vectors `x`."""
        if self.change is None:
            return logits
        return self.change.add(logits, x, [self.label_texts], np.zeros(len(x), dtype=np.intp))

    def of_all_classes(self) -> ScoringPlan:
        """Give the same for the classes alone, all of which the model reads."""
        return replace(self, hierarchy=None, options=replace(self.options, shortlist=None))

    def described(self, task_description: str | None) -> ScoringPlan:
        """Give the same with another task description, if there is one."""
        if task_description is None or task_description == self.options.task_description:
            return self
        return replace(self, options=replace(self.options, task_description=task_description))

    def worded(self, label_text: str) -> str:
        """Give what the model reads for a label text."""
        return word_label(label_text, self.label_template)

    def worded_example(self, example: PromptExample) -> PromptExample:
        """Give an example with its labels as the model reads them among the labels to choose."""
        if self.label_template is None:
            return example
        others = example.other_labels
        return replace(
            example,
            labels=[self.worded(text) for text in example.labels],
            other_labels=None if others is None else [self.worded(text) for text in others],
        )

    @cached_property
    def class_texts(self) -> tuple[str, ...]:
        """What the model reads for each class."""
        return tuple(map(self.worded, self.label_set.texts))

    @cached_property
    def label_texts(self) -> tuple[str, ...]:
        """What the model reads: the classes, or every branch and leaf of a hierarchy."""
        if self.hierarchy is None:
            return self.class_texts
        return tuple(map(self.worded, self.hierarchy.texts))

    def arguments(
        self,
        examples: Sequence[Sequence[PromptExample]] | None = None,
        count: VoteCount | None = None,
    ) -> dict[str, Any]:
        """Give the arguments of ``Engine.logits`` but for the texts.

        Parameters
        ----------
        examples : sequence of sequence of PromptExample, optional
            What the prompt of each text shows, as :meth:`examples_for` gives it; by default the
            examples that all share.
        count : VoteCount, optional
            What takes the texts' vectors, to find who votes on them.
        """
        return {
            "label_texts": self.label_texts,
            "options": self.options,
            "examples": self.examples if examples is None else examples,
            "embedder": self.embedder,
            "change": self.change,
            "on_vectors": None if count is None else count.take,
        }

    def class_logits(
        self, logits: NDArray[np.float32], count: VoteCount | None = None
    ) -> NDArray[np.float32]:
        """Make logits of the classes of what the engine gave for :attr:`label_texts`.

        Parameters
        ----------
        logits : ndarray of shape (n_texts, n_label_texts)
        count : VoteCount, optional
            The votes on the same texts, which become a part of the logits.
        """
        if self.hierarchy is not None:
            logits = self.hierarchy.class_logits(logits, self.multi_label)
        return logits if count is None else count.added(logits)

    def counted(self, texts: Sequence[str]) -> VoteCount | None:
        """Begin to count the votes on texts, where there are any."""
        return None if self.votes is None else self.votes.count(texts, [self.label_set.texts])

    def examples_for(
        self,
        engine: Engine,
        texts: Sequence[str],
        store: Store | None,
        *,
        exclude_self: bool = False,
    ) -> list[list[PromptExample]] | None:
        """Choose what the prompt of each text shows.

        Parameters
        ----------
        engine : Engine
            Of the model that the vectors in the store are of.
        texts : sequence of str of length n_texts
            What is classified or learnt from.
        store : ExampleStore, VoteStore or None
            The labelled texts to retrieve from; those that vote are not shown.
        exclude_self : bool, default=False
            Whether to leave out every example with the same text, whose labels are the answer.

        Returns
        -------
        list of list of PromptExample, or None
            The retrieved ones, the nearest first, before those that all share; None where all
            texts have the same. Where the store has fewer than are wanted, all of it.

        Raises
        ------
        NotFittedError
            If examples are to be retrieved and there is no store.
        """
        from ..engine.votes import VoteStore

        if self.n_retrieved == 0 or isinstance(store, VoteStore):
            if not (exclude_self and self.examples):
                return None
            return [self._others(text) for text in texts]
        if store is None:
            raise NotFittedError(
                f"n_retrieved={self.n_retrieved} retrieves labelled texts from fit, and none "
                "are kept. Call fit(X, y) with this n_retrieved first (max_epochs=0 trains "
                "nothing), or set n_retrieved=0."
            )
        # After few calls of partial_fit there may be fewer than are wanted.
        k = min(self.n_retrieved, len(store) - exclude_self)
        retrieved: list[list[PromptExample]] = [[] for _ in texts]
        if k:
            # Without the task description, as the vectors in the store are.
            vectors = engine.text_vectors(texts)
            nearest = store.query(texts, vectors, k, exclude_self=exclude_self)
            # What is kept has the label texts without the template, which may be changed.
            retrieved = [list(map(self.worded_example, of_text)) for of_text in nearest]
        if not self.examples:
            return retrieved
        fixed = self._others if exclude_self else lambda _: list(self.examples)
        return [[*of_text, *fixed(text)] for text, of_text in zip(texts, retrieved, strict=True)]

    def _others(self, text: str) -> list[PromptExample]:
        return [example for example in self.examples if example.text != text]

    # The names of classes, by which rows with label sets of their own name theirs.

    # Classes may be numbers, but a row in a file names its labels by strings.
    # A frozen dataclass refuses setattr, but cached_property writes into `__dict__`.
    @cached_property
    def _columns(self) -> dict[str, int]:
        return {str(value): j for j, value in enumerate(self.label_set.classes.tolist())}

    @cached_property
    def known_of_rows(self) -> dict[Hashable, Any]:
        """What was found out about label sets of rows, to be asked for once."""
        return {}

    def columns_of(self, names: Sequence[str]) -> list[int] | None:
        """Give the columns of a row's labels; None where these are not all of the classes."""
        columns = self._columns
        if len(names) != len(columns) or not all(name in columns for name in names):
            return None
        return [columns[name] for name in names]

    def plain_text_of(self, name: str) -> str:
        """Give the label text of a name: that of a class, others as they are named."""
        column = self._columns.get(name)
        return name if column is None else self.label_set.texts[column]

    def text_of(self, name: str) -> str:
        """Give what the model reads for a label by its name."""
        return self.worded(self.plain_text_of(name))


def word_label(label_text: str, template: str | None) -> str:
    """Put a label text in its place in a template, where there is one."""
    # Not str.format: a template may have other braces, which stand for themselves.
    return label_text if template is None else template.replace("{}", label_text)


def _check_template(template: str | None) -> None:
    if template is None:
        return
    check_unicode(template, "label_template")
    n_places = template.count("{}")
    if n_places != 1:
        raise ValueError(
            f"label_template={template!r} has {n_places} places for the label text; it needs "
            'exactly one, written {}, as in "This text is about {}".'
        )


def _hierarchy(parameters: Mapping[str, Any], snapshot: Snapshot) -> Hierarchy | None:
    if parameters["hierarchy"] != "path":
        return None
    tree = Hierarchy.of(snapshot.labels, snapshot.label_set.texts)
    if tree is None:
        raise ValueError(
            'hierarchy="path" needs labels with branches: a dict of lists or dicts, such as '
            'labels={"topic": ["sport", "travel"]}. Give them, or set hierarchy="leaves".'
        )
    shortlist = parameters["shortlist"]
    if shortlist is not None:
        raise ValueError(
            f'shortlist={shortlist} does not go with hierarchy="path", which needs '
            'the score of every branch. Set shortlist=None or hierarchy="leaves".'
        )
    return tree
