"""The files of arrays beside that of a saved classifier: each fault is told with their names."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tiny import sentence_transformer
from toy import LABELS, toy

from skgliclass import GLiClassClassifier

CHANGE, ROWS = "learnt_labels.safetensors", "learnt_rows.safetensors"
VECTORS, EXAMPLES = "retrieved_examples.safetensors", "retrieved_examples.json"
TEXTS, Y = toy(12)
FOLDERS = {CHANGE: "learnt", ROWS: "learnt", VECTORS: "retrieved"}


def fitted(model, labels=LABELS, seed=0, **parameters):
    parameters = {"trainable": "labels", "max_epochs": 3, **parameters}
    texts, y = toy(12, seed=seed)
    names = dict(zip(LABELS, labels, strict=True))
    return GLiClassClassifier(model, labels, **parameters).fit(texts, [names[c] for c in y])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(sentence_transformer(tmp_path_factory.mktemp("model"), n_layers=1))


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    voting = {"n_retrieved": 1, "max_epochs": 0, "trainable": "head"}
    fitted(model).save_pretrained(folder / "learnt")
    fitted(model, **voting).save_pretrained(folder / "retrieved")
    # Others of the same shapes: with other texts, and with classes of other names.
    fitted(model, seed=5).save_pretrained(folder / "other learnt")
    fitted(model, seed=5, **voting).save_pretrained(folder / "other retrieved")
    fitted(model, [f"no {name}" for name in LABELS]).save_pretrained(folder / "renamed learnt")
    return folder


@pytest.fixture
def copy_of(saved, tmp_path):
    def copy(file):
        return Path(shutil.copytree(saved / FOLDERS[file], tmp_path / "copy"))

    return copy


def refused(folder, file, match=None):
    with pytest.raises(ValueError, match=match) as caught:
        GLiClassClassifier.from_pretrained(folder)
    assert str(folder / file) in str(caught.value)


def change_file(folder, **fields):
    content = json.loads((folder / "skgliclass.json").read_text("utf-8"))
    (folder / "skgliclass.json").write_text(json.dumps({**content, **fields}), "utf-8")


def rewrite(path, change):
    """Let a function change arrays, in the way of a program that keeps what a file says."""
    with safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = load_file(path)
    change(arrays)
    save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path, metadata=metadata)


def of_each(change):
    def apply(arrays):
        for name in arrays:
            arrays[name] = change(arrays[name])

    return apply


def of_one(change):
    """Change one of the arrays alone, so that it does not go with the others."""

    def apply(arrays):
        name = max(arrays, key=lambda n: arrays[n].ndim)
        arrays[name] = change(arrays[name])

    return apply


def with_number(value):
    def change(array):
        array = array.copy()
        array.reshape(-1)[-1] = value
        return array

    return change


DAMAGE = {
    "one is missing": lambda arrays: arrays.pop(max(arrays)),
    "all are missing": lambda arrays: arrays.clear(),
    "one too many": lambda arrays: arrays.update(more=np.zeros(3, np.float32)),
    "a class fewer": of_one(lambda a: a[:-1]),
    "narrower": of_each(lambda a: a[..., :-1] if a.ndim > 1 else a),
    "transposed": of_one(lambda a: a.T),
    "flat": of_one(lambda a: a.reshape(-1)),
    "deeper": of_each(lambda a: a[None]),
    "a number": of_each(lambda a: a.reshape(-1)[0]),
    "empty": of_each(lambda a: a[:0]),
    "float64": of_each(lambda a: a.astype(np.float64)),
    "float16": of_each(lambda a: a.astype(np.float16)),
    "integers": of_each(lambda a: np.zeros(a.shape, np.int32)),
    "infinite": of_each(with_number(np.inf)),
    "minus infinite": of_each(with_number(-np.inf)),
    "NaN": of_one(with_number(np.nan)),
}


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("file", FOLDERS)
def test_arrays_that_cannot_be_are_refused(copy_of, file, name):
    folder = copy_of(file)
    rewrite(folder / file, DAMAGE[name])
    # Even where somebody took away what tells the file from others.
    change_file(folder, digests={})
    # How many texts there are, the file of the examples says.
    of_examples = file == VECTORS and name == "empty"
    refused(folder, EXAMPLES if of_examples else file)


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("targets", with_number(1.5)),
        ("targets", with_number(-0.5)),
        ("weights", with_number(-1.0)),
        ("weights", lambda a: a[:-1]),
        ("x", lambda a: a[:-1]),
        ("logits", lambda a: a[:, :-1]),
    ],
)
def test_rows_that_cannot_be_are_refused(copy_of, array, change):
    folder = copy_of(ROWS)
    rewrite(folder / ROWS, lambda arrays: arrays.update({array: change(arrays[array])}))
    change_file(folder, digests={})
    refused(folder, ROWS)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"\0" * 100, b"\xff" * 100, b"\x10\0\0\0\0\0\0\0" + b"[" * 16],
    ids=["empty", "json", "zeros", "ones", "brackets"],
)
@pytest.mark.parametrize("file", FOLDERS)
def test_files_that_are_none_are_refused(copy_of, file, content):
    folder = copy_of(file)
    (folder / file).write_bytes(content)
    for _ in range(2):
        refused(folder, file)
        change_file(folder, digests={})


@pytest.mark.parametrize("file", FOLDERS)
def test_a_file_that_is_missing_or_cut_off_is_refused(copy_of, tmp_path, file):
    folder = copy_of(file)
    whole = (folder / file).read_bytes()
    for size in (7, 8, 40, len(whole) // 2, len(whole) - 1):
        (folder / file).write_bytes(whole[:size])
        refused(folder, file)
    (folder / file).unlink()
    refused(folder, file, "it is missing")
    (folder / file).mkdir()
    refused(folder, file)


@pytest.mark.parametrize("file", FOLDERS)
def test_nothing_outside_is_read_and_no_pipe_waited_for(copy_of, tmp_path, file):
    folder = copy_of(file)
    shutil.move(folder / file, tmp_path / file)
    (folder / file).symlink_to(tmp_path / file)
    refused(folder, file, "outside the model's folder")
    (folder / file).unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / file)
        refused(folder, file, "no regular file")


@pytest.mark.parametrize("file", FOLDERS)
def test_a_file_of_another_classifier_is_refused(copy_of, saved, file):
    folder = copy_of(file)
    shutil.copy(saved / f"other {FOLDERS[file]}" / file, folder / file)
    refused(folder, file, "not the file that was saved with this classifier")


@pytest.mark.parametrize("file", [CHANGE, ROWS])
def test_a_file_of_other_classes_is_refused(copy_of, saved, file):
    folder = copy_of(file)
    shutil.copy(saved / "renamed learnt" / file, folder / file)
    change_file(folder, digests={})
    refused(folder, file, "it belongs to other classes")


def test_classes_in_another_order_are_not_those_that_were_learnt(copy_of):
    folder = copy_of(CHANGE)
    content = json.loads((folder / "skgliclass.json").read_text("utf-8"))
    texts = content["label_texts"]
    change_file(folder, label_texts=[*texts[1:], texts[0]], labels=None)
    refused(folder, CHANGE, "it belongs to other classes")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "[1]", '[{"text": 1}]', '[{"text": "a", "labels": ["b"]}]', "["]
)
def test_examples_that_are_none_are_refused(copy_of, content):
    folder = copy_of(VECTORS)
    (folder / EXAMPLES).write_text(content)
    refused(folder, EXAMPLES, "pass n_retrieved=0")
    (folder / EXAMPLES).unlink()
    refused(folder, EXAMPLES, "it is missing")


def test_what_is_not_noted_or_asked_for_is_not_checked(copy_of):
    learnt = copy_of(CHANGE)
    expected = GLiClassClassifier.from_pretrained(learnt).predict_proba(TEXTS)
    change_file(learnt, digests={})
    found = GLiClassClassifier.from_pretrained(learnt).predict_proba(TEXTS)
    np.testing.assert_array_equal(found, expected)


def test_the_export_reads_them_as_the_classifier_does(copy_of, saved, tmp_path):
    pytest.importorskip("onnxscript")
    from skgliclass.export import export_onnx

    folder = copy_of(CHANGE)
    shutil.copy(saved / "other learnt" / CHANGE, folder / CHANGE)
    with pytest.raises(ValueError, match=f"{CHANGE}.*not the file that was saved"):
        export_onnx(str(folder), tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
