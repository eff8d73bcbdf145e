# SPDX-License-Identifier: Apache-2.0
"""Output directories: written beside their place and moved there whole, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bnncc.diagnostics import BnnccError
from bnncc.execution.artifact import GENERATOR, MANIFEST


def check_output(directory: Path) -> None:
    """Raise a BnnccError where `directory` could not be written or is not ours to replace; so a mistake
    shows before a long compilation, not after it."""
    directory = directory.absolute()
    if directory.is_dir():
        if any(directory.iterdir()) and not _is_artifact(directory):
            raise BnnccError(
                str(directory),
                "the output directory holds other files",
                "choose an empty or a new directory; only what bnncc wrote itself is replaced",
            )
    elif directory.exists() or directory.is_symlink():
        raise BnnccError(str(directory), "the output directory is a file", "choose a directory with -o")
    ancestor = next(path for path in directory.parents if path.exists() or path.is_symlink())
    if not ancestor.is_dir():
        raise BnnccError(str(directory), f"the output directory cannot be made: {ancestor} is a file")
    if not os.access(ancestor, os.W_OK | os.X_OK):
        raise BnnccError(
            str(directory), f"the output directory cannot be written: no permission in {ancestor}"
        )


@contextmanager
def replacing(directory: Path) -> Iterator[Path]:
    """A new empty directory to write into, which takes the place of `directory` at the end of the block.

    If the block raises, everything is as it was before. An artifact that was there is replaced; files in it
    that its manifest does not list (a user's) stay."""
    check_output(directory)
    directory = directory.resolve()
    made: list[Path] = []
    try:
        made = _make_parents(directory.parent)
        fresh = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    except OSError as error:
        _remove_parents(made)
        raise _unwritable(directory, error) from error
    try:
        yield fresh
        fresh.chmod(_usual_mode(fresh))
        _move(fresh, directory)
    except BaseException as error:
        shutil.rmtree(fresh, ignore_errors=True)
        _remove_parents(made)
        if isinstance(error, OSError):
            raise _unwritable(directory, error) from error
        raise


def _move(fresh: Path, directory: Path) -> None:
    if not directory.exists() or not any(directory.iterdir()):
        fresh.rename(directory)
        return
    ours = _listed(directory)
    _check_kept(directory, fresh, ours)
    old = Path(tempfile.mkdtemp(prefix=f".{directory.name}.old.", dir=directory.parent))
    try:
        directory.rename(old)
        fresh.rename(directory)
    except BaseException:
        if directory.exists():
            old.rmdir()
        else:
            old.rename(directory)
        raise
    _keep(old, directory, ours)
    shutil.rmtree(old, ignore_errors=True)


def _check_kept(directory: Path, fresh: Path, ours: frozenset[str]) -> None:
    """Raise a BnnccError where a file of the user's has the name of a new one."""
    for path in sorted(fresh.rglob("*")):
        name = path.relative_to(fresh).as_posix()
        there = directory / name
        if name not in ours and there.exists() and not (path.is_dir() and there.is_dir()):
            raise BnnccError(
                str(there),
                "this file is not bnncc's, and would be overwritten",
                "move it, or choose another directory with -o",
            )


def _keep(old: Path, new: Path, ours: frozenset[str], inside: str = "") -> None:
    """Move what is not `ours` (paths below the artifact, of which `old` is the folder `inside`) to `new`."""
    for path in old.iterdir():
        name = f"{inside}{path.name}"
        if any(file.startswith(f"{name}/") for file in ours):
            _keep(path, new / path.name, ours, f"{name}/")
        elif name not in ours and not (new / path.name).exists():
            new.mkdir(parents=True, exist_ok=True)
            path.rename(new / path.name)


def _is_artifact(directory: Path) -> bool:
    return bool(_listed(directory))


def _listed(directory: Path) -> frozenset[str]:
    """The paths of the files that the manifest there lists, with the manifest; none if it is not bnncc's."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest["generator"] == GENERATOR:
            return frozenset((*manifest["files"], MANIFEST))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return frozenset()


def _make_parents(directory: Path) -> list[Path]:
    """Make missing directories; those that were made, innermost first."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.insert(0, path)
    except OSError:
        _remove_parents(made)
        raise
    return made


def _remove_parents(made: list[Path]) -> None:
    for path in made:
        try:
            path.rmdir()
        except OSError:
            return


def _unwritable(directory: Path, error: OSError) -> BnnccError:
    return BnnccError(str(directory), f"the output directory cannot be written: {error.strerror or error}")


def _usual_mode(private: Path) -> int:
    """What mkdir gives a directory there: the umask can only be read by setting it, for all threads."""
    usual = private / "usual"
    usual.mkdir()
    mode = stat.S_IMODE(usual.stat().st_mode)
    usual.rmdir()
    return mode
