"""Request traces: what is read is what was written, what is drawn has the moments asked for, bad input one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim.config.presets import preset_names
from archsim.config.schemas.requests import Requests
from archsim.errors import ConfigError, InputError, UsageError
from archsim.workload.requests import load_requests, make_requests, scale_to_rate
from archsim.workload.traces import make_trace, read_lengths, read_trace

HEADER = "arrival_s,prompt_tokens,output_tokens\n"


def _write(folder: Path, text: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def _synthetic(**changes: object) -> Requests:
    synthetic = {
        "count": 20_000, "seed": 3, "arrivals": {"process": "poisson", "rate": 4.0},
        "prompt": {"distribution": "fixed", "tokens": 10}, "output": {"distribution": "fixed", "tokens": 2}, **changes,
    }  # fmt: skip
    return Requests.model_validate({"kind": "requests", "name": "s", "synthetic": synthetic})


def test_azure_sample_equals_its_source(reference_dir: Path) -> None:
    ours = load_requests("azure-conv-sample")
    source = read_trace(reference_dir / "traces" / "azure2023_conv.csv", limit=len(ours))
    for column in ("arrival_s", "prompt_tokens", "output_tokens"):
        np.testing.assert_array_equal(getattr(ours, column), getattr(source, column))


def test_every_reference_trace_is_read(reference_dir: Path) -> None:
    folder = reference_dir / "traces"
    for name, rows in (("azure2023_code", 4000), ("lmsys_arena_vtc", 1500), ("mooncake_fast25_synthetic", 3993)):
        trace = read_trace(folder / f"{name}.csv")
        assert len(trace) == rows
    assert len(read_trace(folder / "lmsys_arena_vtc.csv").tenants) == 27


def test_presets_load_and_repeat() -> None:
    for name in preset_names("requests"):
        first, second = load_requests(name), load_requests(name)
        assert first.arrival_s.tobytes() == second.arrival_s.tobytes()
        assert first.prompt_tokens.tobytes() == second.prompt_tokens.tobytes()


def test_sharegpt_preset_has_the_quartiles_of_its_source() -> None:
    trace = load_requests("poisson-sharegpt-like", ["synthetic.count=20000"])
    # quartiles of the 6000 chats: 577, 1746, 3737 tokens in; 245, 422, 638 out
    np.testing.assert_allclose(np.quantile(trace.prompt_tokens, [0.25, 0.5, 0.75]), [577, 1746, 3737], rtol=0.25)
    np.testing.assert_allclose(np.quantile(trace.output_tokens, [0.25, 0.5, 0.75]), [245, 422, 638], rtol=0.10)


def test_arrival_processes_have_their_rate_and_variation() -> None:
    for arrivals, cv in (
        ({"process": "poisson", "rate": 4.0}, 1.0),
        ({"process": "gamma", "rate": 4.0, "cv": 0.5}, 0.5),
        ({"process": "gamma", "rate": 4.0, "cv": 2.0}, 2.0),
        ({"process": "constant", "gap": 0.25}, 0.0),
    ):
        trace = make_requests(_synthetic(arrivals=arrivals), Path())
        gaps = np.diff(trace.arrival_s)
        assert trace.rate_per_s == pytest.approx(4.0, rel=0.06)
        assert gaps.std() / gaps.mean() == pytest.approx(cv, abs=0.05)


def test_lengths_have_their_distribution() -> None:
    lognormal = {"distribution": "lognormal", "median": 300, "sigma": 0.8, "low": 2, "high": 4000}
    trace = make_requests(_synthetic(prompt=lognormal, output={"distribution": "uniform", "low": 3, "high": 9}), Path())
    assert np.median(trace.prompt_tokens) == pytest.approx(300, rel=0.03)
    assert np.log(trace.prompt_tokens).std() == pytest.approx(0.8, rel=0.05)
    assert set(np.unique(trace.output_tokens)) == set(range(3, 10))


def test_lengths_of_a_file_are_drawn_in_pairs(tmp_path: Path) -> None:
    _write(tmp_path, "prompt_tokens,output_tokens\n10,1\n20,2\n30,3\n")
    trace = make_requests(_synthetic(prompt=None, output=None, lengths={"file": "t.csv"}), tmp_path)
    np.testing.assert_array_equal(trace.prompt_tokens, 10 * trace.output_tokens)
    assert set(np.unique(trace.output_tokens)) == {1, 2, 3}


def test_the_seed_decides_and_parts_are_independent() -> None:
    base, other = make_requests(_synthetic(), Path()), make_requests(_synthetic(seed=4), Path())
    assert base.arrival_s.tobytes() != other.arrival_s.tobytes()
    longer = make_requests(_synthetic(prompt={"distribution": "uniform", "low": 1, "high": 5}), Path())
    assert base.arrival_s.tobytes() == longer.arrival_s.tobytes()


def test_scaling_changes_the_rate_and_nothing_else() -> None:
    trace = load_requests("azure-conv-sample")
    scaled = scale_to_rate(trace, 10.0)
    assert scaled.rate_per_s == pytest.approx(10.0)
    np.testing.assert_array_equal(scaled.prompt_tokens, trace.prompt_tokens)
    with pytest.raises(InputError, match="at once"):
        scale_to_rate(make_trace("x", [1.0, 1.0], [1, 1], [1, 1]), 2.0)


def test_comments_blank_lines_and_further_columns(tmp_path: Path) -> None:
    text = "# source\n\noutput_tokens,note,arrival_s,prompt_tokens,tenant_id\n5,x,0.5,7,bob\n\n6,y,0.5,8,eve\n"
    trace = read_trace(_write(tmp_path, text))
    assert trace.prompt_tokens.tolist() == [7, 8]
    assert trace.output_tokens.tolist() == [5, 6]
    assert [trace.tenants[t] for t in trace.tenant] == ["bob", "eve"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty, expected a header"),
        (HEADER, "no requests below the header"),
        ("arrival,prompt_tokens,output_tokens\n0,1,1\n", "t.csv:1: missing column 'arrival_s'; did you mean 'arrival'"),
        (HEADER + "0,1,1\n2,1,1\n1,1,1\n", "t.csv:4: arrival_s: found 1 after 2"),
        (HEADER + "nan,1,1\n", "t.csv:2: arrival_s: found 'nan'"),
        (HEADER + "inf,1,1\n", "arrival_s: found 'inf'"),
        (HEADER + "-1,1,1\n", "arrival_s: found '-1'"),
        (HEADER + "1e300,1,1\n", "arrival_s: found '1e300'"),
        (HEADER + "1_0,1,1\n", "arrival_s: found '1_0'"),
        (HEADER + "0,-3,1\n", "t.csv:2: prompt_tokens: found '-3'"),
        (HEADER + "0,3.5,1\n", "prompt_tokens: found '3.5'"),
        (HEADER + "0,,1\n", "prompt_tokens: found ''"),
        (HEADER + "0,1,0\n", "output_tokens: found '0'"),
        (HEADER + "0,1,99999999999999999999\n", "output_tokens: found '9999"),
        (HEADER + "0,1\n", "t.csv:2: found 2 columns, the header has 3"),
        (HEADER + '0,1,"1\n', "not a CSV file"),
        ("arrival_s,arrival_s,prompt_tokens,output_tokens\n", "a column appears twice"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_bad_traces_give_one_line_with_file_line_and_column(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_trace(_write(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_and_senseless_overrides(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_requests(str(tmp_path / "none.csv"))
    with pytest.raises(UsageError, match="nothing to override"):
        load_requests(str(_write(tmp_path, HEADER)), ["trace.limit=3"])
    with pytest.raises(ConfigError, match="azure-conv-sample"):
        load_requests("azure-conv-sampl")
    with pytest.raises(ConfigError, match="give either"):
        load_requests("azure-conv-sample", ["trace=null"])
    with pytest.raises(ConfigError):
        load_requests("poisson-sharegpt-like", ["synthetic.prompt.sigma=-1"])


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, int, int]]
) -> None:
    rows = sorted(rows)
    text = HEADER + "".join(f"{arrival!r},{prompt},{output}\n" for arrival, prompt, output in rows)
    trace = read_trace(_write(tmp_path_factory.mktemp("trace"), text))
    read = zip(trace.arrival_s.tolist(), trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), strict=True)
    assert list(read) == rows


def test_on_off_arrivals_come_while_on() -> None:
    arrivals = {"process": "on-off", "rate": 50.0, "on": 2.0, "off": 3.0}
    trace = make_requests(_synthetic(count=5000, arrivals=arrivals), Path())
    phase = trace.arrival_s % 5.0
    assert (phase <= 2.0 + 1e-9).all()
    assert trace.rate_per_s == pytest.approx(20.0, rel=0.05)  # 50 x 2 of 5 seconds
    quiet = make_requests(_synthetic(count=5000, arrivals={**arrivals, "off_rate": 10.0}), Path())
    while_off = (quiet.arrival_s % 5.0 > 2.0).mean()
    assert while_off == pytest.approx(30 / 130, abs=0.02)


def test_diurnal_arrivals_follow_the_sine() -> None:
    arrivals = {"process": "diurnal", "rate": 10.0, "amplitude": 0.8, "period": 100.0}
    trace = make_requests(_synthetic(count=50_000, arrivals=arrivals), Path())
    assert trace.rate_per_s == pytest.approx(10.0, rel=0.03)
    phase = trace.arrival_s % 100.0
    high, low = ((phase > 15) & (phase < 35)).mean(), ((phase > 65) & (phase < 85)).mean()
    # mean of 1 +- 0.8 sin over a fifth of the period around its peak: 1 +- 0.8 x 0.9355
    assert high / low == pytest.approx((1 + 0.8 * 0.9355) / (1 - 0.8 * 0.9355), rel=0.1)


def test_zipf_lengths_have_their_frequencies() -> None:
    prompt = {"distribution": "zipf", "theta": 1.0, "low": 5, "high": 8}
    trace = make_requests(_synthetic(count=40_000, prompt=prompt), Path())
    shares = np.bincount(trace.prompt_tokens, minlength=9)[5:] / 40_000
    np.testing.assert_allclose(shares, np.array([1, 1 / 2, 1 / 3, 1 / 4]) / (25 / 12), atol=0.01)


def test_tenants_have_their_shares() -> None:
    tenants = [{"name": "big", "share": 3.0}, {"name": "small", "share": 1.0}]
    trace = make_requests(_synthetic(tenants=tenants), Path())
    assert (trace.tenant == trace.tenants.index("big")).mean() == pytest.approx(0.75, abs=0.01)


def test_turns_of_a_conversation_repeat_what_was_said() -> None:
    sessions = {"turns": {"distribution": "fixed", "tokens": 3}, "think": 5.0, "system_prompt": 100}
    trace = make_requests(_synthetic(count=300, sessions=sessions), Path())
    assert trace.cached_tokens is not None
    # every turn says 10 tokens and hears 2: prompts of 110, 122 and 134, of which 0, 112 and 124 are known
    assert np.bincount(trace.prompt_tokens)[[110, 122, 134]].tolist() == [100, 100, 100]
    assert set(zip(trace.prompt_tokens.tolist(), trace.cached_tokens.tolist(), strict=True)) == {
        (110, 0), (122, 112), (134, 124)
    }  # fmt: skip
    assert (np.diff(trace.arrival_s) >= 0).all()


def test_jsonl_says_the_same_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"arrival_s": 0, "prompt_tokens": 5, "output_tokens": 7, "x": 1}\n\n'
                    '{"x": 2, "arrival_s": 0.5, "prompt_tokens": 6, "output_tokens": 8}\n')  # fmt: skip
    trace = load_requests(str(path))
    assert trace.arrival_s.tolist() == [0.0, 0.5]
    assert trace.prompt_tokens.tolist() == [5, 6]
    first = '{"arrival_s": 0, "prompt_tokens": 5, "output_tokens": 7}\n'
    for text, problem in (
        (first + "[1]\n", r"t\.jsonl:2: found '\[1\]', expected a JSON object"),
        (first + "{\n", r"t\.jsonl:2: not a JSON object"),
        (first + '{"arrival_s": 1, "prompt_tokens": 5}\n', r"t\.jsonl:2: missing key 'output_tokens'"),
        (
            first + '{"arrival_s": 1, "prompt_tokens": -5, "output_tokens": 1}\n',
            r"t\.jsonl:2: prompt_tokens: found '-5'",
        ),
        ('{"arrival": 0, "prompt_tokens": 5, "output_tokens": 7}\n', r"t\.jsonl:1: missing column 'arrival_s'"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=problem):
            load_requests(str(path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n"
                      "2023-11-16 18:15:50.9951690,396,109\n"),
        ("burst.csv", "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
                      "0,ChatGPT,374,44,418,Conversation log\n4.314579,GPT-4,396,109,505,API log\n"),
        ("moon.jsonl", '{"timestamp": 0, "input_length": 374, "output_length": 44, "hash_ids": [0]}\n'
                       '{"timestamp": 4314.579, "input_length": 396, "output_length": 109, "hash_ids": [1]}\n'),
        ("sim.jsonl", '{"input_toks": 374, "output_toks": 44, "arrival_time_ns": 0, "input_tok_ids": [1]}\n'
                      '{"input_toks": 396, "output_toks": 109, "arrival_time_ns": 4314579000}\n'),
    ],
)  # fmt: skip
def test_published_traces_keep_the_names_of_their_columns(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text.replace(', "input_tok_ids": [1]', ""))
    trace = read_trace(path)
    assert trace.arrival_s == pytest.approx([0.0, 4.314579])
    assert trace.prompt_tokens.tolist() == [374, 396]
    assert trace.output_tokens.tolist() == [44, 109]
    assert read_lengths(path).tolist() == [[374, 44], [396, 109]]
    path.write_text(text.replace(', "input_tok_ids": [1]', "").replace("109", "-9"))
    with pytest.raises(InputError, match=rf"{name}:\d: (GeneratedTokens|Response tokens|output_\w+): found '-9'"):
        read_trace(path)
