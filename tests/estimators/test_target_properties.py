"""Targets and label sets: what is encoded is decoded to what it was."""

from __future__ import annotations

import copy

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st
from strategies import hierarchies, label_sets, label_texts

from skgliclass.estimators.hierarchy import Hierarchy, nest
from skgliclass.estimators.labels import LabelSet, flatten_hierarchy
from skgliclass.estimators.targets import multi_label_targets, single_label_targets

pytestmark = pytest.mark.filterwarnings("ignore:The classes are (numbers|truth values)")

classes = st.one_of(
    label_sets,
    st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=6, unique=True),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
    # scikit-learn takes others for a regression's.
    st.lists(st.integers(-(2**53), 2**53).map(float), min_size=1, max_size=4, unique=True),
)


def same(ours, theirs):
    assert ours == theirs
    assert list(map(type, ours)) == list(map(type, theirs))


@given(st.data(), st.booleans())
def test_one_class_a_text(data, with_labels):
    values = data.draw(label_sets if with_labels else classes)
    y = data.draw(st.lists(st.sampled_from(values), min_size=1, max_size=8))
    label_set = LabelSet.from_labels(values, sort=True) if with_labels else None
    before = copy.deepcopy(y)
    targets = single_label_targets(y, label_set)
    same(y, before)
    assert (targets.matrix.sum(axis=1) == 1).all()
    same([targets.label_set.classes.tolist()[k] for k in targets.matrix.argmax(axis=1)], y)
    # Whatever the container.
    for form in (tuple(y), pd.Series(y, index=range(5, 5 + len(y)))):
        again = single_label_targets(form, label_set)
        np.testing.assert_array_equal(again.matrix, targets.matrix)
        assert again.label_set.same_as(targets.label_set)


@given(st.data())
def test_any_number_of_classes_in_every_form(data):
    values = data.draw(label_sets)
    row = st.lists(st.sampled_from(values), unique=True)
    y = data.draw(st.lists(row, min_size=1, max_size=8))
    label_set = LabelSet.from_labels(values, sort=False)
    before = copy.deepcopy(y)
    matrix = multi_label_targets(y, label_set).matrix
    same(y, before)
    names = label_set.classes.tolist()
    decoded = [{names[k] for k in np.flatnonzero(of_row)} for of_row in matrix]
    assert decoded == list(map(set, y))
    forms = [
        list(map(set, y)),
        [dict.fromkeys(of_row, 1.0) for of_row in y],
        matrix,
        matrix.astype(int),
        pd.DataFrame(matrix, columns=names),
        sparse.csr_matrix(matrix),
        pd.Series(y),
    ]
    for form in forms:
        np.testing.assert_array_equal(multi_label_targets(form, label_set).matrix, matrix)


@given(st.data())
def test_soft_targets_and_unknown_ones(data):
    values = data.draw(label_sets)
    cell = st.one_of(st.floats(0, 1, width=32), st.just(np.nan))
    row = st.lists(cell, min_size=len(values), max_size=len(values))
    table = np.asarray(data.draw(st.lists(row, min_size=1, max_size=6)), dtype=np.float32)
    table[0, 0] = 1
    label_set = LabelSet.from_labels(values, sort=False)
    np.testing.assert_array_equal(multi_label_targets(table, label_set).matrix, table)
    rows = [dict(zip(values, map(float, of_row), strict=True)) for of_row in table]
    np.testing.assert_array_equal(multi_label_targets(rows, label_set).matrix, table)


@given(hierarchies())
def test_hierarchies(tree):
    before = copy.deepcopy(tree)
    label_set = LabelSet.from_labels(tree, sort=True)
    assert sorted(label_set.classes.tolist()) == sorted(flatten_hierarchy(tree))
    scores = {name: k / 7 for k, name in enumerate(label_set.classes.tolist())}
    nested = nest(tree, scores)
    assert tree == before
    assert list(paths(nested)) == list(paths(tree))
    assert {name: leaf(nested, name) for name in scores} == scores
    # A branch has the probability of what is below it.
    hierarchy = Hierarchy.of(tree, label_set.texts)
    n = len(label_set)
    of_nodes = hierarchy.node_probabilities(np.full((1, n), 1 / n, dtype=np.float32), False)[0]
    top = hierarchy.parents == -1
    assert of_nodes[top].sum() == pytest.approx(1)
    logits = hierarchy.class_logits(np.zeros((1, len(hierarchy.names)), dtype=np.float32), False)
    assert np.exp(logits).sum() == pytest.approx(1)


def paths(branch, prefix=""):
    """Give the dotted names of the leaves of a hierarchy or of its scores."""
    for name in branch:
        inner = branch[name] if isinstance(branch, dict) else None
        if isinstance(inner, dict | list):
            yield from paths(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def leaf(nested, name):
    for part in name.split("."):
        nested = nested[part]
    return nested


@given(label_sets, label_texts)
def test_label_texts_travel_with_their_classes(values, text):
    texts = {value: f"{i} {text}" for i, value in enumerate(values)}
    label_set = LabelSet.from_labels(texts, sort=True)
    assert label_set.text_of_class == texts
    same(label_set.classes.tolist(), sorted(values))
    assert LabelSet.from_labels(label_set.as_labels(), sort=True).same_as(label_set)
