"""How label sets are divided over prompts, against divisions by hand."""

import numpy as np
import pytest
from tiny import TOKENIZERS, with_markers

from skgliclass.prompts.label_plan import alike_labels, label_orders, plan_labels, split_labels
from skgliclass.prompts.layouts import make_composer
from skgliclass.prompts.tokens import PieceTokenizer, as_token_ids


@pytest.fixture(scope="module")
def tokenizer():
    return with_markers(next(iter(TOKENIZERS.values()))())


def composer_of(tokenizer, max_length=40):
    return make_composer(
        "uni-encoder",
        PieceTokenizer(tokenizer),
        max_length,
        prompt_first=True,
        vocabulary_size=tokenizer.get_vocab_size(),
        label_id=-1,
        text_id=-1,
    )


def split(tokenizer, lengths, n_task_tokens=0):
    # [CLS], [SEP], <<SEP>> and a quarter for the text leave 27 of 40 tokens.
    composer = composer_of(tokenizer)
    assert composer.label_room() == 27
    ids = [as_token_ids([7] * length) for length in lengths]
    names = [f"label {i} of {length} tokens" for i, length in enumerate(lengths)]
    parts = split_labels(composer, ids, names, n_task_tokens)
    return [(part.start, part.stop) for part in parts]


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [
        ([], [(0, 0)]),
        ([27], [(0, 1)]),
        ([9, 9, 9], [(0, 3)]),
        # As many in each as can be: 14 in the fuller one, and not 27 and 1.
        ([9, 9, 9, 1], [(0, 2), (2, 4)]),
        ([7] * 4, [(0, 2), (2, 4)]),
        ([27, 1], [(0, 1), (1, 2)]),
        ([1, 27], [(0, 1), (1, 2)]),
        ([20, 20, 5, 5, 5], [(0, 1), (1, 2), (2, 5)]),
        ([9] * 7, [(0, 3), (3, 6), (6, 7)]),
        ([10] * 5, [(0, 2), (2, 4), (4, 5)]),
    ],
)
def test_labels_are_divided_over_as_few_prompts_of_like_length(tokenizer, lengths, parts):
    assert split(tokenizer, lengths) == parts


def test_a_task_description_leaves_labels_less(tokenizer):
    assert split(tokenizer, [9, 9, 8], 1) == [(0, 3)]
    assert split(tokenizer, [9, 9, 9], 1) == [(0, 2), (2, 3)]
    with pytest.raises(ValueError, match=r"'label 1 of 27 tokens' has 26 tokens; at most 25 fit"):
        split(tokenizer, [1, 27], 1)


@pytest.mark.parametrize(("width", "shown"), [(60, "x" * 60), (61, "x" * 57 + "...")])
def test_a_long_label_is_named_in_short(tokenizer, width, shown):
    with pytest.raises(ValueError, match=f"^The label '{shown}' has 99 tokens; at most 26 fit"):
        split_labels(composer_of(tokenizer), [as_token_ids([7] * 100)], ["x" * width])


def test_orders_are_all_there_are_or_seeded_ones():
    def listed(*arguments):
        return [order.tolist() for order in label_orders(*arguments)]

    assert listed(3, 1, 0) == [[0, 1, 2]]
    assert listed(2, 2, 0) == listed(2, 5, 0) == [[0, 1], [1, 0]]
    assert sorted(listed(3, 6, 0)) == sorted(listed(3, 7, 1))
    assert len(listed(3, 6, 0)) == 6
    assert [len(listed(n, 40_320, 0)) for n in (0, 1, 8)] == [1, 1, 40_320]
    few = listed(9, 5, 3)
    assert few[0] == list(range(9))
    assert len(few) == 5
    assert all(sorted(order) == list(range(9)) for order in few)
    assert few == listed(9, 5, 3)
    assert few != listed(9, 5, 4)
    # One less than there are: drawn, the order given among them.
    assert listed(3, 5, 0)[0] == [0, 1, 2]
    assert len(listed(3, 5, 0)) == 5


def test_a_plan_holds_every_label_once_an_order(tokenizer):
    composer = composer_of(tokenizer)
    sets = [("the world", "travel"), ("travel",), (), tuple(f"label {i}" for i in range(12))]
    plan = plan_labels(composer, sets, n_permutations=3, seed=5)
    assert plan.label_texts == tuple(dict.fromkeys(label for labels in sets for label in labels))
    assert plan.set_sizes.tolist() == [2, 1, 0, 12]
    assert plan.n_orders.tolist() == [2, 1, 1, 3]
    assert not plan.is_shared
    ids = dict(zip(plan.label_texts, composer.encode_labels(plan.label_texts), strict=True))
    assert plan.offsets[0] == 0
    assert plan.offsets[-1] == len(plan.parts)
    smallest = []
    for labels, start, stop in zip(sets, plan.offsets, plan.offsets[1:], strict=False):
        parts = plan.parts[start:stop]
        for order in {part.order for part in parts}:
            shown = np.concatenate([part.columns for part in parts if part.order == order])
            assert sorted(shown.tolist()) == list(range(len(labels)))
        for part in parts:
            texts = [labels[k] for k in part.columns]
            assert [plan.label_texts[k] for k in part.labels] == texts
            assert part.ids.tolist() == [i for text in texts for i in ids[text].tolist()]
        smallest.append(40 - 3 - max(len(part.ids) for part in parts))
    assert plan.rooms[:, 0].tolist() == [40 - 3 - len(part.ids) for part in plan.parts]
    assert plan.part_lengths.tolist() == [len(part.ids) for part in plan.parts]
    assert plan.smallest_rooms[:, 0].tolist() == smallest
    assert plan_labels(composer, sets[:1]).is_shared


def test_the_rooms_tell_where_a_task_description_stands(tokenizer):
    plan = plan_labels(composer_of(tokenizer), [("travel",)], "the world")
    assert len(plan.task) > 0
    with_task, apart = plan.rooms[0]
    assert apart == with_task - len(plan.task)


def test_labels_that_the_tokenizer_does_not_tell_apart_are_named():
    texts = ["a", "A", "b", "á", "c"]
    ids = [as_token_ids([k]) for k in (1, 1, 2, 1, 3)]
    sets = [("a", "A", "b"), ("á", "b", "A"), ("a", "b"), ("a", "A", "c"), ("A", "z")]
    assert alike_labels(texts, ids, sets) == [("a", "A"), ("á", "A")]
    assert alike_labels(texts, [as_token_ids([k]) for k in range(5)], sets) == []
