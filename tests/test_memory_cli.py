"""`archsim memory`: results as JSON and HDF5, and one clear line for every bad input."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from archsim.cli.main import run

GEMV = ("--pattern", "gemv", "--param", "N=2000", "--param", "S=16", "--param", "K=1024", "--param", "obase=16777216")


def test_run_prints_json_and_writes_commands_and_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.h5"
    assert run(["memory", "run", "ddr4-3200", *GEMV, "--json", "--hdf5", str(file)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["n_requests"] == 2000
    assert sum(document["bandwidth_stack"].values()) == pytest.approx(1)
    with h5py.File(file) as stored:
        assert stored["commands/0/tick"].size == sum(document["commands"].values())
        assert stored["requests/end_tick"][...].max() == document["end_ticks"]
    # the requests of a result are a trace
    assert run(["memory", "run", "ddr4-3200", "--trace", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["end_ticks"] == document["end_ticks"]


def test_run_and_compare_print_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["memory", "run", "hbm3-6400", *GEMV, "--controller", "refresh=no"]) == 0
    assert "% of the pin rate" in capsys.readouterr().out
    assert run(["memory", "compare", "hbm3-6400", "lpddr5-6400", *GEMV, "--controller", "mapping=MOP4CLXOR"]) == 0
    assert "share of peak" in capsys.readouterr().out


def test_text_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.trace"
    file.write_text("# comment\nR 0x0 0\nW 64 10\n0x80 READ 20\n")
    assert run(["memory", "run", "ddr4-3200", "--trace", str(file), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["n_requests"], document["n_writes"]) == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "trace", "code", "text"),
    [
        (("nodevice", "--pattern", "gemv"), None, 2, "unknown memory 'nodevice'"),
        (("ddr4-320", "--pattern", "gemv"), None, 2, "did you mean 'ddr4-3200'"),
        (("ddr4-3200", "--pattern", "gemmv"), None, 2, "did you mean 'gemv'"),
        (("ddr4-3200",), None, 2, "either --pattern NAME or --trace FILE"),
        (("ddr4-3200", "--pattern", "gemv"), None, 2, "gemv needs --param N=VALUE"),
        (("ddr4-3200", "--pattern", "seq_rd", "--param", "N=x"), None, 2, "parameter N is 'x'"),
        (("ddr4-3200", "--pattern", "seq_rd", "--param", "N=-1"), None, 2, "parameter N is -1"),
        (("ddr4-3200", "--pattern", "seq_rd", "--param", "M=1"), None, 2, "unknown parameter of seq_rd 'M'"),
        (("ddr4-3200", *GEMV, "--controller", "mapping=foo"), None, 2, "unknown address mapping 'foo'"),
        (("ddr4-3200", *GEMV, "--controller", "mapping=co:7 bg:2"), None, 2, "field 'ro' (16 bits) is missing"),
        (("ddr4-3200", *GEMV, "--controller", "row_policy=closed"), None, 2, "controller option row_policy"),
        (("ddr4-3200", *GEMV, "--controller", "write_low=0.9"), None, 2, "write_low 0.9 exceeds write_high 0.8"),
        (("ddr4-3200", *GEMV, "--controller", "colour=red"), None, 2, "unknown controller option 'colour'"),
        (("ddr4-3200", *GEMV, "--controller", "refresh=pb"), None, 2, "no per-bank refresh"),
        (("hbm3-6400", *GEMV, "--controller", "ranks=2"), None, 2, "has no ranks"),
        (("ddr4-3200", "--pattern", "seq_rd", "--param", "N=9", "--param", "base=8589934592"), None, 4, "is beyond"),
        (("ddr4-3200", *GEMV, "--set", "timing.tRCD=-5"), None, 2, "timing.tRCD"),
        (("ddr4-3200",), "R 0\nW 64", 4, "truncated"),
        (("ddr4-3200",), "R 0 10\nW 64 5\n", 4, "times must not go back"),
        (("ddr4-3200",), "R 0 10\nW 64\n", 4, "1 of 2 requests have a time"),
        (("ddr4-3200",), "R zero\n", 4, "t.trace:1: found 'zero'"),
        (("ddr4-3200",), "X 0\n", 4, "expected R|W ADDRESS [TICK]"),
        (("ddr4-3200",), "", 4, "no request in it"),
        (("ddr4-3200",), "R 0x4000000000\n", 4, "beyond the capacity"),
    ],
)  # fmt: skip
def test_bad_input_ends_in_one_line_and_writes_nothing(
    arguments: tuple[str, ...], trace: str | None, code: int, text: str, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out.h5"
    extra: tuple[str, ...] = ()
    if trace is not None:
        (tmp_path / "t.trace").write_text(trace)
        extra = ("--trace", str(tmp_path / "t.trace"))
    assert run(["memory", "run", *arguments, *extra, "--hdf5", str(out)]) == code
    error = capsys.readouterr().err
    assert text in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not out.exists()


def test_damaged_hdf5_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "t.h5"
    file.write_bytes(b"no hdf5")
    assert run(["memory", "run", "ddr4-3200", "--trace", str(file)]) == 4
    assert capsys.readouterr().err.count("\n") == 1


def test_stream_saved_and_read_back(tmp_path: Path) -> None:
    from archsim.memory.dram.streams import from_arrays
    from archsim.report.memory import read_hdf5_trace, write_hdf5_trace

    stream = from_arrays(np.arange(100) * 64, np.arange(100) % 3 == 0, np.arange(100) * 7)
    write_hdf5_trace(tmp_path / "s.h5", stream)
    again = read_hdf5_trace(tmp_path / "s.h5")
    assert again.sha256_16() == stream.sha256_16()
    assert np.array_equal(next(again.chunks()).times, next(stream.chunks()).times)  # type: ignore[arg-type]
