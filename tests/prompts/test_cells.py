"""Chunks of long texts, against chunks by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from skgliclass.prompts.long_texts import LongTexts
from skgliclass.prompts.packing import cut_into_cells


def cells_of(lengths, available, mode="chunk", overlap=3):
    packed = SimpleNamespace(lengths=np.asarray(lengths), available=np.asarray(available))
    cells = cut_into_cells(packed, LongTexts(mode, overlap))
    assert len(cells) == len(cells.row)
    return cells


def spans(lengths, available, **options):
    cells = cells_of(lengths, available, **options)
    return list(zip(cells.row.tolist(), cells.start.tolist(), cells.stop.tolist(), strict=True))


def test_a_text_that_fits_is_one_cell():
    assert spans([0, 5, 10], [10, 10, 10]) == [(0, 0, 0), (1, 0, 5), (2, 0, 10)]


def test_texts_that_are_cut_off_later_are_whole():
    assert spans([0, 50], [10, 10], mode="truncate") == [(0, 0, 0), (1, 0, 50)]


def test_chunks_overlap_and_the_last_is_as_long():
    found = spans([23, 4, 11], [10, 10, 10])
    assert found == [(0, 0, 10), (0, 7, 17), (0, 13, 23), (1, 0, 4), (2, 0, 10), (2, 1, 11)]


@pytest.mark.parametrize("overlap", [5, 6, 100])
def test_chunks_share_no_more_than_half(overlap):
    assert spans([20], [10], overlap=overlap) == [(0, 0, 10), (0, 5, 15), (0, 10, 20)]


def test_every_chunk_goes_on():
    assert spans([3], [1], overlap=5) == [(0, 0, 1), (0, 1, 2), (0, 2, 3)]
    assert spans([24], [8], overlap=0) == [(0, 0, 8), (0, 8, 16), (0, 16, 24)]


def test_a_chunk_counts_by_what_it_adds():
    cells = cells_of([23, 0, 11], [10, 10, 10])
    assert cells.added.tolist() == [10, 7, 6, 1, 10, 1]
    assert cells.first.tolist() == [0, 3, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("cut",), "^long_texts='cut' is unknown; choose from truncate, chunk"),
        (("chunk", 3, "sum"), "^chunk_pooling='sum' is unknown; choose from max, mean"),
        (("chunk", -1), "^chunk_overlap=-1 is negative"),
    ],
)
def test_what_is_no_way_with_long_texts_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        LongTexts(*arguments)


def test_long_texts_are_cut_off_by_default():
    assert LongTexts() == LongTexts("truncate", 32, "max")
    assert not LongTexts().chunks
    assert LongTexts("chunk", 0).chunks
