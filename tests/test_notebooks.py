"""The notebooks run, and what is committed with them is what they give."""

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

nbformat = pytest.importorskip("nbformat")

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = ["01_zero_shot", "02_fine_tuning_and_model_selection", "03_few_labels"]


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def printed(notebook):
    """Give what the code cells print and show, one text a cell."""
    texts = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shown = [out.get("text") or out["data"].get("text/plain", "") for out in cell.outputs]
            texts.append("".join(shown))
    return texts


def execute(name):
    spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.execute(FOLDER / f"{name}.ipynb")


@pytest.mark.slow
@pytest.mark.needs("nbclient", "ipykernel", "matplotlib")
@pytest.mark.filterwarnings("default")  # of the client's own libraries
def test_zero_shot_gives_what_is_committed():
    for now, committed in zip(printed(execute(NAMES[0])), printed(read(NAMES[0])), strict=True):
        assert_alike(now, committed)


@pytest.mark.slow
@pytest.mark.needs("nbclient", "ipykernel", "matplotlib")
@pytest.mark.filterwarnings("default")
def test_fine_tuning_runs_and_its_order_holds():
    # Training in another precision gives other figures, so only what the text says is compared.
    texts = printed(execute(NAMES[1]))
    table = next(text for text in texts if "fine-tuned head" in text and "mean" in text)
    means = {
        name: float(re.search(rf"^{re.escape(name)} +(\S+)", table, re.M).group(1))
        for name in ("TF-IDF + logistic regression", "zero-shot", "fine-tuned head")
    }
    assert sorted(means, key=means.get) == list(means)


@pytest.mark.slow
@pytest.mark.needs("nbclient", "ipykernel", "matplotlib")
@pytest.mark.filterwarnings("default")
def test_labels_and_texts_without_labels_are_worth_what_the_text_says():
    texts = "\n".join(printed(execute(NAMES[2])))
    none, of_texts = map(float, re.findall(r"(\d\.\d+) macro-F1", texts))
    assert none + 0.05 < of_texts
    table = re.findall(r"^(10|20|50|100) +(\d\.\d+) +(\d\.\d+) *$", texts, re.M)
    assert len(table) == 8
    ours, others = table[:4], table[4:]
    for (_, with_texts, alone), (_, vectors, words) in zip(ours, others, strict=True):
        assert min(float(with_texts), float(alone)) > float(vectors) > float(words)


def assert_alike(now, committed):
    """Compare words exactly, and numbers up to what another processor may round differently."""
    number = r"\d+\.\d+"
    assert re.sub(number, "#", now).split() == re.sub(number, "#", committed).split()
    for a, b in zip(re.findall(number, now), re.findall(number, committed), strict=True):
        assert float(a) == pytest.approx(float(b), abs=2.0 if float(b) > 1 else 0.05)


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_complete_and_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
    text = (FOLDER / f"{name}.ipynb").read_text("utf-8")
    assert "Warning" not in text
    assert not re.search(r"/(home|root|work|tmp|Users|usr)/", text)


def test_tickets_are_distinct_and_labelled():
    tickets = pd.read_csv(FOLDER / "tickets.csv")
    several = pd.read_csv(FOLDER / "tickets_multi.csv")
    texts = pd.concat([tickets["text"], several["text"]])
    assert texts.is_unique
    assert texts.str.strip().str.len().min() > 0
    teams = set(tickets["team"])
    assert len(teams) == 6
    assert tickets["team"].value_counts().nunique() == 1
    assert set(several["teams"].str.split("; ").explode()) == teams


@pytest.mark.slow
@pytest.mark.parametrize("has_widgets", [True, False])
def test_a_bar_in_a_notebook_comes_without_a_warning(has_widgets):
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    code = (
        ("import ipywidgets\n" if has_widgets else "import sys; sys.modules['ipywidgets'] = None\n")
        + "import warnings; warnings.simplefilter('always')\n"
        "from skgliclass import GLiClassClassifier\n"
        "for verbose in (None, 1):\n"
        "    clf = GLiClassClassifier(trainable='head', max_epochs=1, verbose=verbose)\n"
        "    clf.fit(['a goal', 'to Rome'], ['sport', 'travel']).predict(['a goal'] * 520)\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    said = "".join(out.get("text", "") for out in notebook.cells[0].outputs)
    assert "Warning" not in said
    assert said.count("520/520") == 2
