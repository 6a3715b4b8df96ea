"""Where the words of a text are, in any language, and what the text is without some of them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int]

_BETWEEN_SPACES = re.compile(r"\S+")
# Thai, Lao, Burmese, Khmer, kana and Han are written without spaces between words.
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_RUNS = re.compile(f"[{_WITHOUT_SPACES}]+|[^{_WITHOUT_SPACES}]+")
_IS_WITHOUT_SPACES = re.compile(f"[{_WITHOUT_SPACES}]")


def spans_of_words(text: str, tokens: Callable[[str], Iterable[Span]] | None = None) -> list[Span]:
    """Find the words of a text, and punctuation and symbols between them.

    Parameters
    ----------
    text : str
    tokens : callable, optional
        Gives the places of tokens in a part of the text that is written without spaces; by default
        every letter is one.

    Returns
    -------
    list of (int, int)
        Begins and ends, ascending. Only white space lies between them.
    """
    return [
        (run.start() + a, run.start() + b)
        for match in _BETWEEN_SPACES.finditer(text)
        for start, end in _without_punctuation(text, *match.span())
        for run in _RUNS.finditer(text, start, end)
        for a, b in _in_run(run[0], tokens or _letters)
    ]


def _in_run(run: str, tokens: Callable[[str], Iterable[Span]]) -> list[Span]:
    is_without_spaces = _IS_WITHOUT_SPACES.match(run) is not None
    return _whole(tokens(run), run) if is_without_spaces else [(0, len(run))]


def _letters(run: str) -> Iterator[Span]:
    return ((i, i + 1) for i in range(len(run)))


def _without_punctuation(text: str, start: int, end: int) -> Iterator[Span]:
    """Part a word from what stands before and behind it; marks inside, as in "don't", stay."""
    first, last = start, end
    while first < end and _is_mark(text[first]):
        first += 1
    while last > first and _is_mark(text[last - 1]):
        last -= 1
    yield from ((a, b) for a, b in ((start, first), (first, last), (last, end)) if a < b)


def _is_mark(letter: str) -> bool:
    # Joiners and selectors belong to the symbol that they stand beside.
    return unicodedata.category(letter)[0] in "PS" or letter in "\u200d\ufe0e\ufe0f"


def _whole(found: Iterable[Span], run: str) -> list[Span]:
    """Make neighbours of tokens that may overlap or leave gaps, none beginning inside a letter."""
    starts = {a for a, b in found if a < b and unicodedata.category(run[a])[0] != "M"}
    return list(pairwise(sorted({0, len(run)} | starts)))


def spans_of_pieces(text: str, pieces: Sequence[str], row: Any) -> list[Span]:
    """Find the words that a user's own tokenizer gives, in their order.

    Raises
    ------
    ValueError
        If one of them is not in the text, behind those before it.
    """
    spans, position = [], 0
    for piece in pieces:
        if not isinstance(piece, str):
            raise TypeError(f"tokenizer gives {piece!r} for text {row}; it must give strings.")
        start = text.find(piece, position)
        if start < 0:
            raise ValueError(
                f"tokenizer gives {piece!r} for text {row}, which is not in it after position "
                f"{position}. It must give parts of the text as they stand there, in their order."
            )
        position = start + len(piece)
        spans += [(start, position)] if piece.strip() else []
    return spans


def in_groups(spans: Sequence[Span], n_most: int) -> list[Span]:
    """Put neighbouring words together until there are no more than so many spans."""
    if len(spans) <= n_most:
        return list(spans)
    borders = np.linspace(0, len(spans), n_most + 1).round().astype(int)
    return [(spans[a][0], spans[b - 1][1]) for a, b in pairwise(borders.tolist())]


def without(text: str, start: int, end: int) -> str:
    """Leave a part out of a text, and with it one of the spaces around it."""
    before, after = text[:start], text[end:]
    if not after or after.isspace():
        return before.rstrip()
    if (not before or before[-1].isspace()) and after[0].isspace():
        after = after[1:]
    return before + after


def without_words(text: str, spans: NDArray[np.intp]) -> str:
    """Leave several parts out of a text.

    Parameters
    ----------
    text : str
    spans : ndarray of shape (n_spans, 2)
        Begins and ends, which do not overlap.
    """
    for start, end in sorted(spans.tolist(), reverse=True):
        text = without(text, start, end)
    return text
