"""How an estimator asks its engine, as its parameters say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ..prompts.checks import check_unicode
from .hierarchy import Hierarchy
from .labels import LabelSet

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..engine.retrieval import ExampleStore
    from ..prompts.examples import PromptExample
    from .base import BaseGLiClass

_PASSED_ON = (
    "example_format",
    "long_texts",
    "chunk_overlap",
    "chunk_pooling",
    "n_permutations",
    "shortlist",
)


@dataclass(frozen=True, eq=False)
class ScoringOptions:
    """How an estimator asks its engine.

    Attributes
    ----------
    label_set : LabelSet
        The classes whose logits are asked for.
    multi_label : bool
        Whether each class is judged on its own.
    examples : tuple of PromptExample
        What every prompt shows.
    n_retrieved : int
        How many of the nearest labelled texts a prompt shows before these.
    arguments : dict
        Further arguments of ``Engine.logits``.
    hierarchy : Hierarchy or None
        Along which the scores of classes and of branches combine.
    """

    label_set: LabelSet
    multi_label: bool
    examples: tuple[PromptExample, ...]
    n_retrieved: int
    arguments: dict[str, Any]
    hierarchy: Hierarchy | None = None
    embedder: Engine | None = None

    @classmethod
    def of(cls, estimator: BaseGLiClass, label_set: LabelSet) -> ScoringOptions:
        """Read an estimator's parameters.

        Raises
        ------
        ValueError, TypeError
            If an example is at fault, or parameters do not go together; the message names it.
        """
        arguments = {name: getattr(estimator, name) for name in _PASSED_ON}
        arguments["task_description"] = estimator.task_description or ""
        check_unicode(arguments["task_description"], "task_description")
        # Examples name classes as `labels` does, whatever integers stand for them in `y`.
        named = estimator._given_label_set() or label_set
        nests = estimator.hierarchy == "path"
        tree = Hierarchy.of(estimator.labels, label_set.texts) if nests else None
        if nests and tree is None:
            raise ValueError(
                'hierarchy="path" needs labels with branches: a dict of lists or dicts, such as '
                'labels={"topic": ["sport", "travel"]}. Give them, or set hierarchy="leaves".'
            )
        if nests and estimator.shortlist is not None:
            raise ValueError(
                f'shortlist={estimator.shortlist} does not go with hierarchy="path", which needs '
                'the score of every branch. Set shortlist=None or hierarchy="leaves".'
            )
        return cls(
            label_set,
            estimator._multi_label,
            read_examples(estimator.examples, named),
            estimator.n_retrieved,
            arguments,
            tree,
            None if estimator.shortlist is None else estimator._embedder(),
        )

    def logits(
        self,
        engine: Engine,
        texts: Sequence[str],
        shown: Sequence[Sequence[PromptExample]] | None = None,
        *,
        on_progress: Callable[[float], object] | None = None,
    ) -> NDArray[np.float32]:
        """Score texts.

        Parameters
        ----------
        engine : Engine
            With the model.
        texts : sequence of str of length n_texts
            What to classify.
        shown : sequence of sequence of PromptExample, optional
            What the prompt of each text shows, as :meth:`shown` gives it; by default the examples
            that all share.
        on_progress : callable, optional
            Called now and then with the number of texts done since the last call.

        Returns
        -------
        ndarray of shape (n_texts, n_classes), float32
        """
        from ..engine.options import ScoringOptions as EngineOptions

        tree = self.hierarchy
        found = engine.logits(
            texts,
            self.label_set.texts if tree is None else tree.names,
            EngineOptions(**self.arguments),
            examples=self.examples if shown is None else shown,
            embedder=self.embedder,
            on_progress=on_progress,
        )
        return found if tree is None else tree.class_logits(found, self.multi_label)

    def shown(
        self,
        engine: Engine,
        texts: Sequence[str],
        store: ExampleStore | None,
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
        store : ExampleStore or None
            The labelled texts to retrieve from.
        exclude_self : bool, default=False
            Whether to leave out every example with the same text, whose labels are the answer.

        Returns
        -------
        list of list of PromptExample, or None
            The retrieved ones, the nearest first, before those that all share; None where no text
            has examples of its own. Where the store has fewer than are wanted, all of it.

        Raises
        ------
        NotFittedError
            If examples are to be retrieved and there is no store.
        """
        if self.n_retrieved == 0:
            if not (exclude_self and self.examples):
                return None
            return [self._others(text) for text in texts]
        if store is None:
            raise NotFittedError(
                f"n_retrieved={self.n_retrieved} shows the model labelled texts from fit, and none "
                "are kept. Call fit(X, y) with this n_retrieved first (max_epochs=0 trains "
                "nothing), or set n_retrieved=0."
            )
        k = min(self.n_retrieved, len(store) - exclude_self)
        found: list[list[PromptExample]] = [[] for _ in texts]
        if k:
            found = store.query(texts, engine.text_vectors(texts), k, exclude_self=exclude_self)
        if not self.examples:
            return found
        rest = self._others if exclude_self else lambda _: list(self.examples)
        return [[*own, *rest(text)] for text, own in zip(texts, found, strict=True)]

    def _others(self, text: str) -> list[PromptExample]:
        return [example for example in self.examples if example.text != text]


def read_examples(examples: Any, label_set: LabelSet) -> tuple[PromptExample, ...]:
    """Read the `examples` parameter of an estimator.

    Parameters
    ----------
    examples : list of (text, class), (text, list of classes) or dict, or None
        A dict has the keys ``"text"`` and ``"labels"``.
    label_set : LabelSet
        What classes there are, and what the model reads for them.

    Returns
    -------
    tuple of PromptExample

    Raises
    ------
    ValueError, TypeError
        If an example has no text, an unknown class or another form; the message names it.
    """
    if examples is None:
        return ()
    if isinstance(examples, Mapping):
        raise TypeError(
            "examples must be a list of (text, class) pairs; for one example write "
            "examples=[{'text': ..., 'labels': ...}]."
        )
    text_of = dict(zip(label_set.classes.tolist(), label_set.texts, strict=True))
    return tuple(_read_example(i, entry, text_of) for i, entry in enumerate(examples))


def _read_example(i: int, entry: Any, text_of: dict[Any, str]) -> PromptExample:
    from ..prompts.examples import PromptExample

    text, labels = _text_and_labels(i, entry)
    if isinstance(labels, str) or not isinstance(labels, list | tuple | set | np.ndarray):
        labels = [labels]
    try:
        return PromptExample(text, [_label_text(i, value, text_of) for value in labels])
    except (TypeError, ValueError) as error:
        where = "" if str(error).startswith("examples[") else f"examples[{i}]: "
        raise type(error)(f"{where}{error}") from error


def _text_and_labels(i: int, entry: Any) -> tuple[Any, Any]:
    if isinstance(entry, Mapping):
        missing = {"text", "labels"} - entry.keys()
        if missing:
            raise ValueError(
                f"examples[{i}] has no {' and no '.join(map(repr, sorted(missing)))}; an example "
                "is a dict with the keys 'text' and 'labels', or a (text, class) pair."
            )
        return entry["text"], entry["labels"]
    if isinstance(entry, str) or not isinstance(entry, Sequence | np.ndarray) or len(entry) != 2:
        raise TypeError(
            f"examples[{i}] is {entry!r}; an example is a (text, class) or (text, [classes]) "
            "pair, or a dict with the keys 'text' and 'labels'."
        )
    return entry[0], entry[1]


def _label_text(i: int, value: Any, text_of: dict[Any, str]) -> str:
    value = value.item() if isinstance(value, np.generic) else value
    try:
        return text_of[value]
    except (KeyError, TypeError):
        known = list(text_of)
        shown = ", ".join(map(repr, known[:8])) + (", ..." if len(known) > 8 else "")
        raise ValueError(
            f"examples[{i}] has the unknown class {value!r}; the classes are {shown}."
        ) from None
