"""Which texts to label next: they differ, the model is unsure of them, and none has a label."""

import numpy as np
import pytest

from skgliclass.estimators.suggestion import choose_rows

TEXTS = [f"text {i}" for i in range(120)]


@pytest.fixture
def groups():
    """Four far groups of thirty texts each, all as uncertain."""
    rng = np.random.default_rng(0)
    x = np.repeat(np.eye(4, 8), 30, axis=0) + 0.05 * rng.normal(size=(120, 8))
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_there_is_one_of_each_group(groups):
    rows = choose_rows(TEXTS, groups, np.zeros((120, 3)), 4, random_state=0)
    assert sorted(rows // 30) == [0, 1, 2, 3]


def test_the_model_is_unsure_of_them(groups):
    logits = np.tile([9.0, 0, 0], (120, 1))
    logits[60:90] = 0
    rows = choose_rows(TEXTS, groups, logits, 2, random_state=0)
    assert set(rows // 30) == {2}


def test_the_same_state_gives_the_same_rows(groups):
    one, other = (
        choose_rows(TEXTS, groups, np.zeros((120, 3)), 7, random_state=1) for _ in range(2)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("multi_label", [False, True])
def test_none_has_a_label_and_none_comes_twice(groups, multi_label):
    x = np.repeat(groups[::30], 30, axis=0)
    labelled = np.arange(120) % 2 == 0
    rows = choose_rows(
        TEXTS, x, np.zeros((120, 1)), 10, multi_label=multi_label, labelled=labelled, random_state=0
    )
    assert len(set(rows.tolist())) == 10
    assert not labelled[rows].any()


def test_all_are_chosen_where_no_more_are_left(groups):
    labelled = np.arange(120) >= 3
    rows = choose_rows(TEXTS, groups, np.zeros((120, 3)), 5, labelled=labelled)
    assert rows.tolist() == [0, 1, 2]


def test_of_very_many_some_are_looked_at(groups, monkeypatch):
    monkeypatch.setattr("skgliclass.estimators.suggestion._MOST_TEXTS", 20)
    rows = choose_rows(TEXTS, groups, np.zeros((120, 3)), 3, random_state=0)
    assert len(set(rows.tolist())) == 3


@pytest.mark.parametrize("n_seen", [20_000, 60], ids=["all are looked at", "some are"])
def test_what_teaches_nothing_comes_last(groups, monkeypatch, n_seen):
    monkeypatch.setattr("skgliclass.estimators.suggestion._MOST_TEXTS", n_seen)
    # Rows 0 to 9 are blank, 10 to 19 copies of 20 to 29, which have a label, 40 to 119 of 30 to 39.
    texts = ["", "  ", "\n", "\u2003", *[" "] * 6, *TEXTS[20:30], *TEXTS[20:40], *TEXTS[30:40] * 8]
    labelled = (np.arange(120) >= 20) & (np.arange(120) < 30)
    x = groups[[texts.index(text) for text in texts]]

    def chosen(n_rows):
        rows = choose_rows(texts, x, np.zeros((120, 3)), n_rows, labelled=labelled, random_state=0)
        assert len(set(rows.tolist())) == min(n_rows, 110)
        assert not labelled[rows].any()
        return rows

    for n_rows in (2, 9, 10):
        rows = chosen(n_rows)
        assert (rows >= 30).all()
        assert len({texts[i] for i in rows}) == n_rows
    assert set(range(30, 40)) < set(chosen(13).tolist())
    assert len(chosen(200)) == 110


def test_texts_may_all_teach_nothing(groups):
    labelled = np.arange(3) == 2
    for texts in (["", " ", "a"], ["a", "a", "a"]):
        rows = choose_rows(texts, groups[:3], np.zeros((3, 2)), 5, labelled=labelled)
        assert rows.tolist() == [0, 1]
