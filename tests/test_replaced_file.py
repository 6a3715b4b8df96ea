import errno
import os
import stat

import pytest

from skgliclass.files import replacing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_has_its_name_once_it_is_whole(tmp_path):
    with replacing(tmp_path / "a.csv") as path:
        path.write_text("new")
        (partial,) = names(tmp_path)
        assert partial.startswith(".a.csv.")
        assert partial.endswith(".partial")
    assert (tmp_path / "a.csv").read_text() == "new"
    assert names(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_what_fails_leaves_what_was_there(tmp_path, error):
    (tmp_path / "a.csv").write_text("old")

    def write():
        with replacing(tmp_path / "a.csv") as path:
            path.write_text("new")
            raise error

    with pytest.raises(error):
        write()
    assert (tmp_path / "a.csv").read_text() == "old"
    assert names(tmp_path) == ["a.csv"]


def test_the_mode_is_the_old_one_or_the_umask_s(tmp_path):
    (tmp_path / "old").touch()
    (tmp_path / "old").chmod(0o640)
    before = os.umask(0o027)
    try:
        for name in ("old", "new"):
            with replacing(tmp_path / name) as path:
                path.write_text("x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("old", "new")]
    assert modes == [0o640, 0o640]


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_a_link(tmp_path, exists):
    (tmp_path / "folder").mkdir()
    if exists:
        (tmp_path / "folder" / "real").write_text("old")
    (tmp_path / "link").symlink_to("folder/real")
    with replacing(tmp_path / "link") as path:
        path.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "folder") == ["real"]
    assert (tmp_path / "folder" / "real").read_text() == "new"


def test_a_device_is_written_to(tmp_path):
    (tmp_path / "null.csv").symlink_to(os.devnull)
    with replacing(tmp_path / "null.csv") as path:
        path.write_text("x")
    assert not os.path.isfile(os.devnull)


def test_long_names(tmp_path):
    for name in ("a" * 255, "é" * 127):
        with replacing(tmp_path / name) as path:
            path.write_text("x")
        assert (tmp_path / name).read_text() == "x"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_name(tmp_path, number):
    (tmp_path / "a.csv").write_text("old")
    with (
        pytest.raises(OSError, match=r"a\.csv") as caught,
        replacing(tmp_path / "a.csv"),
    ):
        raise OSError(number, os.strerror(number))
    assert caught.value.errno == number
    assert (tmp_path / "a.csv").read_text() == "old"
    assert names(tmp_path) == ["a.csv"]
