"""Score texts against labels: tokenise, plan batches, run, put rows back in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import joblib
import numpy as np
import torch
from numpy.typing import NDArray

from ..prompts.composer import Prompt, PromptComposer
from ..prompts.examples import ExampleEncoder, PromptExample
from ..prompts.label_plan import LabelPlan, plan_labels
from ..prompts.layouts import make_composer
from ..prompts.tokens import TokenIds
from .batching import plan_batches, worker_pool
from .border import pad_right, to_numpy
from .options import ScoringOptions
from .request import PerRow, Request
from .scoring import Scoring
from .shortlist import SHORTLIST_GAP, Shortlist

if TYPE_CHECKING:
    from ..loading.loaded import LoadedModel
    from ..modeling.bi_encoder import BiEncoder

__all__ = ["SHORTLIST_GAP", "Engine", "PromptExample", "plan_batches"]

BATCH_TOKENS = 1024
"""Padded tokens in a micro-batch: few enough that its activations stay in a processor's cache."""

MOST_WORKERS = 8
"""How many micro-batches run at a time unless asked for more: more would wait for Python's lock."""


DEFAULTS = ScoringOptions()


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
        How many micro-batches run at a time, each on its share of torch's threads. None means as
        many as there are threads, up to 8, which is fastest, but one on another device than a CPU.
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
        self.n_jobs = n_jobs
        self.text_tokenizer = loaded.text_tokenizer
        self.label_tokenizer = loaded.label_tokenizer
        self.architecture = loaded.network.config.architecture_type
        self.encodes_labels_apart = loaded.network.encodes_labels_apart
        self.has_label_encoder = loaded.network.has_label_encoder

    @property
    def n_workers(self) -> int:
        """How many micro-batches run at a time."""
        if self.n_jobs is not None:
            return int(joblib.effective_n_jobs(self.n_jobs))
        on_cpu = self.loaded.network.device.type == "cpu"
        return min(torch.get_num_threads(), MOST_WORKERS) if on_cpu else 1

    def logits(
        self,
        texts: Sequence[str],
        label_texts: Sequence[str] | Sequence[Sequence[str]],
        options: ScoringOptions = DEFAULTS,
        *,
        examples: Sequence[PromptExample] | Sequence[Sequence[PromptExample]] | None = None,
        embedder: Engine | None = None,
        on_progress: Callable[[float], object] | None = None,
    ) -> NDArray[np.float32]:
        """Score every text against every label of its label set.

        Parameters
        ----------
        texts : sequence of str of length n_texts
            What to classify.
        label_texts : sequence of str, or sequence of such sequences of length n_texts
            What the model reads for each label, in this order: for all texts, or a label set for
            each.
        options : ScoringOptions, optional
            How the model is asked.
        examples : sequence of PromptExample, or sequence of such sequences, optional
            Texts with their labels that the prompt shows, the most important first: for all
            texts, or a list for each. Only whole examples are shown, as many as the text leaves
            room for.
        embedder : Engine, optional
            What embeds texts and labels for the shortlist; by default this engine.
        on_progress : callable, optional
            Called now and then with the number of texts done since the last call.

        Returns
        -------
        ndarray of shape (n_texts, n_labels), float32
            The logits. A row depends on its text, its labels and its examples alone. With label
            sets of their own, rows follow these, and after the last label of a smaller set comes
            minus infinity, so that argmax, softmax and sigmoid need no mask.

        Raises
        ------
        ValueError, TypeError
            If an option is at fault; the message names it.

        Warns
        -----
        TruncationWarning
            Once, with a count, if texts had to be cut to fit; once if examples were left out.
        """
        request = Request.of(texts, label_texts, examples)
        advance = on_progress or _ignore
        composer = self.composer()
        encoder = None
        if request.examples is not None:
            encoder = ExampleEncoder(composer, options.example_format)
        scoring = Scoring(
            self,
            composer,
            task_description=options.task_description,
            example_encoder=encoder,
            long_texts=options.chunking,
            n_orders=1 if self.encodes_labels_apart else options.n_permutations,
            seed=options.seed,
        )
        if options.shortlist is None:
            return scoring.logits(request, advance)
        chosen = Shortlist.choose(
            embedder or self, request, options.shortlist, options.task_description
        )
        return chosen.spread(scoring.logits(chosen.narrow(request), advance))

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
        return Scoring(self, self.composer(), task_description=task_description).vectors(
            request, warn=warn_truncated
        )

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
        if not self.encodes_labels_apart:
            return self.text_vectors(label_texts)
        return to_numpy(self.encoded_labels(tuple(label_texts)))

    # What training needs too.

    def text_ids(self, texts: Sequence[str], task_description: str = "") -> list[TokenIds]:
        """Tokenise texts, with the task description where it directly precedes them."""
        return self.composer().encode_texts(texts, task_description)

    def label_ids(self, label_texts: Sequence[str]) -> list[TokenIds]:
        """Tokenise label texts; with their markers where there is no label encoder."""
        if not self.has_label_encoder:
            return self.composer().encode_labels(label_texts)
        return self.label_tokenizer.encode(label_texts, after_marker=False)

    def composer(self) -> PromptComposer:
        """Give what arranges this model's prompts."""
        return make_composer(self.loaded.network.config, self.text_tokenizer, self.max_length)

    def to_tensors(
        self, prompts: Sequence[TokenIds], *, label_side: bool = False
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pad a micro-batch on the right; the one way from lists of ids to tensors."""
        config = self.loaded.network.config
        backbone = config.label_model_config if label_side else config.encoder_config
        pad_id = int(getattr(backbone, "pad_token_id", None) or 0)
        return pad_right(prompts, pad_id, self.loaded.network.device)

    def to_inputs(self, prompts: Sequence[Prompt]) -> dict[str, torch.Tensor]:
        """Give the model's arguments for a micro-batch: every sequence with its mask."""
        inputs = {}
        for name in prompts[0]:
            ids, mask = self.to_tensors([prompt[name] for prompt in prompts])
            inputs[name] = ids
            inputs[name.replace("input_ids", "attention_mask")] = mask
        return inputs

    # What is kept from call to call.

    def label_plan(
        self, label_sets: Sequence[tuple[str, ...]], task: str, n_orders: int, seed: int
    ) -> LabelPlan:
        """Divide label sets over prompts; remembered where there is only one."""

        def prepare() -> LabelPlan:
            return plan_labels(
                self.composer(), label_sets, task, n_permutations=n_orders, seed=seed
            )

        if len(label_sets) > 1:
            return prepare()
        key = ("plan", self.max_length, label_sets[0], task, n_orders, seed)
        return cast("LabelPlan", self.loaded.prepared.get(key, prepare))

    def encoded_labels(self, label_texts: tuple[str, ...], *, keep: bool = True) -> torch.Tensor:
        """Give the label encoder's vectors, of shape (n_labels, width)."""
        if not keep:
            return self._encode_labels(label_texts)
        # The length counts too, as it may be too short for a label.
        return cast(
            "torch.Tensor",
            self.loaded.prepared.get(
                ("vectors", self.max_length, label_texts), lambda: self._encode_labels(label_texts)
            ),
        )

    def _encode_labels(self, label_texts: tuple[str, ...]) -> torch.Tensor:
        tokenizer = self.label_tokenizer
        ids = tokenizer.encode(label_texts, after_marker=False)
        prompts = [[*tokenizer.prefix, *own, *tokenizer.suffix] for own in ids]
        lengths = np.fromiter(map(len, prompts), dtype=np.int64, count=len(prompts))
        longest = min(self.max_length, self.loaded.label_position_limit or self.max_length)
        if lengths.max() > longest:
            i = int(lengths.argmax())
            raise ValueError(
                f"The text of label {i} ({label_texts[i][:60]!r}...) has {lengths[i]} tokens, but "
                f"the label encoder reads at most {longest}. Shorten the label text."
            )

        def encode(rows: NDArray[np.intp]) -> tuple[torch.Tensor, torch.Tensor]:
            inputs = self.to_tensors([prompts[i] for i in rows], label_side=True)
            with torch.inference_mode():
                return torch.from_numpy(rows), cast("BiEncoder", self.loaded.network).encode_labels(
                    *inputs
                )

        vectors: torch.Tensor | None = None
        jobs = plan_batches(lengths, self.batch_tokens)
        with worker_pool(self.n_workers) as run_all, torch.inference_mode():
            for rows, batch in run_all(encode, jobs):
                if vectors is None:
                    vectors = batch.new_empty(len(prompts), batch.shape[1])
                vectors[rows] = batch
        assert vectors is not None
        return vectors


def _checked_length(max_length: int | None, loaded: LoadedModel) -> int:
    if max_length is None:
        return loaded.max_length
    if loaded.position_limit is not None and max_length > loaded.position_limit:
        raise ValueError(
            f"max_length={max_length} is more than the {loaded.position_limit} tokens that "
            f"{loaded.name!r} has positions for. Lower it."
        )
    return max_length


def _ignore(_: float) -> None:
    """Take no note of progress."""
