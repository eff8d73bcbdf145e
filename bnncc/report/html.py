# SPDX-License-Identifier: Apache-2.0
"""report.html: the report as one page that needs no other file: tables, the arena over time, and after a
measurement the roofline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 860, 320
LETTER = 7
LEFT, BOTTOM = 70, 40
"""Of a drawing, of a letter, and the margins where axes are labelled, in pixels."""


@dataclass(frozen=True)
class Measured:
    """unit: "instructions" or "us". values: of each layer of the report, in order."""

    unit: str
    where: str
    values: Sequence[float]


def report_html(facts: Mapping[str, Any], measured: Measured | None = None) -> str:
    """The page for what `report_facts` gives."""
    title = f"{facts['name']} for {facts['target']}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Compiled from {escape(facts['source'])} by bnncc {escape(facts['version'])}.</p>",
        _sizes(facts),
        "<h2>Layers</h2>",
        _layers(facts, measured),
        "<h2>The arena over time</h2>",
        "<p>Each bar is a value from the step that writes it to the last that reads it.</p>",
        _arena(facts),
    ]
    if measured is not None:
        parts += [f"<h2>Roofline</h2><p>{escape(measured.where)}.</p>", _roofline(facts, measured)]
    return page(title, parts)


def page(title: str, parts: Sequence[str]) -> str:
    """A page of HTML that needs no other file."""
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; }
body { margin: 2em auto; max-width: 75em; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid #d8dee6; }
th, td { padding: 0.25em 0.9em 0.25em 0; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr.bits td.domains { color: #0a6b3d; font-weight: 600; } tr.real td.domains { color: #9a4a00; }
svg { max-width: 100%; height: auto; } svg text { font: 11px system-ui, sans-serif; fill: #44505e; }
svg text.name { fill: white; pointer-events: none; }
.bar { fill: #5b8db8; stroke: white; } .bar:hover { fill: #2f6390; }
.axis, .roof { stroke: #9aa5b1; } .dot { fill: #0a6b3d; } .dot.real { fill: #c26a1a; }
"""


def _sizes(facts: Mapping[str, Any]) -> str:
    ram, flash = facts["ram"], facts["flash"]
    rows = [
        ("weights, constant", flash["weights_bytes"]),
        ("code", flash["code_bytes"]),
        (f"arena (no plan needs less than {ram['arena_lower_bound_bytes']:,})", ram["arena_bytes"]),
        *([("state", ram["state_bytes"])] if "state_bytes" in ram else []),
        ("inputs", ram["inputs_bytes"]),
        ("outputs", ram["outputs_bytes"]),
        ("stack, at most", ram["stack_bytes"]),
    ]
    cells = "".join(
        f'<tr><td>{escape(name)}</td><td class="number">{size:,} bytes</td></tr>'
        for name, size in rows
        if size is not None
    )
    return f"<table>{cells}</table>"


def _layers(facts: Mapping[str, Any], measured: Measured | None) -> str:
    summing = [layer for layer in facts["layers"] if "synaptic_operations" in layer]
    words = ["node", "operation", "domains"]
    numbers = ["MACs", *(["SynOps"] if summing else []), "weights", "arena in use"]
    numbers += [measured.unit] if measured else []
    head = "".join(
        f"<th{' class=number' if name in numbers else ''}>{escape(name)}</th>"
        for name in [*words, *numbers, "kernel, remark"]
    )
    rows = "\n".join(
        _layer(layer, bool(summing), measured.values[i] if measured else None)
        for i, layer in enumerate(facts["layers"])
    )
    return f'<div class="wide"><table>\n<tr>{head}</tr>\n{rows}\n</table></div>{_synaptic(summing)}'


def _synaptic(layers: Sequence[Mapping[str, Any]]) -> str:
    """Synaptic operations against the multiply-accumulates of the same layers."""
    if not layers:
        return ""
    found = sum(layer["synaptic_operations"] for layer in layers)
    dense = sum(layer["macs"] for layer in layers)
    measured = sum(layer["density"]["measured"] for layer in layers)
    return (
        f"<p>{found:,} synaptic operations for {dense:,} MACs of spikes ({found / max(1, dense):.1%}); "
        f"spikes of {measured} of {len(layers)} layers counted on samples, the others assumed.</p>"
    )


def _layer(layer: Mapping[str, Any], sums_spikes: bool, value: float | None) -> str:
    """sums_spikes: whether any layer does."""
    additions = [layer.get("synaptic_operations")] if sums_spikes else []
    numbers = [layer["macs"], *additions, layer["weights_bytes"], layer["ram_bytes"]]
    cells = [f'<td class="number">{number:,}</td>' if number else "<td></td>" for number in numbers]
    cells += [] if value is None else [f'<td class="number">{value:,.{1 if value < 100 else 0}f}</td>']
    remark = "; ".join(text for text in (layer["description"], layer["note"]) if text)
    return (
        f'<tr class="{_kind(layer)}"><td>{escape(layer["location"] or layer["name"])}</td>'
        f'<td>{escape(layer["operation"])}</td><td class="domains">{escape(layer["domains"])}</td>'
        f"{''.join(cells)}<td>{escape(remark)}</td></tr>"
    )


def _kind(layer: Mapping[str, Any]) -> str:
    if not layer["domains"]:
        return "other"
    return "real" if "f32" in layer["domains"] else "bits"


def _arena(facts: Mapping[str, Any]) -> str:
    """Time (the steps) to the right, offsets upwards."""
    steps, size = max(1, len(facts["layers"])), max(1, facts["ram"]["arena_bytes"])
    x_scale, y_scale = (WIDTH - LEFT) / steps, (HEIGHT - BOTTOM) / size
    bars = []
    for value in facts["memory"]:
        x, width = LEFT + value["first"] * x_scale, (value["last"] - value["first"] + 1) * x_scale
        height = max(1.0, value["bytes"] * y_scale)
        y = HEIGHT - BOTTOM - value["offset"] * y_scale - height
        what = (
            f"{value['name']}: {value['bytes']:,} bytes at {value['offset']:,}, "
            f"steps {value['first']} to {value['last']}"
        )
        bars.append(
            f'<rect class="bar" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}">'
            f"<title>{escape(what)}</title></rect>"
        )
        if height > 14 and width > LETTER * len(value["name"]):
            name = escape(value["name"])
            bars.append(f'<text class="name" x="{x + 6:.1f}" y="{y + 13:.1f}">{name}</text>')
    labels = [
        f'<text x="{LEFT - 6}" y="12" text-anchor="end">{size:,} B</text>',
        f'<text x="{LEFT - 6}" y="{HEIGHT - BOTTOM}" text-anchor="end">0</text>',
        f'<text x="{LEFT}" y="{HEIGHT - BOTTOM + 16}">step 0</text>',
        f'<text x="{WIDTH}" y="{HEIGHT - BOTTOM + 16}" text-anchor="end">step {steps - 1}</text>',
    ]
    return _drawing([*bars, *labels])


def _roofline(facts: Mapping[str, Any], measured: Measured) -> str:
    """Multiply-accumulates a unit of cost over multiply-accumulates a byte moved, both logarithmic. The roof
    is that of the best layer: no other limit of the core is known here."""
    points = [
        (layer["macs"] / max(1, layer["moved_bytes"]), layer["macs"] / value, layer)
        for layer, value in zip(facts["layers"], measured.values, strict=True)
        if layer["macs"] and value > 0
    ]
    if not points:
        return "<p>No layer multiplies.</p>"
    x_place = _logarithmic([x for x, _, _ in points], LEFT, WIDTH - 20)
    y_place = _logarithmic([y for _, y, _ in points], HEIGHT - BOTTOM, 20)
    best = max(y for _, y, _ in points)
    roof, floor = y_place(best), HEIGHT - BOTTOM
    marks = [f'<line class="roof" x1="{LEFT}" x2="{WIDTH}" y1="{roof:.1f}" y2="{roof:.1f}"/>']
    for x, y, layer in points:
        node = layer["location"] or layer["name"]
        what = f"{node}: {x:.3g} MACs a byte, {y:.3g} MACs / {measured.unit}"
        marks.append(
            f'<circle class="dot {_kind(layer)}" cx="{x_place(x):.1f}" cy="{y_place(y):.1f}" r="5">'
            f"<title>{escape(what)}</title></circle>"
        )
    marks += [
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{floor}" y2="{floor}"/>',
        f'<text x="{WIDTH}" y="{HEIGHT - 8}" text-anchor="end">MACs a byte moved</text>',
        f'<text x="{LEFT}" y="{max(12.0, roof - 6):.1f}">{best:.3g} MACs / {escape(measured.unit)}</text>',
    ]
    return _drawing(marks)


def _logarithmic(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    """A function from a value to its place between two pixels, the values' range with some room around."""
    low, high = math.log10(min(values)) - 0.2, math.log10(max(values)) + 0.2
    return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start)


def _drawing(marks: Sequence[str]) -> str:
    inside = "\n".join(marks)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">\n{inside}\n</svg>'
    )
