"""Score texts against labels: tokenise, plan batches, run, put rows back in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, cast

import joblib
import numpy as np
from numpy.typing import NDArray

from ..exceptions import NonFiniteScoresError, warn
from ..prompts.checks import listed
from ..prompts.examples import ExampleEncoder, PromptExample
from ..prompts.label_plan import LabelPlan, alike_labels, plan_labels
from ..prompts.packing import TextStrings, pack_texts
from ..prompts.tokens import TokenIds, count_tokens
from .batching import (
    ahead,
    group_by_length,
    n_threads,
    plan_batches,
    plan_windows,
    worker_pool,
)
from .border import Border, to_numpy
from .change import LogitChange
from .options import ScoringOptions
from .request import PerRow, Request
from .shortlist import choose_labels, narrow, spread
from .truncation import Truncation
from .work import Results, Work, list_items

if TYPE_CHECKING:
    from torch import Tensor

    from ..loading.loaded import LoadedModel

BATCH_TOKENS = {"cpu": 512, "cuda": 1 << 16}
"""Padded tokens in a micro-batch, by device: on a processor few enough that the activations stay in
its cache, on a GPU so many that launching its kernels takes less time than they do."""

BATCH_TOKENS_ELSEWHERE = 1 << 13

BATCH_COST = 16
"""What a micro-batch costs a processor besides its tokens, counted in tokens."""

MOST_WORKERS = 8
"""How many micro-batches run at a time unless asked for more: more would wait for Python's lock."""

GPU_WORKERS = 2
"""While the results of one micro-batch are waited for, the next is prepared and begun."""

WINDOW = 8192
"""How many texts are tokenised, sorted by length and scored before the next are read."""

WINDOW_CHARACTERS = 1 << 22
"""How many characters these may have together."""

WINDOW_SCORES = 1 << 24
"""How many logits these may have together."""

CHUNK_CHARACTERS = 256
"""How many characters a chunk has at least, by a cautious guess, for the bound on logits."""

OnVectors = Callable[[slice, NDArray[np.float32]], object]
"""Takes consecutive rows and the vectors of their texts."""

_DEFAULTS = ScoringOptions()


def _ignore(_: float) -> None:
    """Take no note of progress."""


@dataclass(frozen=True, eq=False)
class _Window:
    """Consecutive texts that are scored together.

    Attributes
    ----------
    rows : slice
        Which texts of the request.
    inverse : ndarray of shape (n_rows,)
        Which row of the work each of them is like: the same text is scored once.
    work : Work
        What has to be scored.
    label_sets : sequence of tuple of str
        The label texts of the label sets that the rows of the work have.
    texts : sequence of str
        The text of each row of the work.
    """

    rows: slice
    inverse: NDArray[np.intp]
    work: Work
    label_sets: Sequence[tuple[str, ...]]
    texts: Sequence[str]

    @property
    def n_lost(self) -> tuple[int, int]:
        """Count the texts that were cut, and those that lost examples."""
        cut, dropped = self.work.cut, self.work.texts.examples_dropped
        return int(cut[self.inverse].sum()), int(dropped[self.inverse].sum())


class Engine:
    """Scores texts against label texts with one loaded model.

    Making one is cheap: what is worth keeping from call to call is kept with the loaded model.

    Parameters
    ----------
    loaded : LoadedModel
        The model and its tokenizers.
    max_length : int, optional
        The longest prompt in tokens; by default the model's.
    batch_tokens : int, optional
        The padded tokens of a micro-batch. It affects speed and memory, never a result. By default
        what suits the device; where memory does not suffice, batches are halved.
    n_jobs : int, optional
        How many micro-batches run at a time, each on its share of torch's threads. None means as
        many as there are threads, up to 8, which is fastest, but two on a GPU: while one is waited
        for, the next is prepared.
    warns : bool, default=True
        Whether to warn of texts and examples that were cut.
    truncation : Truncation, optional
        Where these are counted, for somebody else to warn of them; by default every call does.

    Attributes
    ----------
    composer : PromptComposer
        What arranges the model's prompts.
    border : Border
        The way to the model's tensors.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_length: int | None = None,
        batch_tokens: int | None = None,
        n_jobs: int | None = None,
        warns: bool = True,
        truncation: Truncation | None = None,
    ) -> None:
        self.loaded = loaded
        self.max_length = _checked_length(max_length, loaded)
        kind = loaded.network.device.type
        suited = BATCH_TOKENS.get(kind, BATCH_TOKENS_ELSEWHERE)
        self.batch_tokens = suited if batch_tokens is None else batch_tokens
        self.n_jobs = n_jobs
        self.warns = warns
        self.truncation = truncation
        self.border = Border(loaded)
        self.composer = loaded.composer(self.max_length)

    def around(
        self,
        loaded: LoadedModel,
        *,
        warns: bool | None = None,
        truncation: Truncation | None = None,
    ) -> Engine:
        """Give an engine of another model that works as this one does."""
        return Engine(
            loaded,
            max_length=self.max_length,
            batch_tokens=self.batch_tokens,
            n_jobs=self.n_jobs,
            warns=self.warns if warns is None else warns,
            truncation=self.truncation if truncation is None else truncation,
        )

    def without_warnings(self) -> Engine:
        """Give an engine that does not say again what was said before.

        Python's filters of warnings belong to all threads, so that one cannot change them for a
        while.
        """
        return self.around(self.loaded, warns=False)

    @contextmanager
    def warning_once(self) -> Iterator[Engine]:
        """Give an engine whose calls together warn once of texts that were cut, at the end."""
        if self.truncation is not None or not self.warns:
            yield self
            return
        truncation = Truncation()
        yield self.around(self.loaded, truncation=truncation)
        truncation.tell(self.max_length)

    @property
    def n_workers(self) -> int:
        """How many micro-batches run at a time."""
        if self.n_jobs is not None:
            return int(joblib.effective_n_jobs(self.n_jobs))
        return min(n_threads(), MOST_WORKERS) if self._on_cpu else GPU_WORKERS

    @property
    def rounding(self) -> float:
        """The relative rounding of a processor that computes in less than float32; else 0."""
        import torch

        dtype = self.loaded.network.dtype
        return torch.finfo(dtype).eps if self._on_cpu and dtype.itemsize < 4 else 0.0

    @property
    def _on_cpu(self) -> bool:
        return bool(self.loaded.network.device.type == "cpu")

    def batches(self, lengths: NDArray[np.int64]) -> list[NDArray[np.intp]]:
        """Group sequences into micro-batches.

        Parameters
        ----------
        lengths : ndarray of shape (n_sequences,)
            The tokens of each.

        Returns
        -------
        list of ndarray of int
            The sequences of each micro-batch; those that memory may not suffice for come first.
        """
        if not self._on_cpu:
            # Few batches: what they are padded by takes less time than dividing them well.
            return list(plan_batches(lengths, self.batch_tokens))
        groups = group_by_length(lengths, self.batch_tokens, BATCH_COST)
        # The largest first, so that all workers come to an end at about the same time.
        return sorted(groups, key=lambda rows: -len(rows) * int(lengths[rows[0]]))

    @property
    def width(self) -> int:
        """The length of the vectors of texts."""
        return int(self.loaded.network.config.encoder_config.hidden_size)

    @property
    def cosine_scale(self) -> float | None:
        """What cosines of texts and labels are multiplied by; None where logits are no cosines."""
        return self.loaded.network.cosine_scale

    @property
    def compares_vectors(self) -> bool:
        """Whether logits are cosines of a vector of the text, which is the same for any labels."""
        network = self.loaded.network
        return network.cosine_scale is not None and network.encodes_labels_apart

    def logits(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str] | Sequence[Sequence[str]],
        options: ScoringOptions = _DEFAULTS,
        *,
        examples: Sequence[PromptExample] | Sequence[Sequence[PromptExample]] | None = None,
        embedder: Engine | None = None,
        change: LogitChange | None = None,
        on_vectors: OnVectors | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> NDArray[np.float32]:
        """Score texts against the labels of their label sets.

        Parameters
        ----------
        texts : sequence of str of length n_texts
        label_texts : sequence of str, or of such sequences, one a text
            What the model reads for each label, in this order.
        options : ScoringOptions, optional
        examples : sequence of PromptExample, or of such sequences, one a text, optional
            What prompts show, the most important first.
        embedder : Engine, optional
            What embeds for a shortlist; by default this engine.
        change : LogitChange, optional
            What is added to the pooled logits of labels that are read, by the texts' vectors.
        on_vectors, on_progress : callable, optional
            Called with rows and their vectors; with the number of texts done since the last call.

        Returns
        -------
        ndarray of shape (n_texts, n_labels), float32
            Each row depends on its text, labels and examples alone, and has minus infinity after
            the last label of its own, smaller set.

        Warns
        -----
        TruncationWarning
            Once each, with a count, if texts were cut, or examples left out.
        """
        whole = Request.of(texts, label_texts, examples)
        request, columns = self._shortlisted(whole, options, embedder or self)
        scores = np.full((len(texts), request.n_columns), -np.inf, dtype=np.float32)
        n_lost = np.zeros(2, dtype=np.intp)
        advance, run_all = on_progress or _ignore, worker_pool(self.n_workers)
        wants_vectors = bool(change or on_vectors)
        for window in self._windows(request, options):
            work = window.work
            labels = self._label_vectors(work.plan, request)
            run = partial(self.border.logits, work, labels, with_vectors=wants_vectors)
            results = work.empty_results(self.width if wants_vectors else None)
            for items, *of_items in run_all(run, self.batches(work.lengths)):
                work.put(results, items, *of_items)
                advance(float(work.shares[items].sum()))
            by_row = self._finished(window, results, change, on_vectors)
            scores[window.rows, : by_row.shape[1]] = by_row[window.inverse]
            n_lost += window.n_lost
            advance(len(window.inverse) - len(by_row))
        self._warn(int(n_lost[0]), int(n_lost[1]), len(texts))
        return scores if columns is None else spread(scores, columns, whole.n_columns)

    def text_vectors(
        self,
        texts: Sequence[str],
        *,
        label_texts: Sequence[str] = (),
        task_description: str = "",
        warn_truncated: bool = False,
    ) -> NDArray[np.float32]:
        """Give each text's pooled and projected vector, which the model compares with labels.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            What to encode; of a text that does not fit, the beginning.
        label_texts : sequence of str, default=()
            The labels in the prompt, for architectures that read them with the text, whose vector
            then depends on them; where they fill several prompts, the vectors are averaged. By
            default the prompt has no labels, which makes vectors comparable whatever the labels.
        task_description : str, default=""
            A sentence put before each text.
        warn_truncated : bool, default=False
            Whether to warn, with a count, of texts that had to be cut.

        Returns
        -------
        ndarray of shape (n_texts, width), float32
            Where the scorer attends to all tokens, so that the model has no one vector for the
            text, the mean of the tokens' projected vectors.
        """
        request = Request(texts, PerRow([tuple(label_texts)]), None)
        options = ScoringOptions(task_description=task_description)
        width = self.width
        vectors = np.empty((len(texts), width), dtype=np.float32)
        n_cut = 0
        run_all = worker_pool(self.n_workers)
        for window in self._windows(request, options):
            work = window.work
            run = partial(self.border.text_vectors, work, self._label_vectors(work.plan, request))
            by_item = np.empty((len(work.cell), width), dtype=np.float32)
            for items, batch in run_all(run, self.batches(work.lengths)):
                by_item[items] = batch
            # Every text has as many items as its labels fill prompts.
            by_row = by_item.reshape(len(work.cells), -1, width).mean(axis=1)
            by_row = self._numbers(by_row, window)
            vectors[window.rows] = by_row[window.inverse]
            n_cut += int(work.cut[window.inverse].sum())
        if warn_truncated:
            self._warn(n_cut, 0, len(texts))
        return vectors

    def label_vectors(self, label_texts: Sequence[str]) -> NDArray[np.float32]:
        """Give vectors of labels that compare with :meth:`text_vectors` by their cosine.

        Parameters
        ----------
        label_texts : sequence of str of length n_labels
            What to encode.

        Returns
        -------
        ndarray of shape (n_labels, width), float32
            A bi-encoder's label vectors; other models read the label as they read a text.
        """
        if not self.loaded.network.encodes_labels_apart:
            key = "labels as texts", self.max_length, tuple(label_texts)
            vectors: NDArray[np.float32] | None = self.loaded.prepared.find(key)
            if vectors is None:
                vectors = self.text_vectors(label_texts)
                self.loaded.prepared.keep(key, vectors)
            return vectors
        request = Request([], PerRow([tuple(label_texts)]), None)
        plan = self._label_plan(request.labels.values, _DEFAULTS)
        return to_numpy(cast("Tensor", self._label_vectors(plan, request)))

    def compared_vectors(
        self, label_texts: Sequence[str], options: ScoringOptions = _DEFAULTS
    ) -> NDArray[np.float32]:
        """Give the vectors with which a text would be compared: those of labels in their prompt.

        Parameters
        ----------
        label_texts : sequence of str of length n_labels
            The label set.
        options : ScoringOptions, optional
            How it is asked: the task description, and in how many orders.

        Returns
        -------
        ndarray of shape (n_labels, width), float32
            A bi-encoder's label vectors. Where the model reads labels and text together, those in
            a prompt whose text is empty, which depend on the other labels in it; where there are
            several such prompts, of a label the mean over its own.
        """
        if self.loaded.network.encodes_labels_apart:
            return self.label_vectors(label_texts)
        request = Request([""], PerRow([tuple(label_texts)]), None)
        (window,) = self._windows(request, options)
        work = window.work
        labels = self._label_vectors(work.plan, request)
        run = partial(self.border.class_vectors, work, labels)
        of_items = [
            (work.plan.parts[work.part[item]].columns, vectors)
            for items, batch in worker_pool(self.n_workers)(run, self.batches(work.lengths))
            for item, vectors in zip(items.tolist(), batch, strict=True)
        ]
        sums = np.zeros((len(label_texts), of_items[0][1].shape[1]), dtype=np.float32)
        for columns, vectors in of_items:
            sums[columns] += vectors[: len(columns)]
        sums /= np.float32(work.plan.n_orders[0])
        return sums

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Give where the tokens of a text begin and end in it, those that are of it alone."""
        tokenizer = self.loaded.raw_text_tokenizer
        return list(tokenizer.encode(text, add_special_tokens=False).offsets)

    def label_sequences(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Give what a label encoder reads for each label: the whole sequence.

        Raises
        ------
        ValueError
            If a label is longer than the label encoder reads; the message names it.
        """
        tokenizer = self.loaded.label_tokenizer
        pieces = tokenizer.encode(label_texts, after_marker=False)
        sequences = [np.concatenate([tokenizer.prefix, p, tokenizer.suffix]) for p in pieces]
        longest = min(self.max_length, self.loaded.label_position_limit or self.max_length)
        lengths = count_tokens(sequences)
        if lengths.max(initial=0) > longest:
            i = int(lengths.argmax())
            raise ValueError(
                f"The text of label {i} ({label_texts[i][:60]!r}...) has {lengths[i]} tokens, but "
                f"the label encoder reads at most {longest}. Shorten the label text."
            )
        return sequences

    def warn_of_alike_labels(self, label_sets: Sequence[Sequence[str]]) -> None:
        """Warn of labels of one set that are the same to the model, if that was not done before.

        Parameters
        ----------
        label_sets : sequence of sequence of str
            What the model reads for each label of each set.

        Warns
        -----
        UserWarning
            With their names.
        """
        label_texts = list(dict.fromkeys(chain.from_iterable(label_sets)))
        apart = self.loaded.network.has_label_encoder
        encode = self.label_sequences if apart else self.composer.encode_labels
        self._warn_of_alike(alike_labels(label_texts, encode(label_texts), label_sets))

    # From a request to windows of work.

    def _windows(self, request: Request, options: ScoringOptions) -> Iterator[_Window]:
        """Tokenise and plan window by window; the next while one is scored."""
        n_rows = max(1, WINDOW_SCORES // max(1, request.n_columns * options.n_permutations))
        characters = WINDOW_CHARACTERS
        if options.chunking.chunks:
            # Every chunk has a row of scores until they are pooled.
            characters = min(characters, n_rows * CHUNK_CHARACTERS)
        slices = list(plan_windows(request.texts, min(WINDOW, n_rows), characters))
        windows = (self._window(request, options, rows) for rows in slices)
        # One window has nothing to be prepared beside it, and a thread would delay a single text.
        return ahead(windows) if len(slices) > 1 else windows

    def _window(self, request: Request, options: ScoringOptions, rows: slice) -> _Window:
        distinct, inverse = request.distinct(rows)
        label_sets, set_of_row = request.labels.rows(distinct)
        plan = self._label_plan(label_sets, options)
        texts: Sequence[str] = [request.texts[i] for i in distinct.tolist()]
        as_given = texts
        encoder = examples = None
        if request.examples is not None:
            encoder = ExampleEncoder(self.composer, options.example_format)
            examples = request.examples_of(distinct, encoder.encode)
            texts = encoder.prepare(texts, examples)
        packed = pack_texts(
            self.composer,
            TextStrings(self.composer, texts, options.task_description, plan.task),
            plan.smallest_rooms[set_of_row],
            examples=examples,
            encoder=encoder,
            chunks=options.chunking.chunks,
        )
        work = list_items(self.composer, plan, set_of_row, packed, options.chunking)
        return _Window(rows, inverse, work, label_sets, as_given)

    def _shortlisted(
        self, request: Request, options: ScoringOptions, embedder: Engine
    ) -> tuple[Request, NDArray[np.intp] | None]:
        """Give each text the labels that are read, and their columns where these are not all."""
        if options.shortlist is None or options.shortlist >= request.n_columns:
            return request, None
        # For the whole request: with it every text has a label set of its own, whose size decides
        # how many texts a window holds.
        request.check_shared_labels("shortlist")
        labels = embedder.label_vectors(request.labels.values[0])
        texts = embedder.text_vectors(request.texts, task_description=options.task_description)
        columns = choose_labels(texts, labels, options.shortlist)
        return narrow(request, columns), columns

    # What is kept with the model from call to call.

    def _label_plan(
        self, label_sets: Sequence[tuple[str, ...]], options: ScoringOptions
    ) -> LabelPlan:
        """Divide label sets over prompts; remembered where there is only one."""
        # A bi-encoder reads no labels in its prompt, whose order could matter.
        apart = self.loaded.network.encodes_labels_apart
        n_orders = 1 if apart else options.n_permutations
        task, seed = options.task_description, options.seed
        # Engines come and go while this is kept with the model, so that the key holds whatever of
        # the engine the plan depends on.
        key = "plan", self.max_length, label_sets[0], task, n_orders, seed
        shared = len(label_sets) == 1
        plan: LabelPlan | None = self.loaded.prepared.find(key) if shared else None
        if plan is None:
            plan = plan_labels(self.composer, label_sets, task, n_permutations=n_orders, seed=seed)
            if shared:
                self.loaded.prepared.keep(key, plan)
            self._warn_of_alike(plan.alike)
        return plan

    def _label_vectors(self, plan: LabelPlan, request: Request) -> Tensor | None:
        """Give the vectors of a plan's labels where they are encoded by themselves."""
        if not self.loaded.network.has_label_encoder:
            return None
        labels = plan.label_texts
        vectors = self._kept_vectors(labels)
        if vectors is None and request.chosen_from is not None:
            vectors = self._part_of_kept_vectors(labels, request.chosen_from)
        if vectors is not None:
            return vectors
        if not labels:
            # Texts may be embedded without labels, and no encoder runs on an empty batch.
            return self.border.empty_vectors()
        sequences = self.label_sequences(labels)
        self._warn_of_alike(alike_labels(labels, sequences, request.labels.values))
        batches = self.batches(count_tokens(sequences))
        run_all = worker_pool(self.n_workers)
        encoded = list(run_all(partial(self.border.encode_labels, sequences), batches))
        vectors = self.border.in_order(encoded)
        if plan.is_shared:
            # Label sets of single rows are many, and seldom come again.
            self.loaded.prepared.keep(("vectors", self.max_length, labels), vectors)
        return vectors

    def _kept_vectors(self, labels: tuple[str, ...]) -> Tensor | None:
        vectors: Tensor | None = self.loaded.prepared.find(("vectors", self.max_length, labels))
        return vectors

    def _part_of_kept_vectors(
        self, labels: tuple[str, ...], whole: tuple[str, ...]
    ) -> Tensor | None:
        """Take vectors from those of the whole label set, where a shortlist was made by them."""
        vectors = self._kept_vectors(whole)
        if vectors is None:
            return None
        position = {label: i for i, label in enumerate(whole)}
        return self.border.rows_of(vectors, np.asarray([position[label] for label in labels]))

    def _warn_of_alike(self, alike: Sequence[tuple[str, ...]]) -> None:
        new = [names for names in alike if self.loaded.warned_of.find(names) is None]
        if not new or not self.warns:
            return
        shown = "; ".join(listed(names, 6) for names in new[:3]) + ("; ..." if new[3:] else "")
        warn(
            f"The model reads the same tokens for labels that differ: {shown}. Its tokenizer does "
            "not keep what tells them apart, such as capitals, spaces or characters that it does "
            "not know, so that the first of them wins. Give each a label text of its own: "
            "labels={class: label text}."
        )
        for names in new:
            self.loaded.warned_of.keep(names, True)

    def _finished(
        self,
        window: _Window,
        results: Results,
        change: LogitChange | None,
        on_vectors: OnVectors | None,
    ) -> NDArray[np.float32]:
        """Give the logits of the rows of a window, and pass on the vectors of their texts."""
        work = window.work
        by_row = self._numbers(work.combine(results.scores), window)
        if results.vectors is not None:
            x = work.combine_vectors(results.vectors)
            if on_vectors is not None:
                on_vectors(window.rows, x[window.inverse])
            if change is not None:
                by_row = change.add(by_row, x, window.label_sets, work.set_of_row)
        return by_row

    def _numbers(self, by_row: NDArray[np.float32], window: _Window) -> NDArray[np.float32]:
        """Refuse what a model gives that is no number: damaged weights may do so for some texts."""
        # Minus infinity is in the columns that a row's label set does not have.
        bad: NDArray[np.bool_] = np.logical_not((by_row < np.inf).all(axis=1))
        if bad.any():
            i = int(np.flatnonzero(bad[window.inverse])[0])
            model = f"{self.loaded.name!r} in {self.loaded.network.dtype}"
            text = window.texts[int(window.inverse[i])]
            raise NonFiniteScoresError(model, text, f"text {window.rows.start + i}")
        return by_row

    def _warn(self, n_cut: int, n_dropped: int, n_texts: int) -> None:
        """Warn of what was cut, or leave it to whoever counts that of several calls."""
        if not self.warns:
            return
        truncation = self.truncation or Truncation()
        truncation.add(n_texts, n_cut, n_dropped)
        if self.truncation is None:
            truncation.tell(self.max_length)


def _checked_length(max_length: int | None, loaded: LoadedModel) -> int:
    if max_length is None:
        return loaded.max_length
    if loaded.position_limit is not None and max_length > loaded.position_limit:
        raise ValueError(
            f"max_length={max_length} is more than the {loaded.position_limit} tokens that "
            f"{loaded.name!r} has positions for. Lower it."
        )
    return max_length
