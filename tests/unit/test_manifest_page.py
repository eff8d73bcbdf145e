# SPDX-License-Identifier: Apache-2.0
"""docs/manifest.md tells of every key."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from bnncc.codegen import manifest, stateful
from bnncc.execution import artifact
from bnncc.plan.program import TimeLoop

PAGE = Path(__file__).parents[2] / "docs" / "manifest.md"


def keys() -> set[str]:
    """All that the code writes: keys of dictionaries, assigned ones, and the fields of loops."""
    found = set(TimeLoop.__dataclass_fields__)
    for source in (inspect.getsource(manifest), inspect.getsource(stateful.ring_facts)):
        for node in ast.walk(ast.parse(source)):
            parts = node.keys if isinstance(node, ast.Dict) else []
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
                parts = [node.targets[0].slice]
            found |= {str(key.value) for key in parts if isinstance(key, ast.Constant)}
    return found


def test_every_key_is_on_the_page():
    written = set(re.findall(r"`(\w+)`", PAGE.read_text()))
    assert len(keys()) > 50 and keys() - written == set()


def test_it_is_of_this_format():
    assert f"`format` is {artifact.FORMAT}." in PAGE.read_text()
