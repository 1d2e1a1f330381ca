"""Oracles that add up measured operators."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsim.cli.machine import load_machine
from archsim.errors import ConfigError, InputError
from archsim.serving.operator_oracle import OperatorOracle, read_attention, read_dense

DATA = Path(__file__).parent / "data" / "serving" / "vllm_measured"
PARTS: dict[str, list[str]] = {"system": [], "workload": [], "requests": [], "policy": []}
ATTENTION = (
    "phase,prefill_chunk_tokens,prefill_kv_tokens,decode_sequences,decode_kv_tokens_per_sequence,time_us\n"
    "decode,0,0,1,100,2\ndecode,0,0,1,300,4\ndecode,0,0,101,100,102\ndecode,0,0,101,300,304\n"
    "prefill,100,0,0,0,10\nprefill,300,0,0,0,30\nprefill,100,1000,0,0,20\nprefill,300,1000,0,0,60\n"
)
DENSE = (
    "layer,count,count_kind,time_us\nproj,1,tokens,5\nproj,201,tokens,15\nhead,1,sequences,7\nhead,101,sequences,9\n"
)


def _files(folder: Path, dense: str = DENSE, attention: str = ATTENTION) -> OperatorOracle:
    (folder / "dense.csv").write_text(dense, encoding="utf-8")
    (folder / "attention.csv").write_text(attention, encoding="utf-8")
    return OperatorOracle(
        "test", read_dense(folder / "dense.csv", {}, {"head": 1}, 10), read_attention(folder / "attention.csv", {}), 10,
        max_tokens=1000,
    )  # fmt: skip


def test_iterations_are_sums_of_what_was_measured(tmp_path: Path) -> None:
    oracle = _files(tmp_path)
    # 51 decodes of 200 tokens: attention is the mean of the four corners, 103 us; proj 5 + 50 / 20, head 7 + 50 / 50
    assert oracle.iteration_s([], [200] * 51) == pytest.approx(1e-6 * (10 * (103 + 7.5) + 8))
    # a prompt of 200 tokens after 500: attention 30 us; proj 5 + 199 / 20; one sequence gets a token
    assert oracle.iteration_s([(200, 500)], []) == pytest.approx(1e-6 * (10 * (30 + 14.95) + 7))
    # both: the projections see 251 tokens, the last interval continued
    assert oracle.iteration_s([(200, 500)], [200] * 51) == pytest.approx(1e-6 * (10 * (103 + 30 + 17.5) + 8))


def test_decodes_in_one_launch_with_prompts_take_their_measured_share(tmp_path: Path) -> None:
    rows = []
    for chunk, before, prompt_us in ((100, 0, 10), (300, 0, 30), (100, 1000, 20), (300, 1000, 60)):
        for count, tokens, decodes_us in ((1, 100, 2), (1, 300, 4), (101, 100, 102), (101, 300, 304)):
            rows.append(f"mixed,{chunk},{before},{count},{tokens},{prompt_us + 1.5 * decodes_us}\n")
    oracle = _files(tmp_path, attention=ATTENTION + "".join(rows))
    assert oracle.iteration_s([(200, 500)], [200] * 51) == pytest.approx(1e-6 * (10 * (1.5 * 103 + 30 + 17.5) + 8))
    assert oracle.iteration_s([], [200] * 51) == pytest.approx(1e-6 * (10 * (103 + 7.5) + 8))


def test_a_step_of_vllm_is_the_sum_of_its_kernels() -> None:
    """64 sequences of 512 tokens on an RTX PRO 6000, added up by hand from the rows of the files."""
    oracle, _, _ = load_machine(str(DATA / "RTXPRO6000_oracle.yaml"), "llama3-8b", PARTS)
    assert isinstance(oracle, OperatorOracle)
    layer_us = 35.84 + 2.88 + 127.446 + 28.426 + 170.688 + 3.115 + 96.757 + 2 * 2.619
    step_us = 2.869 + 32 * layer_us + 2.805 + 715.575 + 40.406
    assert oracle.iteration_s([], [512] * 64) == pytest.approx(1e-6 * step_us)


@pytest.mark.parametrize(
    ("dense", "attention", "problem"),
    [
        (DENSE.replace("time_us", "us"), ATTENTION, r"dense.csv:1: missing column 'time_us'"),
        (DENSE.replace("15", "x"), ATTENTION, r"dense.csv:3: time_us: found 'x'"),
        (DENSE.replace("sequences", "seqs"), ATTENTION, r"dense.csv:4: count_kind: found 'seqs', allowed: tokens, seq"),
        (DENSE.replace("head", "heads"), ATTENTION, r"dense.csv: no layer 'head' to run; did you mean 'heads'"),
        (DENSE, ATTENTION.replace("decode,0,0,101,300,304\n", ""), "no time for decode_sequences 101, decode_kv"),
        (DENSE, ATTENTION.split("prefill,100")[0], "no rows of phase 'prefill'"),
        (DENSE, ATTENTION.replace("prefill,300,0", "prefil,300,0"), r"attention.csv:7: phase: found 'prefil'"),
        (DENSE.splitlines()[0] + "\n", ATTENTION, "dense.csv: no rows"),
    ],
)
def test_bad_measurements_are_one_clear_line(tmp_path: Path, dense: str, attention: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        _files(tmp_path, dense, attention)


def test_a_description_has_one_source(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    operators = "operators: {dense: dense.csv, attention: attention.csv, layers: 10, runs: {head: 1}}\n"
    head = "kind: oracle\nname: mine\nmax_tokens: 5000\nsources: {default: test}\n"
    _files(tmp_path)
    path.write_text(head + operators, encoding="utf-8")
    assert load_machine(str(path), "llama2-7b", PARTS)[0].iteration_s([], [200] * 51) > 0  # type: ignore[union-attr]
    path.write_text(head + operators + "energy: {base_j: 1}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="energy have no place"):
        load_machine(str(path), "llama2-7b", PARTS)
