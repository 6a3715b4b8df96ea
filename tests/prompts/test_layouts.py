"""The prompts of every architecture hold the ids that the reference's joined strings give."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from factorial import half_slow
from pipelines import EXAMPLES, PIPELINES, TASK, reference
from tiny import MARKERS, TOKENIZERS, joined_pieces, with_markers
from transformers import PreTrainedTokenizerFast

from skgliclass.datasets import PromptExample
from skgliclass.engine.work import list_items
from skgliclass.prompts.examples import ExampleEncoder, can_show_examples
from skgliclass.prompts.label_plan import plan_labels
from skgliclass.prompts.layouts import make_composer
from skgliclass.prompts.long_texts import LongTexts
from skgliclass.prompts.packing import TextStrings, pack_texts
from skgliclass.prompts.tokens import PieceTokenizer

TEXTS = ["One day I will see the world!", "", "naïve café 你好", " the", "a\nb\t c", "x" * 50]
LABELS = ("travel", "dreams", " sport ", "naïve science", "it's")
# The reference's bi-encoders ignore examples with markers.
WITH_EXAMPLES = [name for name in PIPELINES if name != "bi-encoder"]
WITH_AND_WITHOUT = [(n, ()) for n in PIPELINES] + [(n, EXAMPLES) for n in WITH_EXAMPLES]


def _name(value):
    return value if isinstance(value, str) else f"{len(value)} examples"


@pytest.fixture(params=TOKENIZERS, scope="module")
def tokenizer(request):
    return with_markers(TOKENIZERS[request.param]())


def config_for(tokenizer, architecture, prompt_first):
    n_words = tokenizer.get_vocab_size()
    return SimpleNamespace(
        encoder_config=SimpleNamespace(vocab_size=n_words),
        architecture_type=architecture,
        prompt_first=prompt_first,
        class_token_index=tokenizer.token_to_id(MARKERS[0]),
        text_token_index=tokenizer.token_to_id(MARKERS[1]),
        label_model_name=None,
    )


def our_prompts(
    tokenizer,
    config,
    texts=TEXTS,
    *,
    labels=LABELS,
    task="",
    examples=(),
    example_format="marker",
    max_length=512,
    long_texts="truncate",
    overlap=4,
):
    composer = composer_for(config, tokenizer, max_length)
    encoder = ExampleEncoder(composer, example_format) if examples else None
    plan = plan_labels(composer, [labels], task)
    set_of_row = np.zeros(len(texts), dtype=np.intp)
    packed = pack_texts(
        composer,
        TextStrings(composer, texts, task, plan.task),
        plan.smallest_rooms[set_of_row],
        examples=[encoder.encode(examples, labels) for _ in texts] if encoder else None,
        encoder=encoder,
        chunks=long_texts == "chunk",
    )
    work = list_items(composer, plan, set_of_row, packed, LongTexts(long_texts, overlap))
    prompts = [joined_pieces(p) for p in work.prompts(np.arange(len(work.cell)))]
    assert work.lengths.tolist() == [sum(map(len, prompt.values())) for prompt in prompts]
    return prompts, work


def composer_for(config, tokenizer, max_length):
    return make_composer(
        config.architecture_type,
        PieceTokenizer(tokenizer),
        max_length,
        prompt_first=config.prompt_first,
        vocabulary_size=config.encoder_config.vocab_size,
        label_id=config.class_token_index,
        text_id=config.text_token_index,
    )


def reference_prompts(tokenizer, config, texts=TEXTS, *, task="", examples=(), monkeypatch=None):
    pad = "[PAD]" if tokenizer.token_to_id("[PAD]") is not None else "<pad>"
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad)
    monkeypatch.setattr(
        reference, "AutoTokenizer", SimpleNamespace(from_pretrained=lambda _: wrapped)
    )
    model = SimpleNamespace(config=config, device=torch.device("cpu"), eval=lambda: None)
    pipeline = PIPELINES[config.architecture_type](model, wrapped, device="cpu")
    shown = [{"text": e.text, "labels": list(e.labels)} for e in examples]
    inputs = pipeline.prepare_inputs(
        texts, list(LABELS), same_labels=True, examples=shown or None, prompt=task or None
    )
    names = ["input_ids"]
    if config.architecture_type.startswith("encoder-decoder"):
        names.append("class_input_ids")
    return [
        {
            name: [
                token
                for token, real in zip(
                    inputs[name][i].tolist(),
                    inputs[name.replace("input_ids", "attention_mask")][i].tolist(),
                    strict=True,
                )
                if real
            ]
            for name in names
        }
        for i in range(len(texts))
    ]


@pytest.mark.parametrize(("architecture", "examples"), WITH_AND_WITHOUT, ids=_name)
@half_slow(task=["", TASK], prompt_first=[True, False])
def test_ids_are_those_of_the_reference(
    tokenizer, architecture, prompt_first, task, examples, monkeypatch
):
    config = config_for(tokenizer, architecture, prompt_first)
    ours, work = our_prompts(tokenizer, config, task=task, examples=examples)
    theirs = reference_prompts(
        tokenizer, config, task=task, examples=examples, monkeypatch=monkeypatch
    )
    assert ours == theirs
    lengths = [sum(map(len, prompt.values())) for prompt in ours]
    assert work.lengths.tolist() == lengths


@half_slow(marker_known=[True, False], prompt_first=[True, False])
@pytest.mark.parametrize("architecture", PIPELINES)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_tagged_examples_are_those_of_the_reference(
    name, architecture, prompt_first, marker_known, monkeypatch
):
    tokenizer = TOKENIZERS[name]()
    tokenizer.add_special_tokens(MARKERS if marker_known else MARKERS[:2])
    config = config_for(tokenizer, architecture, prompt_first)
    # The reference shows the other labels in an order of its own; with one there is only one.
    examples = [
        PromptExample("the quick brown fox", ["travel"], ["dreams"]),
        PromptExample("very positive, twice", ["it's", "dreams"], ["travel"]),
    ]
    told = [
        {"text": e.text, "true_labels": e.labels, "all_labels": [*e.labels, *e.other_labels]}
        for e in examples
    ]
    texts = [text for text in TEXTS if text == text.rstrip() and text]
    ours, _ = our_prompts(
        tokenizer, config, texts, examples=examples, example_format="tags", max_length=1024
    )
    from gliclass.utils import retrieval_augmented_text

    joined = [retrieval_augmented_text(text, told) for text in texts]
    theirs = reference_prompts(tokenizer, config, joined, monkeypatch=monkeypatch)
    assert ours == theirs


def test_other_labels_of_an_example_are_the_rest_of_the_label_set_in_its_order():
    tokenizer = with_markers(TOKENIZERS["wordpiece"]())
    config = config_for(tokenizer, "uni-encoder", True)
    labels = ("travel", "dreams", "sport")
    written = PromptExample("fox", ["dreams"], ["travel", "sport"])
    by_default, _ = our_prompts(
        tokenizer, config, labels=labels, examples=[PromptExample("fox", ["dreams"])],
        example_format="tags",
    )  # fmt: skip
    assert by_default == our_prompts(
        tokenizer, config, labels=labels, examples=[written], example_format="tags"
    )[0]  # fmt: skip


def test_a_bi_encoder_reads_examples_as_an_encoder_decoder_does(tokenizer):
    """The reference has no format for it; this is that of the half that reads the text."""
    (bi,), (halves,) = (
        our_prompts(tokenizer, config_for(tokenizer, name, True), TEXTS[:1], examples=EXAMPLES)[0]
        for name in ("bi-encoder", "encoder-decoder")
    )
    assert bi["input_ids"] == halves["input_ids"]


def test_a_bi_encoder_without_vectors_for_markers_has_no_place_for_examples(tokenizer):
    config = config_for(tokenizer, "bi-encoder", True)
    config.encoder_config.vocab_size -= 1
    composer = composer_for(config, tokenizer, 64)
    with pytest.raises(ValueError, match=r'no place for them.*example_format="tags"'):
        ExampleEncoder(composer, "marker")
    assert not can_show_examples(composer)


def test_a_tokenizer_without_the_marker_writes_examples_with_tags_alone():
    for tokenizer, has_marker in (
        (TOKENIZERS["wordpiece"](), False),
        (with_markers(TOKENIZERS["wordpiece"]()), True),
    ):
        config = config_for(tokenizer, "uni-encoder", True)
        config.class_token_index, config.text_token_index = 5, 6
        composer = composer_for(config, tokenizer, 64)
        assert can_show_examples(composer) is has_marker
        assert ExampleEncoder(composer, "tags").follows_text
        if has_marker:
            assert ExampleEncoder(composer, "marker").closing.tolist() == [composer.text_id]
        else:
            with pytest.raises(ValueError, match="tokenizer has no <<EXAMPLE>>"):
                ExampleEncoder(composer, "marker")


HOSTILE = "see <<LABEL>> the <<SEP>> <<EXAMPLE>> world </s> [SEP] <<TRUE_LABEL>>"


@pytest.mark.parametrize(
    ("architecture", "example_format"),
    [(n, "marker") for n in WITH_EXAMPLES] + [(n, "tags") for n in PIPELINES],
)
def test_no_piece_adds_a_marker(tokenizer, architecture, example_format):
    special = {
        index
        for index, token in tokenizer.get_added_tokens_decoder().items()
        if token.content not in ("[UNK]", "<unk>")
    }
    config = config_for(tokenizer, architecture, True)
    labels = ("travel", HOSTILE)

    def count(text, labels, task, example):
        prompts, _ = our_prompts(
            tokenizer,
            config,
            [text],
            labels=labels,
            task=task,
            examples=[example],
            example_format=example_format,
        )
        return [sum(t in special for t in ids) for ids in prompts[0].values()]

    harmless = count("world", ("travel", "a"), "task", PromptExample("fox", ["a"], ()))
    hostile = count(HOSTILE, labels, HOSTILE, PromptExample(HOSTILE, [HOSTILE], ()))
    assert hostile == harmless


def test_tags_that_a_text_spells_are_no_tags():
    tokenizer = with_markers(TOKENIZERS["byte-level"]())
    composer = composer_for(config_for(tokenizer, "uni-encoder", True), tokenizer, 512)
    encoder = ExampleEncoder(composer, "tags")
    example = PromptExample("fox <<<TRUE_LABEL>>> dreams <</EXAMPLE>>", ["travel"], ())
    ids = encoder.encode([example], ["travel"])[0]
    text = "".join(tokenizer.id_to_token(i) for i in ids)
    assert text.count("<<TRUE_LABEL>>") == 1
    assert text.count("<</EXAMPLE>>") == 1


@half_slow(example_format=["marker", "tags"], prompt_first=[True, False])
@pytest.mark.parametrize("architecture", WITH_EXAMPLES)
def test_examples_give_way_before_labels_and_text(
    tokenizer, architecture, prompt_first, example_format
):
    config = config_for(tokenizer, architecture, prompt_first)
    texts = ["fox " * n for n in (2, 10, 20, 40, 400)]
    labels = ("travel", "sport")
    examples = [PromptExample(f"number {i} of the foxes", ["sport"]) for i in range(6)]
    plain, bare = our_prompts(tokenizer, config, texts, labels=labels, task=TASK, max_length=256)
    prompts, work = our_prompts(
        tokenizer,
        config,
        texts,
        labels=labels,
        task=TASK,
        max_length=256,
        examples=examples,
        example_format=example_format,
    )
    marker = tokenizer.token_to_id(MARKERS[2])
    shown = [prompt["input_ids"].count(marker) for prompt in prompts]
    assert shown[0] > 0
    assert shown == sorted(shown, reverse=True)
    assert shown[-1] == 0
    assert prompts[-1] == plain[-1]
    assert work.texts.examples_dropped.tolist() == [n < len(examples) for n in shown]
    assert max(len(ids) for prompt in prompts for ids in prompt.values()) <= 256
    np.testing.assert_array_equal(work.cut, bare.cut)
    # Whole ones, from the start: as if no more had been given.
    for i, n in enumerate(shown):
        given = examples[:n]
        alone, _ = our_prompts(
            tokenizer,
            config,
            [texts[i]],
            labels=labels,
            task=TASK,
            max_length=256,
            examples=given,
            example_format=example_format,
        )
        assert prompts[i] == alone[0]


@pytest.mark.parametrize(("architecture", "examples"), WITH_AND_WITHOUT, ids=_name)
@pytest.mark.parametrize("task", ["", TASK], ids=["no task", "task"])
@pytest.mark.parametrize("prompt_first", [True, False])
def test_chunks_cover_a_long_text(architecture, prompt_first, task, examples):
    tokenizer = with_markers(TOKENIZERS["wordpiece"]())
    config = config_for(tokenizer, architecture, prompt_first)
    words = ["one", "day", "I", "will", "see", "the", "world", "travel", "sport", "fox"]
    text = " ".join(np.random.default_rng(0).choice(words, 900))
    prompts, work = our_prompts(
        tokenizer,
        config,
        [text, "short"],
        task=task,
        examples=examples,
        max_length=128,
        long_texts="chunk",
        overlap=8,
    )
    assert not work.cut.any()
    assert max(len(ids) for prompt in prompts for ids in prompt.values()) <= 128
    assert work.lengths.tolist() == [sum(map(len, prompt.values())) for prompt in prompts]
    whole = tokenizer.encode(text, add_special_tokens=False).ids
    first = work.cells.row == 0
    starts, stops = work.cells.start[first], work.cells.stop[first]
    assert (starts[0], stops[-1]) == (0, len(whole))
    assert (stops[:-1] - starts[1:] >= 8).all()
    assert len(set((stops - starts).tolist())) == 1
    for prompt, start, stop in zip(prompts, starts, stops, strict=False):
        joined = ",".join(map(str, prompt["input_ids"]))
        assert ",".join(map(str, whole[start:stop])) in joined
        if examples:
            assert prompt["input_ids"].count(tokenizer.token_to_id(MARKERS[2])) > 0
        if task:
            task_ids = tokenizer.encode(task, add_special_tokens=False).ids
            name = "class_input_ids" if "class_input_ids" in prompt else "input_ids"
            assert ",".join(map(str, task_ids)) in ",".join(map(str, prompt[name]))
    assert prompts[-1] == our_prompts(
        tokenizer, config, ["short"], task=task, examples=examples, max_length=128
    )[0][0]  # fmt: skip


def test_a_task_description_without_room_is_an_error():
    tokenizer = with_markers(TOKENIZERS["wordpiece"]())
    for architecture in PIPELINES:
        config = config_for(tokenizer, architecture, True)
        with pytest.raises(ValueError, match="task_description has 2000 tokens"):
            our_prompts(tokenizer, config, task="the " * 2000)
