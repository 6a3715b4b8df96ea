"""An export carries what ``fit`` learnt for the classes without touching the model."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import reference_checkpoint, sentence_transformer
from toy import toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.export import export_onnx, onnx

pytestmark = pytest.mark.needs("onnx", "onnxscript", "onnxruntime")

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_onnx.py"
LABELS = {"s": "sport", "m": "music", "t": "travel"}
CLASSES = {"music": "m", "sport": "s", "travel": "t"}
TREE = {"leisure": {"m": "music", "s": "sport"}, "away": {"t": "travel"}}
LEAVES = {"m": "leisure.m", "s": "leisure.s", "t": "away.t"}
TEXTS = ["the quick brown fox jumps", "café", "see the world, twice. " * 3]
BOTH = [GLiClassClassifier, GLiClassMultiLabelClassifier]
KINDS = ["uni", "bi"]


@pytest.fixture(scope="module")
def runner():
    """Give the example that users copy."""
    spec = importlib.util.spec_from_file_location("run_onnx", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    reference_checkpoint(
        folder / "uni", n_layers=1, prompt_first=True, pooling_strategy="avg", scorer_type="mlp"
    )
    sentence_transformer(folder / "bi", n_layers=1)
    return folder


@pytest.fixture(scope="module")
def saved(models, tmp_path_factory):
    """Give a classifier that learnt, and the folder that it is in."""
    made = {}

    def give(cls, kind, **parameters):
        key = cls, kind, str(parameters)
        if key not in made:
            folder = tmp_path_factory.mktemp("saved")
            parameters = {"labels": LABELS, "trainable": "labels", **parameters}
            clf = cls(str(models / kind), n_jobs=1, **parameters)
            clf.fit(*rows(cls, LEAVES if parameters["labels"] is TREE else None))
            clf.save_pretrained(folder)
            made[key] = clf, folder
        return made[key]

    return give


def rows(cls, names=None):
    names = names or {name: name for name in CLASSES.values()}
    if cls is GLiClassClassifier:
        texts, y = toy(18)
        return texts, [names[CLASSES[label]] for label in y]
    texts, matrix = toy_indicator(18)
    order = list(CLASSES.values())
    return texts, [[names[order[j]] for j in np.flatnonzero(row)] for row in matrix]


def exported(folder, tmp_path, monkeypatch):
    """Export the folder but for the graphs, and give these."""
    graphs = {}
    monkeypatch.setattr(onnx, "_write_graph", lambda graph, path: graphs.update({path.stem: graph}))
    export_onnx(str(folder), tmp_path)
    return graphs


class Session:
    """Runs a graph in torch, as onnxruntime would."""

    def __init__(self, graph):
        self.graph = graph

    def run(self, names, inputs):
        values = [torch.from_numpy(np.asarray(inputs[name])) for name in self.graph.inputs]
        with torch.inference_mode():
            return [self.graph.module.eval()(*values).numpy()]


def open_in_torch(runner, folder, graphs, monkeypatch):
    monkeypatch.setattr(runner, "load", lambda path: Session(graphs[path.stem]))
    return runner.open_model(folder)


def check(clf, bare, model, decision):
    """Compare with the classifier, and with its model before it learnt."""
    logits = model.logits(TEXTS, decision.label_texts)
    expected = clf.decision_function(TEXTS)
    found = np.asarray([decision.class_logits(row.astype(float)) for row in logits])
    if decision.nodes is None:
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert np.abs(expected - bare.decision_function(TEXTS)).max() > 0.05
    probabilities = np.asarray([decision.probabilities(row) for row in logits])
    np.testing.assert_allclose(probabilities, clf.predict_proba(TEXTS), rtol=0, atol=1e-4)
    answers = [decision.answer(row) for row in logits]
    predicted = clf.predict_labels(TEXTS) if clf._multi_label else clf.predict(TEXTS).tolist()
    assert answers == predicted


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        pytest.param({"label_template": "about {}"}, marks=pytest.mark.slow),
        {"labels": TREE, "hierarchy": "path"},
    ],
    ids=["plain", "template", "path"],
)
def test_graphs_give_the_predictions(
    saved, models, tmp_path, monkeypatch, runner, cls, kind, parameters
):
    clf, folder = saved(cls, kind, **parameters)
    graphs = exported(folder, tmp_path, monkeypatch)
    model = open_in_torch(runner, tmp_path, graphs, monkeypatch)
    bare = cls(str(models / kind), **{"labels": LABELS, **parameters})
    check(clf, bare, model, runner.open_decision(tmp_path))


# To write the graphs of an encoder takes ten seconds.
@pytest.mark.slow
@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_gives_the_predictions(saved, models, tmp_path, runner, cls, kind):
    clf, folder = saved(cls, kind)
    export_onnx(str(folder), tmp_path)
    model, decision = runner.open_model(tmp_path), runner.open_decision(tmp_path)
    check(clf, cls(str(models / kind), LABELS), model, decision)
    # The classes are a part of the graphs.
    with pytest.raises(Exception, match=r"(?i)dimension|shape"):
        model.logits(TEXTS, ["music", "sport"])


def test_the_example_refuses_other_labels(saved, tmp_path, monkeypatch, runner, capsys):
    _, folder = saved(GLiClassClassifier, "bi")
    exported(folder, tmp_path, monkeypatch)
    monkeypatch.setattr("sys.argv", ["run_onnx.py", str(tmp_path), "a text", "--labels", "a", "b"])
    with pytest.raises(SystemExit):
        runner.main()
    assert "leave --labels out" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["encoder-decoder", "bi-encoder-fused"])
def test_what_has_no_graph_is_refused(tmp_path, architecture):
    kind = "t5" if architecture == "encoder-decoder" else "bert"
    reference_checkpoint(tmp_path / "model", kind, n_layers=1, architecture_type=architecture)
    clf = GLiClassClassifier(str(tmp_path / "model"), LABELS, trainable="labels")
    clf.fit(*rows(GLiClassClassifier)).save_pretrained(tmp_path / "saved")
    with pytest.raises(NotImplementedError, match=f"{architecture} cannot be exported"):
        export_onnx(str(tmp_path / "saved"), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
