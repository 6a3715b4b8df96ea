import pytest
from tiny import TOKENIZERS, joined_pieces, with_markers
from tokenizers import decoders

from skgliclass.prompts.label_plan import split_labels
from skgliclass.prompts.layouts import make_composer
from skgliclass.prompts.tokens import MARKERS, PieceTokenizer, add_marker_tokens

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
    return make_composer(
        "uni-encoder",
        PieceTokenizer(tokenizer),
        max_length,
        prompt_first=prompt_first,
        vocabulary_size=tokenizer.get_vocab_size(),
        label_id=-1,
        text_id=-1,
    )


@pytest.mark.parametrize("task", ["", "Classify this:"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_ids_equal_those_of_the_joined_string(tokenizer, prompt_first, task):
    composer = composer_for(tokenizer, prompt_first)
    label_ids = composer.encode_labels(LABELS)
    joined = "".join(f"<<LABEL>>{label}" for label in LABELS) + "<<SEP>>" + task
    for text, text_ids in zip(TEXTS, composer.encode_texts(TEXTS, task), strict=True):
        whole = joined + text if prompt_first else text + joined
        apart = "" if composer.glues_task else task
        composed = composer.compose(label_ids, text_ids, composer.encode_task_apart(apart))
        assert joined_pieces(composed) == {"input_ids": tokenizer.encode(whole).ids}


@pytest.mark.parametrize("piece", HOSTILE)
def test_special_tokens_in_a_piece_are_characters(tokenizer, piece):
    special = {
        index
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.content not in ("[UNK]", "<unk>")
    }
    for after_marker in (True, False):
        (ids,) = PieceTokenizer(tokenizer).encode([piece], after_marker=after_marker)
        assert special.isdisjoint(ids.tolist())
        assert len(ids)


@pytest.mark.parametrize("piece", HOSTILE)
def test_no_character_of_a_special_token_is_lost(piece):
    tokenizer = with_markers(TOKENIZERS["byte-level"]())
    tokenizer.decoder = decoders.ByteLevel()
    (ids,) = PieceTokenizer(tokenizer).encode([piece], after_marker=False)
    assert tokenizer.decode(ids.tolist(), skip_special_tokens=False) == piece


def test_markers_that_are_added_are_found_as_they_are_written_alone():
    tokenizer = TOKENIZERS["wordpiece"]()
    add_marker_tokens(tokenizer)
    added = tokenizer.get_added_tokens_decoder()
    for marker in MARKERS:
        index = tokenizer.token_to_id(marker)
        assert added[index].special
        assert tokenizer.encode(f"a{marker}b", add_special_tokens=False).ids.count(index) == 1
        # The tokenizer makes small letters of all others.
        assert index not in tokenizer.encode(f"a{marker.lower()}b").ids


def test_pieces_beside_a_hostile_one_are_as_before(tokenizer):
    pieces = PieceTokenizer(tokenizer)
    alone = pieces.encode(TEXTS, after_marker=True)
    mixed = pieces.encode([*TEXTS, HOSTILE[0]], after_marker=True)
    assert [ids.tolist() for ids in mixed[:-1]] == [ids.tolist() for ids in alone]


def test_labels_are_split_evenly_and_never_cut(tokenizer):
    composer = composer_for(tokenizer, max_length=256)
    labels = [f"label number {i}" for i in range(60)]
    label_ids = composer.encode_labels(labels)
    parts = split_labels(composer, label_ids, labels)
    assert len(parts) > 1
    assert [i for part in parts for i in part] == list(range(60))
    sizes = [sum(len(label_ids[i]) for i in part) for part in parts]
    assert max(sizes) - min(sizes) <= 2 * max(map(len, label_ids))
    for part in parts:
        assert composer.text_room(sum(len(label_ids[i]) for i in part)) >= 256 // 4


def test_a_label_longer_than_the_prompt_is_an_error(tokenizer):
    composer = composer_for(tokenizer, max_length=32)
    labels = ["short", "far too long " * 20]
    with pytest.raises(ValueError, match=r"The label 'far too long .*max_length=32"):
        split_labels(composer, composer.encode_labels(labels), labels)
