"""What docs/few_labels.md shows works, and its table names every parameter of training."""

import re
from pathlib import Path

from skgliclass.estimators.parameters import PARAMETERS

GUIDE = Path(__file__).parents[1] / "docs" / "few_labels.md"
TEXT = GUIDE.read_text(encoding="utf-8")


def test_blocks_run_one_after_the_other():
    first, second = re.findall(r"^```python\n(.*?)^```", TEXT, re.S | re.M)
    names = {}
    exec(first, names)
    assert names["clf"].predict(["The screen freezes"]).tolist() == ["tech"]
    assert len(names["next_rows"]) == 2
    exec(second, names)
    assert names["search"].predict(["The screen freezes"]).tolist() == ["tech"]
    assert len(names["rest"]) != len(names["labelled"])


def test_every_parameter_of_training_is_in_the_table():
    rows = re.findall(r"^\| (`.*?) \|", TEXT, re.M)
    named = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    of_training = {name for name, p in PARAMETERS.items() if p.option == "training"}
    assert of_training - {"trainable", "architecture"} <= named
