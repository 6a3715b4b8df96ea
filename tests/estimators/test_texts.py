import narwhals
import numpy as np
import pandas as pd
import pytest
from toy import polars

from skgliclass.estimators.texts import as_texts, row_index

TEXTS = ["One day I will see the world!", "", "naïve façade 你好"]


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        lambda t: np.array(t, dtype=object),
        np.array,
        lambda t: np.array(t, dtype=object).reshape(-1, 1),
        lambda t: [[row] for row in t],
        pd.Series,
        lambda t: pd.Series(t, dtype="string"),
        lambda t: pd.Series(t, dtype="category"),
        pd.Index,
        lambda t: pd.DataFrame({"text": t}, index=[7, 3, 5]),
        lambda t: polars().Series(t),
        lambda t: polars().DataFrame({"text": t}),
        lambda t: narwhals.from_native(polars().DataFrame({"text": t})),
    ],
)
def test_every_container_gives_the_same_texts(make):
    rows = as_texts(make(TEXTS))
    assert rows == TEXTS
    assert {type(row) for row in rows} <= {str, np.str_}


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ("a text", TypeError, r"X is a single string.*X=\[text\]"),
        (b"bytes", TypeError, "single string"),
        ([], ValueError, "0 sample"),
        (["a", None], ValueError, r"X\[1\] is missing"),
        (["a", "b", float("nan")], ValueError, r"X\[2\] is missing \(nan\)"),
        (pd.Series(["a", pd.NA], dtype="string"), ValueError, r"X\[1\] is missing"),
        (
            ["a", "b \ud83d c"],
            ValueError,
            r"^X\[1\] .*character 2 .*ud83d'.*replace",
        ),
        (np.array(["\udcff"]), ValueError, r"^X\[0\] is not valid Unicode"),
        (["a", 3], TypeError, r"X\[1\] is 3 \(int\), not a text"),
        (["a", b"b"], TypeError, "Decode"),
        (np.zeros((3, 2)), ValueError, r"shape \(3, 2\)"),
        (np.array("text"), ValueError, r"shape \(\)"),
        (np.array([1.0, 2.0]), TypeError, r"X\[0\] is 1.0"),
        ([["a", "b"]], ValueError, r"X\[0\] is \['a', 'b'\]"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), ValueError, "2 columns.*'a', 'b'"),
        ({"a": "text"}, TypeError, "got dict"),
        ({"a text"}, TypeError, "got set"),
        ((row for row in TEXTS), TypeError, r"list\(...\)"),
        (None, TypeError, "got NoneType"),
    ],
)
def test_bad_input_is_named(X, error, message):
    with pytest.raises(error, match=message):
        as_texts(X)


def test_bad_input_from_polars_is_named():
    with pytest.raises(ValueError, match=r"X\[1\] is missing"):
        as_texts(polars().Series(["a", None]))
    with pytest.raises(ValueError, match="2 columns"):
        as_texts(polars().DataFrame({"a": ["x"], "b": ["y"]}))


def test_index_is_that_of_pandas_objects_alone():
    frame = pd.DataFrame({"text": ["a", "b"]}, index=["x", "y"])
    assert row_index(frame).tolist() == ["x", "y"]
    assert row_index(frame["text"]).tolist() == ["x", "y"]
    assert row_index(["a", "b"]) is None
