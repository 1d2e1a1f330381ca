"""Attention points per CPU second on AttAcc, warm, beside the public simulator; a whole decode, every KV length.

Reference: user CPU seconds of the public AttAcc simulator (c600051, Ramulator 2) for the same stack, GPT-175B, batch
54, 2048 tokens (130 heads a stack), on a loaded two-core machine. Ours: minimum of `--repeat` runs, one thread, compile
time excluded, with and without its slips.

    python scripts/bench_pim.py [--repeat 5] [--no-decode]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from archsim.config import load
from archsim.memory.pim.attacc import simulate_attention
from archsim.memory.pim.device import compile_pim
from archsim.memory.pim.gemv import simulate_gemv

REFERENCE_CPU_S = {"attacc-bank": 4.7, "attacc-bankgroup": 28.0, "attacc-buffer": 34.0}
HEADS, TOKENS, HEAD_DIM, ELEMENT_BYTES = 130, 2048, 128, 2
DECODE_HEADS = 77  # GPT-175B, batch 32 on 8 devices of 5 stacks: ceil(96 / 8 x 32 / 5)


def cpu_seconds(work: Callable[[], object], repeat: int) -> float:
    """Shortest CPU time of `work`, after one run that compiles."""
    work()
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--no-decode", action="store_true", help="leave out the decode of 2047 steps")
    options = parser.parse_args()
    columns = f"{'cycles':>8} {'ms CPU':>9} {'points/s':>9} {'reference s':>12} {'ratio':>8}"
    print(f"{'attention, 2048 tokens x 130 heads':38} {columns}")
    for name, reference_s in REFERENCE_CPU_S.items():
        for slips in ("false", "true"):
            device = compile_pim(load("pim", name, (f"reference_slips={slips}",)))
            cycles = simulate_attention(device, TOKENS, HEADS, HEAD_DIM, ELEMENT_BYTES).cycles
            best_s = cpu_seconds(
                lambda device=device: simulate_attention(device, TOKENS, HEADS, HEAD_DIM, ELEMENT_BYTES),  # type: ignore[misc]
                options.repeat,
            )
            label = name + (" with slips" if slips == "true" else "")
            rate, ratio = 1 / best_s, reference_s / best_s
            print(f"{label:38} {cycles:8d} {best_s * 1e3:9.2f} {rate:9.1f} {reference_s:12.1f} {ratio:7.0f}x")
    for name in ("gddr6-aim", "hbm-pim"):
        device = compile_pim(load("pim", name))
        best_s = cpu_seconds(lambda device=device: simulate_gemv(device, 4096, 4096), options.repeat)  # type: ignore[misc]
        print(f"{'GEMV 4096 x 4096 on ' + name:38} {simulate_gemv(device, 4096, 4096).cycles:8d} {best_s * 1e3:9.2f}")
    if not options.no_decode:
        for name in ("attacc-bank", "attacc-bankgroup"):
            device = compile_pim(load("pim", name))
            start = time.process_time()
            for tokens in range(TOKENS + 1, 2 * TOKENS):
                simulate_attention(device, tokens, DECODE_HEADS, HEAD_DIM, ELEMENT_BYTES)
            print(f"decode of 2047 steps, every KV length, on {name}: {time.process_time() - start:.2f} CPU s")


if __name__ == "__main__":
    main()
