#!/usr/bin/env python3
"""What each known defect of the public NeuPIMs simulator is worth: layer cycles with it switched off, one at a time.

Usage: neupims_defects.py [TRACE] [on|off]  (default: sharegpt_b256_s1_clb off; traces of ../shared/reference/neupims)
"""

from __future__ import annotations

import sys
from pathlib import Path

from archsim.config import load
from archsim.config.schemas.pim_neupims import NeupimsDefects
from archsim.execution.neupims.layer import simulate_neupims_layer
from archsim.validation.neupims_attention import MODELS, read_traces


def main() -> None:
    """Print one line per defect: stages, layer, change against the mode with all defects."""
    trace = sys.argv[1] if len(sys.argv) > 1 else "sharegpt_b256_s1_clb"
    interleaved = len(sys.argv) > 2 and sys.argv[2] == "on"
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference" / "neupims"
    lengths, channels = read_traces(folder, {})[trace]
    cases = {"all defects": ("peer_defects=true",), "none (default)": ()}
    for name in NeupimsDefects.model_fields:
        cases[f"without {name}"] = ("peer_defects=true", f"defects.{name}=false")
    base = 0
    for name, overrides in cases.items():
        device = load("neupims", "neupims", overrides)
        found = simulate_neupims_layer(device, MODELS["7B"], lengths, interleaved, channels=channels)
        base = base or found.cycles
        stages = " ".join(f"{stage.name} {stage.cycles:7d}" for stage in found.stages)
        print(f"{name:30} {stages}  layer {found.cycles:8d} {100 * (found.cycles / base - 1):+6.2f} %", flush=True)


if __name__ == "__main__":
    main()
