"""Score texts against labels: tokenise, plan batches, run, put rows back in order."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from .exceptions import TruncationWarning
from .modeling.checkpoints import LoadedModel
from .prompts import PieceTokenizer, PromptComposer, TokenIds

WINDOW = 8192
"""How many texts are tokenised, sorted by length and scored before the next are read."""

BATCH_TOKENS = 1024
"""Padded tokens in a micro-batch: few enough that its activations stay in a processor's cache."""

CACHED_LABEL_SETS = 16
"""How many label sets an engine keeps ready, tokenised or encoded."""


@dataclass(frozen=True)
class _Pass:
    """The labels that share one forward pass, ready to be put in a prompt."""

    columns: range
    label_ids: list[TokenIds]
    text_budget: int


class Engine:
    """Scores texts against label texts with one loaded model.

    Parameters
    ----------
    loaded : LoadedModel
        The model and its tokenizers.
    max_length : int, optional
        The longest prompt in tokens; by default the model's.
    batch_tokens : int, default=1024
        The padded tokens of a micro-batch. It affects speed and memory, never a result.
    n_jobs : int, optional
        How many micro-batches run at a time, each on its share of the threads; None means 1.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        *,
        max_length: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
        n_jobs: int | None = None,
    ) -> None:
        self.loaded = loaded
        self.max_length = _checked_length(max_length, loaded)
        self.batch_tokens = batch_tokens
        self.n_jobs = joblib.effective_n_jobs(n_jobs or 1)
        self.text_tokenizer = PieceTokenizer(loaded.tokenizer)
        self.label_tokenizer = (
            self.text_tokenizer
            if loaded.label_tokenizer is loaded.tokenizer
            else PieceTokenizer(loaded.label_tokenizer)
        )
        self._prepared: OrderedDict[Any, Any] = OrderedDict()
        self._lock = Lock()
        self.encodes_labels_apart = loaded.model.config.architecture_type == "bi-encoder"

    def logits(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str],
        *,
        task_description: str = "",
        on_progress: Callable[[float], object] | None = None,
    ) -> NDArray[np.float32]:
        """Score every text against every label.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            What to classify.
        label_texts : sequence of str of length n_labels
            What the model reads for each label, in this order.
        task_description : str, default=""
            A sentence put in the prompt before the text.
        on_progress : callable, optional
            Called now and then with the number of texts done since the last call.

        Returns
        -------
        ndarray of shape (n_texts, n_labels), float32
            The logits. A row depends on its text and the labels alone.

        Warns
        -----
        TruncationWarning
            Once, with a count, if texts had to be cut to fit.
        """
        scores = np.empty((len(texts), len(label_texts)), dtype=np.float32)
        advance = on_progress or _ignore
        n_cut = 0
        with _worker_pool(self.n_jobs) as run_all:
            for start in range(0, len(texts), WINDOW):
                window = texts[start : start + WINDOW]
                unique, inverse = _unique_texts(window)
                rows, cut = self._score_window(
                    unique, label_texts, task_description, run_all, advance
                )
                scores[start : start + len(window)] = rows[inverse]
                n_cut += int(cut[inverse].sum())
                advance(len(window) - len(unique))
        if n_cut:
            _warn_truncated(n_cut, len(texts), self.max_length)
        return scores

    def _score_window(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str],
        task_description: str,
        run_all: _RunAll,
        advance: Callable[[float], object],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if self.encodes_labels_apart:
            return self._score_apart(texts, label_texts, task_description, run_all, advance)
        return self._score_together(texts, label_texts, task_description, run_all, advance)

    # Uni-encoder: one prompt holds the labels and the text.

    def _score_together(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str],
        task_description: str,
        run_all: _RunAll,
        advance: Callable[[float], object],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        composer = self.composer()
        passes, task = self._passes(composer, tuple(label_texts), task_description)
        text_ids = composer.encode_texts(texts, task_description)
        lengths = np.fromiter(map(len, text_ids), dtype=np.int64, count=len(text_ids))
        scores = np.empty((len(texts), len(label_texts)), dtype=np.float32)

        def run(part: _Pass, rows: NDArray[np.intp]) -> None:
            prompts = [
                composer.compose(part.label_ids, text_ids[i][: part.text_budget], task)
                for i in rows
            ]
            scores[np.ix_(rows, np.asarray(part.columns))] = self._forward(
                prompts, len(part.columns)
            )
            advance(len(rows) / len(passes))

        def jobs() -> Iterator[tuple[_Pass, NDArray[np.intp]]]:
            for part in passes:
                fixed = self.max_length - part.text_budget
                prompt_lengths = fixed + np.minimum(lengths, part.text_budget)
                for rows in plan_batches(prompt_lengths, self.batch_tokens):
                    yield part, rows

        run_all(run, jobs())
        return scores, lengths > min(part.text_budget for part in passes)

    def text_ids(self, texts: Sequence[str], task_description: str = "") -> list[TokenIds]:
        """Tokenise texts, with the task description where it directly precedes them."""
        if not self.encodes_labels_apart:
            return self.composer().encode_texts(texts, task_description)
        return self.text_tokenizer.encode(_described(texts, task_description), after_marker=False)

    def label_ids(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Tokenise label texts; a uni-encoder's come with their markers."""
        if not self.encodes_labels_apart:
            return self.composer().encode_labels(label_texts)
        return self.label_tokenizer.encode(label_texts, after_marker=False)

    def composer(self) -> PromptComposer:
        """Give what arranges this model's prompts."""
        config = self.loaded.model.config
        return PromptComposer(
            self.text_tokenizer,
            label_id=config.class_token_index,
            text_id=config.text_token_index,
            prompt_first=config.prompt_first,
            max_length=self.max_length,
        )

    def _passes(
        self, composer: PromptComposer, label_texts: tuple[str, ...], task_description: str
    ) -> tuple[list[_Pass], TokenIds]:
        def prepare() -> tuple[list[_Pass], TokenIds]:
            label_ids = composer.encode_labels(label_texts)
            task = composer.encode_task(task_description)
            passes = []
            for columns in composer.split_labels(label_ids, label_texts, len(task)):
                part = [label_ids[i] for i in columns]
                passes.append(_Pass(columns, part, composer.text_budget(part, len(task))))
            return passes, task

        return self._remember(("passes", label_texts, task_description), prepare)

    def _forward(self, prompts: Sequence[TokenIds], n_labels: int) -> NDArray[np.float32]:
        input_ids, mask = self.to_tensors(prompts)
        with torch.inference_mode():
            output = self.loaded.model(
                input_ids=input_ids, attention_mask=mask, max_num_classes=n_labels
            )
        return _to_numpy(output.logits)

    # Bi-encoder: labels are encoded once and compared with every text.

    def _score_apart(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str],
        task_description: str,
        run_all: _RunAll,
        advance: Callable[[float], object],
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        labels = self._label_vectors(tuple(label_texts))
        scores = np.empty((len(texts), len(label_texts)), dtype=np.float32)

        def take(rows: NDArray[np.intp], vectors: torch.Tensor) -> None:
            scores[rows] = _to_numpy(self.loaded.model.score_vectors(vectors, labels))
            advance(len(rows))

        cut = self._encode_texts(texts, task_description, run_all, take)
        return scores, cut

    def text_vectors(
        self, texts: Sequence[str], *, task_description: str = ""
    ) -> NDArray[np.float32]:
        """Give the vector that a bi-encoder compares with its labels' vectors.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            What to encode.
        task_description : str, default=""
            A sentence put before each text.

        Returns
        -------
        ndarray of shape (n_texts, hidden_size), float32
        """
        width = self.loaded.model.config.encoder_config.hidden_size
        vectors = np.empty((len(texts), width), dtype=np.float32)

        def take(rows: NDArray[np.intp], batch: torch.Tensor) -> None:
            vectors[rows] = _to_numpy(batch)

        with _worker_pool(self.n_jobs) as run_all:
            self._encode_texts(texts, task_description, run_all, take)
        return vectors

    def _encode_texts(
        self,
        texts: Sequence[str],
        task_description: str,
        run_all: _RunAll,
        take: Callable[[NDArray[np.intp], torch.Tensor], None],
    ) -> NDArray[np.bool_]:
        texts = _described(texts, task_description)
        prompts, cut = _frame(self.text_tokenizer, texts, self.max_length)
        lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))

        def run(rows: NDArray[np.intp]) -> None:
            input_ids, mask = self.to_tensors([prompts[i] for i in rows])
            with torch.inference_mode():
                take(rows, self.loaded.model.encode_texts(input_ids, mask))

        run_all(run, ((rows,) for rows in plan_batches(lengths, self.batch_tokens)))
        return cut

    def _label_vectors(self, label_texts: tuple[str, ...]) -> torch.Tensor:
        return self._remember(("vectors", label_texts), lambda: self._encode_labels(label_texts))

    def _encode_labels(self, label_texts: tuple[str, ...]) -> torch.Tensor:
        model = self.loaded.model
        prompts, cut = _frame(self.label_tokenizer, label_texts, self.max_length)
        if cut.any():
            i = int(np.flatnonzero(cut)[0])
            raise ValueError(
                f"The text of label {i} ({label_texts[i][:60]!r}...) is longer than "
                f"max_length={self.max_length} tokens. Shorten the label text."
            )
        lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))
        vectors: list[torch.Tensor | None] = [None] * len(prompts)
        for rows in plan_batches(lengths, self.batch_tokens):
            input_ids, mask = self.to_tensors([prompts[i] for i in rows], label_side=True)
            with torch.inference_mode():
                for i, vector in zip(rows, model.encode_labels(input_ids, mask), strict=True):
                    vectors[i] = vector
        return torch.stack([vector for vector in vectors if vector is not None])

    # Shared by both.

    def _remember(self, key: Any, prepare: Callable[[], Any]) -> Any:
        """Keep what was prepared for the label sets seen last."""
        with self._lock:
            if key not in self._prepared:
                self._prepared[key] = prepare()
                if len(self._prepared) > CACHED_LABEL_SETS:
                    self._prepared.popitem(last=False)
            self._prepared.move_to_end(key)
            return self._prepared[key]

    def to_tensors(
        self, prompts: Sequence[TokenIds], *, label_side: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad a micro-batch on the right; the one way from lists of ids to tensors."""
        config = self.loaded.model.config
        backbone = config.label_model_config if label_side else config.encoder_config
        pad_id = int(backbone.pad_token_id or 0)
        lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, pad_id, dtype=np.int64)
        ids[mask] = np.concatenate(prompts)
        device = self.loaded.model.device
        return (
            torch.from_numpy(ids).to(device),
            torch.from_numpy(mask.astype(np.int64)).to(device),
        )


def plan_batches(lengths: NDArray[np.int64], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Group rows of similar length into micro-batches of bounded size.

    Parameters
    ----------
    lengths : ndarray of shape (n_rows,)
        The tokens of each row.
    batch_tokens : int
        How many tokens a micro-batch may have, padding included. A longer row goes alone.

    Yields
    ------
    ndarray of int
        The rows of one micro-batch; the longest rows come first, so that running out of memory
        shows at once.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        n_rows = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + n_rows]
        start += n_rows


_RunAll = Callable[[Callable[..., None], Iterable[tuple[Any, ...]]], None]


@contextmanager
def _worker_pool(n_jobs: int) -> Iterator[_RunAll]:
    """Give a function that runs jobs on `n_jobs` threads sharing the processor's."""
    if n_jobs == 1:
        yield _run_in_order
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // n_jobs))
    try:
        with ThreadPoolExecutor(n_jobs) as pool:
            yield lambda run, jobs: _drain(pool, n_jobs, run, jobs)
    finally:
        torch.set_num_threads(threads)


def _run_in_order(run: Callable[..., None], jobs: Iterable[tuple[Any, ...]]) -> None:
    for job in jobs:
        run(*job)


def _drain(
    pool: ThreadPoolExecutor,
    n_jobs: int,
    run: Callable[..., None],
    jobs: Iterable[tuple[Any, ...]],
) -> None:
    pending = [pool.submit(_run_in_order, run, part) for part in _deal(list(jobs), n_jobs)]
    for future in pending:
        future.result()


def _deal(jobs: list[tuple[Any, ...]], n_hands: int) -> list[list[tuple[Any, ...]]]:
    """Deal like cards: the jobs are sorted by length, so each worker gets a like share."""
    return [jobs[i::n_hands] for i in range(n_hands)]


def _unique_texts(texts: Sequence[str]) -> tuple[list[str], NDArray[np.intp]]:
    positions: dict[str, int] = {}
    inverse = [positions.setdefault(text, len(positions)) for text in texts]
    return list(positions), np.asarray(inverse, dtype=np.intp)


def _checked_length(max_length: int | None, loaded: LoadedModel) -> int:
    if max_length is None:
        return loaded.max_length
    if loaded.position_limit is not None and max_length > loaded.position_limit:
        raise ValueError(
            f"max_length={max_length} is more than the {loaded.position_limit} tokens that "
            f"{loaded.name!r} has positions for. Lower it."
        )
    return max_length


def _frame(
    tokenizer: PieceTokenizer, texts: Sequence[str], max_length: int
) -> tuple[list[TokenIds], NDArray[np.bool_]]:
    """Put whole sequences together from texts that stand alone; tell which had to be cut."""
    budget = max_length - len(tokenizer.prefix) - len(tokenizer.suffix)
    pieces = tokenizer.encode(texts, after_marker=False)
    cut = np.fromiter((len(ids) > budget for ids in pieces), dtype=np.bool_, count=len(pieces))
    return [[*tokenizer.prefix, *ids[:budget], *tokenizer.suffix] for ids in pieces], cut


def _described(texts: Sequence[str], task_description: str) -> Sequence[str]:
    return [f"{task_description} {text}" for text in texts] if task_description else texts


def _ignore(_: float) -> None:
    """Take no note of progress."""


def _to_numpy(tensor: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().to("cpu", torch.float32).numpy()
    return array


def _warn_truncated(n_cut: int, n_texts: int, max_length: int) -> None:
    warnings.warn(
        f"{n_cut} of {n_texts} texts did not fit beside the labels in max_length={max_length} "
        "tokens; only the beginning of each was read. Raise max_length if the model allows it.",
        TruncationWarning,
        stacklevel=2,
    )
