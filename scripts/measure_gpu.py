#!/usr/bin/env python3
"""Measure one NVIDIA GPU with PyTorch and write CSV files for `archsim validate` and scripts/fit_own_gpu.py.

    python measure_gpu.py OUT [--only gemm,moe] [--gpu-name h100_sxm] [--l2 cold|warm] [--quick] [--dry-run]

Needs Python 3.10 and PyTorch 2.5 or newer, nothing of archsim. Every row is the median of --samples replays of a CUDA
graph (eager launches and copies from or to the host: of runs), timed with CUDA events after warm-up. OUT gets one CSV
for each kind, manifest.yaml, samples.csv (spread, clocks and temperature of every row) and metadata.json (device,
driver, versions, date, L2 state). A run that was stopped goes on where it ended. `--l2 cold` overwrites the L2 before
every sample, `warm` leaves there what the round before left.
--dry-run needs no GPU and no PyTorch: it goes through the whole plan with made-up times and says so in every file.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HEAD = ("gpu", "framework", "version", "kernel_source")
COLUMNS: dict[str, tuple[str, ...]] = {
    "gemm": (*HEAD, "gemm_dtype", "m", "n", "k", "latency_ms"),
    "attention_context": (*HEAD, "attn_dtype", "kv_cache_dtype", "batch_size", "isl", "step", "num_heads",
                          "num_key_value_heads", "head_dim", "latency_ms"),
    "attention_generation": (*HEAD, "attn_dtype", "kv_cache_dtype", "batch_size", "isl", "step", "num_heads",
                             "num_key_value_heads", "head_dim", "latency_ms"),
    "attention_mixed": ("device", "model", "tensor_parallel", "phase", "prefill_chunk_tokens", "prefill_kv_tokens",
                        "decode_sequences", "decode_kv_tokens_per_sequence", "time_us"),
    "moe": (*HEAD, "moe_dtype", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size",
            "moe_ep_size", "distribution", "latency_ms"),
    "layernorm": ("device", "M_rows", "N_cols", "throughput_Gelem_s", "latency_us"),
    "softmax": ("device", "M_rows", "N_cols", "throughput_Gelem_s", "latency_us"),
    "gelu": ("device", "elements", "throughput_Gelem_s", "latency_us"),
    "launch": (*HEAD, "mode", "kernels", "gap_us"),
    "copy": (*HEAD, "direction", "bytes", "latency_us"),
}  # fmt: skip
TIME_COLUMN = {"attention_mixed": "time_us", "launch": "gap_us", "copy": "latency_us"}
MANIFEST = (
    ("gpu-gemm", "gemm"), ("gpu-attention-context", "attention_context"),
    ("gpu-attention-generation", "attention_generation"), ("gpu-attention", "attention_mixed"), ("gpu-moe", "moe"),
    ("gpu-operator", "layernorm"), ("gpu-operator", "softmax"), ("gpu-operator", "gelu"),
    ("gpu-launch", "launch"), ("gpu-copy", "copy"),
)  # fmt: skip
MIXED_MODEL = "meta-llama/Llama-3.1-8B"  # 32 query and 8 key/value heads of 128
SAMPLE_COLUMNS = ("file", "row", "samples", "median_us", "min_us", "p10_us", "p90_us", "sm_mhz", "memory_mhz",
                  "temperature_c", "power_w")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One row to measure: its file and the columns that say what it is."""

    file: str
    shape: dict[str, Any]


@dataclass(frozen=True)
class Options:
    """How to time: samples a row, warm-up runs, weight copies of a graph, L2 state."""

    samples: int
    warmup: int
    copies: int
    cold: bool


def plan(quick: bool) -> Iterator[Case]:
    """Every case, small to large."""
    few = slice(None, None, 4) if quick else slice(None)
    tokens = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192][few]
    for n, k in ((4096, 4096), (6144, 4096), (28672, 4096), (4096, 14336), (1024, 8192), (8192, 28672))[few]:
        for m in tokens:
            for dtype in ("bfloat16", "fp8", "int8"):
                yield Case("gemm", {"gemm_dtype": dtype, "m": m, "n": n, "k": k})
    heads = ((32, 8), (64, 8), (8, 1), (32, 32))[few]
    for num_heads, kv_heads in heads:
        common = {"attn_dtype": "bfloat16", "kv_cache_dtype": "bfloat16", "num_heads": num_heads,
                  "num_key_value_heads": kv_heads, "head_dim": 128}  # fmt: skip
        for batch in [1, 4, 16, 64][few]:
            for length in [16, 128, 512, 2048, 8192, 32768][few]:
                if batch * length <= 131_072:
                    yield Case("attention_context", {**common, "batch_size": batch, "isl": length, "step": 0})
                if batch * length * kv_heads <= 8_388_608:
                    yield Case("attention_generation", {**common, "batch_size": batch, "isl": 1, "step": length - 1})
    for chunk in [128, 512, 2048][few]:
        for sequences in [8, 64][few]:
            for length in [512, 4096][few]:
                yield Case("attention_mixed", {
                    "model": MIXED_MODEL, "tensor_parallel": 1, "phase": "mixed", "prefill_chunk_tokens": chunk,
                    "prefill_kv_tokens": 0, "decode_sequences": sequences, "decode_kv_tokens_per_sequence": length,
                })  # fmt: skip
    for hidden, inter, topk, experts in ((4096, 14336, 2, 8), (4096, 1536, 8, 128))[few]:
        for count in tokens:
            for distribution in ("balanced", "power_law_1.01"):
                yield Case("moe", {
                    "moe_dtype": "bfloat16", "num_tokens": count, "hidden_size": hidden, "inter_size": inter,
                    "topk": topk, "num_experts": experts, "moe_tp_size": 1, "moe_ep_size": 1,
                    "distribution": distribution,
                })  # fmt: skip
    for rows in [1, 16, 256, 4096, 16384][few]:
        for width in [128, 1024, 4096, 8192, 32768][few]:
            yield Case("layernorm", {"M_rows": rows, "N_cols": width})
            yield Case("softmax", {"M_rows": rows, "N_cols": width})
    for power in range(10, 29, 4 if quick else 1):
        yield Case("gelu", {"elements": 2**power})
    for mode in ("eager", "graph"):
        yield Case("launch", {"mode": mode, "kernels": 1000})
    for direction in ("host-to-device", "device-to-host", "device-to-device"):
        for power in range(12, 31, 6 if quick else 2):
            yield Case("copy", {"direction": direction, "bytes": 2**power})


def expert_loads(tokens: int, topk: int, experts: int, distribution: str) -> list[int]:
    """Tokens of each expert: equal, or by mid-quantiles of x^-alpha on [1, 0.8 tokens]; the sum is tokens x topk."""
    total = tokens * topk
    weights = [1.0] * experts
    if distribution.startswith("power_law_"):
        alpha, high = float(distribution.removeprefix("power_law_")), max(0.8 * tokens, 2.0)
        one = 1.0 - alpha
        quantiles = [(i + 0.5) / experts for i in range(experts)]
        weights = [(1.0 + u * (high**one - 1.0)) ** (1.0 / one) for u in quantiles]
    exact = [min(total * weight / sum(weights), float(tokens)) for weight in weights]
    loads = [int(load) for load in exact]
    order = sorted(range(experts), key=lambda i: (loads[i] - exact[i], i))
    for i in [*order, *order, *order]:  # what rounding and the cap took away goes to whoever has room
        if sum(loads) < total and loads[i] < tokens:
            loads[i] += 1
    while sum(loads) < total:
        i = min(range(experts), key=lambda i: loads[i])
        loads[i] += min(tokens - loads[i], total - sum(loads))
    return loads


class Dry:
    """Stands in for a GPU: made-up times, so that the plan, the files and their readers can be tried anywhere."""

    name, version, source = "dry-run", "0", "none"

    def metadata(self) -> dict[str, Any]:
        """Says that nothing was measured."""
        return {"measured": False, "device": "none", "host_link": "pcie5-x16"}

    def clocks(self) -> dict[str, float]:
        """No clocks."""
        return {}

    def samples_s(self, case: Case, options: Options) -> list[float]:
        """A time that grows with the sizes of the case."""
        size = 1.0
        for name, value in case.shape.items():
            if isinstance(value, int) and name not in ("head_dim", "num_experts"):
                size *= max(value, 1)
        return [1e-6 * (5.0 + size**0.5 / 1e3)] * options.samples


class Gpu:
    """One CUDA device through PyTorch."""

    name, source = "torch", "torch"

    def __init__(self, device: int) -> None:
        import torch

        if not torch.cuda.is_available():
            sys.exit("measure_gpu.py: PyTorch sees no CUDA device (try --dry-run)")
        self.torch, self.index = torch, device
        torch.cuda.set_device(device)
        self.properties = torch.cuda.get_device_properties(device)
        self.version = str(torch.__version__)
        l2 = int(getattr(self.properties, "L2_cache_size", 64 << 20))
        self.flush = torch.empty(max(2 * l2, 64 << 20), dtype=torch.uint8, device="cuda")

    def metadata(self) -> dict[str, Any]:
        """Device, versions and the clock settings."""
        torch, p = self.torch, self.properties
        return {
            "measured": True, "device": p.name, "capability": f"{p.major}.{p.minor}", "sms": p.multi_processor_count,
            "memory_bytes": p.total_memory, "l2_bytes": getattr(p, "L2_cache_size", None), "torch": self.version,
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "host_link": _host_link(self.index),
            "nvidia_smi": _smi(self.index, "driver_version,power.limit,clocks.max.sm,clocks.max.mem,ecc.mode.current"),
        }  # fmt: skip

    def clocks(self) -> dict[str, float]:
        """Clocks, temperature and power right now."""
        found = _smi(self.index, "clocks.sm,clocks.mem,temperature.gpu,power.draw")
        names = ("sm_mhz", "memory_mhz", "temperature_c", "power_w")
        return {name: _number(text) for name, text in zip(names, found, strict=False)}

    def samples_s(self, case: Case, options: Options) -> list[float] | None:
        """Seconds of one run of the case, `options.samples` times; None where this device or PyTorch cannot run it."""
        try:
            return getattr(self, f"_{case.file}")(case.shape, options)  # type: ignore[no-any-return]
        except (RuntimeError, AttributeError, NotImplementedError) as problem:
            print(f"skipped {case.file} {case.shape}: {str(problem).splitlines()[0]}", file=sys.stderr)
            self.torch.cuda.empty_cache()
            return None

    def _graph_s(self, work: Callable[[], None], runs: int, options: Options) -> list[float]:
        """Capture `work` (which does `runs` runs of the case) in a graph and time its replays."""
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            work()
        return self._timed(graph.replay, runs, options)

    def _timed(self, run: Callable[[], None], runs: int, options: Options) -> list[float]:
        torch = self.torch
        for _ in range(options.warmup):
            run()
        found = []
        for _ in range(options.samples):
            if options.cold:
                self.flush.zero_()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            run()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) * 1e-3 / runs)
        return found

    def _gemm(self, s: dict[str, Any], options: Options) -> list[float]:
        torch = self.torch
        m, n, k = s["m"], s["n"], s["k"]
        x = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
        copies = options.copies
        if s["gemm_dtype"] == "bfloat16":
            weights = [torch.randn(n, k, device="cuda", dtype=torch.bfloat16) for _ in range(copies)]

            def linear() -> None:
                for w in weights:
                    torch.nn.functional.linear(x, w)

            return self._graph_s(linear, copies, options)
        if s["gemm_dtype"] == "int8":
            if m <= 16:
                raise NotImplementedError("torch._int_mm needs more than 16 rows")
            a = torch.randint(-8, 8, (m, k), device="cuda", dtype=torch.int8)
            integers = [torch.randint(-8, 8, (n, k), device="cuda", dtype=torch.int8).t() for _ in range(copies)]

            def product() -> None:
                for w in integers:
                    torch._int_mm(a, w)

            return self._graph_s(product, copies, options)
        if (self.properties.major, self.properties.minor) < (8, 9):
            raise NotImplementedError("no fp8 matrix unit")
        fp8 = torch.float8_e4m3fn
        narrow = [torch.randn(n, k, device="cuda").to(fp8).t() for _ in range(copies)]
        ones = torch.ones(1, n, device="cuda")

        def scaled() -> None:  # the activations are quantised row by row first, as serving frameworks do
            for w in narrow:
                scale = x.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-6) / 448.0
                torch._scaled_mm((x / scale).to(fp8), w, scale_a=scale, scale_b=ones, out_dtype=torch.bfloat16)

        return self._graph_s(scaled, copies, options)

    def _attention(self, s: dict[str, Any], past: int, options: Options) -> list[float]:
        """Attention of `isl` new tokens after `past` cached ones, with the write of their keys and values."""
        torch = self.torch
        batch, new, heads, kv = s["batch_size"], s["isl"], s["num_heads"], s["num_key_value_heads"]
        make = lambda h, t: torch.randn(batch, h, t, s["head_dim"], device="cuda", dtype=torch.bfloat16)  # noqa: E731
        q, cache_k, cache_v = make(heads, new), make(kv, past + new), make(kv, past + new)
        new_k, new_v = make(kv, new), make(kv, new)

        def work() -> None:
            cache_k[:, :, past:].copy_(new_k)
            cache_v[:, :, past:].copy_(new_v)
            torch.nn.functional.scaled_dot_product_attention(
                q, cache_k, cache_v, is_causal=past == 0 and new > 1, enable_gqa=heads != kv
            )

        return self._graph_s(work, 1, options)

    def _attention_context(self, s: dict[str, Any], options: Options) -> list[float]:
        return self._attention(s, 0, options)

    def _attention_generation(self, s: dict[str, Any], options: Options) -> list[float]:
        return self._attention(s, s["step"], options)

    def _attention_mixed(self, s: dict[str, Any], options: Options) -> list[float]:
        """One variable-length launch: a prompt chunk and single tokens of other sequences (needs flash-attn)."""
        torch = self.torch
        try:
            from flash_attn import flash_attn_varlen_func
        except ImportError as problem:
            raise NotImplementedError("mixed batches need the flash-attn package") from problem
        chunk, count, length = (s[name] for name in ("prefill_chunk_tokens", "decode_sequences",
                                                     "decode_kv_tokens_per_sequence"))  # fmt: skip
        queries = [chunk] + [1] * count
        keys = [s["prefill_kv_tokens"] + chunk] + [length] * count
        ends = lambda parts: torch.tensor([0, *parts], device="cuda").cumsum(0).int()  # noqa: E731
        make = lambda t, h: torch.randn(t, h, 128, device="cuda", dtype=torch.bfloat16)  # noqa: E731
        q, k, v = make(sum(queries), 32), make(sum(keys), 8), make(sum(keys), 8)
        at_q, at_k = ends(queries), ends(keys)
        work = lambda: flash_attn_varlen_func(q, k, v, at_q, at_k, chunk, max(keys), causal=True)  # noqa: E731
        return self._graph_s(work, 1, options)

    def _moe(self, s: dict[str, Any], options: Options) -> list[float]:
        """Routing, gather, gate and up, activation, down, weighted scatter; one product per expert with tokens."""
        torch = self.torch
        tokens, hidden, inter, experts = (
            s[name] for name in ("num_tokens", "hidden_size", "inter_size", "num_experts")
        )
        loads = expert_loads(tokens, s["topk"], experts, s["distribution"])
        make = lambda *shape: torch.randn(*shape, device="cuda", dtype=torch.bfloat16)  # noqa: E731
        x, router = make(tokens, hidden), make(experts, hidden)
        up, down = make(experts, 2 * inter, hidden), make(experts, hidden, inter)
        rows = [torch.randperm(tokens, device="cuda")[:load] for load in loads]
        out = torch.zeros_like(x)

        def work() -> None:
            torch.topk(torch.softmax(torch.nn.functional.linear(x, router).float(), -1), s["topk"])
            out.zero_()
            for expert, index in enumerate(rows):
                if loads[expert]:
                    gate, value = torch.nn.functional.linear(x[index], up[expert]).chunk(2, -1)
                    result = torch.nn.functional.linear(torch.nn.functional.silu(gate) * value, down[expert])
                    out.index_add_(0, index, result)

        return self._graph_s(work, 1, options)

    def _rows(self, s: dict[str, Any], options: Options, run: Callable[[Any], Any]) -> list[float]:
        x = self.torch.randn(s["M_rows"], s["N_cols"], device="cuda", dtype=self.torch.float16)
        return self._graph_s(lambda: run(x), 1, options)

    def _layernorm(self, s: dict[str, Any], options: Options) -> list[float]:
        return self._rows(s, options, lambda x: self.torch.nn.functional.layer_norm(x, x.shape[-1:]))

    def _softmax(self, s: dict[str, Any], options: Options) -> list[float]:
        return self._rows(s, options, lambda x: self.torch.softmax(x, -1))

    def _gelu(self, s: dict[str, Any], options: Options) -> list[float]:
        x = self.torch.randn(s["elements"], device="cuda", dtype=self.torch.float16)
        return self._graph_s(lambda: self.torch.nn.functional.gelu(x), 1, options)

    def _launch(self, s: dict[str, Any], options: Options) -> list[float]:
        x = self.torch.zeros(32, device="cuda")

        def work() -> None:
            for _ in range(s["kernels"]):
                x.add_(1.0)

        if s["mode"] == "graph":
            return self._graph_s(work, s["kernels"], options)
        return self._timed(work, s["kernels"], options)

    def _copy(self, s: dict[str, Any], options: Options) -> list[float]:
        torch = self.torch
        host = torch.empty(s["bytes"], dtype=torch.uint8, pin_memory=True)
        device = torch.empty(s["bytes"], dtype=torch.uint8, device="cuda")
        other = torch.empty_like(device)
        target, source = {"host-to-device": (device, host), "device-to-host": (host, device),
                          "device-to-device": (other, device)}[s["direction"]]  # fmt: skip
        run = lambda: target.copy_(source, non_blocking=True)  # noqa: E731
        if s["direction"] == "device-to-device":
            return self._graph_s(run, 1, options)
        return self._timed(run, 1, options)


def _smi(index: int, fields: str) -> list[str]:
    command = ["nvidia-smi", f"--id={index}", f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    try:
        return [word.strip() for word in subprocess.check_output(command, text=True, timeout=20).split(",")]
    except (OSError, subprocess.SubprocessError):
        return []


def _host_link(index: int) -> str | None:
    """archsim's name of the PCIe port, where it has 16 lanes of generation 4 or 5."""
    found = _smi(index, "pcie.link.gen.max,pcie.link.width.max")
    return f"pcie{found[0]}-x16" if found in (["4", "16"], ["5", "16"]) else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def row_of(case: Case, backend: Dry | Gpu, gpu: str, median_s: float) -> dict[str, Any]:
    """The row of the case's file."""
    head = {"gpu": gpu, "device": gpu, "framework": backend.name, "version": backend.version,
            "kernel_source": backend.source}  # fmt: skip
    times = {"latency_ms": median_s * 1e3, "latency_us": median_s * 1e6, "time_us": median_s * 1e6,
             "gap_us": median_s * 1e6}  # fmt: skip
    elements = case.shape.get("elements") or case.shape.get("M_rows", 0) * case.shape.get("N_cols", 0)
    values = {**head, **times, **case.shape, "throughput_Gelem_s": elements / median_s / 1e9}
    return {name: f"{values[name]:.7g}" if isinstance(values[name], float) else values[name]
            for name in COLUMNS[case.file]}  # fmt: skip


def key_of(case: Case) -> tuple[str, ...]:
    """What identifies a case in its file."""
    return tuple(str(case.shape[name]) for name in COLUMNS[case.file] if name in case.shape)


def done_in(path: Path, case: Case) -> set[tuple[str, ...]]:
    """Cases that a file already holds."""
    if not path.is_file():
        return set()
    names = [name for name in COLUMNS[case.file] if name in case.shape]
    with path.open(newline="") as file:
        return {tuple(row[name] for name in names) for row in csv.DictReader(file)}


def append(path: Path, columns: tuple[str, ...], row: dict[str, Any]) -> None:
    """Add a row and see it on disk, so that a stopped run loses nothing."""
    fresh = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """A file that appears at once."""
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def write_manifest(out: Path, source: str, host_link: str | None) -> None:
    """What `archsim validate OUT` reads; only the files there are."""
    lines = ["name: measured", f"source: {source}", "datasets:"]
    for kind, file in MANIFEST:
        if (out / f"{file}.csv").is_file():
            truth = TIME_COLUMN.get(file) or "latency_ms"  # archsim converts the table's unit
            more = f", host_link: {host_link}" if file == "copy" and host_link else ""
            lines.append(f"  - {{kind: {kind}, results: {file}.csv, truth: [{truth}]{more}}}")
    write_whole(out / "manifest.yaml", "\n".join(lines) + "\n")


def measure(out: Path, backend: Dry | Gpu, gpu: str, only: set[str], options: Options, quick: bool) -> int:
    """Measure every case that OUT lacks; the number of rows written."""
    written, known = 0, {}
    for case in plan(quick):
        if case.file not in only:
            continue
        path = out / f"{case.file}.csv"
        if case.file not in known:
            known[case.file] = done_in(path, case)
        if key_of(case) in known[case.file]:
            continue
        samples = backend.samples_s(case, options)
        if samples is None:
            continue
        median_s = statistics.median(samples)
        append(path, COLUMNS[case.file], row_of(case, backend, gpu, median_s))
        known[case.file].add(key_of(case))
        ordered = sorted(samples)
        spread = {
            "file": path.name, "row": len(known[case.file]), "samples": len(samples), "median_us": median_s * 1e6,
            "min_us": ordered[0] * 1e6, "p10_us": ordered[len(ordered) // 10] * 1e6,
            "p90_us": ordered[-1 - len(ordered) // 10] * 1e6, **backend.clocks(),
        }  # fmt: skip
        append(out / "samples.csv", SAMPLE_COLUMNS, spread)
        written += 1
    return written


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default=",".join(COLUMNS), help="files to measure, comma separated")
    parser.add_argument("--gpu-name", help="name in the files (default: from the device)")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--samples", type=int, default=21)
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--copies", type=int, default=6, help="weight copies that a GEMM's graph cycles through")
    parser.add_argument("--l2", choices=("cold", "warm"), default="warm")
    parser.add_argument("--quick", action="store_true", help="a sixteenth of the plan")
    parser.add_argument("--dry-run", action="store_true")
    words = parser.parse_args()
    only = set(words.only.split(","))
    if not only <= set(COLUMNS):
        parser.error(f"--only: found {', '.join(sorted(only - set(COLUMNS)))}; allowed: {', '.join(COLUMNS)}")
    if min(words.samples, words.copies) < 1 or words.warmup < 0:
        parser.error("--samples and --copies must be at least 1, --warmup at least 0")
    backend: Dry | Gpu = Dry() if words.dry_run else Gpu(words.device)
    options = Options(words.samples, words.warmup, words.copies, words.l2 == "cold")
    words.out.mkdir(parents=True, exist_ok=True)
    facts = backend.metadata()
    default = "dry-run" if words.dry_run else str(facts["device"]).lower().replace(" ", "_")
    gpu = words.gpu_name or default
    about = {
        **facts, "gpu": gpu, "date_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017
        "host": platform.platform(), "python": platform.python_version(), "samples": words.samples,
        "warmup": words.warmup, "copies": words.copies, "l2": words.l2, "quick": words.quick, "time": "CUDA events",
    }  # fmt: skip
    write_whole(words.out / "metadata.json", json.dumps(about, indent=1) + "\n")
    written = measure(words.out, backend, gpu, only, options, words.quick)
    kind = "made-up times of a dry run" if words.dry_run else f"{facts['device']}, torch {backend.version}"
    write_manifest(words.out, f"measure_gpu.py, {kind}, {about['date_utc']}", facts["host_link"])
    print(f"{written} rows written to {words.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
