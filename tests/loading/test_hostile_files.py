"""Broken and hostile checkpoints: each is refused by name, soon, and at no cost."""

import json
import math
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile import (
    LABELS,
    TEXTS,
    change_header,
    change_json,
    change_weights,
    header_of,
    make_checkpoints,
    set_number,
)
from safetensors.torch import load_file, save_file

from skgliclass import GLiClassClassifier, GLiClassModel
from skgliclass.engine.engine import Engine
from skgliclass.exceptions import NonFiniteScoresError
from skgliclass.loading import loader, model_file
from skgliclass.loading.cache import ModelCache
from skgliclass.loading.loader import load_model
from skgliclass.loading.sources import Source


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    return make_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module", autouse=True)
def memory():
    """All of it takes no more memory than a few tiny models do."""
    before = peak_memory()
    yield
    assert peak_memory() - before < 300e6


def peak_memory():
    resource = pytest.importorskip("resource")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@pytest.fixture
def copy_of(checkpoints, tmp_path):
    def copy(kind):
        return Path(shutil.copytree(checkpoints[kind], tmp_path / kind))

    return copy


def refused(folder, match=None):
    """Loading refuses it, and says which model or file it is."""
    with pytest.raises(ValueError, match=match) as caught:
        load_model(str(folder), device="cpu")
    assert str(folder) in str(caught.value)
    return str(caught.value)


def logits(folder):
    return Engine(load_model(str(folder), device="cpu")).logits(TEXTS, LABELS)


# Which files are read.


@pytest.mark.parametrize("name", ["../outside.safetensors", "/outside.safetensors", "a/../../b"])
@pytest.mark.parametrize("kind", ["encoder", "uni"])
def test_a_list_of_shards_names_files_of_the_folder_alone(copy_of, tmp_path, kind, name):
    folder = copy_of(kind)
    weights = folder / "model.safetensors"
    names = header_of(weights)
    shutil.move(weights, tmp_path / "outside.safetensors")
    name = name.replace("/outside", f"{tmp_path}/outside") if name.startswith("/") else name
    table = {"weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))
    refused(folder, r"plain relative|only \*.safetensors")
    if kind == "uni":
        with pytest.raises(ValueError, match=r"plain relative|only \*.safetensors"):
            GLiClassModel.from_pretrained(folder)


@pytest.mark.parametrize(
    "table",
    [
        {"weight_map": {"a": "pytorch_model.bin"}},
        {"weight_map": {"a": "shard.safetensors"}},
        {"weight_map": {}},
        {"weight_map": ["shard.safetensors"]},
        {"weight_map": {"a": None}},
        {},
    ],
    ids=str,
)
def test_a_list_of_shards_that_are_not_there(copy_of, table):
    folder = copy_of("uni")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    (folder / "model.safetensors.index.json").write_text(json.dumps(table))
    refused(folder, "index.json")


def test_shards_are_read(copy_of):
    folder = copy_of("uni")
    expected = logits(folder)
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, half in halves.items():
        save_file({name: weights[name].clone() for name in half}, folder / file)
    (folder / "model.safetensors").unlink()
    table = {name: file for file, half in halves.items() for name in half}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": table}))
    np.testing.assert_array_equal(logits(folder), expected)
    # A weight in two files is no more clear than a name that occurs twice.
    save_file({name: weights[name].clone() for name in names}, folder / "two.safetensors")
    refused(folder, "both hold")


def test_a_pickle_is_never_read(copy_of, tmp_path):
    folder = copy_of("uni")
    (folder / "model.safetensors").unlink()
    marker = tmp_path / "marker"
    code = f"cos\nsystem\n(S'touch {marker}'\ntR."
    (folder / "pytorch_model.bin").write_bytes(code.encode())
    refused(folder, "only as a pickle")
    with pytest.raises(ValueError, match="only as a pickle"):
        GLiClassModel.from_pretrained(folder)
    assert not marker.exists()


@pytest.mark.parametrize("path", ["../outside", "/tmp", "a\\..\\b", "C:/models", "a\0b"])
def test_the_modules_of_a_sentence_encoder_lie_in_its_folder(copy_of, path):
    folder = copy_of("sentences")
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["path"] = path
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder, "plain relative")


@pytest.mark.parametrize(
    "modules",
    [{}, [], [1], [{"path": ""}], [{"type": 1, "path": ""}], [{"type": "Transformer", "path": ""}]],
    ids=str,
)
def test_a_list_of_modules_that_is_none(copy_of, modules):
    folder = copy_of("sentences")
    (folder / "modules.json").write_text(json.dumps(modules))
    refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_links_lead_nowhere_outside(copy_of, tmp_path, name):
    folder = copy_of("uni")
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused(folder, "link")
    (folder / name).unlink()
    (folder / "inside").mkdir()
    shutil.move(tmp_path / name, folder / "inside" / name)
    (folder / name).symlink_to(Path("inside") / name)
    assert np.isfinite(logits(folder)).all()


def test_links_of_the_hub_s_cache_are_followed(checkpoints, tmp_path, monkeypatch):
    repository = tmp_path / "models--somebody--model"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for i, path in enumerate(sorted(checkpoints["uni"].iterdir())):
        shutil.copy(path, repository / "blobs" / str(i))
        (snapshot / path.name).symlink_to(f"../../blobs/{i}")
    expected = logits(checkpoints["uni"])
    np.testing.assert_array_equal(logits(snapshot), expected)
    # And by the name of the repository, as it was downloaded.
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    engine = Engine(load_model("somebody/model", device="cpu"))
    np.testing.assert_array_equal(engine.logits(TEXTS, LABELS), expected)
    model = GLiClassModel.from_pretrained("somebody/model", cache_dir=tmp_path)
    assert model.config.name_or_path == "somebody/model"


@pytest.mark.parametrize(
    "name",
    ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"],
)
@pytest.mark.parametrize("kind", ["uni", "encoder"])
def test_a_folder_in_the_place_of_a_file(copy_of, kind, name):
    folder = copy_of(kind)
    (folder / name).unlink()
    (folder / name).mkdir()
    refused(folder, name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(copy_of):
    folder = copy_of("uni")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    refused(folder, "no regular file")


# Files that are no JSON.

DEEP = "[" * 200_000
BROKEN = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "deep": DEEP.encode(),
    "deep object": b'{"a":' * 100_000,
    "cut": b'{"model_type": "GLi',
    "repeated": b'{"model_type": "bert", "model_type": "GLiClass"}',
    "BOM": b'\xef\xbb\xbf{"model_type": "bert"}',
    "UTF-16": '{"model_type": "bert"}'.encode("utf-16"),
    "Latin-1": b'{"model_type": "\xe9"}',
    "NUL": b"\0" * 100,
    "digits": b'{"model_type": 1' + b"0" * 10_000 + b"}",
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_file_that_is_not_what_it_should_be(copy_of, name, content):
    folder = copy_of("uni")
    (folder / name).write_bytes(content)
    message = refused(folder)
    assert name in message


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["modules.json", "sentence_bert_config.json"])
def test_a_file_of_a_sentence_encoder_that_is_not_what_it_should_be(copy_of, name, content):
    if (name, content) == ("modules.json", b"[]"):
        pytest.skip("no modules: a plain encoder")
    folder = copy_of("sentences")
    (folder / name).write_bytes(content)
    if name == "sentence_bert_config.json" and content.startswith(b'{"model_type": 1'):
        return
    assert name in refused(folder)


# Tokenizers.


def _drop_special(table):
    table["added_tokens"] = []
    table["model"]["vocab"].pop("[UNK]")


def _far_ids(table):
    vocabulary = table["model"]["vocab"]
    vocabulary["travel"] = 10**6


def _negative_ids(table):
    table["model"]["vocab"]["travel"] = -1


def _no_vocabulary(table):
    table["model"]["vocab"] = {}


def _unknown_template(table):
    table["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [10**6]


def _unknown_model(table):
    table["model"]["type"] = "Made-up"


def _huge_padding(table):
    table["padding"] = {
        "strategy": {"Fixed": 10**12},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }


def _bad_pattern(table):
    table["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(" * 100},
        "behavior": "Isolated",
        "invert": False,
    }


def _bad_charsmap(table):
    table["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": "////AAAA"}


def _replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def _growing_texts(table):
    parts = [_replace({"String": "a"}, "a" * 1000)] * 4
    nested = {"type": "Sequence", "normalizers": parts[1:]}
    table["normalizer"] = {"type": "Sequence", "normalizers": [parts[0], nested]}


def _growing_texts_of_rare_letters(table):
    parts = [_replace({"Regex": "z"}, "zz")] * 60
    table["normalizer"] = {"type": "Sequence", "normalizers": parts}


def _growing_empty_matches(table):
    parts = [_replace({"Regex": "(?=[a-z])"}, "-" * 50)] * 3
    table["normalizer"] = {"type": "Sequence", "normalizers": parts}


TOKENIZERS = [
    _drop_special,
    _far_ids,
    _negative_ids,
    _no_vocabulary,
    _unknown_template,
    _unknown_model,
    _bad_pattern,
    _bad_charsmap,
    _growing_texts,
    _growing_texts_of_rare_letters,
    _growing_empty_matches,
]


@pytest.mark.parametrize("change", TOKENIZERS, ids=[c.__name__.strip("_") for c in TOKENIZERS])
@pytest.mark.parametrize("kind", ["uni", "encoder"])
def test_a_tokenizer_that_does_not_work(copy_of, capfd, kind, change):
    folder = copy_of(kind)
    path = folder / "tokenizer.json"
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))
    assert "tokenizer" in refused(folder)


def test_padding_and_truncation_of_a_tokenizer_have_no_effect(copy_of):
    folder = copy_of("uni")
    expected = logits(folder)
    table = json.loads((folder / "tokenizer.json").read_text())
    _huge_padding(table)
    (folder / "tokenizer.json").write_text(json.dumps(table))
    np.testing.assert_array_equal(logits(folder), expected)


def test_a_tokenizer_of_older_files_is_built_from_copies(copy_of, tmp_path):
    folder = copy_of("encoder")
    expected = logits(folder)
    table = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(table["model"]["vocab"], key=table["model"]["vocab"].get)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "tokenizer.json").unlink()
    outside = tmp_path / "outside.txt"
    outside.write_text("\n".join(reversed(words)) + "\n")
    settings = {"tokenizer_class": "BertTokenizer", "vocab_file": str(outside)}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    np.testing.assert_allclose(logits(folder), expected, atol=1e-5)
    (folder / "vocab.txt").unlink()
    (folder / "vocab.txt").symlink_to(outside)
    refused(folder, "link")


# Configurations.

BACKBONE_FIELDS = {
    "hidden_size": [10**9, -1, 0, None, "32", 32.5, [32], 31, 10**30],
    "num_hidden_layers": [10**6, 10**12, -1, None, "1", 1.5, 0],
    "vocab_size": [10**10, -5, 0, None, "x", 3],
    "num_attention_heads": [0, -4, 3, None, "x", 10**9],
    "intermediate_size": [10**9, -1, None, "x"],
    "max_position_embeddings": [10**10, 2, 0, -1, None, "x"],
    "layer_norm_eps": [math.nan, math.inf, None, "x", -1.0],
    "hidden_act": ["made-up", None, 3, "os.system"],
    "type_vocab_size": [10**10, -1, None],
    "pad_token_id": [-5, 10**9, "x", 1.5],
    "dtype": ["load", "int64", 7],
    "chunk_size_feed_forward": ["x"],
    "id2label": [7, "x", {"a": "b"}],
    "model_type": [None, 7, "made-up", "vit", "clip", "timm_wrapper", ""],
}
GLICLASS_FIELDS = {
    "hidden_size": [10**9, -1, 0, "64", 5],
    "architecture_type": [None, 7, "made-up", "bi-encoder", "decoder-kv", []],
    "scorer_type": [None, 7, "made-up", "mlp", "hopfield"],
    "pooling_strategy": [None, 7, "made-up"],
    "projector_hidden_act": [None, 7, "made-up"],
    "encoder_layer_id": [10**9, 99, -99, None, "x", 1.5],
    "class_token_index": [10**12, -7, None, "x", 3],
    "text_token_index": [10**12, -7, None, "x", 3],
    "dropout": [7, -1, None, "x", math.nan],
    "logit_scale_init_value": [math.inf, None, "x"],
    "max_num_classes": [None, "x", -1],
    "max_prompt_length": [0, -1, 1.5, "x", 3],
    "use_lstm": ["yes", 7, True],
    "squeeze_layers": [True, 7],
    "prompt_first": ["yes", None],
    "encoder_config": [None, [], 7, "x", {}],
    "problem_type": [7, "made-up"],
    "model_type": [None, 7, "made-up", ["GLiClass"], {}],
}


def cases(fields):
    return [(name, value) for name, values in fields.items() for value in values]


def names(values):
    return [f"{name}-{value!r}"[:40] for name, value in values]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), cases(BACKBONE_FIELDS), ids=names(cases(BACKBONE_FIELDS))
)
@pytest.mark.parametrize("kind", ["encoder", "uni"])
def test_a_backbone_that_cannot_be(copy_of, kind, name, value):
    folder = copy_of(kind)
    field = name if kind == "encoder" else f"encoder_config__{name}"
    change_json(folder / "config.json", **{field: value})
    loads_or_is_refused(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "value"), cases(GLICLASS_FIELDS), ids=names(cases(GLICLASS_FIELDS))
)
@pytest.mark.parametrize("kind", ["uni", "bi"])
def test_a_model_that_cannot_be(copy_of, kind, name, value):
    folder = copy_of(kind)
    change_json(folder / "config.json", **{name: value})
    loads_or_is_refused(folder)


def loads_or_is_refused(folder):
    try:
        scores = logits(folder)
    except (ValueError, NotImplementedError) as error:
        message = str(error)
    else:
        assert np.isfinite(scores).all()
        return
    assert str(folder) in message or "is not supported" in message
    assert "trust_remote_code" not in message


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("encoder", "hidden_size", 10**6),
        ("encoder", "num_hidden_layers", 10**6),
        ("encoder", "num_hidden_layers", 0),
        ("encoder", "vocab_size", 10**10),
        ("encoder", "vocab_size", 3),
        ("encoder", "num_attention_heads", 0),
        ("encoder", "layer_norm_eps", math.nan),
        ("encoder", "layer_norm_eps", -1.0),
        ("encoder", "hidden_act", "made-up"),
        ("encoder", "max_position_embeddings", 10**10),
        ("encoder", "max_position_embeddings", 2),
        ("uni", "hidden_size", 10**6),
        ("uni", "hidden_size", 5),
        ("uni", "encoder_layer_id", 99),
        ("uni", "encoder_config__num_hidden_layers", 0),
        ("uni", "scorer_type", "hopfield"),
        ("uni", "use_lstm", True),
        ("uni", "projector_hidden_act", "made-up"),
        ("apart", "label_model_config__hidden_size", 48),
        ("apart", "label_model_config__num_hidden_layers", 5),
        ("apart", "label_model_config__num_hidden_layers", 0),
    ],
)
def test_a_configuration_that_disagrees_is_refused(copy_of, kind, name, value):
    folder = copy_of(kind)
    change_json(folder / "config.json", **{name: value})
    refused(folder)


# Weights.


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["encoder", "apart"])
def test_weights_that_are_no_numbers(copy_of, kind, dtype, value):
    folder = copy_of(kind)

    def change(weights):
        set_number(weights, value)
        return {name: weight.to(dtype) for name, weight in weights.items()}

    change_weights(folder, change)
    refused(folder, r"1 of the .* numbers of the weight '.*embeddings.* NaN")


@pytest.mark.parametrize(
    ("y", "arguments", "place"),
    [
        ([None, "sport", "travel", None], {}, "X[2]"),
        (None, {}, "X[2]"),
        (["sport", "travel"], {"unlabelled": ["", "a fox", "some music"]}, "unlabelled[2]"),
        (
            ["sport", "travel"],
            {"X_val": ["a dog", "some music"], "y_val": ["sport"] * 2},
            "X_val[1]",
        ),
    ],
)
def test_a_fit_names_the_row_of_what_was_passed(copy_of, y, arguments, place):
    folder = copy_of("sentences")
    table = json.loads((folder / "tokenizer.json").read_text())
    word = table["model"]["vocab"]["music"]
    change_weights(folder, lambda w: w["embeddings.word_embeddings.weight"][word].fill_(3e38))
    clf = GLiClassClassifier(str(folder), ["sport", "travel"], device="cpu", n_jobs=1)
    texts = ["", "a fox"] if arguments else ["", "a fox", "some music", "a dog"]
    with pytest.raises(NonFiniteScoresError, match=re.escape(f"{place}, 'some music'")) as raised:
        clf.fit(texts, y, **arguments)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_large_weights_are_numbers_until_a_text_needs_them(copy_of):
    folder = copy_of("sentences")
    table = json.loads((folder / "tokenizer.json").read_text())
    word = table["model"]["vocab"]["music"]
    change_weights(folder, lambda w: w["embeddings.word_embeddings.weight"][word].fill_(3e38))
    engine = Engine(load_model(str(folder), device="cpu"))
    assert np.isfinite(engine.logits(TEXTS, LABELS)).all()
    texts = [*TEXTS, *TEXTS, "some music"]
    with pytest.raises(ValueError, match="NaN or infinity for text 2"):
        engine.logits(texts, LABELS)
    with pytest.raises(ValueError, match="NaN or infinity for text 2"):
        engine.text_vectors(texts)


@pytest.mark.parametrize("kind", ["encoder", "sentences", "uni", "apart"])
def test_weights_that_nobody_reads(copy_of, kind):
    folder = copy_of(kind)

    def more_layers(weights):
        deepest = {k: v for k, v in weights.items() if "layer.0." in k}
        return weights | {k.replace("layer.0.", "layer.1."): v.clone() for k, v in deepest.items()}

    change_weights(folder, more_layers)
    refused(folder, "does not describe, such as")


@pytest.mark.parametrize("kind", ["encoder", "uni"])
def test_weights_that_are_missing(copy_of, kind):
    folder = copy_of(kind)
    change_weights(folder, lambda w: {k: v for k, v in w.items() if "attention" not in k})
    refused(folder, r"lacks \d+ weights, such as")


def test_heads_of_other_tasks_may_be_there(copy_of):
    folder = copy_of("encoder")
    expected = logits(folder)

    def as_masked_language_model(weights):
        named = {f"bert.{k}": v for k, v in weights.items() if "pooler" not in k}
        return named | {
            "cls.predictions.bias": torch.zeros(5),
            "bert.embeddings.position_ids": torch.arange(512)[None],
        }

    change_weights(folder, as_masked_language_model)
    np.testing.assert_array_equal(logits(folder), expected)


@pytest.mark.parametrize("kind", ["encoder", "uni"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.bool, torch.complex64])
def test_weights_of_other_types(copy_of, kind, dtype):
    folder = copy_of(kind)
    change_weights(
        folder,
        lambda weights: {
            k: v.to(dtype) if "intermediate" in k and v.dim() == 2 else v
            for k, v in weights.items()
        },
    )
    refused(folder, r"is of the type|damaged")


def _widen(header):
    entry = next(e for k, e in header.items() if k != "__metadata__")
    entry["shape"] = [10**6, 10**6]


def _overlap(header):
    one, other = [e for k, e in header.items() if k != "__metadata__"][:2]
    one["data_offsets"] = other["data_offsets"]


def _beyond(header):
    entry = next(e for k, e in header.items() if k != "__metadata__")
    entry["data_offsets"] = [10**12, 10**12 + 4]


def _negative(header):
    entry = next(e for k, e in header.items() if k != "__metadata__")
    entry["data_offsets"] = [-4, 0]


def _unknown_type(header):
    entry = next(e for k, e in header.items() if k != "__metadata__")
    entry["dtype"] = "F128"


def _no_offsets(header):
    del next(e for k, e in header.items() if k != "__metadata__")["data_offsets"]


def _overflow(header):
    entry = next(e for k, e in header.items() if k != "__metadata__")
    entry["shape"] = [2**62, 2**62, 2**62]


HEADERS = [_widen, _overlap, _beyond, _negative, _unknown_type, _no_offsets, _overflow]


@pytest.mark.parametrize("change", HEADERS, ids=[c.__name__.strip("_") for c in HEADERS])
@pytest.mark.parametrize("kind", ["uni"])
def test_headers_that_lie(copy_of, kind, change):
    folder = copy_of(kind)
    change_header(folder / "model.safetensors", change)
    refused(folder, "damaged")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 99_999_999) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
        struct.pack("<Q", 200_000) + DEEP.encode(),
        struct.pack("<Q", 2) + b"{}",
    ],
    ids=["empty", "short", "huge", "giant", "list", "bytes", "deep", "nothing"],
)
@pytest.mark.parametrize("kind", ["uni"])
def test_files_that_hold_no_weights(copy_of, kind, content):
    folder = copy_of(kind)
    (folder / "model.safetensors").write_bytes(content)
    refused(folder)


# Files that change.


@pytest.mark.parametrize("kind", ["encoder", "sentences", "uni", "apart"])
def test_a_live_model_owns_its_memory(copy_of, kind):
    folder = copy_of(kind)
    engine = Engine(load_model(str(folder), device="cpu"))
    expected = engine.logits(TEXTS, LABELS)
    for path in folder.rglob("*.safetensors"):
        # In place, as cp and rsync --inplace do it.
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
    again = engine.logits([*TEXTS, "music"], LABELS)
    np.testing.assert_allclose(again[:1], expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be truncated there")
def test_a_live_model_survives_that_its_file_is_cut_off(copy_of):
    """In a process of its own, which a bus error would end."""
    code = (
        "import os, sys; from skgliclass import GLiClassModel\n"
        "from skgliclass.engine.engine import Engine\n"
        "from skgliclass.loading.loader import load_model\n"
        "engine = Engine(load_model(sys.argv[1], device='cpu'))\n"
        "model = GLiClassModel.from_pretrained(sys.argv[1])\n"
        "os.truncate(sys.argv[1] + '/model.safetensors', 0)\n"
        "engine.logits(['music'], ['a', 'b'])\n"
        "print(sum(float(p.detach().sum()) for p in model.parameters()))\n"
    )
    command = [sys.executable, "-c", code, str(copy_of("uni"))]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr


def test_a_rewritten_folder_is_loaded_anew_and_the_old_model_is_dropped(copy_of, monkeypatch):
    cache = ModelCache()
    monkeypatch.setattr(loader, "MODELS", cache)
    folder = copy_of("encoder")
    path = folder / "model.safetensors"
    change_weights(folder, lambda weights: None)
    before, stat = logits(folder), path.stat()
    change_weights(folder, lambda weights: {k: v * 1.5 for k, v in weights.items()})
    # With the size and the times of the old one, as tools that copy set them.
    assert path.stat().st_size == stat.st_size
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert np.abs(logits(folder) - before).max() > 1e-4
    assert len(cache._models) == 1


# The gate itself.


@pytest.mark.parametrize("name", ["..", "../x", "a/../../x", "/etc/passwd", "a\\b", "c:x", "a\nb"])
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="plain relative"):
        Source(tmp_path, "model").file(name)


def test_names_that_nobody_can_use_are_refused(tmp_path):
    (tmp_path / "circle").symlink_to("circle")
    for name in ("x" * 5000, "circle"):
        with suppress(ValueError):
            assert Source(tmp_path, "model").file(name) is None


# What comes into the place of a file after its name was looked at.


def _link(path, outside):
    path.symlink_to(outside)


def _pipe(path, outside):
    os.mkfifo(path)


def _folder(path, outside):
    path.mkdir()


def _folder_that_is_a_link(path, outside):
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to(outside.parent)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("swap", [_link, _pipe, _folder, _folder_that_is_a_link])
@pytest.mark.parametrize("shows_descriptors", [True, False])
def test_what_is_opened_is_what_counts(tmp_path, monkeypatch, swap, shows_descriptors):
    if not shows_descriptors:
        monkeypatch.setattr(model_file, "_DESCRIPTORS", tmp_path / "nothing")
    outside = tmp_path / "outside" / "config.json"
    path = tmp_path / "model" / "below" / "config.json"
    for file in (outside, path):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    found = Source(tmp_path / "model", "model").file("below/config.json")
    assert found.read() == b"{}"
    path.unlink()
    swap(path, outside)
    with pytest.raises(ValueError, match=r"outside the model's folder|no regular file"):
        found.read()
    with pytest.raises(ValueError, match=r"outside|no regular"), found.opened():
        pass


def test_what_was_opened_is_read_whatever_takes_its_name(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    found = Source(tmp_path, "model").file(path.name)
    (tmp_path / "other").write_text("other")
    if Path("/proc/self/fd").exists():
        with found.opened() as name:
            os.replace(tmp_path / "other", path)
            assert Path(name).read_text() == "mine"
    # Where no name stands for what was opened, it is noticed.
    monkeypatch.setattr(model_file, "_DESCRIPTORS", tmp_path / "nothing")
    (tmp_path / "other").write_text("other")
    with pytest.raises(OSError, match="was replaced while it was read"), found.opened():
        os.replace(tmp_path / "other", path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_link_that_comes_after_the_look_at_a_name_is_not_followed(
    copy_of, tmp_path, monkeypatch, name
):
    folder, file_of = copy_of("uni"), Source.file

    def file_and_swap(source, wanted):
        found = file_of(source, wanted)
        path = folder / name
        if wanted == name and not path.is_symlink():
            shutil.move(path, tmp_path / name)
            path.symlink_to(tmp_path / name)
        return found

    monkeypatch.setattr(Source, "file", file_and_swap)
    refused(folder, "link")
