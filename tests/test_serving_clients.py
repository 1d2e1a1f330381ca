"""What clients get: conservation, the limit of one client, commands and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from archsim.cli.main import run
from archsim.config import load_model, load_system
from archsim.config.schemas.system import System
from archsim.cost.evaluation import evaluate
from archsim.errors import InfeasibleError, UsageError
from archsim.serving.clients import cache_tokens, serve_clients, spread_lengths
from archsim.serving.framework import launch_of


@pytest.fixture(scope="module")
def machine() -> System:
    return load_system("hgx-h100", ("units.gpu.count=1", "framework=tensorrt-llm"))


def test_tokens_are_conserved_and_little_holds(machine: System) -> None:
    """Mean requests in the server = rate x mean time there; at most as many as clients, nearly all of them."""
    report = serve_clients(machine, load_model("llama3-8b"), (4, 16), 512, 256)
    for point in report.points:
        outputs = spread_lengths(256, 0.8, point.requests, 0, 1)
        assert point.output_tokens_per_s / point.requests_per_s == pytest.approx(outputs.mean())
        inside = point.requests_per_s * (point.ttft_s.mean + point.tpot_s.mean * (outputs.mean() - 1))
        assert 0.85 * point.clients < inside < 1.001 * point.clients
    assert report.points[1].output_tokens_per_s > report.points[0].output_tokens_per_s


def test_one_client_gets_the_step_of_evaluate(machine: System) -> None:
    model = load_model("llama3-8b")
    point = serve_clients(machine, model, (1,), 1024, 1024, shortest=1.0).points[0]
    found = evaluate(machine, model, batch=1, input_len=1024, output_len=1024).latency
    assert point.tpot_s.mean == pytest.approx(found.tpot_s, rel=0.01)
    server = launch_of(machine).server
    waited = server.request_latency + server.request_admission + 1024 * server.token_admission
    assert point.ttft_s.mean - waited == pytest.approx(found.ttft_s, rel=0.03)


def test_lengths_are_spread_evenly() -> None:
    lengths = spread_lengths(1000, 0.8, 20_000, 3, 0)
    assert (lengths.min(), lengths.max()) == (800, 1000)
    assert lengths.mean() == pytest.approx(900, rel=0.005)
    assert not np.array_equal(lengths, spread_lengths(1000, 0.8, 20_000, 3, 1))


def test_room_by_hand_and_refusals(machine: System) -> None:
    model = load_model("llama3-8b")
    room = launch_of(machine).server.memory_share * machine.units["gpu"].device.memory_capacity
    token = 2 * 32 * 8 * 128 * 2
    assert cache_tokens(machine, model, 1000) == int((room - 4e9 - model.weight_bytes) / token)
    with pytest.raises(InfeasibleError, match="cannot hold llama3-70b"):
        serve_clients(machine, load_model("llama3-70b"), (1,), 100, 100)
    with pytest.raises(UsageError):
        serve_clients(machine, model, (), 100, 100)


def test_the_command_prints_json_and_one_line_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    words = ["clients", "hgx-h100", "llama3-8b", "--clients", "2", "--input-len", "128", "--output-len", "32"]
    assert run([*words, "--framework", "vllm", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["framework"], found["points"][0]["clients"]) == ("archsim.clients/1", "vllm", 2)
    assert any("KV cache in 0.9 of the memory" in note for note in found["notes"])
    assert run([*words, "--framework", "vlm"]) == 2
    assert "did you mean 'vllm'" in capsys.readouterr().err
    assert run(words) == 0
    assert "TTFT mean" in capsys.readouterr().out
