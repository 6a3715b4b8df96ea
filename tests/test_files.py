"""Folders are replaced whole or not at all, whatever ends the process that writes them."""

import errno
import os
import sys
import threading
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from factorial import half_slow

from skgliclass import files
from skgliclass.files import checked_folder, readable_folder, replaced_folder

REPLACES = ("*.txt", "sub/*")
OLD = {"a.txt": "old", "b.txt": "old", "stale.txt": "old", "sub/c": "old", "sub/d": "old"}
NEW = {"a.txt": "new", "b.txt": "new", "fresh.txt": "new", "sub/c": "new"}


def write(folder, content):
    with replaced_folder(folder, REPLACES) as place:
        for name, text in content.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(text)


def read(folder):
    """Give what a reader of the folder finds, without what is not replaced."""
    found = readable_folder(folder)
    return {
        path.relative_to(found).as_posix(): path.read_text()
        for path in found.rglob("*")
        if path.is_file() and ".skgliclass" not in str(path.relative_to(found))
    }


def killed_at(n_lines, folder, content):
    """Write in a process that dies before the n-th line of the module; tell whether it did."""
    process = os.fork()
    if process == 0:
        left = count(n_lines, -1)

        def trace(frame, event, _):
            if frame.f_code.co_filename != files.__file__:
                return None
            if event == "line" and next(left) == 0:
                os._exit(9)
            return trace

        sys.settrace(trace)
        write(folder, content)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that can be stopped anywhere")
@half_slow(exists=[True, False])
@pytest.mark.parametrize("step", [60, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_line_the_old_or_the_new_is_read(tmp_path, exists, step):
    states, n_kills = [], 0
    for n_lines in range(0, 1000, step):
        folder = tmp_path / str(n_lines)
        if exists:
            write(folder, OLD)
        if not killed_at(n_lines, folder, NEW):
            break
        n_kills += 1
        states.append(read(folder) if folder.exists() else None)
        # And whoever saves next finds no obstacle and leaves nothing behind.
        write(folder, {"a.txt": "next"})
        assert read(folder) == {"a.txt": "next"}
        assert not list(tmp_path.rglob(".skgliclass*"))
    assert n_kills > 3
    old = OLD if exists else None
    switch = states.index(NEW)
    assert states == [old] * switch + [NEW] * (len(states) - switch)
    assert 0 < switch < len(states)


def test_other_files_stay_and_stale_ones_go(tmp_path):
    write(tmp_path, OLD)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("mine")
    (tmp_path / "notes.md").write_text("mine")
    write(tmp_path, NEW)
    assert read(tmp_path) == {**NEW, "notes.md": "mine", ".git/HEAD": "mine"}
    assert not list(tmp_path.rglob(".skgliclass*"))
    write(tmp_path, {"a.txt": "last"})
    assert not (tmp_path / "sub").exists()


def test_the_folder_itself_stays(tmp_path, monkeypatch):
    """As the current directory, a mount point or the target of a link has to."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    write(folder, OLD)
    inode = folder.stat().st_ino
    link.symlink_to(folder)
    write(link, NEW)
    assert link.is_symlink()
    monkeypatch.chdir(folder)
    write(".", {"a.txt": "last"})
    assert (folder.stat().st_ino, read(folder)) == (inode, {"a.txt": "last"})


def test_files_that_are_links_are_replaced_not_followed(tmp_path):
    blob = tmp_path / "blob"
    blob.write_text("of somebody else")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").symlink_to(blob)
    write(tmp_path / "folder", NEW)
    assert blob.read_text() == "of somebody else"
    assert read(tmp_path / "folder") == NEW


@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_modes_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with replaced_folder(tmp_path / "folder") as place:
            (place / "private").touch(0o600)
    finally:
        os.umask(before)
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o777 & ~mask
    assert (tmp_path / "folder" / "private").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("refused", ["fsync", "hardlink", "rename"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_full_disk_leaves_the_old(tmp_path, monkeypatch, refused, exists):
    folder = tmp_path / "above" / "folder"
    if exists:
        write(folder, OLD)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place, name = {"fsync": (os, "fsync"), "rename": (Path, "rename")}.get(refused, (None, None))
    if place is None:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
        place, name = files.shutil, "copy"
    monkeypatch.setattr(place, name, refuse)
    with pytest.raises(OSError, match=r"folder' could not be written: No space left.*was changed"):
        write(folder, NEW)
    monkeypatch.undo()
    assert (read(folder) if exists else sorted(tmp_path.iterdir())) == (OLD if exists else [])
    assert not list(tmp_path.rglob(".skgliclass*"))


def test_without_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    write(tmp_path / "folder", OLD)
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    write(tmp_path / "folder", NEW)
    assert read(tmp_path / "folder") == NEW


def test_errors_of_libraries_are_told_apart(tmp_path):
    def fail(message):
        with replaced_folder(tmp_path / "folder"):
            raise RuntimeError(message)

    with pytest.raises(OSError, match=r"folder' could not be written: I/O error.*os error 28"):
        fail("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="something else"):
        fail("something else")
    assert not list(tmp_path.iterdir())


def test_what_is_in_the_way_is_named(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"a.txt is in the way of a file of this name"):
        write(tmp_path, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_writers_at_a_time_leave_the_files_of_one(tmp_path):
    def work(i):
        write(tmp_path / "folder", dict.fromkeys(NEW, str(i)))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(read(tmp_path / "folder").values())) == 1
    assert not list(tmp_path.rglob(".skgliclass*"))


@pytest.mark.parametrize("name", ["", "  ", "a\0b"])
def test_no_name_is_refused(name):
    with pytest.raises(ValueError, match="give the name of a folder"):
        checked_folder(name)


@pytest.mark.parametrize("folder", [None, 3])
def test_what_is_no_path_is_refused(folder):
    with pytest.raises(TypeError, match=f"is {folder}; give its name or path"):
        checked_folder(folder)


def test_places_where_nothing_can_be_written_are_refused(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match=r"file' is a file, .*Give the name of a folder"):
        checked_folder(file)
    with pytest.raises(OSError, match=r"below' could not be written: Not a directory"):
        checked_folder(file / "below")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(FileExistsError, match="a link to nothing"):
        checked_folder(tmp_path / "link")
    assert file.read_text() == "mine"
    assert checked_folder(tmp_path / "new" / "folder") == tmp_path / "new" / "folder"
    assert not (tmp_path / "new").exists()


def test_the_home_of_the_user_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write("~/folder", NEW)
    assert read(tmp_path / "folder") == NEW


# Interruptions.


def interrupted_at(n_lines, work):
    """Do something until Ctrl-C comes before the n-th line of the module; tell whether it did."""
    left = count(n_lines, -1)

    def trace(frame, event, _):
        if frame.f_code.co_filename != files.__file__:
            return None
        if event == "line" and next(left) == 0:
            raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.skipif(sys.gettrace() is not None, reason="somebody else counts the lines")
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.slow)])
def test_interrupted_at_any_line_the_next_save_neither_waits_nor_finds_anything(
    tmp_path, exists, step
):
    n_interruptions = 0
    for n_lines in range(0, 1000, step):
        folder = tmp_path / str(n_lines) / "above" / "folder"
        folder.parent.parent.mkdir()
        if exists:
            write(folder, OLD)
        if not interrupted_at(n_lines, lambda folder=folder: write(folder, NEW)):
            break
        n_interruptions += 1
        old = OLD if exists else None
        assert (read(folder) if folder.exists() else None) in (old, NEW)
        # In the same process: a lock that was left would be waited for without end.
        write(folder, {"a.txt": "next"})
        assert read(folder) == {"a.txt": "next"}
        assert not list(folder.parent.parent.rglob(".skgliclass*"))
    assert n_interruptions > 3


# Folders that come from elsewhere.


def leave(folder, moves=(), replaced=""):
    """Leave in a folder what a killed save leaves."""
    for name in ("files", "moves"):
        (folder / ".skgliclass-finished" / name).mkdir(parents=True)
    for name in moves:
        path = folder / ".skgliclass-finished" / "moves" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("theirs")
    (folder / ".skgliclass-finished" / "replaced.txt").write_text(replaced)


@pytest.mark.parametrize(
    "pattern", ["../*", "../outside/*", "{}/outside/*", "**/*", "link/*", "", ".", "sub/../../o*/*"]
)
def test_nothing_outside_is_removed_for_a_folder_that_says_so(tmp_path, pattern):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for place in (outside, folder / "mine"):
        place.mkdir(parents=True)
        (place / "kept").write_text("mine")
    (tmp_path / "kept").write_text("mine")
    (folder / "link").symlink_to(outside)
    leave(folder, replaced=pattern.format(tmp_path))
    write(folder, NEW)
    assert len(list(tmp_path.rglob("kept"))) == 3
    assert (folder / "a.txt").read_text() == "new"
    assert not list(tmp_path.rglob(".skgliclass*"))


@pytest.mark.parametrize("whose", ["new files", "what was left"])
def test_nothing_is_written_through_a_link_within_a_folder(tmp_path, whose):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    outside.mkdir()
    folder.mkdir()
    (folder / "sub").symlink_to(outside)
    if whose == "what was left":
        leave(folder, moves=["sub/c"])
    with pytest.raises(FileExistsError, match="sub is in the way of a folder of this name"):
        write(folder, NEW if whose == "new files" else {"a.txt": "new"})
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("part", ["", "files", "moves", "replaced.txt"])
def test_links_among_what_was_left_are_neither_read_nor_followed(tmp_path, part):
    outside, folder = tmp_path / "outside", tmp_path / "folder"
    for name in ("files", "moves"):
        (outside / name).mkdir(parents=True)
        (outside / name / "a.txt").write_text("theirs")
    (outside / "replaced.txt").write_text("*")
    before = sorted(outside.rglob("*"))
    write(folder, OLD)
    left = folder / ".skgliclass-finished"
    if part:
        leave(folder)
        path = left / part
        path.rmdir() if path.is_dir() else path.unlink()
        path.symlink_to(outside / part)
    else:
        left.symlink_to(outside)
    assert readable_folder(folder) == folder
    write(folder, NEW)
    assert read(folder) == NEW
    assert sorted(outside.rglob("*")) == before
    assert not list(folder.rglob(".skgliclass*"))


@pytest.mark.parametrize("name", [".skgliclass-finished", ".skgliclass-unfinished-x"])
def test_a_file_in_the_place_of_what_is_left_goes(tmp_path, name):
    (tmp_path / name).write_text("x")
    write(tmp_path, NEW)
    assert read(tmp_path) == NEW
    assert not list(tmp_path.rglob(".skgliclass*"))


@pytest.fixture
def open_to_all():
    """A folder that other users may look into, as those of pytest are not."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs another user")
@pytest.mark.parametrize("mode", [0o555, 0o333, 0o000])
@pytest.mark.parametrize("where", ["folder", "above"])
def test_a_folder_without_rights_is_refused_and_as_it_was(open_to_all, mode, where):
    folder = open_to_all / "above" / "folder"
    write(folder, OLD)
    place, new = (folder, folder) if where == "folder" else (folder.parent, folder.parent / "new")
    reader, writer = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            if os.getuid() == 0:
                os.chown(place, 65534, 65534)
                os.setuid(65534)
            place.chmod(mode)
            write(new, NEW)
        except OSError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(process, 0)
    os.close(writer)
    with os.fdopen(reader) as said:
        assert "Permission denied" in said.read()
    place.chmod(0o755)
    assert read(folder) == OLD
    assert not new.exists() or new == folder
    assert not list(open_to_all.rglob(".skgliclass*"))


@pytest.mark.skipif(os.name == "nt", reason="there a working directory cannot be removed")
def test_a_working_directory_that_is_gone_is_told(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(OSError, match=r"'folder' could not be written: No such file"):
        write("folder", NEW)
    write(tmp_path / "folder", NEW)
    assert read(tmp_path / "folder") == NEW
