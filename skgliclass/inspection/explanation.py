"""What an explanation says: effects of words, as a frame, as HTML and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from typing_extensions import Self

from ..estimators.labels import as_class_array
from .plotting import (
    BLUE,
    GREY,
    ORANGE,
    add_title,
    despine,
    name_ticks,
    one_line,
    open_axes,
    style,
)

if TYPE_CHECKING:
    from .plotting import Axes

_MOST_IN_NOTEBOOK = 20
_STRONGEST = 0.6

# For by its colour alone, against by a line as well, for those who do not see colours.
_STYLE = """<style>
.skgliclass-explanation { line-height: 1.7; max-width: 60em; }
.skgliclass-explanation .text { margin: 0 0 0.9em; white-space: pre-wrap; overflow-wrap: anywhere; }
.skgliclass-explanation .class { font-weight: 600; }
.skgliclass-explanation .note { opacity: 0.65; font-size: 0.9em; }
.skgliclass-explanation mark { color: inherit; border-radius: 0.2em; padding: 0.1em 0; }
.skgliclass-explanation mark.for { background: rgba(42, 111, 176, var(--a)); }
.skgliclass-explanation mark.against {
  background: rgba(217, 102, 43, var(--a)); text-decoration: underline dotted; }
</style>"""


class Explanation:
    """Which words of texts speak for and against classes, as :func:`explain` found it.

    All parameters are stored as attributes.

    Parameters
    ----------
    texts : list of str of length n_texts
        What was explained.
    classes : list of length n_classes
        What for.
    log_odds : ndarray of shape (n_texts, n_classes)
        The logits of the probabilities of the whole texts.
    spans : list of ndarray of shape (n_words, 2)
        For each text where its words begin and end.
    effects : list of ndarray of shape (n_words, n_classes)
        For each text by how much the log-odds are lower without each word: above 0 it speaks for
        the class, below 0 against it.
    rows : sequence of length n_texts, default=None
        What to call the texts; by default they are numbered.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        The effects in the picture.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    def __init__(
        self,
        texts: Sequence[str],
        classes: Sequence[Any],
        log_odds: NDArray[Any],
        spans: Sequence[NDArray[np.intp]],
        effects: Sequence[NDArray[Any]],
        *,
        rows: Sequence[Any] | None = None,
    ) -> None:
        self.texts = texts
        self.classes = classes
        self.log_odds = log_odds
        self.spans = spans
        self.effects = effects
        self.rows = list(range(len(texts))) if rows is None else rows

    def __len__(self) -> int:
        return len(self.texts)

    def __repr__(self) -> str:
        n_texts, n_classes = len(self.texts), len(self.classes)
        of_texts = f"{n_texts} text{'s' * (n_texts != 1)}"
        return f"<Explanation of {of_texts} for {n_classes} class{'es' * (n_classes != 1)}>"

    def words(self, i: int) -> list[str]:
        """Give the words of a text.

        Parameters
        ----------
        i : int
            The position of the text.

        Returns
        -------
        list of str of length n_words
        """
        return [self.texts[i][start:end] for start, end in self.spans[i].tolist()]

    def to_frame(self) -> pd.DataFrame:
        """Give the effects as a frame, a row for each word and class.

        Returns
        -------
        DataFrame
            With the columns ``row`` (the index of a pandas object, otherwise the position of the
            text), ``start`` and ``end`` (of the word in the text), ``word``, ``class`` and
            ``effect``; in the order of the texts, their words and the classes.
        """
        n_words, n_classes = [len(of_text) for of_text in self.spans], len(self.classes)
        spans = np.concatenate([*self.spans, np.empty((0, 2), dtype=np.intp)])
        effects = np.concatenate([*self.effects, np.empty((0, n_classes), dtype=np.float32)])
        words = [word for i in range(len(self)) for word in self.words(i)]
        return pd.DataFrame(
            {
                "row": pd.Index(self.rows).repeat(n_words).repeat(n_classes),
                "start": spans[:, 0].repeat(n_classes),
                "end": spans[:, 1].repeat(n_classes),
                "word": np.asarray(words, dtype=object).repeat(n_classes),
                "class": np.tile(as_class_array(list(self.classes)), len(spans)),
                "effect": effects.ravel(),
            }
        )

    # For eyes.

    def to_html(self, *, n_classes: int = 1, n_texts: int | None = None) -> str:
        """Give the texts with coloured words, as HTML that needs nothing else.

        Words for a class are blue, words against it orange and underlined; the colours are full at
        the largest effect in a text, or at 1 where none is as large. Whatever stands in a text or
        a class stays text.

        Parameters
        ----------
        n_classes : int, default=1
            For how many classes each text is shown, the most probable first.
        n_texts : int, default=None
            How many texts are shown at most; by default all.

        Returns
        -------
        str
        """
        shown = range(len(self) if n_texts is None else min(n_texts, len(self)))
        parts = [
            self._marked(i, k, float(np.abs(self.effects[i]).max(initial=1)))
            for i in shown
            for k in np.argsort(-self.log_odds[i], kind="stable")[:n_classes].tolist()
        ]
        if len(shown) < len(self):
            parts.append(f'<div class="note">{len(shown)} of {len(self):,} texts</div>')
        inner = "\n".join(parts)
        return f'<div class="skgliclass-explanation">{_STYLE}\n{inner}\n</div>'

    def _repr_html_(self) -> str:
        return self.to_html(n_texts=_MOST_IN_NOTEBOOK)

    def _marked(self, i: int, k: int, largest: float) -> str:
        """Give one text with the effects of its words on one class."""
        text, position, parts = self.texts[i], 0, []
        for (start, end), effect in zip(self.spans[i].tolist(), self.effects[i][:, k], strict=True):
            parts.append(escape(text[position:start]))
            kind, share = "for" if effect > 0 else "against", abs(float(effect)) / largest
            # What is not to be seen need not be marked.
            word = escape(text[start:end])
            strength = round(_STRONGEST * share, 2)
            parts.append(
                f'<mark class="{kind}" style="--a:{strength}" title="{effect:+.2f}">{word}</mark>'
                if strength >= 0.03
                else f'<span title="{effect:+.2f}">{word}</span>'
            )
            position = end
        parts.append(escape(text[position:]))
        name, p = escape(str(self.classes[k])), expit(self.log_odds[i, k])
        head = f'<span class="class">{name}</span> <span class="note">{p:.2f}</span>'
        return f'<div>{head}</div>\n<div class="text" dir="auto">{"".join(parts)}</div>'

    def plot(
        self,
        i: int = 0,
        target: Any = None,
        *,
        ax: Axes | None = None,
        n_words: int = 15,
        **kwargs: Any,
    ) -> Self:
        """Draw the strongest effects of a text's words as bars.

        Parameters
        ----------
        i : int, default=0
            The position of the text.
        target : class, default=None
            For which class; by default the most probable one.
        ax : matplotlib Axes, default=None
            What to draw on; by default a new figure.
        n_words : int, default=15
            How many words to show at most, in the order of the text.
        **kwargs
            Keywords of ``barh``.

        Returns
        -------
        explanation : Explanation

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the class was not explained.
        """
        k = self._column(i, target)
        effects, words = self.effects[i][:, k], self.words(i)
        shown = np.sort(np.argsort(-np.abs(effects), kind="stable")[:n_words])
        size = (5.6, 1.3 + 0.27 * max(len(shown), 2))
        ax, figure = open_axes(ax, f"{type(self).__name__}.plot", size)
        colours = np.where(effects[shown] > 0, BLUE, ORANGE).tolist()
        look = style({"color": colours, "height": 0.7}, kwargs, "Patch")
        self.bars_ = ax.barh(np.arange(len(shown)), effects[shown], **look)
        name_ticks(ax, "y", [words[j] for j in shown], width=32)
        ax.invert_yaxis()
        ax.axvline(0, color=GREY, lw=0.8)
        ax.set_xlabel("change of the log-odds by the word")
        p = expit(self.log_odds[i, k])
        add_title(ax, f"{one_line(self.classes[k], 40)}, {p:.2f}")
        ax.tick_params(axis="y", length=0)
        despine(ax)
        ax.spines["left"].set_visible(False)
        self.ax_, self.figure_ = ax, figure
        return self

    def _column(self, i: int, target: Any) -> int:
        if target is None:
            return int(np.argmax(self.log_odds[i]))
        if target not in self.classes:
            known = list(self.classes)
            raise ValueError(f"target={target!r} was not explained; choose from {known!r:.200}.")
        return list(self.classes).index(target)
