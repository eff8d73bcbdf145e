# SPDX-License-Identifier: Apache-2.0
"""What was decided and what it costs, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bnncc.plan.program import Program
from bnncc.report.facts import report_facts
from bnncc.report.html import report_html
from bnncc.report.text import report_text


def reports(program: Program, manifest: Mapping[str, Any]) -> dict[str, str]:
    """The reports of a program that was written with this manifest, by file name."""
    facts = report_facts(program, manifest)
    return {
        "report.txt": report_text(program, manifest),
        "report.json": json.dumps(facts, indent=2, ensure_ascii=False) + "\n",
        "report.html": report_html(facts),
    }
