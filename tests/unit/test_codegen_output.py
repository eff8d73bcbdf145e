# SPDX-License-Identifier: Apache-2.0
"""Output directories are replaced whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from bnncc.codegen.output import check_output, replacing
from bnncc.diagnostics import BnnccError

MANIFEST = '{"generator": "bnncc", "files": {"libnet.a": {}}}'


def write_artifact(directory: Path, content: str) -> None:
    with replacing(directory) as folder:
        (folder / "libnet.a").write_text(content)
        (folder / "manifest.json").write_text(MANIFEST)


def test_new_with_parents(tmp_path: Path):
    directory = tmp_path / "a" / "b" / "out"
    write_artifact(directory, "one")
    assert (directory / "libnet.a").read_text() == "one"
    assert sorted(path.name for path in directory.parent.iterdir()) == ["out"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_the_mode_is_the_usual_one(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        write_artifact(tmp_path / "out", "one")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["libnet.a", "manifest.json"]


def test_the_umask_of_other_threads_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("umask is the whole process's"))
    write_artifact(tmp_path / "out", "one")


def test_an_empty_directory_is_taken(tmp_path: Path):
    (tmp_path / "out").mkdir()
    write_artifact(tmp_path / "out", "one")
    assert (tmp_path / "out" / "libnet.a").exists()


def test_an_artifact_is_replaced_and_the_users_files_stay(tmp_path: Path):
    write_artifact(tmp_path / "out", "one")
    (tmp_path / "out" / "main.c").write_text("mine")
    (tmp_path / "out" / "build").mkdir()
    write_artifact(tmp_path / "out", "two")
    assert (tmp_path / "out" / "libnet.a").read_text() == "two"
    assert (tmp_path / "out" / "main.c").read_text() == "mine"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "build",
        "libnet.a",
        "main.c",
        "manifest.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_users_file_is_not_overwritten(tmp_path: Path):
    write_artifact(tmp_path / "out", "one")
    (tmp_path / "out" / "net.c").write_text("mine")
    refused = pytest.raises(BnnccError, match=r"net.c: this file is not bnncc's")
    with refused, replacing(tmp_path / "out") as folder:
        (folder / "net.c").write_text("ours")
    assert (tmp_path / "out" / "net.c").read_text() == "mine"
    assert (tmp_path / "out" / "libnet.a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [1, 2])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch):
    """Before and between the two renamings."""
    write_artifact(tmp_path / "out", "one")
    rename, calls = Path.rename, iter(range(1, 9))

    def interrupted(path: Path, target: Path) -> Path:
        if next(calls) == number:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_artifact(tmp_path / "out", "two")
    assert (tmp_path / "out" / "libnet.a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_artifact(tmp_path / "link", "one")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "libnet.a").exists()


def test_failure_leaves_what_was_there(tmp_path: Path):
    write_artifact(tmp_path / "out", "one")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "out") as folder:
        (folder / "libnet.a").write_text("two")
        raise KeyboardInterrupt
    assert (tmp_path / "out" / "libnet.a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_failure_leaves_no_new_directories(tmp_path: Path):
    with pytest.raises(ValueError, match="no"), replacing(tmp_path / "a" / "b" / "out"):
        raise ValueError("no")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [None, "{}", "not json", '{"generator": "another", "files": {}}', "[]"])
def test_other_directories_are_refused(tmp_path: Path, content: str | None):
    (tmp_path / "notes.txt").write_text("mine")
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BnnccError, match="holds other files"):
        write_artifact(tmp_path, "one")
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BnnccError, match="is a file"):
        check_output(tmp_path / "file")
    with pytest.raises(BnnccError, match="cannot be made"):
        check_output(tmp_path / "file" / "out")
    assert (tmp_path / "file").read_text() == "mine"


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(BnnccError, match="no permission"):
        check_output(tmp_path / "out")


def test_an_error_of_the_file_system_is_explained(tmp_path: Path):
    with pytest.raises(BnnccError, match="cannot be written: No space left"), replacing(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())
