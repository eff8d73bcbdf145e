# SPDX-License-Identifier: Apache-2.0
"""What tuning found, as a table and as a page that draws the search."""

from __future__ import annotations

import itertools
from html import escape

from bnncc.report.html import page
from bnncc.report.table import table
from bnncc.tuning.tuner import LayerResult, Tuning

WIDTH, HEIGHT = 640, 150
LEFT, BOTTOM = 50, 24
"""Of a drawing, and its margins for labels, in pixels."""

SLOWEST = 3.0
"""Trials that take more of the default's time are drawn at the upper edge."""


def render(tuning: Tuning) -> str:
    """The table that `bnncc tune` prints."""
    head = (
        f"{tuning.target} on {tuning.device}: {tuning.trials} new trials in {tuning.seconds:.0f} s; "
        f"{_unit(tuning.unit)} of a call\n"
    )
    rows = [
        (
            _nodes(layer),
            layer.operation,
            _score(layer.default, tuning.unit) if layer.scores else "not measured",
            _score(layer.best, tuning.unit) if layer.scores else "",
            f"{layer.gain:.2f}",
            str(len(layer.scores)),
            str(sum(score is None for score in layer.scores) or ""),
            _tile(layer),
        )
        for layer in tuning.layers
    ]
    problems = [
        f"{_nodes(layer)} was not measured: {layer.problem}\n" for layer in tuning.layers if layer.problem
    ]
    header = ("layer", "operation", "default", "best", "faster", "trials", "failed", "tile")
    if not rows:
        return head + _forms(tuning) + "no layer has anything to choose\n"
    tail = f"\n{tuning.check}\n" if tuning.check else ""
    tiles = table(header, rows, right=(2, 3, 4, 5, 6))
    return "".join([head, _forms(tuning), f"\n{tiles}\n", *problems, tail])


def _forms(tuning: Tuning) -> str:
    """A table of the contractions of spikes; "" where there are none."""
    if not tuning.forms:
        return ""
    rows = [
        (
            form.node.rpartition(":")[2],
            f"{form.density:.3f}",
            *(f"{ratio:.2f}" for _, ratio in form.ratios),
            "" if form.bits is None else f"{form.bits:.3f}",
            form.default,
            form.taken,
        )
        for form in tuning.forms
    ]
    measured = [f"at {share:.1%}" for share, _ in tuning.forms[0].ratios]
    header = ("layer of spikes", "bits set", *measured, "even at", "default", "taken")
    right = tuple(range(1, 3 + len(measured)))
    return f"\nevents, of the {_cost(tuning.unit)} of products\n{table(header, rows, right=right)}\n"


def _cost(unit: str) -> str:
    return "time" if unit == "s" else unit


def report_page(tuning: Tuning) -> str:
    """One drawing for each layer: every trial in order, the best so far, the default."""
    title = f"Tuning for {tuning.target}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>On {escape(tuning.device)}: {tuning.trials} new trials in {tuning.seconds:.0f} s.</p>",
        "<p>A dot is a trial; its height is its share of the default's time, which is the grey line. The",
        "green line is the best so far.</p>",
        f"<p>{escape(tuning.check)}</p>",
        *([f"<pre>{escape(_forms(tuning))}</pre>"] if tuning.forms else []),
    ]
    for layer in tuning.layers:
        found = f"the default, {_score(layer.default, tuning.unit)}, is the best"
        if layer.parameters:
            found = (
                f"{_score(layer.default, tuning.unit)} by default, {_score(layer.best, tuning.unit)} with "
                f"{_tile(layer)}"
            )
        parts += [
            f"<h2>{escape(_nodes(layer))}</h2>",
            f"<p>{escape(layer.operation)}: {escape(found)} ({_unit(tuning.unit)}).</p>",
            _drawing(layer),
        ]
    return page(title, parts)


def _drawing(layer: LayerResult) -> str:
    if not layer.scores:
        return f"<p>{escape(layer.problem) or 'There was no time to measure it.'}</p>"
    if not layer.default:
        return "<p>The default failed.</p>"
    shares = [None if score is None else score / layer.default for score in layer.scores]
    highest = min(SLOWEST, max([1.2, *(share for share in shares if share)]))
    step = (WIDTH - LEFT) / max(1, len(shares))

    def place(index: int, share: float) -> tuple[float, float]:
        y = (HEIGHT - BOTTOM) * (1 - min(share, highest) / highest)
        return LEFT + (index + 0.5) * step, y + 6

    best = list(itertools.accumulate((share or float("inf") for share in shares), min))
    line = " ".join("{:.1f},{:.1f}".format(*place(i, share)) for i, share in enumerate(best))
    dots = [
        '<circle class="dot" cx="{:.1f}" cy="{:.1f}" r="3"><title>{:.3f}</title></circle>'.format(
            *place(i, share), share
        )
        for i, share in enumerate(shares)
        if share is not None
    ]
    failed = [
        '<text x="{:.1f}" y="{:.1f}">x</text>'.format(*place(i, 0.0))
        for i, share in enumerate(shares)
        if share is None
    ]
    _, default = place(0, 1.0)
    return "\n".join(
        [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img">',
            f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{default:.1f}" y2="{default:.1f}"/>',
            f'<text x="0" y="{default + 4:.1f}">default</text>',
            f'<polyline points="{line}" fill="none" stroke="#0a6b3d"/>',
            *dots,
            *failed,
            f'<text x="{LEFT}" y="{HEIGHT - 2}">{len(shares)} trials</text>',
            "</svg>",
        ]
    )


def _nodes(layer: LayerResult) -> str:
    first = layer.nodes[0].rpartition(":")[2]
    return first + (f" and {len(layer.nodes) - 1} more" if len(layer.nodes) > 1 else "")


def _tile(layer: LayerResult) -> str:
    if not layer.parameters:
        return "the default"
    return ", ".join(f"{name} {value}" for name, value in layer.parameters.items())


def _unit(unit: str) -> str:
    return {"s": "microseconds", "instructions": "instructions, not cycles,"}.get(unit, unit)


def _score(score: float | None, unit: str) -> str:
    if score is None:
        return "failed"
    return f"{score * 1e6:.3f}" if unit == "s" else f"{score:,.0f}"
