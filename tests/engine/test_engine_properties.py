"""What holds for every score: it is its row's alone, whatever the characters and the options."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st
from seeded import MODELS
from strategies import costly, label_sets, prompt_examples, task_descriptions, texts

from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.prompts.examples import EXAMPLE_FORMATS

pytestmark = pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")


@dataclass(frozen=True)
class Case:
    """A request and two ways to answer it."""

    model: str
    max_length: int
    texts: list
    labels: list
    examples: list
    options: ScoringOptions
    batch_tokens: int
    n_jobs: int
    window: int
    order: list

    @property
    def has_own_labels(self):
        return isinstance(self.labels[0], list)

    def labels_of(self, i):
        return self.labels[i] if self.has_own_labels else self.labels

    def rows(self, order):
        """Give texts, labels and examples of some rows."""
        labels = [self.labels[i] for i in order] if self.has_own_labels else self.labels
        return [self.texts[i] for i in order], labels, [self.examples[i] for i in order]


@st.composite
def cases(draw):
    of_texts = draw(st.lists(texts, min_size=2, max_size=5))
    own = draw(st.booleans())
    labels = [draw(label_sets) for _ in of_texts] if own else draw(label_sets)
    shows = draw(st.booleans())
    return Case(
        model=draw(st.sampled_from(sorted(MODELS))),
        max_length=draw(st.integers(48, 200)),
        texts=of_texts,
        labels=labels,
        examples=[
            draw(prompt_examples(labels[i] if own else labels)) if shows else ()
            for i in range(len(of_texts))
        ],
        options=ScoringOptions(
            task_description=draw(task_descriptions),
            example_format=draw(st.sampled_from(EXAMPLE_FORMATS)),
            long_texts=draw(st.sampled_from(["truncate", "chunk"])),
            chunk_overlap=draw(st.integers(0, 20)),
            chunk_pooling=draw(st.sampled_from(["max", "mean"])),
            n_permutations=draw(st.integers(1, 2)),
            seed=draw(st.integers(0, 3)),
            shortlist=None if own else draw(st.sampled_from([None, 1, 3])),
        ),
        batch_tokens=draw(st.sampled_from([1, 64, 300, 4096])),
        n_jobs=draw(st.sampled_from([1, 2])),
        window=draw(st.sampled_from([1, 2, 8192])),
        order=draw(st.permutations(range(len(of_texts)))),
    )


def logits(engine, rows, options):
    texts, labels, examples = rows
    return engine.logits(texts, labels, options, examples=examples)


def fits(engine, case):
    """Tell whether the labels fit into prompts; an error must name the one that does not."""
    try:
        for i in range(len(case.texts)):
            logits(engine, (*case.rows([i])[:2], None), case.options)
    except ValueError as error:
        if not str(error).startswith(("The label ", "The text of label ", "task_description has ")):
            raise
        return False
    return True


@costly
@given(case=cases())
def test_a_row_depends_on_itself_alone(seeded_models, case):
    loaded = seeded_models(case.model)
    engine = Engine(loaded, max_length=case.max_length)
    if not fits(engine, case):
        return
    before = copy.deepcopy(case)
    alone = [logits(engine, case.rows([i]), case.options)[0] for i in range(len(case.texts))]
    other = Engine(
        loaded,
        max_length=case.max_length,
        batch_tokens=case.batch_tokens,
        n_jobs=case.n_jobs,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("skgliclass.engine.engine.WINDOW", case.window)
        together = logits(other, case.rows(case.order), case.options)
    assert case == before
    scale = max(1.0, *(float(np.abs(row).max()) for row in alone))
    for i, row in zip(case.order, together, strict=True):
        n_labels = len(case.labels_of(i))
        np.testing.assert_allclose(row[:n_labels], alone[i], rtol=0, atol=1e-5 * scale)
        assert np.isneginf(row[n_labels:]).all()
