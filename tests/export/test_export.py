"""An exported folder gives the engine's logits in plain onnxruntime, as a user would run it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import encoder_checkpoint, reference_checkpoint, sentence_transformer

from skgliclass import (
    GLiClassClassifier,
    GLiClassMultiLabelClassifier,
    TruncationWarning,
    UntrainedModelError,
)
from skgliclass.__main__ import main
from skgliclass.engine.engine import Engine
from skgliclass.engine.options import ScoringOptions
from skgliclass.export import export_onnx, onnx
from skgliclass.loading.loader import load_model

pytestmark = pytest.mark.needs("onnx", "onnxscript", "onnxruntime")

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_onnx.py"
TEXTS = [
    "One day I will see the world!",
    "",
    "music",
    "naïve café, 你好 world; it's 20 degrees <outside> [today]",
    "The quick brown fox jumps over the lazy dog, twice. " * 6,
    "a <<LABEL>> b <<SEP>> [SEP] c </s>",
]
LABELS = ["travel", "dreams", "sport", "world news", "<<LABEL>> music", "anger", "joy"]
TASK = "very positive world:"


@pytest.fixture(scope="module")
def runner():
    """Give the example that users copy."""
    spec = importlib.util.spec_from_file_location("run_onnx", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(model, folder, runner):
    """Compare over several numbers of texts and labels, which differ in length."""
    engine, exported = Engine(load_model(model)), runner.open_model(folder)
    spread = 0.0
    for n_texts, n_labels, task in [(1, 1, ""), (6, 2, ""), (3, 7, TASK), (1, 7, ""), (5, 5, TASK)]:
        texts, labels = TEXTS[-n_texts:], LABELS[:n_labels]
        expected = engine.logits(texts, labels, ScoringOptions(task_description=task))
        got = exported.logits(texts, labels, task)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
        spread = max(spread, float(expected.std()))
    assert spread > 1e-2


UNI = {
    "text first, labels averaged": (
        "deberta-v2",
        {"pooling_strategy": "first", "class_token_pooling": "average", "normalize_features": True},
    ),
    "segments": (
        "bert",
        {"prompt_first": True, "use_segment_embeddings": True, "scorer_type": "weighted-dot"},
    ),
    "attending scorer": (
        "modernbert",
        {"prompt_first": True, "pooling_strategy": "pass", "scorer_type": "cross-attn"},
    ),
    "competing labels": (
        "roberta",
        {"scorer_type": "hopfield", "extract_text_features": True, "prompt_first": True},
    ),
}


@pytest.fixture(scope="module")
def uni_model(tmp_path_factory):
    # What torch needs to write a graph grows with the layers, which are all alike.
    folder = tmp_path_factory.mktemp("uni") / "model"
    reference_checkpoint(
        folder, n_layers=1, prompt_first=True, pooling_strategy="avg", scorer_type="mlp"
    )
    return folder


@pytest.fixture(scope="module")
def uni(uni_model):
    folder = uni_model.parent
    export_onnx(str(uni_model), folder / "onnx")
    return folder


# Each export of an encoder takes ten seconds, nearly all of them torch's. By default one graph
# without an encoder is written and run; that all compute what the models do, whatever the options,
# is tested in test_graphs.py.
@pytest.mark.slow
def test_uni_encoder(uni, runner):
    check(str(uni / "model"), uni / "onnx", runner)


@pytest.mark.slow
@pytest.mark.parametrize("name", UNI)
def test_other_uni_encoders(tmp_path, runner, name):
    kind, fields = UNI[name]
    # With these random weights the logits of all four differ clearly from label to label.
    reference_checkpoint(tmp_path / "model", kind, seed=1, **fields)
    export_onnx(str(tmp_path / "model"), tmp_path / "onnx")
    check(str(tmp_path / "model"), tmp_path / "onnx", runner)


@pytest.mark.slow
def test_bi_encoder_whose_scorer_takes_pairs(tmp_path, runner):
    reference_checkpoint(
        tmp_path / "model",
        architecture_type="bi-encoder",
        pooling_strategy="avg",
        scorer_type="mlp",
    )
    export_onnx(str(tmp_path / "model"), tmp_path / "onnx")
    check(str(tmp_path / "model"), tmp_path / "onnx", runner)


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence")
    sentence_transformer(folder / "model", n_layers=1)
    return folder


@pytest.fixture(scope="module")
def exported(sentence_model):
    folder = sentence_model
    assert main(["export", str(folder / "model"), "--output", str(folder / "onnx")]) == 0
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::skgliclass.TruncationWarning")
def test_the_command_exports_a_sentence_transformers_model(exported, runner):
    check(str(exported / "model"), exported / "onnx", runner)


@pytest.mark.slow
def test_the_command_writes_what_onnxruntime_runs(sentence_model, tmp_path, monkeypatch):
    from onnxruntime import InferenceSession

    written, write = {}, onnx._write_graph

    def write_all_but_encoders(graph, path):
        written[path.name] = graph
        if path.name == "scorer.onnx":
            write(graph, path)

    monkeypatch.setattr(onnx, "_write_graph", write_all_but_encoders)
    arguments = ["export", str(sentence_model / "model"), "--output", str(tmp_path / "onnx")]
    assert main(arguments) == 0
    assert written.keys() == {"texts.onnx", "labels.onnx", "scorer.onnx"}
    files = {path.name for path in (tmp_path / "onnx").iterdir()}
    assert files >= {"scorer.onnx", "prompt.json", "tokenizer.json"}
    graph = written["scorer.onnx"]
    session = InferenceSession(tmp_path / "onnx" / "scorer.onnx")
    draw = torch.Generator().manual_seed(0)
    for n_times in (1, 2):
        # Also of other sizes than those that it was written with.
        inputs = {
            name: torch.randn(len(value) * n_times, *value.shape[1:], generator=draw)
            for name, value in graph.inputs.items()
        }
        (got,) = session.run([graph.output], {k: v.numpy() for k, v in inputs.items()})
        with torch.no_grad():
            expected = graph.module(*inputs.values()).numpy()
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
        assert expected.std() > 1e-3


@pytest.mark.slow
def test_neither_torch_nor_this_package_is_needed_to_run(exported):
    code = (
        "import runpy, sys; sys.argv[1:] = sys.argv[2:];"
        f"runpy.run_path({str(EXAMPLE)!r}, run_name='__main__');"
        "print([m for m in ('torch', 'transformers', 'skgliclass') if m in sys.modules])"
    )
    arguments = ["-", str(exported / "onnx"), "music", "--labels", "travel", "sport"]
    command = [sys.executable, "-c", code, *arguments]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-1] == "[]"
    assert {line.split()[-1] for line in lines[1:3]} == {"travel", "sport"}


@pytest.mark.slow
def test_no_trace_of_the_machine_is_written(exported):
    for file in (exported / "onnx").glob("*.onnx"):
        content = file.read_bytes()
        assert b"site-packages" not in content
        assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.slow
def test_labels_that_fill_the_prompt_are_an_error_of_the_example(uni, runner):
    with pytest.raises(ValueError, match="of 512 tokens"):
        runner.open_model(uni / "onnx").logits(["music"], ["world news"] * 300)


@pytest.mark.slow
def test_a_long_text_is_cut_where_the_engine_cuts_it(uni, runner):
    long = "music world " * 600
    with pytest.warns(TruncationWarning):
        expected = Engine(load_model(str(uni / "model"))).logits([long], LABELS[:3])
    got = runner.open_model(uni / "onnx").logits([long], LABELS[:3])
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)


def test_a_saved_classifier_brings_what_it_knows(sentence_model, tmp_path, monkeypatch):
    # Its graphs are those of its model, which takes torch half a minute to write again.
    monkeypatch.setattr("skgliclass.export.onnx._write_graph", lambda graph, path: None)
    shown = {"text": "music", "labels": ["b"]}
    clf = GLiClassClassifier(
        str(sentence_model / "model"), ["a", "b"], examples=[shown], example_format="tags"
    )
    clf.save_pretrained(tmp_path / "saved")
    with pytest.warns(UserWarning, match="saved with examples, but what runs the graphs"):
        export_onnx(str(tmp_path / "saved"), tmp_path / "onnx")
    content, again = (
        json.loads((tmp_path / name / "skgliclass.json").read_text()) for name in ("saved", "onnx")
    )
    assert content == again
    assert content["classes"] == ["a", "b"]


def saved(estimator, **entries):
    parameters = {"threshold": 0.5, "min_probability": 0.5, "other": None}
    parameters.update(entries.pop("parameters", {}))
    content = {"temperature": 1.0, "thresholds": None, "min_probability": None}
    names = {"classes": ["a", "b"], "label_texts": ["about a", "about b"]}
    return {"estimator": estimator, "parameters": parameters, **content, **names, **entries}


# Of the logits 1 and 0 the softmax is 0.73 and 0.27, and the sigmoid 0.73 and 0.5.
@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (saved("GLiClassClassifier"), "a"),
        (saved("GLiClassClassifier", parameters={"other": "none"}), "a"),
        (saved("GLiClassClassifier", parameters={"other": "none", "min_probability": 0.8}), "none"),
        (
            saved(
                "GLiClassClassifier",
                parameters={"other": "none", "min_probability": "auto"},
                min_probability=0.8,
            ),
            "none",
        ),
        (saved("GLiClassClassifier", temperature=9.0, parameters={"other": "x"}), "a"),
        (saved("GLiClassMultiLabelClassifier", parameters={"threshold": 0.4}), ["a", "b"]),
        (saved("GLiClassMultiLabelClassifier", parameters={"threshold": [0.8, 0.4]}), ["b"]),
        (
            saved("GLiClassMultiLabelClassifier", parameters={"threshold": {"a": 0.8, "b": 0.4}}),
            ["b"],
        ),
        (
            saved(
                "GLiClassMultiLabelClassifier",
                parameters={"threshold": "auto"},
                thresholds=[0.4, 0.6],
            ),
            ["a"],
        ),
    ],
)
def test_the_example_answers_as_the_saved_classifier(tmp_path, runner, content, answer):
    (tmp_path / "skgliclass.json").write_text(json.dumps(content), encoding="utf-8")
    decision = runner.open_decision(tmp_path)
    assert decision.label_texts == ["about a", "about b"]
    assert decision.answer(np.float32([1.0, 0.0])) == answer


@pytest.mark.parametrize("threshold", [{1: 0.99, 2: 0.01}, np.array([0.99, 0.01]), (0.99, 0.01)])
def test_the_example_reads_what_a_classifier_writes(
    sentence_model, tmp_path, runner, monkeypatch, threshold
):
    monkeypatch.setattr("skgliclass.export.onnx._write_graph", lambda graph, path: None)
    clf = GLiClassMultiLabelClassifier(
        str(sentence_model / "model"), {1: "music", 2: "travel"}, threshold=threshold
    )
    clf.save_pretrained(tmp_path / "saved")
    export_onnx(str(tmp_path / "saved"), tmp_path / "onnx")
    decision = runner.open_decision(tmp_path / "onnx")
    short = TEXTS[:3]
    for text, row in zip(short, clf.decision_function(short), strict=True):
        assert [decision.answer(row)] == clf.predict_labels([text])


@pytest.mark.parametrize("cls", [GLiClassClassifier, GLiClassMultiLabelClassifier])
@pytest.mark.parametrize("hierarchy", ["path", "leaves"])
def test_an_exported_hierarchy_is_read_within_its_template(
    sentence_model, tmp_path, runner, monkeypatch, cls, hierarchy
):
    monkeypatch.setattr("skgliclass.export.onnx._write_graph", lambda graph, path: None)
    labels = {
        "topic": {"z": "music and art", "sport": {"a": "fox", "b": "dog"}},
        "mood": ["joy", "anger"],
    }
    model = str(sentence_model / "model")
    clf = cls(model, labels, hierarchy=hierarchy, label_template="about {}")
    clf.save_pretrained(tmp_path / "saved")
    export_onnx(str(tmp_path / "saved"), tmp_path / "onnx")
    decision = runner.open_decision(tmp_path / "onnx")
    # What the graphs would give: the logits of what they are to read.
    plain = GLiClassMultiLabelClassifier(model, decision.label_texts)
    for text, row in zip(TEXTS[:3], plain.decision_function(TEXTS[:3]), strict=True):
        expected = clf.predict_proba([text])[0]
        np.testing.assert_allclose(decision.probabilities(row), expected, atol=1e-6)
        assert [decision.answer(row)] == (
            clf.predict_labels([text]) if clf._multi_label else clf.predict([text]).tolist()
        )
    assert "about mood" in decision.label_texts or hierarchy == "leaves"


def test_a_model_in_another_precision_is_refused(uni_model, tmp_path):
    loaded = load_model(str(uni_model), dtype="bfloat16")
    with pytest.raises(ValueError, match="in bfloat16 on cpu"):
        export_onnx(loaded, tmp_path / "onnx")


def test_a_classifier_in_memory_is_told_to_be_saved_first(tmp_path):
    with pytest.raises(TypeError, match=r"GLiClassClassifier.*save_pretrained\(folder\)"):
        export_onnx(GLiClassClassifier(labels=["a", "b"]), tmp_path / "onnx")


def test_a_path_is_a_folder(tmp_path):
    folder = encoder_checkpoint(tmp_path / "encoder")
    with pytest.raises(UntrainedModelError, match="without trained classification heads"):
        export_onnx(Path(folder), tmp_path / "onnx")


def test_a_missing_library_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match=r"pip install onnx onnxscript .*\.\[onnx\]"):
        export_onnx("mini", tmp_path / "onnx")


def test_untrained_heads_are_not_exported(tmp_path):
    folder = encoder_checkpoint(tmp_path / "encoder")
    with pytest.raises(UntrainedModelError, match="without trained classification heads"):
        export_onnx(str(folder), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
