"""Draw, augment and tokenise the rows of a few steps at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..datasets.examples import Example
from ..engine.engine import Engine
from ..training.data import LabelledRows, TrainingSet, make_training_set
from .augment import Augmenter, DrawnRow
from .config import PretrainingConfig
from .mixture import Mixture
from .neighbours import Neighbours

_DRAWING = 1  # tells the seeds of chunks from those of other things


class Chunks:
    """The training rows of a run, of which any part can be drawn at any time.

    Parameters
    ----------
    engine : Engine
        Of the model that will be trained.
    mixture : Mixture
        What is drawn from.
    config : PretrainingConfig
        How.
    teacher : Engine or None
        A frozen sentence encoder as a bi-encoder: where neighbours or its similarities are wanted.
    """

    def __init__(
        self, engine: Engine, mixture: Mixture, config: PretrainingConfig, teacher: Engine | None
    ) -> None:
        self._engine = engine
        self._mixture = mixture
        self._config = config
        self._teacher = teacher
        seed = config.training.seed
        self._neighbours = None
        if teacher is not None:
            self._neighbours = Neighbours(teacher, config.augmentation.pool_size, seed)
        self._augmenter = Augmenter(
            mixture.sets,
            config.augmentation,
            multi_label_weight=config.training.multi_label_weight,
            nearest=None if self._neighbours is None else self._neighbours.labels,
        )

    def draw(self, index: int) -> list[DrawnRow]:
        """Draw the rows of a chunk; they depend on the seed and the index alone."""
        training = self._config.training
        rng = np.random.default_rng([training.seed, _DRAWING, index])
        n, k = training.chunk_steps * training.batch_size, training.rows_together
        drawn = self._mixture.draw(n, rng, k)
        examples = self._examples(drawn, rng)
        rows = []
        for start in range(0, n, k):
            source = self._mixture.sets[drawn[start][0]]
            together = [source.rows[j] for _, j in drawn[start : start + k]]
            rows += self._augmenter.augment_together(
                source, together, rng, examples[start : start + k]
            )
        return rows

    def training_set(self, index: int) -> TrainingSet:
        """Tokenise the rows of a chunk."""
        rows = self.draw(index)
        names = list(dict.fromkeys(label for row in rows for label in row.labels))
        position = {name: k for k, name in enumerate(names)}
        return make_training_set(
            self._engine,
            [row.text for row in rows],
            names,
            LabelledRows.ragged(
                [[position[label] for label in row.labels] for row in rows],
                self._targets(rows),
            ),
            weights=np.array([row.weight for row in rows], dtype=np.float32),
            task_description=[self._engine.composer.separated(row.task) for row in rows],
            examples=[row.examples for row in rows] if any(row.examples for row in rows) else None,
            multi_label=np.array([row.multi_label for row in rows]),
        )

    def _examples(
        self, drawn: Sequence[tuple[int, int]], rng: np.random.Generator
    ) -> list[list[Example]]:
        config = self._config.augmentation
        wanted = rng.random(len(drawn)) < config.example_probability
        examples: list[list[Example]] = [[] for _ in drawn]
        if self._neighbours is None:
            return examples
        for i, source in enumerate(self._mixture.sets):
            places = [p for p, (set_, _) in enumerate(drawn) if set_ == i and wanted[p]]
            if source.shares_labels:
                rows = [source.rows[drawn[p][1]] for p in places]
                nearest_rows = self._neighbours.rows(source, rows, config.max_examples)
                for place, nearest in zip(places, nearest_rows, strict=True):
                    examples[place] = nearest[: self._n_examples(rng)]
        return examples

    def _n_examples(self, rng: np.random.Generator) -> int:
        most = self._config.augmentation.max_examples
        vary = self._config.augmentation.vary_examples
        return int(rng.integers(1, most + 1)) if vary else most

    def _targets(self, rows: Sequence[DrawnRow]) -> list[list[float]]:
        """Mix what is known with the teacher's opinion, which cross-entropy is linear in."""
        weight = self._config.training.distillation
        if self._teacher is None or not weight:
            return [row.targets for row in rows]
        logits = self._teacher.logits([row.text for row in rows], [row.labels for row in rows])
        mixed = []
        for row, values in zip(rows, logits.astype(np.float64), strict=True):
            # The engine fills up smaller label sets.
            row_logits = values[: len(row.labels)]
            if row.multi_label:
                opinion = 1 / (1 + np.exp(-row_logits))
            else:
                opinion = np.exp(row_logits - row_logits.max())
                opinion /= opinion.sum()
            mixed.append(((1 - weight) * np.array(row.targets) + weight * opinion).tolist())
        return mixed


def needs_teacher(config: PretrainingConfig) -> bool:
    """Tell whether anything asks for the embeddings of the frozen backbone."""
    augmentation = config.augmentation
    return bool(
        config.training.distillation
        or augmentation.hard_negative_probability
        or augmentation.example_probability
    )
