"""What ``train`` learns from: a look at all rows before it begins, and the rows in windows."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

import numpy as np

from ..datasets.examples import Example
from ..datasets.files import is_single_label
from ..exceptions import warn
from ..prompts.examples import check_labels_known
from .data import TextFile, check_one_label
from .errors import CommandError
from .rows import is_labelled
from .tables import Limit

MOST_HELD_OUT = 10_000
"""How many rows of a file that is read in windows are held out at most."""
# Tables of labels are small beside models; label sets of single rows have no end.
_MOST_LABELS = 100_000
# Many enough for good mixing, and few enough to be small beside a model and its gradients.
_ROWS_OF_WINDOW = 1 << 16
# Texts may be whole books.
_CHARACTERS_OF_WINDOW = 1 << 27


def limit_of(window_rows: int | None) -> Limit:
    """Give how much one window holds: so many rows, or what suits most machines."""
    if window_rows is None:
        return Limit(_ROWS_OF_WINDOW, _CHARACTERS_OF_WINDOW)
    if window_rows < 1:
        raise CommandError(f"--window-rows {window_rows}: give a number of at least 1")
    return Limit(window_rows)


class Survey:
    """What a look at all rows finds, before anything is learnt from them.

    Parameters
    ----------
    rows : iterable of Example
        All of them.
    name : str
        Of the file.
    is_multi_label : bool or None
        Whether a row may have several labels, as far as it was said.

    Attributes
    ----------
    n_rows, n_characters : int
        How many there are, and how many characters their texts have.
    n_labelled : int
        Of how many of them the labels are known.
    labels : set of str
        What the rows offer to choose from; not all of it where `has_open_labels`.
    has_open_labels : bool
        Whether rows have more labels than any classifier has classes.
    prompt : str or None
        The task description that all rows have.
    has_one_prompt : bool
        Whether all rows have the same, or none.
    has_examples : bool
        Whether a row has in-context examples.
    is_multi_label : bool
        Whether a row may have several labels; told by the rows where it was not said.

    Raises
    ------
    CommandError
        If there are no rows, or one is not as it should be; the message names it.
    """

    def __init__(self, rows: Iterable[Example], name: str, is_multi_label: bool | None) -> None:
        self.n_rows = self.n_labelled = self.n_characters = 0
        self.labels: set[str] = set()
        self.has_examples = False
        self.prompt: str | None = None
        self.has_one_prompt = is_single = True
        for self.n_rows, row in enumerate(rows, 1):
            if self.n_rows == 1:
                self.prompt = row.prompt
            self.has_one_prompt = self.has_one_prompt and row.prompt == self.prompt
            self.n_characters += len(row.text)
            self.has_examples = self.has_examples or bool(row.examples)
            if not self.has_open_labels:
                self.labels.update(row.all_labels)
            if not is_labelled(row):
                continue
            self.n_labelled += 1
            if is_multi_label is None:
                is_single = is_single and is_single_label([row])
            elif not is_multi_label:
                check_one_label(row, f"{name}: the true labels of row {self.n_rows}")
        if not self.n_rows:
            raise CommandError(f"{name}: there are no rows")
        self.prompt = self.prompt if self.has_one_prompt else None
        self.is_multi_label = not is_single if is_multi_label is None else is_multi_label

    @property
    def has_open_labels(self) -> bool:
        """Whether rows have more labels than any classifier has classes."""
        return len(self.labels) > _MOST_LABELS

    def n_windows(self, limit: Limit, n_rows: int | None = None) -> int:
        """Tell how many windows such a limit makes of so many of the rows."""
        of_rows = -(-(n_rows or self.n_rows) // (limit.n_rows or self.n_rows))
        of_characters = -(-self.n_characters // (limit.n_characters or self.n_characters or 1))
        return max(1, of_rows, of_characters)


def held_out_rows(fraction: float, survey: Survey, name: str, limit: Limit, seed: int) -> set[int]:
    """Choose the rows to hold out by their places among the labelled ones; for a seed the same.

    Raises
    ------
    CommandError
        If the fraction leaves no rows to learn from.
    """
    # Not by the classifier, which splits X and y, but not rows with label sets of their own.
    n_rows = survey.n_labelled
    n_held_out = max(1, round(fraction * n_rows))
    if not 0 < fraction < 1 or n_held_out >= n_rows:
        what = "" if n_rows == survey.n_rows else " with labels"
        raise CommandError(
            f"--validation-fraction {fraction:g}: give a number between 0 and 1 that leaves rows "
            f"to learn from ({name} has {n_rows}{what})"
        )
    if n_held_out > MOST_HELD_OUT and survey.n_windows(limit) > 1:
        warn(
            f"--validation-fraction {fraction:g}: {MOST_HELD_OUT:,} of {n_rows:,} rows are "
            "held out, since these stay in memory; the others are learnt from"
        )
        n_held_out = MOST_HELD_OUT
    rng = np.random.default_rng(seed)
    return set(rng.choice(n_rows, n_held_out, replace=False, shuffle=False).tolist())


class Deal:
    """Rows as a classifier sees them, dealt out once to see what there is of each kind.

    Parameters
    ----------
    rows : callable
        Begins to read them.
    name : str
        Of the file.
    survey : Survey
        What a look at them found.
    held_out : set of int
        Those to judge by, by their places among the labelled ones.
    sorts_out : bool
        Whether a row without a true label is of none of the classes.
    n_windows : int
        In how many windows the file is read.
    seed : int
        Chooses among too many rows of no class.

    Attributes
    ----------
    n_rows, n_with_one_label : int
        How many labelled rows are learnt from, and how many of these offer one label alone.
    n_unlabelled : int
        How many texts nobody knows the labels of.
    validation : list of Example
        Those to judge by.
    others : list of str
        The texts of none of the classes.
    shared_labels : list of str or None
        The labels that all rows offer which are not held out, sorted; None where they differ, or
        no row offers any.
    text_lengths : array of int
        How many characters the text of each row has that is learnt from.
    label_counts : Counter of str
        How many of these rows each label holds for, where all offer the same.
    identity : str
        What tells the rows from others.

    Raises
    ------
    CommandError
        If there is nothing to learn from, or the in-context examples of a row are at fault.
    """

    def __init__(
        self,
        rows: Callable[[], Iterable[Example]],
        name: str,
        survey: Survey,
        held_out: set[int],
        *,
        sorts_out: bool,
        n_windows: int,
        seed: int,
    ) -> None:
        self._rows, self._held_out, self._sorts_out = rows, held_out, sorts_out
        self.n_rows = self.n_with_one_label = self.n_unlabelled = 0
        self.has_own_prompts = survey.has_examples or not survey.has_one_prompt
        self.validation: list[Example] = []
        self.text_lengths, self.label_counts = array("q"), Counter[str]()
        others = _Sample(None if n_windows == 1 else MOST_HELD_OUT, seed)
        has_weight, label_sets, digest = False, set[frozenset[str]](), hashlib.blake2b()
        spread = _Spread(n_windows, survey.n_rows)
        for i, (row, is_held_out) in enumerate(self._dealt()):
            _check_examples(row, f"{name}: in row {i + 1}")
            if len(label_sets) < 2 and row.all_labels and not is_held_out:
                label_sets.add(frozenset(row.all_labels))
            if not is_labelled(row):
                self.n_unlabelled += 1
            elif self._is_other(row):
                others.add(row.text)
            elif is_held_out:
                self.validation.append(row)
            else:
                self._note(row, shares_labels=len(label_sets) < 2)
                has_weight = has_weight or row.weight > 0
                spread.note(i, row)
                digest.update(_bytes_of(row))
        self.others = others.items
        self.identity = digest.hexdigest()
        self.shared_labels = sorted(label_sets.pop()) if len(label_sets) == 1 else None
        if not has_weight and (self.n_rows or not self.n_unlabelled):
            what = "the weight of every row is 0" if self.n_rows else "no row is of a class"
            raise CommandError(f"{name}: {what}; there is nothing to learn from")
        spread.warn_if_sorted(name)

    def _note(self, row: Example, *, shares_labels: bool) -> None:
        """Count a row to learn from."""
        self.n_rows += 1
        self.n_with_one_label += len(row.all_labels) == 1
        self.text_lengths.append(len(row.text))
        # Label sets of single rows have no end.
        if not shares_labels:
            self.label_counts.clear()
        elif isinstance(row.true_labels, Mapping):
            self.label_counts.update(row.true_labels)
        else:
            self.label_counts.update(dict.fromkeys(row.true_labels, 1))

    def training_rows(self) -> Iterator[Example]:
        """Give the rows to learn from, in the order of the file."""
        for row, is_held_out in self._dealt():
            if is_labelled(row) and not is_held_out and not self._is_other(row):
                yield row

    def unlabelled_texts(self) -> Iterator[str]:
        """Give the texts without labels, in the order of the file."""
        return (row.text for row in self._rows() if not is_labelled(row))

    def _dealt(self) -> Iterator[tuple[Example, bool]]:
        """Give every row, and whether it is held out."""
        n_labelled = 0
        for row in self._rows():
            yield row, is_labelled(row) and n_labelled in self._held_out
            n_labelled += is_labelled(row)

    def _is_other(self, row: Example) -> bool:
        return self._sorts_out and not row.true_labels


class UnlabelledTexts:
    """The texts without labels as a fit goes through them, each time from the files.

    Parameters
    ----------
    deal : Deal
        Which rows of the file that is learnt from these are.
    further : sequence of TextFile
        Files of nothing else.
    """

    def __init__(self, deal: Deal, further: Sequence[TextFile] = ()) -> None:
        self._deal, self._further = deal, further

    def __len__(self) -> int:
        return self._deal.n_unlabelled + sum(map(len, self._further))

    def __iter__(self) -> Iterator[str]:
        return chain(self._deal.unlabelled_texts(), *self._further)


class StreamedRows:
    """The rows to learn from in windows of about the same size, as a fit reads them.

    Parameters
    ----------
    deal : Deal
        Which rows these are.
    n_windows : int
        How many windows.
    """

    def __init__(self, deal: Deal, n_windows: int) -> None:
        self._deal = deal
        size, n_larger = divmod(deal.n_rows, n_windows)
        self.sizes: Sequence[int] = [size + (i < n_larger) for i in range(n_windows)]

    @property
    def identity(self) -> str:
        """What tells these rows from others."""
        return self._deal.identity

    @property
    def n_with_one_label(self) -> int:
        """How many rows offer one label alone."""
        return self._deal.n_with_one_label

    @property
    def shared_labels(self) -> Sequence[str] | None:
        """The labels of every row, where all have the same ones and the same prompt."""
        return None if self._deal.has_own_prompts else self._deal.shared_labels

    @property
    def text_lengths(self) -> Sequence[int]:
        """How many characters the text of each row has."""
        return self._deal.text_lengths

    @property
    def label_counts(self) -> Mapping[str, float]:
        """How many rows each label holds for, of those that all rows share."""
        return self._deal.label_counts

    def windows(self, first: int = 0) -> Iterator[list[Example]]:
        """Give the windows from one of them on, each as it is read from the file."""
        rows = islice(self._deal.training_rows(), sum(self.sizes[:first]), None)
        for size in self.sizes[first:]:
            # No name for a window, which would keep it in memory while the next one is read.
            yield list(islice(rows, size))
        # To the end of the file, where it shows whether somebody wrote to it meanwhile.
        for _ in rows:
            pass


class _Sample:
    """Texts in the order in which they came; a random sample where these are too many."""

    def __init__(self, n_most: int | None, seed: int) -> None:
        self.items: list[str] = []
        self._n_most, self._n_seen = n_most, 0
        self._rng = np.random.default_rng(seed)

    def add(self, text: str) -> None:
        self._n_seen += 1
        if self._n_most is None or len(self.items) < self._n_most:
            self.items.append(text)
            return
        # Algorithm R (Vitter 1985): at any time each text was as likely to be kept.
        place = int(self._rng.integers(self._n_seen))
        if place < self._n_most:
            self.items[place] = text


class _Spread:
    """Tells whether rows are sorted by their labels, so that windows have few of these each."""

    def __init__(self, n_windows: int, n_rows: int) -> None:
        self._n_windows, self._n_rows = n_windows, n_rows
        # Of each label how many rows have it, how many windows, and the last of these.
        self._counts: dict[str, tuple[int, int, int]] = {}

    def note(self, i: int, row: Example) -> None:
        if self._n_windows == 1:
            return
        window = i * self._n_windows // self._n_rows
        for label in row.true_labels:
            if label in self._counts or len(self._counts) < _MOST_LABELS:
                n_rows, n_windows, last = self._counts.get(label, (0, 0, -1))
                self._counts[label] = n_rows + 1, n_windows + (window != last), window

    def warn_if_sorted(self, name: str) -> None:
        counts = self._counts.values()
        n_expected = sum(min(n_rows, self._n_windows) for n_rows, _, _ in counts)
        # In random order it is at least 63 %.
        if 2 * sum(n_windows for _, n_windows, _ in counts) < n_expected:
            warn(
                f"{name}: its rows are sorted by their labels, and windows of it have few of these "
                "each, which is bad to learn from. Shuffle it (shuf), or give --window-rows "
                f"{self._n_rows} if all of it fits into memory"
            )


def _check_examples(row: Example, where: str) -> None:
    try:
        check_labels_known(row.examples, row.all_labels, "examples")
    except ValueError as error:
        raise CommandError(f"{where}, {error}") from error


def _bytes_of(row: Example) -> bytes:
    shown = [(example.text, example.labels) for example in row.examples]
    fields = row.text, row.all_labels, row.targets, row.prompt, shown, row.weight
    return repr(fields).encode("utf-8", "surrogatepass")
