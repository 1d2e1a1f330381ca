"""A timeline as Chrome trace JSON, which ui.perfetto.dev opens: one track a resource, one slice a task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from archsim.report.atomic import replacing
from archsim.results import Timeline


def trace_events(timeline: Timeline) -> list[dict[str, Any]]:
    """Chrome trace events; times in microseconds, as the format wants them."""
    resources = list(dict.fromkeys(timeline.resource))
    track = {name: index + 1 for index, name in enumerate(resources)}
    events: list[dict[str, Any]] = [_label("process_name", 0, "archsim")]
    for name, number in track.items():
        events.append(_label("thread_name", number, name))
        events.append(_meta("thread_sort_index", number, {"sort_index": number}))
    columns = zip(
        timeline.name, timeline.resource, timeline.phase, timeline.layer, timeline.start_s, timeline.end_s, strict=True
    )
    for name, resource, phase, layer, start_s, end_s in columns:
        events.append(
            {
                "name": name, "cat": phase, "ph": "X", "pid": 1, "tid": track[resource],
                "ts": float(start_s) * 1e6, "dur": float(end_s - start_s) * 1e6,
                "args": {"phase": phase, "layer": int(layer)},
            }
        )  # fmt: skip
    return events


def _label(kind: str, track: int, name: str) -> dict[str, Any]:
    return _meta(kind, track, {"name": name})


def _meta(kind: str, track: int, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": 1, "tid": track, "args": arguments}


def write_perfetto(path: Path, timeline: Timeline) -> None:
    """Write the trace, whole or not at all."""
    with replacing(Path(path)) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        file.write(",\n".join(json.dumps(event, allow_nan=False) for event in trace_events(timeline)))
        file.write("\n]}\n")
