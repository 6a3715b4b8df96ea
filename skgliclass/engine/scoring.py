"""Run a model over a request, window by window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray

from ..exceptions import TruncationWarning, warn
from ..prompts.composer import Prompt, PromptComposer
from ..prompts.examples import ExampleEncoder, without_tags
from ..prompts.label_plan import LabelPart, LabelPlan
from ..prompts.long_texts import LongTexts
from .batching import RunAll, ahead, plan_batches, plan_windows, worker_pool
from .border import to_numpy
from .request import Request
from .work import Work, plan_work

if TYPE_CHECKING:
    from ..modeling.bi_encoder import BiEncoder
    from .engine import Engine

Prepared: TypeAlias = tuple[slice, NDArray[np.intp], NDArray[np.intp], Work]
"""A window, its distinct rows, which of them each of its rows is like, and the work they make."""

WINDOW = 8192
"""How many texts are tokenised, sorted by length and scored before the next are read."""

WINDOW_CHARACTERS = 1 << 22
"""How many characters these may have together."""

WINDOW_SCORES = 1 << 24
"""How many logits these may have together."""

CHUNK_CHARACTERS = 256
"""How many characters a chunk has at least, by a cautious guess, for the bound on logits."""

COMPARED_PAIRS = 1 << 16
"""How many text-label pairs are compared at a time where each needs memory of its own."""


class Scoring:
    """How a model is asked; what it is asked comes with each call.

    Parameters
    ----------
    engine : Engine
        With the model.
    composer : PromptComposer
        Of its prompts.
    task_description : str, default=""
        A sentence that every prompt holds.
    example_encoder : ExampleEncoder, optional
        Writes the examples, where there are any.
    long_texts : LongTexts, optional
        What happens to texts that do not fit; by default their beginning is read.
    n_orders : int, default=1
        Over how many orders of the labels to average.
    seed : int, default=0
        Of the orders after the first.
    """

    def __init__(
        self,
        engine: Engine,
        composer: PromptComposer,
        *,
        task_description: str = "",
        example_encoder: ExampleEncoder | None = None,
        long_texts: LongTexts | None = None,
        n_orders: int = 1,
        seed: int = 0,
    ) -> None:
        self._engine = engine
        self._model = engine.loaded.model
        self._composer = composer
        self._task = task_description
        self._encoder = example_encoder
        self._long_texts = long_texts or LongTexts()
        self._n_orders = n_orders
        self._seed = seed
        self._is_fused = engine.architecture == "bi-encoder-fused"

    def logits(self, request: Request, advance: Callable[[float], object]) -> NDArray[np.float32]:
        """Score a request; see :meth:`Engine.logits`."""
        n_texts, n_columns = len(request.texts), request.n_columns
        scores = np.full((n_texts, n_columns), -np.inf, dtype=np.float32)
        n_cut = n_dropped = 0
        with worker_pool(self._engine.n_workers) as run_all:
            for window, rows, inverse, work in self._prepared(request, n_columns):
                found = self._score(work, run_all, advance)
                scores[window, : found.shape[1]] = found[inverse]
                n_cut += int(work.cut[inverse].sum())
                n_dropped += int(work.dropped[inverse].sum())
                advance(len(inverse) - len(rows))
        self._warn(n_cut, n_dropped, n_texts)
        return scores

    def vectors(self, request: Request, *, warn: bool = False) -> NDArray[np.float32]:
        """Give the texts' vectors; see :meth:`Engine.text_vectors`."""
        vectors: NDArray[np.float32] | None = None
        n_cut = 0
        with worker_pool(self._engine.n_workers) as run_all:
            for window, _, inverse, work in self._prepared(request, 1):
                found = self._encode(work, run_all)
                n_cut += int(work.cut[inverse].sum())
                if vectors is None:
                    vectors = np.empty((len(request.texts), found.shape[1]), dtype=np.float32)
                vectors[window] = found[inverse]
        if warn:
            self._warn(n_cut, 0, len(request.texts))
        if vectors is None:
            width = self._model.config.encoder_config.hidden_size
            return np.empty((0, width), dtype=np.float32)
        return vectors

    def _prepared(self, request: Request, n_columns: int) -> Iterator[Prepared]:
        """Tokenise and plan window by window; the next while one is scored."""
        windows = list(self._windows(request.texts, n_columns))
        prepared = (self._prepare(request, window) for window in windows)
        return ahead(prepared) if len(windows) > 1 else prepared

    def _prepare(self, request: Request, window: slice) -> Prepared:
        rows, inverse = request.distinct(window)
        return window, rows, inverse, self._work(request, rows)

    def _windows(self, texts: Sequence[str], n_columns: int) -> Iterator[slice]:
        n_rows = max(1, WINDOW_SCORES // max(1, n_columns * self._n_orders))
        characters = WINDOW_CHARACTERS
        if self._long_texts.chunks:
            # Every chunk has a row of scores until they are pooled.
            characters = min(characters, n_rows * CHUNK_CHARACTERS)
        return plan_windows(texts, min(WINDOW, n_rows), characters)

    # From rows to items.

    def _work(self, request: Request, rows: NDArray[np.intp]) -> Work:
        label_sets, set_of_row = request.labels.rows(rows)
        plan = self._engine.label_plan(label_sets, self._task, self._n_orders, self._seed)
        texts = [request.texts[i] for i in rows]
        examples = None
        if request.examples is not None and self._encoder is not None:
            if self._encoder.follows_text:
                texts = [without_tags(text) for text in texts]
            shown, shown_of_row = request.examples.rows(rows)
            pairs = list(zip(shown_of_row.tolist(), set_of_row.tolist(), strict=True))
            encoded = {(e, s): self._encoder.encode(shown[e], label_sets[s]) for e, s in set(pairs)}
            examples = [encoded[pair] for pair in pairs]
        return plan_work(
            self._composer,
            plan,
            texts,
            set_of_row,
            self._task,
            examples=examples,
            encoder=self._encoder,
            long_texts=self._long_texts,
        )

    # From items to numbers.

    def _score(
        self, work: Work, run_all: RunAll, advance: Callable[[float], object]
    ) -> NDArray[np.float32]:
        labels = self._label_vectors(work.plan)
        scores = work.empty_scores()

        def run(items: NDArray[np.intp]) -> float:
            parts = [work.plan.parts[k] for k in work.part[items]]
            work.put(scores, items, to_numpy(self._forward(work.compose(items), parts, labels)))
            return float(work.progress[items].sum())

        for n_done in run_all(run, self._jobs(work)):
            advance(n_done)
        return work.combine(scores)

    def _encode(self, work: Work, run_all: RunAll) -> NDArray[np.float32]:
        labels = None if self._engine.encodes_labels_apart else self._label_vectors(work.plan)
        found: dict[int, NDArray[np.float32]] = {}

        def run(items: NDArray[np.intp]) -> zip[tuple[int, NDArray[np.float32]]]:
            parts = [work.plan.parts[k] for k in work.part[items]]
            vectors = to_numpy(self._text_vectors(work.compose(items), parts, labels))
            return zip(items.tolist(), vectors, strict=True)

        for some in run_all(run, self._jobs(work)):
            found.update(some)
        by_item = np.stack([found[i] for i in range(len(work.cell))])
        # Every text has as many items as its labels fill prompts.
        return by_item.reshape(len(work.cells), -1, by_item.shape[1]).mean(axis=1)

    def _jobs(self, work: Work) -> Iterator[NDArray[np.intp]]:
        return plan_batches(work.lengths, self._engine.batch_tokens)

    def _label_vectors(self, plan: LabelPlan) -> torch.Tensor | None:
        if not (self._engine.encodes_labels_apart or self._is_fused):
            return None
        if not plan.label_texts:
            width = self._model.config.encoder_config.hidden_size
            return torch.empty(0, width, dtype=self._model.dtype, device=self._model.device)
        # Label sets of single rows are many, and seldom come again.
        return self._engine.encoded_labels(plan.label_texts, keep=len(plan.set_sizes) == 1)

    @torch.inference_mode()
    def _forward(
        self,
        prompts: Sequence[Prompt],
        parts: Sequence[LabelPart],
        labels: torch.Tensor | None,
    ) -> torch.Tensor:
        """Give logits of shape (n_prompts, most labels of a prompt)."""
        inputs = self._engine.to_inputs(prompts)
        if self._engine.encodes_labels_apart:
            assert labels is not None
            return self._compare(self._model.encode_texts(**inputs), parts, labels)
        logits: torch.Tensor = self._model(**inputs, **self._label_inputs(parts, labels)).logits
        return logits

    @torch.inference_mode()
    def _text_vectors(
        self,
        prompts: Sequence[Prompt],
        parts: Sequence[LabelPart],
        labels: torch.Tensor | None,
    ) -> torch.Tensor:
        inputs = self._engine.to_inputs(prompts)
        vectors: torch.Tensor
        if self._engine.encodes_labels_apart:
            vectors = self._model.encode_texts(**inputs)
            return vectors
        output = self._model(
            **inputs, **self._label_inputs(parts, labels), output_text_embeddings=True
        )
        vectors = output.text_embeddings
        if vectors.dim() == 2:
            return vectors
        mask = inputs["attention_mask"] if output.text_mask is None else output.text_mask
        weights = mask.to(vectors.dtype)[..., None]
        return (vectors * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)

    def _label_inputs(
        self, parts: Sequence[LabelPart], labels: torch.Tensor | None
    ) -> dict[str, Any]:
        n_columns = max(len(part.columns) for part in parts)
        if not self._is_fused:
            return {"max_num_classes": max(1, n_columns)}
        assert labels is not None
        return {"label_vectors": _vectors_of_parts(parts, labels)[0]}

    def _compare(
        self, texts: torch.Tensor, parts: Sequence[LabelPart], labels: torch.Tensor
    ) -> torch.Tensor:
        model = cast("BiEncoder", self._model.model)
        if self._model.config.scorer_type == "simple" and all(p is parts[0] for p in parts):
            return model.score_vectors(texts, _rows_of(labels, parts[0].labels))
        # Other scorers make a vector of every pair.
        n_columns = max(len(part.columns) for part in parts)
        step = max(1, COMPARED_PAIRS // n_columns)
        found = []
        for start in range(0, len(texts), step):
            own, mask = _vectors_of_parts(parts[start : start + step], labels, n_columns)
            found.append(model.score_vectors(texts[start : start + step], own, mask))
        return torch.cat(found)

    def _warn(self, n_cut: int, n_dropped: int, n_texts: int) -> None:
        max_length = self._composer.max_length
        if n_cut:
            warn(
                f"{n_cut} of {n_texts} texts did not fit beside the labels in "
                f"max_length={max_length} tokens; only the beginning of each was read. Raise "
                'max_length if the model allows it, or set long_texts="chunk".',
                TruncationWarning,
            )
        if n_dropped:
            warn(
                f"{n_dropped} of {n_texts} texts left no room in max_length={max_length} tokens "
                "for all of their examples, of which the last were not shown. Give fewer or "
                "shorter examples, or raise max_length if the model allows it.",
                TruncationWarning,
            )


def _rows_of(labels: torch.Tensor, positions: NDArray[np.intp]) -> torch.Tensor:
    if np.array_equal(positions, np.arange(len(labels))):
        return labels
    return labels[torch.from_numpy(positions).to(labels.device)]


def _vectors_of_parts(
    parts: Sequence[LabelPart], labels: torch.Tensor, n_columns: int | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each part's label vectors, (n_parts, n_columns, width), and which of them are real."""
    lengths = np.asarray([len(part.labels) for part in parts])
    n_columns = int(lengths.max()) if n_columns is None else n_columns
    positions = np.zeros((len(parts), n_columns), dtype=np.int64)
    mask = np.arange(n_columns) < lengths[:, None]
    if n_columns == 0:
        return labels.new_zeros(len(parts), 0, labels.shape[1]), torch.from_numpy(mask)
    positions[mask] = np.concatenate([part.labels for part in parts])
    chosen = labels[torch.from_numpy(positions).to(labels.device)]
    return chosen, torch.from_numpy(mask).to(labels.device)
