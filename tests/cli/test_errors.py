"""What commands say when they fail, and with which status they end."""

import errno
import io
import os
import shutil
import signal
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
from tiny import reference_checkpoint

import skgliclass
from skgliclass import GLiClassClassifier
from skgliclass.__main__ import main
from skgliclass.cli.folders import check_new_folder


class Panic(BaseException):
    """As the libraries written in Rust raise it."""


def recurse(n=0):
    return recurse(n + 1)


def raising(error):
    def run(args):
        raise error

    return run


def inside_package(line):
    """Give a command whose error arises in a file of the package."""
    names = {}
    code = compile(
        f"def run(args):\n    {line}\n", Path(skgliclass.__file__).parent / "x.py", "exec"
    )
    exec(code, names)
    return names["run"]


@pytest.fixture
def run_export(monkeypatch, capsys):
    """Run a command that does something else, and give its status and what it says."""

    def export(run, *options, before=()):
        monkeypatch.setattr("skgliclass.cli.export.run", run)
        status = main([*before, "export", "mini", "--output", "x", *options])
        captured = capsys.readouterr()
        assert captured.out == ""
        return status, captured.err

    return export


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (raising(KeyError("x")), "KeyError: 'x'"),
        (raising(RuntimeError("a\nb\n  c")), "RuntimeError: a b c"),
        (raising(RuntimeError()), "RuntimeError (--debug"),
        (raising(MemoryError()), "there is not enough memory"),
        (raising(Panic("rust")), "Panic: rust"),
        (raising(ValueError("of another package")), "ValueError: of another package"),
        (raising(TypeError("a\u2028b\x1b[2J")), "TypeError: a b\\x1b[2J"),
        (lambda args: recurse(), "RecursionError"),
        (inside_package("int('x')"), "ValueError: invalid literal"),
        (inside_package("len(3)"), "TypeError: object of type"),
        (inside_package("raise NotImplementedError"), "NotImplementedError"),
        (inside_package("import no_such_module"), "ModuleNotFoundError"),
    ],
)
def test_what_nobody_foresaw_ends_with_1_and_one_line(run_export, run, message):
    status, said = run_export(run)
    assert status == 1
    assert said.startswith("skgliclass: unexpected error: ")
    assert message in said
    assert said.endswith("(--debug shows where)\n")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (inside_package("raise ValueError('row 3 is\\n empty')"), "row 3 is empty"),
        (inside_package("raise TypeError('no text')"), "no text"),
        (inside_package("raise NotImplementedError('cannot be exported')"), "cannot be exported"),
        (raising(FileNotFoundError(2, "No such file", "a.csv")), "No such file: 'a.csv'"),
        (lambda args: GLiClassClassifier(labels=["a"]).predict([None]), "missing"),
        (lambda args: GLiClassClassifier(batch_size=0).fit(["a"], ["b"]), "'batch_size' parameter"),
        (lambda args: GLiClassClassifier().predict(["a"]), "not fitted yet"),
    ],
)
def test_what_the_user_can_mend_ends_with_2_and_one_line(run_export, run, message):
    status, said = run_export(run)
    assert status == 2
    assert said.startswith("skgliclass: ")
    assert message in said
    assert "unexpected" not in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("place", ["before", "behind"])
@pytest.mark.parametrize("line", ["int('x')", "raise ValueError('row 3')"])
def test_debug_shows_where(run_export, place, line):
    options = {"before": ["--debug"]} if place == "before" else {}
    behind = ["--debug"] if place == "behind" else []
    status, said = run_export(inside_package(line), *behind, **options)
    assert status == (1 if "int" in line else 2)
    assert "Traceback" in said
    assert "x.py" in said
    assert said.splitlines()[-1].startswith("skgliclass: ")


def test_a_closed_pipe_ends_in_silence(monkeypatch, capsys):
    monkeypatch.setattr("skgliclass.cli.export.run", raising(BrokenPipeError(32, "Broken pipe")))
    assert main(["export", "mini", "--output", "x"]) == 1
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_disk_behind_stdout_is_noticed(monkeypatch, capsys):
    monkeypatch.setattr("skgliclass.cli.export.run", lambda args: print("result"))
    with suppress(OSError), open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["export", "mini", "--output", "x"]) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_what_a_terminal_cannot_show_is_named(monkeypatch, capsys, tmp_path):
    reference_checkpoint(tmp_path / "model")
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    arguments = ["classify", "a", "--model", str(tmp_path / "model"), "--labels", "café", "tea"]
    assert main(arguments) == 1
    assert "PYTHONIOENCODING=utf-8" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_their_status(run_export, number, status):
    before = signal.getsignal(signal.SIGTERM)

    def run(args):
        os.kill(os.getpid(), number)

    assert run_export(run)[0] == status
    assert signal.getsignal(signal.SIGTERM) == before


def test_warnings_are_one_line(run_export):
    def run(args):
        skgliclass.exceptions.warn("one\n  two")

    with pytest.warns(UserWarning, match="one"):
        run(None)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run_export(run) == (0, "skgliclass: warning: one two\n")


# Where a result may go.


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("", "--output is empty"),
        ("file", "this is a file; give a folder"),
        ("file/folder", "there is no folder"),
        ("nowhere/folder", "there is no folder"),
        ("full", "the folder is not empty; give a new one"),
        ("model", "this is what is read; give a new folder"),
        ("model/../model", "this is what is read; give a new folder"),
        ("link", "this is a link to nothing"),
        ("n" * 300, "File name too long"),
    ],
)
@pytest.mark.parametrize("command", ["train", "export"])
def test_an_impossible_output_is_refused_before_any_work(
    tmp_path, monkeypatch, capsys, command, output, message
):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("a")
    Path("full").mkdir()
    Path("full/a").write_text("a")
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    Path("link").symlink_to("nothing")
    # Neither the data nor the model could be read: that would come later.
    arguments = {"train": ["train", "no.json", "--model"], "export": ["export"]}[command]
    assert main([*arguments, "model", "--output", output]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_folder_that_cannot_be_written_to_or_is_full_is_refused(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", refuse)
        with pytest.raises(Exception, match="cannot be written to: Read-only file system"):
            check_new_folder(str(tmp_path / "new"))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(Exception, match=r"MB are needed, and \d+ MB are free"):
        check_new_folder(str(tmp_path / "new"), n_bytes=2 * free)
    check_new_folder(str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
