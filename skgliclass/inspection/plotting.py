"""What all pictures share: the way to matplotlib, and users' texts drawn as they are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import missing_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes
    from matplotlib.figure import Figure as Figure
    from matplotlib.legend import Legend

BLUE, ORANGE, GREEN, GREY = "#2a6fb0", "#d9662b", "#3a8f5c", "#8a8f98"
"""For what is so, what is not, what is chosen, and what stands behind."""

_UNSEEN = {"Mn", "Me", "Cf"}
_BOX = "\u25a1"
_SHORT = 7
_FAINT = 0.06


def check_matplotlib(caller: str) -> None:
    """Refuse to go on without matplotlib, before anything that takes long.

    Raises
    ------
    ImportError
        If it is not installed; the message names the extra.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(missing_extra(caller, "matplotlib", "inspection")) from error


def open_axes(
    ax: Axes | None, caller: str, figsize: tuple[float, float] | None = None
) -> tuple[Axes, Figure]:
    """Give the axes to draw on, those of a new figure where the user has none."""
    check_matplotlib(caller)
    if ax is None:
        import matplotlib.pyplot as plt

        _, ax = plt.subplots(figsize=figsize, layout="constrained")
    return ax, ax.figure  # type: ignore[return-value]


def style(defaults: Mapping[str, Any], chosen: Mapping[str, Any] | None, artist: str) -> Any:
    """Let what the user chose, in any of matplotlib's spellings, win over the defaults.

    Parameters
    ----------
    defaults, chosen : mapping
        Keywords of the artist.
    artist : str
        The name of its class in ``matplotlib.lines``, ``text``, ``image`` or ``patches``.
    """
    from matplotlib import cbook, image, lines, patches, text

    kinds: dict[str, Any] = {
        "Line2D": lines.Line2D,
        "Text": text.Text,
        "AxesImage": image.AxesImage,
        "Patch": patches.Patch,
    }
    one_spelling = [
        cbook.normalize_kwargs(dict(options or {}), kinds[artist]) for options in (defaults, chosen)
    ]
    return one_spelling[0] | one_spelling[1]


def despine(ax: Axes) -> None:
    """Leave out the lines above and on the right."""
    ax.spines[["top", "right"]].set_visible(False)


# Texts of users.


def names_of(display_labels: Sequence[Any] | None, n: int) -> Sequence[Any]:
    """Give what to call labels: numbers where nobody named them."""
    return range(n) if display_labels is None else list(display_labels)


def one_line(text: object, width: int) -> str:
    """Give the beginning of a text on one line, as wide as so many Latin letters at most."""
    line = " ".join("".join(map(_visible, str(text)[: 4 * width])).split())
    room = width - 1
    for i, letter in enumerate(line):
        room -= _width_of(letter)
        if room < 0:
            is_last = i == len(line) - 1 and room == -1 and len(str(text)) <= 4 * width
            return line if is_last else line[:i].rstrip() + "\u2026"
    return line


def _visible(letter: str) -> str:
    return " " if unicodedata.category(letter) in {"Cc", "Zl", "Zp"} else letter


def _width_of(letter: str) -> int:
    if unicodedata.category(letter) in _UNSEEN:
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def lettered(strings: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Give what to draw for strings, and with which properties of a text, to show them as they are.

    Nothing in them is a formula, and letters come from any font that has them; a box stands for one
    that none has.
    """
    from matplotlib import rcParams

    families, missing = _fonts_for(frozenset(c for c in "".join(strings) if not c.isascii()))
    shown = ["".join(_replaced(c) if c in missing else c for c in s) for s in strings]
    options = {"parse_math": False, "usetex": False}
    if families:
        return shown, {**options, "fontfamily": [*rcParams["font.family"], *families]}
    return shown, options


def _replaced(letter: str) -> str:
    return "" if unicodedata.category(letter) in _UNSEEN else _BOX


@lru_cache(maxsize=256)
def _fonts_for(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Give installed fonts that have what the usual one lacks, and what none of them has."""
    from matplotlib import font_manager

    missing = letters - _letters_of(font_manager.findfont(font_manager.FontProperties()))
    families: list[str] = []
    for entry in font_manager.fontManager.ttflist if missing else ():
        # The one of last resort has a box for each script; those in colour are pictures, which
        # FreeType does not draw as outlines.
        is_plain = entry.style == "normal" and not {"Resort", "Color"} & set(entry.name.split())
        if missing and is_plain and entry.name not in families:
            found = missing & _letters_of(entry.fname)
            families += [entry.name] if found else []
            missing -= found
    return tuple(families), missing


@lru_cache(maxsize=512)
def _letters_of(path: str) -> frozenset[str]:
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def name_ticks(
    ax: Axes, which: str, names: Iterable[object], *, width: int, **text_options: Any
) -> None:
    """Put users' texts beside the ticks of the ``"x"`` or ``"y"`` axis, at 0, 1, 2, ..."""
    shown, options = lettered([one_line(name, width) for name in names])
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_ticks(np.arange(len(shown)), labels=shown, **options, **text_options)


def add_title(ax: Axes, text: str) -> None:
    """Put users' text above small axes, on the left."""
    (shown,), options = lettered([text])
    ax.set_title(shown, loc="left", fontsize="medium", **options)


def add_legend(ax: Axes, handles: Sequence[Any], names: Sequence[str], **options: Any) -> Legend:
    """Explain lines by users' texts."""
    shown, of_texts = lettered(names)
    # Put in afterwards: older versions of matplotlib leave out names that begin with "_".
    legend = ax.legend(list(handles), ["name"] * len(shown), **options)
    for artist, name in zip(legend.get_texts(), shown, strict=True):
        artist.update({**of_texts, "text": name})
    return legend


# Tables.


def draw_table(
    ax: Axes,
    values: NDArray[Any],
    *,
    rows: Sequence[object],
    columns: Sequence[object],
    row_width: int,
    column_width: int = 28,
    **image_options: Any,
) -> Any:
    """Draw values as coloured cells with names beside and below them."""
    image = ax.imshow(values, aspect="auto", **image_options)
    name_ticks(ax, "y", rows, width=row_width)
    is_short = all(len(str(name)) <= _SHORT for name in columns)
    slanted = {} if is_short else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    name_ticks(ax, "x", columns, width=column_width, **slanted)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    # Lines between cells, by the ticks between those with names.
    ax.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    ax.grid(which="minor", color=ax.get_facecolor(), linewidth=1)
    ax.tick_params(which="minor", length=0)
    return image


def write_values(
    ax: Axes,
    image: Any,
    values: NDArray[Any],
    values_format: str,
    options: Mapping[str, Any] | None,
) -> NDArray[Any]:
    """Write values into the cells of a table, dark on light and light on dark."""
    colours = image.cmap(image.norm(np.ma.masked_invalid(values)))[..., :3]
    is_dark = colours @ np.array([0.299, 0.587, 0.114]) < 0.55
    # What is next to nothing in a table of little else stays in the background.
    is_faint = np.abs(image.norm(np.ma.masked_invalid(values)).filled(1)) < _FAINT
    texts = np.empty(values.shape, dtype=object)
    for (i, j), value in np.ndenumerate(values):
        usual = {
            "horizontalalignment": "center",
            "verticalalignment": "center",
            "fontsize": 8,
            "color": "white" if is_dark[i, j] else "#22262b",
            "alpha": 0.4 if is_faint[i, j] else 1.0,
        }
        how = style(usual, options, "Text")
        shown = "" if np.isnan(value) else format(value, values_format)
        texts[i, j] = ax.text(j, i, shown, **how)
    return texts
