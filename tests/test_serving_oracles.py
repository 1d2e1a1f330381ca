"""Oracles from descriptions and from measured iterations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from archsim.cli.machine import load_machine
from archsim.errors import ConfigError, InputError
from archsim.serving import AffineOracle, AffineTerms
from archsim.serving.measured_oracle import fit_measured

TRUE = AffineOracle(
    9e-3, 1e-5, 6e-5, 3e-9, 4e-7,
    prompts=(AffineTerms(8e-3, 2e-5, 5e-5, 2e-9),), decodes=(AffineTerms(7e-3, 3e-5, per_context_token_s=3e-7),),
)  # fmt: skip
PARTS: dict[str, list[str]] = {"system": [], "workload": [], "requests": [], "policy": []}


def _measure(folder: Path, noise: float) -> Path:
    rng = np.random.default_rng(0)
    lines = ["seconds,prompts,prompt_tokens,cached_tokens,decodes,context_tokens"]
    for kind in ("prompts", "decodes", "both") * 40:
        tokens, before = (int(rng.integers(1, 4000)), int(rng.integers(0, 2000))) if kind != "decodes" else (0, 0)
        contexts = rng.integers(1, 4000, rng.integers(1, 60)).tolist() if kind != "prompts" else []
        seconds = TRUE.iteration_s([(tokens, before)] if tokens else [], contexts) * (1 + noise * rng.normal())
        lines.append(f"{seconds!r},{int(tokens > 0)},{tokens},{before},{len(contexts)},{sum(contexts)}")
    path = folder / "iterations.csv"
    path.write_text("\n".join(lines).replace("np.float64(", "").replace(")", "") + "\n", encoding="utf-8")
    return path


def test_exact_measurements_give_back_their_coefficients(tmp_path: Path) -> None:
    fit = fit_measured(_measure(tmp_path, 0.0))
    assert fit.rows == 120
    assert fit.mean_error < 1e-9
    for found, true in zip(fit.common.row(), [0, 9e-3, 1e-5, 6e-5, 3e-9, 4e-7], strict=True):
        assert found == pytest.approx(true, rel=1e-6, abs=1e-15)
    assert fit.prompts[0].per_prompt_token_s == pytest.approx(5e-5)
    assert fit.decodes[0].per_context_token_s == pytest.approx(3e-7)


def test_noisy_measurements_are_met_on_average(tmp_path: Path) -> None:
    fit = fit_measured(_measure(tmp_path, 0.05))
    assert fit.mean_error == pytest.approx(0.05 * (2 / np.pi) ** 0.5, rel=0.25)  # mean of a normal's absolute value
    assert fit.common.per_prompt_token_s == pytest.approx(6e-5, rel=0.1)


def test_a_description_names_coefficients_or_measurements(tmp_path: Path) -> None:
    _measure(tmp_path, 0.0)
    head = "kind: oracle\nname: mine\nmax_tokens: 5000\nsources: {default: test}\n"
    path = tmp_path / "mine.yaml"
    path.write_text(head + "measured: iterations.csv\n", encoding="utf-8")
    oracle, _, _ = load_machine(str(path), "llama2-7b", PARTS)
    assert isinstance(oracle, AffineOracle)
    assert oracle.max_tokens == 5000
    assert oracle.iteration_s([(100, 50)], [300]) == pytest.approx(TRUE.iteration_s([(100, 50)], [300]))
    path.write_text(head, encoding="utf-8")
    with pytest.raises(ConfigError, match="give either seconds, measured or operators"):
        load_machine(str(path), "llama2-7b", PARTS)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seconds,prompt_tokens,decode,context_tokens\n", r"1: missing column 'decodes'; did you mean 'decode'"),
        ("seconds,prompt_tokens,decodes,context_tokens\n1,2,3,x\n", r"2: context_tokens: found 'x'"),
        ("seconds,prompt_tokens,decodes,context_tokens\n0,2,3,4\n", r"2: seconds: found '0'"),
        ("seconds,prompt_tokens,decodes,context_tokens\n", "no iterations"),
    ],
)
def test_bad_measurements_are_one_clear_line(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=problem):
        fit_measured(path)
