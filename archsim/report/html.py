"""A result as one self-contained HTML page with plots (plotly, from the `plot` extra)."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archsim.errors import UsageError
from archsim.report.atomic import write_text
from archsim.report.hdf5 import flatten, unit_of

_STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; font-size: 0.9rem; }
td, th { padding: 0.2rem 0.8rem; border-bottom: 1px solid #ddd; }
th { text-align: left; } td.number { text-align: right; font-variant-numeric: tabular-nums; } h2 { margin-top: 2rem; }
"""
_MAX_TASKS = 20_000  # slices of the timeline plot; browsers struggle beyond


def write_html(path: Path, document: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Write the page for a result document (as `--json` prints it) and further tables such as `timeline`.

    Raises UsageError if plotly is not installed.
    """
    try:
        import plotly.graph_objects as plotly
    except ImportError:
        raise UsageError("HTML reports need plotly: pip install 'archsim[plot]'") from None
    write_text(Path(path), _page(document, _figures(document, tables or {}, plotly)))


def _page(document: Mapping[str, Any], figures: Sequence[tuple[str, Any]]) -> str:
    title = html.escape(f"{document.get('model', document.get('workload', ''))} on {document.get('system', 'archsim')}")
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title><style>{_STYLE}</style>"]
    parts.append(f"<h1>{title}</h1>")
    for index, (caption, figure) in enumerate(figures):
        parts.append(f"<h2>{html.escape(caption)}</h2>")
        parts.append(figure.to_html(full_html=False, include_plotlyjs=index == 0, div_id=f"figure-{index}"))
    operators = document.get("operators")
    if operators:
        parts.append("<h2>Operators</h2>" + _table([dict(row) for row in operators]))
    summary = {key: value for key, value in document.items() if key != "operators"}
    rows = [{"quantity": key, "value": value, "unit": unit_of(key)} for key, value in flatten(summary).items()]
    parts.append("<h2>All numbers</h2>" + _table(rows))
    return "\n".join([*parts, "</html>\n"])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{html.escape(str(key))}</th>" for key in rows[0]) if rows else ""
    body = ["<tr>" + "".join(_cell(value) for value in row.values()) + "</tr>" for row in rows]
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"<td class='number'>{value:.6g}</td>"
    return f"<td>{html.escape(str(value))}</td>"


def _figures(
    document: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], plotly: Any
) -> list[tuple[str, Any]]:
    figures: list[tuple[str, Any]] = []
    if document.get("operators"):
        figures.append(("Time by operator", _operator_bars(document["operators"], "seconds", "s", plotly)))
        figures.append(("Energy by operator", _operator_bars(document["operators"], "joules", "J", plotly)))
    for caption, keys in (
        ("Where the decode time goes", ("latency", "breakdown", "decode")),
        ("Where the energy of a decode step goes", ("energy", "breakdown")),
        ("Where the dollars per million tokens go", ("cost", "breakdown")),
    ):
        parts: Any = document
        for key in keys:
            parts = parts.get(key, {}) if isinstance(parts, Mapping) else {}
        if isinstance(parts, Mapping) and parts:
            figures.append((caption, _bars(parts, unit_of(".".join(keys) + ".x"), plotly)))
    timeline = tables.get("timeline")
    if timeline and len(timeline["name"]):
        figures.append(("Timeline", _gantt(timeline, plotly)))
    return figures


def _bars(parts: Mapping[str, float], unit: str, plotly: Any) -> Any:
    names = [html.escape(str(name)) for name in parts]
    figure = plotly.Figure(plotly.Bar(x=list(parts.values()), y=names, orientation="h"))
    return figure.update_layout(xaxis_title=unit, height=120 + 28 * len(names), template="plotly_white")


def _operator_bars(operators: Sequence[Mapping[str, Any]], column: str, unit: str, plotly: Any) -> Any:
    figure = plotly.Figure()
    for name in dict.fromkeys(str(row["unit"]) for row in operators):
        rows = [row for row in operators if row["unit"] == name]
        labels = [html.escape(f"{row['phase']}: {row['name']}") for row in rows]
        values = [row[column] for row in rows]
        hover = [html.escape(f"bound by {row['bound']}") for row in rows]
        figure.add_bar(x=values, y=labels, orientation="h", name=html.escape(name), hovertext=hover)
    layout = {"barmode": "stack", "xaxis_title": unit, "height": 160 + 24 * len(operators), "template": "plotly_white"}
    return figure.update_layout(**layout, yaxis={"autorange": "reversed"})


def _gantt(timeline: Mapping[str, Any], plotly: Any) -> Any:
    """Tasks as bars on one line a resource; only the first _MAX_TASKS by start."""
    count = min(len(timeline["name"]), _MAX_TASKS)
    order = sorted(range(len(timeline["name"])), key=lambda task: float(timeline["start_s"][task]))[:count]
    figure = plotly.Figure()
    for phase in dict.fromkeys(str(timeline["phase"][task]) for task in order):
        chosen = [task for task in order if timeline["phase"][task] == phase]
        figure.add_bar(
            base=[float(timeline["start_s"][task]) for task in chosen],
            x=[float(timeline["end_s"][task] - timeline["start_s"][task]) for task in chosen],
            y=[html.escape(str(timeline["resource"][task])) for task in chosen],
            hovertext=[html.escape(str(timeline["name"][task])) for task in chosen],
            orientation="h", name=html.escape(phase),
        )  # fmt: skip
    return figure.update_layout(barmode="overlay", xaxis_title="s", template="plotly_white")
