"""``skgliclass train`` on files of which one window of rows at a time is in memory."""

import gzip
import json
import os
import shutil
import signal
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from factorial import half_slow
from safetensors.torch import load_file
from tiny import reference_checkpoint, sentence_transformer
from toy import LABELS, toy, toy_indicator

from skgliclass import GLiClassClassifier, GLiClassMultiLabelClassifier
from skgliclass.__main__ import main
from skgliclass.cli import train as command
from skgliclass.cli import training_rows
from skgliclass.datasets import Example, PromptExample, from_arrays, write_examples
from skgliclass.estimators.callbacks import FitCallbacks
from skgliclass.estimators.rows import StreamedExamples
from skgliclass.training import checkpoint
from skgliclass.training.loop import Run

N_ROWS = 26
TEXTS, Y = toy(N_ROWS)
QUICK = ["--trainable", "all", "--max-epochs", 2, "--batch-size", 4, "--learning-rate", 0.01]
# Four windows, of which each has a batch that is not full.
WINDOWS = ["--window-rows", 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    sentence_transformer(folder / "model", n_layers=1)
    reference_checkpoint(
        folder / "uni", prompt_first=True, scorer_type="mlp", pooling_strategy="avg"
    )
    write_examples(folder / "data.jsonl", from_arrays(TEXTS, Y))
    return folder


@pytest.fixture
def train(folder, tmp_path, capsys):
    def train(data, *arguments, model="model", output="tuned", status=0):
        """Give the folder that was written."""
        path = tmp_path / output
        options = ["--model", folder / model, "--output", path, *QUICK, *arguments]
        ended = main(["train", str(data), *map(str, options)])
        train.said = capsys.readouterr().err
        assert ended == status, train.said
        return path

    return train


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_same_weights(one, other):
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def spied_steps(monkeypatch):
    """Give the sizes of the windows in use at every step, and the rows of the step."""
    steps, step = [], Run.step

    def spy(self, rows):
        steps.append((len(self.steps.data), rows.tolist()))
        return step(self, rows)

    monkeypatch.setattr(Run, "step", spy)
    return steps


def stop_at(n_steps, error):
    """Give what ends a training at a step."""
    steps = []

    def on_step(self, loss):
        steps.append(loss)
        if len(steps) == n_steps:
            raise error

    return on_step


# What is learnt.


def test_every_epoch_shuffles_the_rows_of_one_window_after_the_other(train, folder, monkeypatch):
    steps = spied_steps(monkeypatch)
    train(folder / "data.jsonl", *WINDOWS)
    assert [(size, len(rows)) for size, rows in steps] == 2 * [
        (7, 4), (7, 3), (7, 4), (7, 3), (6, 4), (6, 2), (6, 4), (6, 2),
    ]  # fmt: skip
    orders = [steps[i][1] + steps[i + 1][1] for i in range(0, 16, 2)]
    assert [sorted(order) for order in orders] == 2 * [list(range(n)) for n in (7, 7, 6, 6)]
    assert len(set(map(tuple, orders))) == 8


@pytest.mark.parametrize("window_rows", [N_ROWS, pytest.param(10 * N_ROWS, marks=pytest.mark.slow)])
def test_a_window_that_holds_the_file_gives_the_weights_of_fit(
    train, folder, tmp_path, window_rows
):
    tuned = train(folder / "data.jsonl", "--window-rows", window_rows)
    clf = GLiClassClassifier(
        str(folder / "model"), LABELS, trainable="all", max_epochs=2, batch_size=4,
        learning_rate=0.01, random_state=0,
    )  # fmt: skip
    clf.fit(TEXTS, Y).save_pretrained(tmp_path / "fit")
    assert_same_weights(tuned, tmp_path / "fit")


def test_one_window_that_is_read_from_the_file_each_time_gives_the_same(train, folder):
    held_out = ["--validation-fraction", 0.3]
    # All rows are more than a window, and those to learn from are not.
    one = train(folder / "data.jsonl", *held_out, "--window-rows", N_ROWS - 8, output="one")
    assert_same_weights(one, train(folder / "data.jsonl", *held_out, output="other"))


def write(path, kind):
    table = pd.DataFrame({"id": range(N_ROWS), "label": Y, "text": TEXTS})
    if kind == "csv":
        table.to_csv(path, index=False)
    elif kind == "parquet":
        table.to_parquet(path, index=False)
    elif kind == "examples":
        write_examples(path, from_arrays(TEXTS, Y))
    else:
        table.to_json(path, orient="records", lines=kind.startswith("jsonl"))


@pytest.mark.parametrize(
    "name",
    [
        "examples.jsonl.gz",
        pytest.param("jsonl.jsonl.gz", marks=pytest.mark.slow),
        pytest.param("csv.csv", marks=pytest.mark.slow),
        pytest.param("csv.csv.gz", marks=pytest.mark.slow),
        pytest.param("json.json", marks=pytest.mark.slow),
        pytest.param("parquet.parquet", marks=[pytest.mark.needs("pyarrow"), pytest.mark.slow]),
    ],
)
def test_every_kind_of_file_is_read_in_windows(train, folder, tmp_path, name):
    write(tmp_path / name, name.partition(".")[0])
    expected = train(folder / "data.jsonl", *WINDOWS, output="expected")
    tuned = train(tmp_path / name, *WINDOWS)
    assert_same_weights(tuned, expected)
    assert GLiClassClassifier.from_pretrained(tuned).classes_.tolist() == LABELS


def test_classes_are_those_of_the_whole_file(train, tmp_path):
    rows = pd.DataFrame({"text": TEXTS, "label": [*["music", "sport"] * 12, "music", "travel"]})
    rows.to_csv(tmp_path / "data.csv", index=False)
    tuned = train(tmp_path / "data.csv", *WINDOWS)
    assert GLiClassClassifier.from_pretrained(tuned).classes_.tolist() == LABELS


def test_the_kind_is_that_of_the_whole_file(train, tmp_path):
    rows = [Example(text, LABELS, [label]) for text, label in zip(TEXTS, Y, strict=True)]
    rows[-1] = Example("the fox", LABELS, ["sport", "music"])
    write_examples(tmp_path / "data.jsonl", rows)
    tuned = train(tmp_path / "data.jsonl", *WINDOWS)
    content = json.loads((tuned / "skgliclass.json").read_text())
    assert content["estimator"] == "GLiClassMultiLabelClassifier"


def test_label_texts_template_and_weights_count_in_windows(train, folder, tmp_path):
    rows = from_arrays(TEXTS, Y, sample_weight=np.arange(N_ROWS) % 5)
    write_examples(tmp_path / "data.jsonl", rows)
    words = {label: f"about {label}" for label in LABELS}
    (tmp_path / "labels.json").write_text(json.dumps(words))
    tuned = train(tmp_path / "data.jsonl", *WINDOWS, "--labels-file", tmp_path / "labels.json")
    plain = train(folder / "data.jsonl", *WINDOWS, output="plain")
    assert GLiClassClassifier.from_pretrained(tuned).labels == words
    assert not torch.equal(*(next(iter(weights(f).values())) for f in (tuned, plain)))


def test_thresholds_are_tuned_on_held_out_rows(train, tmp_path):
    texts, matrix = toy_indicator(N_ROWS)
    table = pd.DataFrame(matrix, columns=LABELS)
    table.assign(text=texts).to_csv(tmp_path / "data.csv", index=False)
    options = ["--multi-label", "--label-columns", *LABELS, "--text-column", "text"]
    held_out = ["--validation-fraction", 0.3, "--threshold", "auto", "--calibrate"]
    tuned = train(tmp_path / "data.csv", *WINDOWS, *options, *held_out)
    clf = GLiClassMultiLabelClassifier.from_pretrained(tuned)
    assert sorted(clf.classes_) == LABELS
    assert (clf.thresholds_ != 0.5).any()


def test_what_is_not_annotated_is_left_out_in_windows(train, tmp_path):
    texts, matrix = toy_indicator(N_ROWS)
    table = pd.DataFrame(matrix, columns=LABELS).astype(object)
    # Of the third window alone it is known in part which labels hold.
    table.iloc[15:18, 1] = ""
    table.assign(text=texts).to_csv(tmp_path / "data.csv", index=False)
    tuned = train(tmp_path / "data.csv", *WINDOWS, "--label-columns", *LABELS)
    assert sorted(GLiClassMultiLabelClassifier.from_pretrained(tuned).classes_) == LABELS


def test_rows_with_label_sets_of_their_own(train, tmp_path):
    rows = [Example(t, [y, f"not {i}"], [y]) for i, (t, y) in enumerate(zip(TEXTS, Y, strict=True))]
    write_examples(tmp_path / "data.jsonl", rows)
    tuned = train(tmp_path / "data.jsonl", *WINDOWS, "--validation-fraction", 0.2)
    assert GLiClassClassifier.from_pretrained(tuned).labels is None


def test_rows_of_no_class_tune_the_limit_and_are_not_learnt_from(train, tmp_path, monkeypatch):
    labels = np.where(np.arange(N_ROWS) % 5 == 4, "none", Y)
    pd.DataFrame({"text": TEXTS, "label": labels}).to_csv(tmp_path / "data.csv", index=False)
    steps = spied_steps(monkeypatch)
    options = ["--other", "none", "--min-probability", "auto", "--validation-fraction", 0.2]
    tuned = train(tmp_path / "data.csv", *WINDOWS, *options)
    clf = GLiClassClassifier.from_pretrained(tuned)
    assert clf.min_probability_ is not None
    assert clf.classes_.tolist() == LABELS
    held_out = round(0.2 * N_ROWS)
    n_learnt = sum(len(rows) for _, rows in steps) // 2
    assert N_ROWS - held_out - (labels == "none").sum() <= n_learnt < N_ROWS - held_out


def test_heads_are_trained_on_vectors_of_each_window(train, folder):
    head = ["--trainable", "head", "--max-epochs", 1]
    windows = train(folder / "data.jsonl", *WINDOWS, *head)
    before = GLiClassClassifier(str(folder / "model"), LABELS).predict_proba(TEXTS)
    assert (GLiClassClassifier.from_pretrained(windows).predict_proba(TEXTS) != before).any()


def test_texts_to_retrieve_are_those_of_all_windows(train, folder):
    tuned = train(folder / "data.jsonl", *WINDOWS, "--n-retrieved", 2, model="uni")
    store = GLiClassClassifier.from_pretrained(tuned)._fit_state.store
    assert {example.text for example in store.examples} == set(TEXTS)


# Held-out rows.


@pytest.mark.filterwarnings("default:.*rows are held out")
def test_few_rows_of_many_are_held_out(train, folder, monkeypatch):
    monkeypatch.setattr(training_rows, "MOST_HELD_OUT", 3)
    steps = spied_steps(monkeypatch)
    train(folder / "data.jsonl", *WINDOWS, "--validation-fraction", 0.5)
    assert "3 of 26 rows are held out" in train.said
    assert sum(len(rows) for _, rows in steps) == 2 * (N_ROWS - 3)


# Going on.


@half_slow(held_out=[["--validation-fraction", 0.2], []])
@pytest.mark.parametrize("n_steps", [5, pytest.param(11, marks=pytest.mark.slow)])
def test_what_is_stopped_within_a_window_goes_on_to_the_same_weights(
    train, folder, tmp_path, monkeypatch, n_steps, held_out
):
    expected = train(folder / "data.jsonl", *WINDOWS, *held_out, output="expected")
    monkeypatch.setattr(checkpoint, "SECONDS", 0.0)
    options = [*WINDOWS, *held_out, "--checkpoint-folder", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(FitCallbacks, "on_step", stop_at(n_steps, OSError("torn")))
        train(folder / "data.jsonl", *options, status=2)
        assert "torn" in train.said
    again = spied_steps(monkeypatch)
    tuned = train(folder / "data.jsonl", *options, "--resume")
    assert_same_weights(tuned, expected)
    n_all = 16 if not held_out else 12
    # The step that was not noted any more is made again.
    assert len(again) == n_all - n_steps + 1


@pytest.mark.parametrize("change", ["text", "windows"])
def test_other_rows_or_windows_are_another_training(train, folder, tmp_path, monkeypatch, change):
    options = ["--checkpoint-folder", tmp_path / "run"]
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "SECONDS", 0.0)
        patch.setattr(FitCallbacks, "on_step", stop_at(2, OSError("torn")))
        train(folder / "data.jsonl", *WINDOWS, *options, status=2)
    texts = [*TEXTS[:-1], "another fox"] if change == "text" else TEXTS
    write_examples(tmp_path / "other.jsonl", from_arrays(texts, Y))
    windows = ["--window-rows", 9 if change == "windows" else 7]
    train(tmp_path / "other.jsonl", *windows, *options, "--resume", status=2)
    assert "another fit, which differs in the texts or labels" in train.said


@pytest.mark.parametrize("held_out", [[], ["--validation-fraction", 0.2]], ids=["", "held out"])
def test_ctrl_c_within_a_window_leaves_the_best_weights(train, folder, monkeypatch, held_out):
    steps = []

    def stop(self, loss):
        steps.append(loss)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FitCallbacks, "on_step", stop)
    tuned = train(folder / "data.jsonl", *WINDOWS, *held_out, status=130)
    assert set(GLiClassClassifier.from_pretrained(tuned).predict(TEXTS)) <= set(LABELS)
    assert len(steps) == 3


def test_ctrl_c_while_a_window_is_read_leaves_the_best_weights(train, folder, monkeypatch):
    examples = StreamedExamples._examples
    windows = []

    def stop(self, rows):
        windows.append(len(rows))
        if len(windows) == 3:
            raise KeyboardInterrupt
        return examples(self, rows)

    monkeypatch.setattr(StreamedExamples, "_examples", stop)
    tuned = train(folder / "data.jsonl", *WINDOWS, status=130)
    before = GLiClassClassifier(str(folder / "model"), LABELS).predict_proba(TEXTS)
    after = GLiClassClassifier.from_pretrained(tuned).predict_proba(TEXTS)
    assert (before != after).any()


# Memory.


def test_one_window_at_a_time_is_in_memory(train, folder, monkeypatch):
    alive, most, use, init = [], [], Run.use, Example.__post_init__
    texts, most_rows = [], []

    def count(self, data):
        use(self, data)
        alive.append(weakref.ref(data))
        most.append(sum(ref() is not None for ref in alive))

    def note(self):
        init(self)
        texts.append(weakref.ref(self))
        most_rows.append(sum(ref() is not None for ref in texts[-40:]))

    monkeypatch.setattr(Run, "use", count)
    monkeypatch.setattr(Example, "__post_init__", note)
    train(folder / "data.jsonl", *WINDOWS)
    assert len(alive) == 8
    assert max(most) == 1
    assert max(most_rows) <= 7 + 2


# What is at fault.


GOOD = '{"text": "a fox", "all_labels": ["x", "y"], "true_labels": ["x"]}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD.replace('["x"]}', '["z"]}'), "line 20: true_labels names 'z'"),
        ("{", "line 20: not valid JSON"),
        (GOOD.replace("fox", "\\ud800"), "line 20: text is not valid Unicode"),
        (
            GOOD.replace("}", ', "examples": [{"text": "b", "labels": ["z"]}]}'),
            "in row 20, examples[0] has the label 'z'",
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_row_at_fault_is_named_before_training(
    train, tmp_path, monkeypatch, line, message, packed
):
    content = (GOOD * 19 + line + GOOD).encode()
    path = tmp_path / ("data.jsonl.gz" if packed else "data.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    steps = spied_steps(monkeypatch)
    train(path, *WINDOWS, status=2)
    assert message in train.said
    assert steps == []
    assert not (tmp_path / "tuned").exists()


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (["x"] * 19 + [""] * 2, [], "row 20 has no label in column 'label' (2 such rows)"),
        (["x"] * 19 + ['"[""x"", null]"'], [], "row 20 has an empty label"),
        (["x"] * 18 + ['"[""x""]"'], [], "row 1 has 'x', while other rows have lists"),
        (["x"] * 19 + ["z"], ["--labels", "x", "y"], "row 20 has the label 'z', which is none of"),
        (["1"] * 19 + ["2"], ["--label-columns", "label"], "row 20 has '2' in column 'label'"),
    ],
)
def test_a_cell_at_fault_is_named_before_training(train, tmp_path, cells, options, message):
    if '"[""x"", null]"' in cells:
        cells = ['"[""x""]"' if cell == "x" else cell for cell in cells]
    rows = "".join(f"a fox,{cell}\n" for cell in cells)
    (tmp_path / "data.csv").write_text(f"text,label\n{rows}")
    train(tmp_path / "data.csv", *WINDOWS, *options, status=2)
    assert message in train.said
    assert not (tmp_path / "tuned").exists()


def test_a_file_that_changes_meanwhile_is_noticed(train, folder, tmp_path, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_bytes((folder / "data.jsonl").read_bytes())

    def append(self, progress, make_state):
        with path.open("a") as file:
            file.write(GOOD)

    monkeypatch.setattr(FitCallbacks, "on_epoch", append)
    train(path, *WINDOWS, status=2)
    assert "data.jsonl: it was changed while it was being read" in train.said
    assert not (tmp_path / "tuned").exists()


def _append(path):
    with path.open("a") as file:
        file.write(GOOD)


def _cut_off(path):
    os.truncate(path, path.stat().st_size - 40)


def _empty(path):
    os.truncate(path, 0)


def _replace_by_one_of_the_same_time_and_size(path):
    copy = path.with_suffix(".new")
    copy.write_bytes(path.read_bytes().replace(b"fox", b"dog"))
    shutil.copystat(path, copy)
    copy.replace(path)


@pytest.mark.parametrize(
    ("step", "change"),
    [
        (1, _cut_off),
        # Of 16 steps, so that no epoch is left that would read the file from its beginning.
        (14, _append),
        (14, _empty),
        (14, _replace_by_one_of_the_same_time_and_size),
    ],
)
def test_a_file_that_changes_within_an_epoch_is_noticed(
    train, folder, tmp_path, monkeypatch, step, change
):
    path = tmp_path / "data.jsonl"
    path.write_bytes((folder / "data.jsonl").read_bytes())
    steps = []

    def on_step(self, loss):
        steps.append(loss)
        if len(steps) == step:
            change(path)

    monkeypatch.setattr(FitCallbacks, "on_step", on_step)
    train(path, *WINDOWS, status=2)
    assert "data.jsonl: it was changed while it was being read" in train.said
    assert not (tmp_path / "tuned").exists()


@pytest.mark.filterwarnings("default:.*its rows are sorted")
def test_sorted_rows_are_warned_of(train, tmp_path):
    order = np.argsort(Y, kind="stable")
    rows = from_arrays([TEXTS[i] for i in order], Y[order])
    write_examples(tmp_path / "data.jsonl", rows)
    train(tmp_path / "data.jsonl", "--window-rows", 3)
    assert "its rows are sorted by their labels" in train.said
    assert f"--window-rows {N_ROWS}" in train.said


def test_windows_need_rows(train, folder):
    train(folder / "data.jsonl", "--window-rows", 0, status=2)
    assert "--window-rows 0: give a number" in train.said


@pytest.mark.filterwarnings("default::UserWarning")
def test_a_warning_is_given_once_for_all_windows(train, tmp_path):
    shown = [PromptExample("the fox", ["sport"])]
    rows = [Example("fox " * 40, LABELS, [y], examples=shown) for y in Y]
    write_examples(tmp_path / "data.jsonl", rows)
    train(tmp_path / "data.jsonl", "--max-length", 32, *WINDOWS)
    assert train.said.count("26 of 26 texts to learn from did not fit") == 1
    assert train.said.count("in-context examples, which are not used") == 1
    assert len(train.said.splitlines()) == 2


def test_windows_by_themselves_are_small_beside_a_model():
    limit = training_rows.limit_of(None)
    survey = training_rows.Survey(from_arrays(TEXTS, Y), "data", None)
    assert survey.n_windows(limit) == 1
    survey.n_rows = 1_000_000
    assert survey.n_windows(limit) == 16
    survey.n_characters = 10**12
    assert survey.n_windows(limit) > 1000
    assert command.limit_of(7).n_rows == 7
