"""Fit the constants of the GPU kernel model to measured operators and print how well they carry over.

    python scripts/fit_gpu.py REFERENCE_DIR [--write] [--only NAME ...] [--no-tables]

REFERENCE_DIR holds gpu_silicon/, measured_llm/ and llmcompass/ (the tables that `archsim validate` reads). With
--write the shared constants go to hwconfigs/gpu_kernels/common.yaml, each device's own to its calibration record,
and their means to the generation's file.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from archsim.compute.gpu import gpu_operator_seconds
from archsim.config.schemas.gpu_library import GpuKernels
from archsim.validation.silicon.baselines import aic_rule_seconds, roofline_seconds
from archsim.validation.silicon.fit import Block, Constant, Fit, assign, geometric_mean, summary, values
from archsim.validation.silicon.predict import calibrated_gpu
from archsim.validation.silicon.problems import PROBLEMS, SILICON, VIDUR, Problem, errors_of

KERNELS = Path(__file__).resolve().parents[1] / "hwconfigs" / "gpu_kernels"
SECONDS = {"launch", "fill", "cold", "round", "split", "quantise", "quantise_row", "unit", "combine", "kv_write", "row",
           "empty_unit", "prologue", "second", "regroup", "combine_part", "query_row"}  # fmt: skip
MEMORY = ("bandwidth_share", "l2_share", "store_bytes_per_clock")
# generations with attention kernels of their own; `common` describes FlashAttention 2
OWN_ATTENTION = ("hopper", "blackwell")
GDDR = ("turing", "ampere-rtx", "ada", "blackwell-rtx")  # every other generation has memory stacks
REGIME = ("launch_s",)  # belongs to how a data set was timed, not to a device


def names(constants: tuple[Constant, ...]) -> list[str]:
    return [constant.name for constant in constants]


def fit(
    problem: Problem, folder: Path, shared: dict[tuple[str, ...], dict[str, float]], memory: dict[str, dict[str, float]]
) -> list[Block]:
    """The problem's blocks with fitted constants; shared ones found before hold for the same section.

    memory  device -> DRAM, L2 and store constants of its 16-bit GEMM (and of other kernels), kept where not refitted
    """
    blocks = problem.blocks(folder)
    for block in blocks:
        if problem.data_set != "gpu-silicon" and not problem.name.startswith("vector"):
            assign(block, {k: v for k, v in shared.get(problem.section, {}).items() if k not in (problem.seeds or {})})
        if problem.section[0] == "gemm" and block.name in memory:
            assign(block, memory[block.name])
        if problem.section == ("moe",) and f"{block.name} decode" in memory:  # both stream from DRAM
            assign(block, memory[f"{block.name} decode"])
        if problem.section == ("mixed",):
            prompts = memory[f"{block.name} prefill"]
            assign(block, prompts)
    began = time.process_time()
    # what is common to GPUs has to serve the libraries of 2023-24 too
    beside = VIDUR[0].blocks(folder) if problem is SILICON[0] else []
    Fit([*blocks, *beside], (*problem.own, *problem.shared)).search_widely(np.random.default_rng(0))
    if problem.data_set == "gpu-silicon":
        shared[problem.section] = values(blocks[0], names(problem.shared))
    if problem.section == ("decode",):
        memory.update({f"{block.name} decode": values(block, MEMORY[:1]) for block in blocks})
    if problem.section == ("prefill",):
        memory.update({f"{block.name} prefill": values(block, names(problem.own)) for block in blocks})
    if problem is SILICON[0]:
        memory.update({block.name: values(block, MEMORY) for block in blocks})
    seconds = time.process_time() - began
    rows = sum(block.rows.size for block in blocks)
    counts = f"{len(problem.shared)} shared constants, {len(problem.own)} a device"
    print(f"\n{problem.name} [{problem.data_set}]: {counts}, {rows} rows, {seconds:.0f} CPU s")
    for block in blocks:
        own = ", ".join(f"{name} {value:.3g}" for name, value in values(block, names(problem.own)).items())
        print(f"  {block.name:20s} {block.rows.size:5d} rows  {summary(block.errors())}  {own}")
    print(f"  {'all':20s} {'':10s} {summary(errors_of(blocks))}  "
          + ", ".join(f"{k} {v:.3g}" for k, v in shared.get(problem.section, {}).items()))  # fmt: skip
    return blocks


def leave_one_device_out(problem: Problem, blocks: list[Block]) -> None:
    """Shared constants from the other devices; own ones as the medians of the others, and of its generation's."""
    print(f"\n{problem.name}: a device left out, its datasheet with the constants of the others (MAPE / bias / p95)")
    kept = [block.path.copy() for block in blocks]
    for out, block in enumerate(blocks):
        others = [other for i, other in enumerate(blocks) if i != out]
        Fit(others, (*problem.own, *problem.shared), step=0.06).search(12)
        assign(block, values(others[0], names(problem.shared)))
        kin = [o for o in others if _generation(o) == _generation(block)]
        like = [o for o in others if _family(o) == _family(block)]
        for label, group in (("all others", others), (_family(block), like), ("generation", kin)):
            if not group:
                continue
            for constant in problem.own:
                middle = float(np.median([o.path[constant.name][0] for o in group]))
                block.path[constant.name] = middle
            print(f"  {block.name:20s} {label:12s} {summary(block.errors())}")
        for other, path in zip(blocks, kept, strict=True):
            other.path[:] = path


def leave_one_model_out(problem: Problem, blocks: list[Block]) -> None:
    """Own constants fitted without one network and scored on it; fitted on half of them and scored on the rest."""
    print(f"\n{problem.name}: a model left out | fitted on half of the models, scored on the other half")
    for block in blocks:
        models = sorted(set(block.models))
        left, halves = [], []
        for groups, into in (([[m] for m in models], left), ([models[::2], models[1::2]], halves)):
            for group in groups:
                into.append(_scored_without(problem, block, set(group)))
        print(f"  {block.name:20s} {summary(np.concatenate(left))} | {summary(np.concatenate(halves))}")


def beside_others(problems: list[Problem], folder: Path) -> None:
    """The records as shipped beside the roofline and AIConfigurator's analytic rule: MAPE of each, per cent."""
    print(f"\n{'operator':28s} {'device':20s} {'rows':>5s} {'ours':>6s} {'rule':>6s} {'roofline':>8s}")
    for problem in problems:
        samples = problem.samples(folder)
        for device in dict.fromkeys(sample.device for sample in samples):
            mine = [sample for sample in samples if sample.device == device]
            gpu = calibrated_gpu(device, problem.data_set)
            truth = np.array([sample.seconds for sample in mine])
            ours = gpu_operator_seconds(gpu, [sample.operator for sample in mine])
            rule = np.array([aic_rule_seconds(gpu, sample.operator) for sample in mine])
            roof = np.array([roofline_seconds(gpu, sample.operator) for sample in mine])
            shown = [100.0 * float(np.mean(np.abs(found / truth - 1.0))) for found in (ours, rule, roof)]
            label = f"{problem.name} [{problem.data_set}]"
            print(f"{label:38s} {device:20s} {len(mine):5d} {shown[0]:6.1f} {shown[1]:6.1f} {shown[2]:8.1f}")


def _scored_without(problem: Problem, block: Block, out: set[str]) -> np.ndarray:
    scored = np.array([model in out for model in block.models])
    train = Block(block.name, block.machine, block.path.copy(), block.rows[~scored], block.truth_s[~scored], block.run)
    Fit([train], problem.own).search(40)
    test = Block(block.name, block.machine, train.path, block.rows[scored], block.truth_s[scored], block.run)
    return test.errors()


def _family(block: Block) -> str:
    return "gddr" if _generation(block) in GDDR else "hbm"


def _generation(block: Block) -> str:
    timing = block.machine.kernels
    assert isinstance(timing, GpuKernels)
    return timing.generation


def _only_source(block: Block) -> bool:
    return _generation(block) in ("ampere-rtx", "cdna2")


def write(found: dict[str, tuple[Problem, list[Block]]]) -> None:
    """Constants into the YAML files, rounded to three digits."""
    updates: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
    means: dict[tuple[str, tuple[str, ...]], list[float]] = defaultdict(list)
    records: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for problem, blocks in found.values():
        everywhere = names(problem.shared) if problem.data_set == "gpu-silicon" else []
        for name in everywhere:
            updates["common"][*problem.section, name] = float(blocks[0].path[name][0])
        for block in blocks:
            record = f"{block.name}.{problem.data_set}"
            free = [*names(problem.own), *names(problem.shared)]
            fixed = [name for name in (problem.seeds or {}) if name not in free]
            if problem.section == ("moe",):
                fixed += MEMORY[:1]
            if problem.section[0] == "gemm":
                fixed += [name for name in MEMORY if name not in names(problem.own)]
            for name in [*names(problem.own), *fixed, *(n for n in names(problem.shared) if n not in everywhere)]:
                updates[record][*problem.section, name] = float(block.path[name][0])
                if problem.data_set == "gpu-silicon" or (_only_source(block) and name not in REGIME):
                    means[_generation(block), (*problem.section, name)].append(float(block.path[name][0]))
                if problem.data_set == "gpu-silicon" and not (
                    _generation(block) in OWN_ATTENTION and problem.section[0] in ("prefill", "decode")
                ):
                    means["common", (*problem.section, name)].append(float(block.path[name][0]))
            error = 100.0 * float(np.mean(np.abs(block.errors())))
            records[record]["-".join(problem.section)] = (block.rows.size, error)
    for (file, path), numbers in means.items():
        middle = geometric_mean(numbers) if min(numbers) > 0 else float(np.mean(numbers))
        updates[file][path] = float(np.median(numbers)) if file == "common" else middle
    for file, entries in updates.items():
        update_file(KERNELS / f"{file}.yaml", entries, records.get(file))


def update_file(path: Path, entries: dict[tuple[str, ...], float], record: dict[str, tuple[int, float]] | None) -> None:
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    document = yaml.load(path.read_text(encoding="utf-8"))
    for keys, value in entries.items():
        target = document
        for key in keys[:-1]:
            target = target.setdefault(key, {})
        name = keys[-1].removesuffix("_s")
        if name in SECONDS:
            target[name] = f"{value * 1e6:.3g} us"
        else:
            target[name] = float(f"{value:.3g}")
    if record:
        calibration = document.setdefault("calibration", {})
        calibration["data_set"] = path.stem.rpartition(".")[2]
        calibration["date"] = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        calibration.setdefault("rows", {}).update({name: rows for name, (rows, _) in record.items()})
        calibration.setdefault("mape_pct", {}).update({name: float(f"{e:.3g}") for name, (_, e) in record.items()})
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="folder with gpu_silicon/, measured_llm/, llmcompass/")
    parser.add_argument("--write", action="store_true", help="update hwconfigs/gpu_kernels")
    parser.add_argument("--only", nargs="*", default=[], help="problems whose name contains one of these")
    parser.add_argument("--no-tables", action="store_true", help="leave out the leave-one-out tables")
    chosen = parser.parse_args(arguments)
    shared: dict[tuple[str, ...], dict[str, float]] = {}
    memory: dict[str, dict[str, float]] = {}
    found: dict[str, tuple[Problem, list[Block]]] = {}
    for problem in PROBLEMS:
        label = f"{problem.name} [{problem.data_set}]"
        if not chosen.only or any(word in label for word in chosen.only):
            found[label] = (problem, fit(problem, chosen.reference, shared, memory))
    if chosen.write:
        write(found)
    if not chosen.no_tables:
        for problem, blocks in found.values():
            if problem in SILICON and len(blocks) > 2:
                leave_one_device_out(problem, blocks)
            if problem in VIDUR[:1]:
                leave_one_model_out(problem, blocks)
        beside_others([problem for problem, _ in found.values()], chosen.reference)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
