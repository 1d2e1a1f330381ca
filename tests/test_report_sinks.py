"""Terminal tables, comparison, Perfetto traces and HTML pages."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import sample_report
from rich.console import Console

from archsim.errors import InputError, UsageError
from archsim.report import json_text
from archsim.report.atomic import write_text
from archsim.report.comparison import Comparison, Entry, print_comparison
from archsim.report.hdf5 import write_hdf5
from archsim.report.html import write_html
from archsim.report.perfetto import write_perfetto
from archsim.report.reader import read_result
from archsim.report.terminal import print_report, shares


def printed(width: int, **changes: object) -> str:
    target = io.StringIO()
    print_report(sample_report(**changes), Console(file=target, width=width, highlight=False))
    return target.getvalue()


def test_report_names_every_result() -> None:
    text = printed(160)
    for part in ("750 ms", "5 ms", "1,600.0 tokens/s", "434 mJ", "1.863 GiB of 7.451 GiB", "$ 0.75", "32"):
        assert part in text
    for operator in sample_report().operators:
        assert operator.name in text
        assert operator.bound in text


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_lines_fit_the_terminal_and_operators_stay_whole(width: int) -> None:
    text = printed(width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "score" in text
    assert "memory" in text
    assert ("FLOP" in text) == (width >= 100)


def test_operator_shares_of_a_step_add_up() -> None:
    lines = [line for line in printed(160).splitlines() if line.strip().startswith("decode ") and "%" in line]
    found = [float(match) for line in lines for match in re.findall(r"([\d.]+)%", line)[:1] if " step " not in line]
    assert sum(found) == pytest.approx(100, abs=0.1)


def test_names_that_look_like_markup_are_printed_as_they_are() -> None:
    text = printed(160, system="[red]x[/red]", model="[/]")
    assert "[red]x[/red]" in text


def test_shares_group_the_small_parts() -> None:
    parts = {str(index): float(index) for index in range(1, 11)}
    assert shares(parts, most=3) == "10 18.2%, 9 16.4%, 8 14.5%, other 50.9%"


def test_comparison_ratios_refer_to_the_baseline() -> None:
    slow = replace(sample_report(), system="slow")
    fast = replace(slow, system="fast", throughput=replace(slow.throughput, decode_tokens_per_s=3200.0))
    comparison = Comparison("tiny-1b", (Entry("fast", fast), Entry("slow", slow), Entry("small", None, "too big")), 1)
    document = json.loads(json_text(comparison))
    assert document["baseline"] == "slow"
    assert document["systems"][0]["ratios"]["decode_tokens_per_s"] == 2.0
    assert set(document["systems"][1]["ratios"].values()) == {1.0}
    assert document["systems"][2]["ratios"] is None
    target = io.StringIO()
    print_comparison(comparison, Console(file=target, width=120))
    assert "x2" in target.getvalue()


def test_perfetto_trace_keeps_every_task(tmp_path: Path) -> None:
    timeline = sample_report().timeline
    assert timeline is not None
    write_perfetto(tmp_path / "trace.json", timeline)
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [(event["name"], tracks[event["tid"]]) for event in slices] == [("qkv", "gpu"), ("score", "pim")]
    for event, start_s, end_s in zip(slices, timeline.start_s, timeline.end_s, strict=True):
        assert event["ts"] == pytest.approx(start_s * 1e6)
        assert event["dur"] == pytest.approx((end_s - start_s) * 1e6)


def test_html_page_stands_alone(tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    write_hdf5(tmp_path / "r.h5", sample_report(system="<script>alert(1)</script>"))
    document, tables = read_result(tmp_path / "r.h5")
    write_html(tmp_path / "r.html", document, tables)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "<script>alert" not in page
    assert "Timeline" in page
    assert "usd_per_million_tokens" in page


def test_html_needs_the_plot_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "plotly.graph_objects", None)
    with pytest.raises(UsageError, match=r"pip install 'archsim\[plot\]'"):
        write_html(tmp_path / "r.html", {})


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"schema": "other/1"}', "\x00\xff", "[" * 100_000])
def test_results_of_others_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"neither HDF5 nor JSON|no result of archsim"):
        read_result(tmp_path / "r.json")


def test_text_files_replace_as_a_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "first")
    write_text(tmp_path / "a.txt", "second")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "second"
    with pytest.raises(UsageError):
        write_text(tmp_path, "a folder")
