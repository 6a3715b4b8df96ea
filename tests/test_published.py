"""The command that compares published checkpoints, on checkpoints made here."""

import runpy
from pathlib import Path

import pytest
from tiny import reference_checkpoint

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "published.py"


@pytest.fixture(scope="module")
def published():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def modern(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modern")
    reference_checkpoint(folder, "modernbert", prompt_first=True, scorer_type="mlp")
    return folder


def test_scores_of_a_checkpoint_are_those_of_the_reference(published, modern):
    found = published["compare"](str(modern), published["TEXTS"], published["LABELS"])
    assert found["difference"] < 1e-5
    assert found["same"] == len(published["TEXTS"])


def test_a_model_that_cannot_be_read_leaves_the_others(published, modern, tmp_path, capfd):
    missing = str(tmp_path / "missing")
    assert published["main"]([missing, str(modern)]) == 1
    rows = [line for line in capfd.readouterr().out.splitlines() if line.startswith("| /")]
    assert "there is no such folder" in rows[0]
    assert "8 of 8" in rows[1]
    assert published["main"]([str(modern)]) == 0
