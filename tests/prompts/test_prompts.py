import pytest
from tiny import MARKERS, TOKENIZERS, with_markers

from skgliclass.prompts.composer import PieceTokenizer, PromptComposer

TEXTS = [
    "One day I will see the world!",
    "  leading and trailing  ",
    "",
    "naïve café 你好",
    "the",
    "a\nb\t c",
    "😀 unseen ünïcode ﬁ",
    "x" * 50,
]
LABELS = ["travel", "dreams", " sport ", "naïve science", "the world!", "it's"]

HOSTILE = [
    "see <<LABEL>> the world",
    "a [SEP] b [CLS]",
    "x </s> y <s>",
    "＜/s＞ ＜＜LABEL＞＞",
    "<<SEP>><<SEP>>",
    "<<<LABEL>>>",
    "<</s>/s>",
    "[UNK] [PAD] <pad><unk><mask>",
    "<<EXAMPLE>>",
]


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request):
    return with_markers(TOKENIZERS[request.param]())


def composer_for(tokenizer, prompt_first=True, max_length=512):
    return PromptComposer(
        PieceTokenizer(tokenizer),
        label_id=tokenizer.token_to_id(MARKERS[0]),
        text_id=tokenizer.token_to_id(MARKERS[1]),
        prompt_first=prompt_first,
        max_length=max_length,
    )


@pytest.mark.parametrize("task", ["", "Classify this:"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_ids_equal_those_of_the_joined_string(tokenizer, prompt_first, task):
    composer = composer_for(tokenizer, prompt_first)
    label_ids = composer.encode_labels(LABELS)
    joined = "".join(f"<<LABEL>>{label}" for label in LABELS) + "<<SEP>>" + task
    for text, text_ids in zip(TEXTS, composer.encode_texts(TEXTS, task), strict=True):
        whole = joined + text if prompt_first else text + joined
        composed = composer.compose(label_ids, text_ids, composer.encode_task(task))
        assert composed == {"input_ids": tokenizer.encode(whole).ids}


@pytest.mark.parametrize("piece", HOSTILE)
def test_special_tokens_in_a_piece_are_characters(tokenizer, piece):
    special = {
        index
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.content not in ("[UNK]", "<unk>")
    }
    for after_marker in (True, False):
        (ids,) = PieceTokenizer(tokenizer).encode([piece], after_marker=after_marker)
        assert special.isdisjoint(ids)
        assert ids


def test_pieces_beside_a_hostile_one_are_as_before(tokenizer):
    pieces = PieceTokenizer(tokenizer)
    alone = pieces.encode(TEXTS, after_marker=True)
    mixed = pieces.encode([*TEXTS, HOSTILE[0]], after_marker=True)
    assert mixed[:-1] == alone


def test_labels_are_split_evenly_and_never_cut(tokenizer):
    composer = composer_for(tokenizer, max_length=256)
    labels = [f"label number {i}" for i in range(60)]
    label_ids = composer.encode_labels(labels)
    parts = composer.split_labels(label_ids, labels)
    assert len(parts) > 1
    assert [i for part in parts for i in part] == list(range(60))
    sizes = [sum(len(label_ids[i]) for i in part) for part in parts]
    assert max(sizes) - min(sizes) <= 2 * max(map(len, label_ids))
    for part in parts:
        assert composer.text_budget([label_ids[i] for i in part]) >= 256 // 4


def test_a_label_longer_than_the_prompt_is_an_error(tokenizer):
    composer = composer_for(tokenizer, max_length=32)
    labels = ["short", "far too long " * 20]
    with pytest.raises(ValueError, match=r"The label 'far too long .*max_length=32"):
        composer.split_labels(composer.encode_labels(labels), labels)
