"""What holds for every prompt, whatever the texts, labels, options and tokenizers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from tiny import MARKERS, TOKENIZERS, joined_pieces, with_markers

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st
from strategies import (
    label_sets,
    many_labels,
    prompt_examples,
    short_texts,
    task_descriptions,
    texts,
)

from skgliclass.engine.work import list_items
from skgliclass.prompts.architectures import SUPPORTED_ARCHITECTURES
from skgliclass.prompts.examples import EXAMPLE_FORMATS, ExampleEncoder
from skgliclass.prompts.label_plan import plan_labels
from skgliclass.prompts.layouts import make_composer
from skgliclass.prompts.long_texts import LongTexts
from skgliclass.prompts.packing import TextStrings, pack_texts
from skgliclass.prompts.tokens import PieceTokenizer


@cache
def tokenizer_of(name):
    return with_markers(TOKENIZERS[name]())


@dataclass(frozen=True)
class Case:
    """What prompts are made of."""

    tokenizer: str
    architecture: str
    prompt_first: bool
    max_length: int
    labels: list
    texts: list
    task: str
    examples: tuple
    example_format: str
    long_texts: LongTexts
    n_permutations: int

    @property
    def composer(self):
        tokenizer = tokenizer_of(self.tokenizer)
        return make_composer(
            self.architecture,
            PieceTokenizer(tokenizer),
            self.max_length,
            prompt_first=self.prompt_first,
            vocabulary_size=tokenizer.get_vocab_size(),
            label_id=-1,
            text_id=-1,
        )

    def work(self):
        """Give the items with their prompts, or the error that says what does not fit."""
        composer = self.composer
        try:
            plan = plan_labels(
                composer, [self.labels], self.task, n_permutations=self.n_permutations
            )
        except ValueError as error:
            return str(error)
        encoder = ExampleEncoder(composer, self.example_format) if self.examples else None
        of_each = [self.examples] * len(self.texts)
        shown = encoder.prepare(self.texts, of_each) if encoder else self.texts
        set_of_row = np.zeros(len(shown), dtype=np.intp)
        packed = pack_texts(
            composer,
            TextStrings(composer, shown, self.task, plan.task),
            plan.smallest_rooms[set_of_row],
            examples=[encoder.encode(self.examples, self.labels)] * len(shown) if encoder else None,
            encoder=encoder,
            chunks=self.long_texts.chunks,
        )
        return list_items(composer, plan, set_of_row, packed, self.long_texts)


@st.composite
def cases(draw):
    labels = draw(st.one_of(label_sets, many_labels))
    return Case(
        tokenizer=draw(st.sampled_from(sorted(TOKENIZERS))),
        architecture=draw(st.sampled_from(SUPPORTED_ARCHITECTURES)),
        prompt_first=draw(st.booleans()),
        max_length=draw(st.integers(24, 300)),
        labels=labels,
        texts=draw(st.lists(texts, min_size=1, max_size=4)),
        task=draw(task_descriptions),
        examples=draw(prompt_examples(labels)),
        example_format=draw(st.sampled_from(EXAMPLE_FORMATS)),
        long_texts=LongTexts(
            draw(st.sampled_from(["truncate", "chunk"])), draw(st.integers(0, 40)), "max"
        ),
        n_permutations=draw(st.integers(1, 3)),
    )


@given(cases())
def test_a_prompt_is_never_longer_than_max_length(case):
    work = case.work()
    if isinstance(work, str):
        assert work.startswith(("The label ", "task_description has "))
        assert f"max_length={case.max_length}" in work
        return
    prompts = [joined_pieces(prompt) for prompt in work.prompts(np.arange(len(work.cell)))]
    for prompt in prompts:
        for ids in prompt.values():
            assert len(ids) <= case.max_length
    assert work.lengths.tolist() == [sum(map(len, prompt.values())) for prompt in prompts]


@given(cases())
def test_no_text_adds_a_marker_and_no_label_is_cut(case):
    work = case.work()
    if isinstance(work, str):
        return
    composer, plan = case.composer, work.plan
    # Each order shows every label once and whole.
    alone = dict(zip(case.labels, composer.encode_labels(case.labels), strict=True))
    for order in range(int(plan.n_orders[0])):
        parts = [part for part in plan.parts if part.order == order]
        columns = np.concatenate([part.columns for part in parts])
        assert sorted(columns) == list(range(len(case.labels)))
        shown = np.concatenate([part.ids for part in parts])
        wanted = np.concatenate([alone[case.labels[k]] for k in columns])
        np.testing.assert_array_equal(shown, wanted)
    items = np.arange(len(work.cell))
    special = composer.tokenizer._special_ids
    label, end, example = map(tokenizer_of(case.tokenizer).token_to_id, MARKERS)
    for item, prompt, part in zip(items, work.prompts(items), work.parts(items), strict=True):
        joined = joined_pieces(prompt)
        ids = [token for sequence in joined.values() for token in sequence]
        assert contains(ids, part.ids)
        n_examples = ids.count(example)
        assert n_examples <= len(case.examples)
        expected = expected_markers(case, len(part.labels), n_examples, len(joined))
        assert (ids.count(label), ids.count(end)) == expected
        # The rest of what has a meaning is around the sequences.
        framing = [] if case.architecture == "decoder-kv" else framing_of(composer, len(joined))
        others = [token for token in ids if token in special - {label, end, example}]
        assert sorted(others) == sorted(token for token in framing if token in special), item


def expected_markers(case, n_labels, n_examples, n_sequences):
    """Count the markers for labels, and those that end the labels and the examples."""
    ends = {"bi-encoder": 0, "decoder-kv": 2}.get(case.architecture, 1)
    ends += bool(n_examples and case.example_format == "marker")
    return (0 if case.architecture == "bi-encoder" else n_labels), ends


def framing_of(composer, n_sequences):
    return [*composer.tokenizer.prefix, *composer.tokenizer.suffix] * n_sequences


def contains(ids, part):
    wanted = ",".join(map(str, part.tolist()))
    return f",{wanted}," in f",{','.join(map(str, ids))}," or not len(part)


@given(cases())
def test_texts_are_read_whole_or_counted_as_cut(case):
    work = case.work()
    if isinstance(work, str):
        return
    cells, packed = work.cells, work.texts
    items = np.arange(len(work.cell))
    for item, prompt in zip(items, work.prompts(items), strict=True):
        cell = work.cell[item]
        row, start, stop = cells.row[cell], cells.start[cell], work.stops[item]
        read = packed.ids[row][start:stop]
        assert contains(joined_pieces(prompt)["input_ids"], read)
        if not case.long_texts.chunks and not work.cut[row]:
            assert len(read) == len(packed.ids[row])
    if case.long_texts.chunks:
        assert not work.cut.any()
        for row, ids in enumerate(packed.ids):
            of_row = cells.row == row
            starts, stops = cells.start[of_row], cells.stop[of_row]
            assert (starts[0], stops[-1]) == (0, len(ids))
            assert (starts[1:] <= stops[:-1]).all()
            # Every part of the labels reads all of a chunk.
            for cell in np.flatnonzero(of_row):
                assert (work.stops[work.cell == cell] == cells.stop[cell]).all()


@given(
    st.sampled_from(sorted(TOKENIZERS)),
    st.lists(short_texts, min_size=1, max_size=6),
    st.booleans(),
)
def test_a_piece_is_the_same_alone_and_among_others(name, pieces, after_marker):
    tokenizer = PieceTokenizer(tokenizer_of(name))
    together = tokenizer.encode(pieces, after_marker=after_marker)
    for piece, ids in zip(pieces, together, strict=True):
        (alone,) = tokenizer.encode([piece], after_marker=after_marker)
        assert alone.tolist() == ids.tolist()
        assert tokenizer._special_ids.isdisjoint(ids.tolist())
