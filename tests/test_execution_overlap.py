"""Head-level pipelining through the list scheduler against AttAcc's closed form (longest stage plus one head)."""

from __future__ import annotations

import pytest

from archsim.config import load_model, load_system
from archsim.execution.costing import Costing
from archsim.execution.step import simulate_pass


@pytest.mark.parametrize("unit", ["bank", "bankgroup", "buffer"])
@pytest.mark.parametrize("pipelining", ["none", "transfers", "full"])
@pytest.mark.parametrize(("batch", "context"), [(1, 4096), (32, 512), (32, 4096)])
def test_scheduled_overlap_agrees_with_the_closed_form(unit: str, pipelining: str, batch: int, context: int) -> None:
    """Equal heads on stages with a resource each: the schedule may only win where a stage is bound by its start-up."""
    seconds = {}
    for model in ("scheduled", "closed-form"):
        rules = (f"mapping.overlap_model={model}", f"mapping.attention_pipelining={pipelining}")
        system = load_system(f"dgx-a100-attacc-{unit}", (*rules, "mapping.ffn_coprocessing=false"))
        seconds[model] = simulate_pass(Costing.of(system), load_model("gpt3-175b"), "decode", batch, 1, context).seconds
    assert seconds["scheduled"] == pytest.approx(seconds["closed-form"], rel=0.03)
    if pipelining == "none":
        assert seconds["scheduled"] == pytest.approx(seconds["closed-form"], rel=1e-6)
