"""Files of examples that end or are cut where they should not."""

import gzip

import pytest

from skgliclass.datasets import read_examples

ROW = '{"text": "a%s", "all_labels": ["x"], "true_labels": ["x"]}'


@pytest.mark.parametrize("end", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c"])
def test_only_line_feeds_end_lines(tmp_path, end):
    # Written raw where JSON allows it, as other programs do.
    escaped = end if end >= "\x80" else f"\\u{ord(end):04x}"
    path = tmp_path / "a.jsonl"
    path.write_text(f"{ROW % escaped}\n{ROW % 'b'}\r\n", encoding="utf-8", newline="")
    assert [row.text for row in read_examples(path)] == [f"a{end}", "ab"]


def test_damaged_archives_and_deep_nesting_are_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress("\n".join(ROW % i for i in range(500)).encode())
    path.write_bytes(whole[:40] + b"\xff" * 20 + whole[60:])
    with pytest.raises(ValueError, match=r"a\.jsonl\.gz.*(cannot be read|not valid)"):
        read_examples(path)
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"a\.json: .*nested too deeply"):
        read_examples(path)
