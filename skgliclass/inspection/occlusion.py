"""Which words speak for and against a class: what changes without them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..estimators.base import BaseGLiClass
from ..estimators.calibration import as_log_odds
from ..estimators.parameters import check_count
from ..estimators.texts import as_texts, row_index
from .explanation import Explanation
from .inputs import as_table
from .words import Span, in_groups, spans_of_pieces, spans_of_words, without

Scorer = Callable[[list[str]], NDArray[np.float64]]

MOST_CHARACTERS = 1 << 21
"""How many characters texts that lack a word each may have together before they are scored."""

MOST_TEXTS = 1 << 12

_LOWEST = 1e-12


def explain(
    estimator: Any,
    X: Any,
    *,
    classes: Sequence[Any] | None = None,
    tokenizer: Callable[[str], Sequence[str]] | None = None,
    max_evals: int = 256,
) -> Explanation:
    """Tell which words speak for and against each class, by leaving them out one by one.

    The effect of a word is how much lower the log-odds ``log(p / (1 - p))`` of the class are
    without it, which do not saturate as probabilities do. Each text without a word is scored as any
    text is, so that effects are exact whatever scores: any architecture, with what was learnt,
    examples, votes and chunks.

    Parameters
    ----------
    estimator : classifier
        One of this package, fitted or with ``labels=``, or any other fitted classifier of texts
        with ``predict_proba``, such as a pipeline.
    X : list, tuple, ndarray, Series or one-column frame of shape (n_texts,)
        The texts. One of n words is scored at most ``min(n, max_evals) + 1`` times.
    classes : sequence of classes, default=None
        What to explain; by default all classes, which takes memory alone.
    tokenizer : callable, default=None
        Takes a text and gives its words in their order, as that of ``CountVectorizer`` does. By
        default words are what stands between spaces, but for punctuation around it, which counts by
        itself; in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) the tokens
        of the model's tokenizer.
    max_evals : int, default=256
        How many parts of a text are left out at most, one at a time. Of a text with more words
        neighbouring words make one part.

    Returns
    -------
    explanation : Explanation
        With the effects as a frame, as HTML and as a picture.

    Raises
    ------
    ValueError, TypeError
        If a row is missing or not a text, a class is unknown, or `tokenizer` gives what is not in
        the text.

    Examples
    --------
    >>> from skgliclass import GLiClassClassifier
    >>> from skgliclass.inspection import explain
    >>> clf = GLiClassClassifier(labels=["travel", "cooking", "sport"])
    >>> frame = explain(clf, ["We went to see the match."], classes=["sport"]).to_frame()
    >>> frame.loc[frame["effect"].idxmax(), "word"]
    'match'
    """
    check_count("max_evals", max_evals)
    texts, index = as_texts(X), row_index(X)
    rows = list(range(len(texts))) if index is None else index.tolist()
    asked = _Asked(estimator, texts)
    find = _finder(tokenizer, asked.tokens)
    spans = [in_groups(find(*pair), int(max_evals)) for pair in zip(texts, rows, strict=True)]
    return _explained(asked, texts, rows, spans, _columns(asked.classes, classes))


def _explained(
    asked: _Asked,
    texts: list[str],
    rows: Sequence[Any],
    spans: Sequence[Sequence[Span]],
    columns: list[int],
) -> Explanation:
    effects = [np.empty((len(of_text), len(columns)), dtype=np.float32) for of_text in spans]
    base = asked.base[:, columns]
    for places, variants in _batches(texts, spans):
        changed = asked.score(variants)[:, columns]
        for (row, word), log_odds in zip(places, changed, strict=True):
            effects[row][word] = base[row] - log_odds
    known = [np.asarray(of_text, dtype=np.intp).reshape(-1, 2) for of_text in spans]
    names = [asked.classes[k] for k in columns]
    return Explanation(texts, names, base, known, effects, rows=rows)


class _Asked:
    """A classifier whose log-odds are asked for again and again.

    Attributes
    ----------
    base : ndarray of shape (n_texts, n_classes)
        Those of the texts as they are.
    classes : list of length n_classes
    score : callable
        Gives those of other texts, without warnings that would say again what was said.
    tokens : callable or None
        Gives the places of a model's tokens in a text.
    """

    def __init__(self, estimator: Any, texts: list[str]) -> None:
        self.tokens: Callable[[str], list[Span]] | None = None
        self.score: Scorer
        if isinstance(estimator, BaseGLiClass):
            # One snapshot, so that a refit meanwhile cannot mix into it.
            snapshot = estimator._snapshot_with_labels()
            self.classes = snapshot.label_set.classes.tolist()

            def log_odds(texts: list[str], *, warns: bool = False) -> NDArray[np.float64]:
                scores = estimator._scores(texts, snapshot=snapshot, texts=texts, warns=warns)
                return np.asarray(scores.each(lambda of: of.log_odds))

            self.base = log_odds(texts, warns=True)
            self.score = log_odds
            self.tokens = estimator._engine(snapshot.weights).token_spans
        else:
            self.score = lambda texts: _log_odds_of_any(estimator, texts)
            self.base = self.score(texts)
            known = getattr(estimator, "classes_", range(self.base.shape[1]))
            self.classes = np.asarray(known).tolist()


def _log_odds_of_any(estimator: Any, texts: list[str]) -> NDArray[np.float64]:
    """Give the log-odds of a classifier that has probabilities alone."""
    if not hasattr(estimator, "predict_proba"):
        raise TypeError(
            f"{type(estimator).__name__} has no predict_proba, whose change is to be explained."
        )
    p = as_table(estimator.predict_proba(texts), "predict_proba").astype(np.float64)
    clipped = np.clip(p, _LOWEST, 1)
    if p.shape[1] > 1 and np.allclose(p.sum(axis=1), 1, atol=1e-3):
        return as_log_odds(np.log(clipped), multi_label=False)
    return np.asarray(np.log(clipped) - np.log(np.clip(1 - p, _LOWEST, 1)))


def _columns(known: list[Any], classes: Sequence[Any] | None) -> list[int]:
    """Give where the classes to explain stand."""
    if classes is None:
        return list(range(len(known)))
    if isinstance(classes, str):
        raise TypeError(f"classes is the single string {classes!r}. Write classes=[{classes!r}].")
    unknown = [value for value in classes if value not in known]
    if unknown:
        raise ValueError(f"classes has {unknown[0]!r}, which is none of {known[:8]!r:.200}.")
    return [known.index(value) for value in classes]


def _finder(
    tokenizer: Callable[[str], Sequence[str]] | None,
    tokens: Callable[[str], list[Span]] | None,
) -> Callable[[str, Any], list[Span]]:
    if tokenizer is None:
        return lambda text, row: spans_of_words(text, tokens)
    return lambda text, row: spans_of_pieces(text, list(tokenizer(text)), row)


def _batches(
    texts: Sequence[str], spans: Sequence[Sequence[Span]]
) -> Iterator[tuple[list[tuple[int, int]], list[str]]]:
    """Give the texts that lack a word each, few enough at a time, with what they lack."""
    places: list[tuple[int, int]] = []
    variants: list[str] = []
    n_characters = 0
    for row, (text, of_text) in enumerate(zip(texts, spans, strict=True)):
        for word, (start, end) in enumerate(of_text):
            if variants and (
                n_characters + len(text) > MOST_CHARACTERS or len(variants) >= MOST_TEXTS
            ):
                yield places, variants
                places, variants, n_characters = [], [], 0
            places.append((row, word))
            variants.append(without(text, start, end))
            n_characters += len(text)
    if variants:
        yield places, variants
