"""Fit the constants of the GPU kernel model to measured operators and print how well they carry over.

    python scripts/fit_gpu.py REFERENCE_DIR [--write] [--only NAME ...] [--no-tables] [--ablate]

REFERENCE_DIR holds gpu_silicon/, measured_llm/ and llmcompass/ (the tables that `archsim validate` reads). With
--write the shared constants go to hwconfigs/gpu_kernels/common.yaml, each device's own to its calibration record,
their medians to the file of its generation, and those of DRAM and L2 to hbm or gddr, by the kind of memory. Keys that
no fit owns (tiles, what a library can do, vector kernels of 2025 on Hopper and Blackwell) stay as they are.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML

from archsim.compute.gpu import gpu_operator_seconds
from archsim.config.schemas.gpu_library import GpuKernels
from archsim.validation.silicon.baselines import aic_rule_seconds, roofline_seconds
from archsim.validation.silicon.constants import WITHOUT
from archsim.validation.silicon.fit import Block, Constant, Fit, assign, summary, values
from archsim.validation.silicon.predict import calibrated_gpu
from archsim.validation.silicon.problems import PROBLEMS, SILICON, VIDUR, Problem, errors_of

KERNELS = Path(__file__).resolve().parents[1] / "hwconfigs" / "gpu_kernels"
MEMORY = ("bandwidth_share", "l2_share")
# generations with attention kernels of their own; `common` describes FlashAttention 2
OWN_ATTENTION = ("hopper", "blackwell")
GDDR = ("turing", "ampere-rtx", "ada", "blackwell-rtx")  # every other generation has memory stacks
REGIME = ("launch_s",)  # belongs to how a data set was timed, not to a device
Found = dict[tuple[str, ...], dict[Constant, float]]


def fit(problem: Problem, folder: Path, shared: Found, memory: Found) -> list[Block]:
    """The problem's blocks with fitted constants.

    shared  section -> constants of all devices found before
    memory  (device, section) -> own constants found before
    """
    blocks = problem.blocks(folder)
    for block in blocks:
        _start(problem, block, shared, memory)
    began = time.process_time()
    # what is common to GPUs has to serve the libraries of 2023-24 too
    beside = VIDUR[0].blocks(folder) if problem is SILICON[0] else []
    Fit([*blocks, *beside], (*problem.own, *problem.shared)).search_widely(np.random.default_rng(0))
    for block in blocks:  # as they will be written
        for constant in (*problem.own, *problem.shared):
            constant.put(block, float(f"{constant.of(block):.3g}"))
    if problem.data_set == "gpu-silicon":
        shared[problem.section] = {c: _anywhere(c, blocks) for c in problem.shared}
    for block in blocks:
        if problem.data_set == "gpu-silicon" or problem.section[0] in ("prefill", "decode"):
            memory[(block.name, *problem.section)] = values(block, problem.own)
    seconds = time.process_time() - began
    rows = sum(block.rows.size for block in blocks)
    print(f"\n{problem.name} [{problem.data_set}]: {_counts(problem)}, {rows} rows, {seconds:.0f} CPU s")
    for block in blocks:
        own = _listed(values(block, problem.own))
        print(f"  {block.name:20s} {block.rows.size:5d} rows  {summary(block.errors())}  {own}")
    print(f"  {'all':20s} {'':10s} {summary(errors_of(blocks))}  {_listed(shared.get(problem.section, {}))}")
    return blocks


def _start(problem: Problem, block: Block, shared: Found, memory: Found) -> None:
    """Constants found in other sections and data sets hold for `block` unless the problem fits them."""
    seeds = problem.seeds or {}
    if problem.data_set != "gpu-silicon" and problem.section in shared:
        assign(block, {c: v for c, v in shared[problem.section].items() if c.name not in seeds})
    for name, section in (problem.tied or {}).items():
        assign(block, {c: v for c, v in shared.get(section, {}).items() if c.name == name})
    known = memory.get((block.name, "gemm", "fp16"), {}) if problem.section[0] == "gemm" else {}
    if problem.section == ("moe",):  # both stream from DRAM
        known = memory.get((block.name, "decode"), {})
    if problem.section == ("mixed",):
        assign(block, memory[block.name, "prefill"])
    wanted = MEMORY[:1] if problem.section == ("moe",) else MEMORY
    assign(block, {c: v for c, v in known.items() if c.name in wanted})


def _anywhere(constant: Constant, blocks: list[Block]) -> float:
    """A shared constant's value: that of any block that has the step."""
    return max(constant.of(block) for block in blocks) if constant.floor == 0.0 else constant.of(blocks[0])


def _listed(found: dict[Constant, float]) -> str:
    return ", ".join(f"{c.name.removesuffix('_s')} {c.text(value)}" for c, value in found.items())


def _counts(problem: Problem) -> str:
    shared = len(problem.shared) if problem.data_set == "gpu-silicon" else 0
    return f"{shared} constants of all GPUs, {len(problem.own) + len(problem.shared) - shared} a device"


def count(problems: Iterable[Problem]) -> None:
    """How many numbers the model has been given, by operator class."""
    print("\nfitted constants by operator class: of all GPUs | of a device")
    total = 0
    for problem in problems:
        if problem in SILICON:
            total += len(problem.shared)
            print(f"  {problem.name:20s} {len(problem.shared):2d} | {len(problem.own)}")
    print(f"  {'together':20s} {total:2d}")


def stand_ins(problem: Problem, block: Block, others: list[Block], constant: Constant) -> list[Block]:
    """Devices whose median stands in for an own constant of a device that nobody measured.

    Those of its generation; else, for what belongs to memory and L2, those with the same kind of memory; for attention,
    those with as old a library; else all.
    """
    groups = [[o for o in others if _generation(o) == _generation(block)]]
    if constant.name in MEMORY:
        groups.append([o for o in others if _family(o) == _family(block)])
    elif problem.section[0] in ("prefill", "decode"):
        own = _generation(block) in OWN_ATTENTION
        groups.append([o for o in others if (_generation(o) in OWN_ATTENTION) == own])
    return next((group for group in groups if group), others)


def leave_one_device_out(problem: Problem, blocks: list[Block]) -> None:
    """Shared constants from the other devices, own ones by the rule of `stand_ins`, beside plain medians of all."""
    print(f"\n{problem.name}: a device left out, its datasheet with constants of the others (MAPE / bias / p95)")
    print(f"  {'':20s} {'as a preset without calibration':40s} medians of all others")
    kept = [block.path.copy() for block in blocks]
    for out, block in enumerate(blocks):
        others = [other for i, other in enumerate(blocks) if i != out]
        Fit(others, (*problem.own, *problem.shared), step=0.12).search(40)
        assign(block, {c: _anywhere(c, others) for c in problem.shared})
        shown = []
        for rule in (True, False):
            for constant in problem.own:
                group = stand_ins(problem, block, others, constant) if rule else others
                constant.put(block, float(np.median([constant.of(other) for other in group])))
            shown.append(summary(block.errors()))
        kin = "its generation" if any(_generation(o) == _generation(block) for o in others) else "no relative"
        print(f"  {block.name:20s} {shown[0]} ({kin:14s})   {shown[1]}")
        for other, path in zip(blocks, kept, strict=True):
            other.path[:] = path


def rows_left_out(problem: Problem, blocks: list[Block]) -> None:
    """Every constant fitted on a random half of each device's rows and scored on the other half, both ways."""
    halves = [np.random.default_rng(1).permutation(block.rows.size) < block.rows.size // 2 for block in blocks]
    errors: dict[str, list[np.ndarray]] = defaultdict(list)
    for side in (True, False):
        training = [_part(block, half == side) for block, half in zip(blocks, halves, strict=True)]
        Fit(training, (*problem.own, *problem.shared), step=0.12).search(40)
        for block, half, trained in zip(blocks, halves, training, strict=True):
            test = _part(block, half != side)
            test.path[:] = trained.path
            errors[block.name].append(test.errors())
    shown = {name: np.concatenate(parts) for name, parts in errors.items()}
    print(f"\n{problem.name}: fitted on half of the rows, scored on the other half (MAPE / bias / p95)")
    for name, found in (*shown.items(), ("all", np.concatenate(list(shown.values())))):
        print(f"  {name:20s} {summary(found)}")


def _part(block: Block, chosen: np.ndarray) -> Block:
    return replace(block, path=block.path.copy(), rows=block.rows[chosen], truth_s=block.truth_s[chosen])


def without_each(problem: Problem, blocks: list[Block]) -> None:
    """What each shared constant is worth: MAPE of all devices without it, everything else fitted again."""
    kept = [block.path.copy() for block in blocks]
    print(f"\n{problem.name}: without one shared constant (with all of them {_mape(blocks):.2f} %)")
    for gone in problem.shared:
        for block in blocks:
            if gone.floor > 0 or gone.of(block) > 0:
                gone.put(block, WITHOUT[gone.name])
        Fit(blocks, [c for c in (*problem.own, *problem.shared) if c is not gone], step=0.12).search(40)
        print(f"  {gone.name:26s} {_mape(blocks):6.2f} %")
        for block, path in zip(blocks, kept, strict=True):
            block.path[:] = path


def _mape(blocks: list[Block]) -> float:
    return 100.0 * float(np.mean(np.abs(errors_of(blocks))))


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
    updates: dict[str, dict[tuple[str, ...], str | float]] = defaultdict(dict)
    means: dict[tuple[str, tuple[str, ...], Constant], list[float]] = defaultdict(list)
    records: dict[str, dict[str, tuple[int, float]]] = defaultdict(dict)
    for problem, blocks in found.values():
        silicon = problem.data_set == "gpu-silicon"
        if silicon:
            _write_shared(problem, blocks, updates["common"])
        for block in blocks:
            record = f"{block.name}.{problem.data_set}"
            for constant in _owned(problem):
                value = constant.of(block)
                updates[record][*problem.section, constant.name] = constant.text(value)
                if silicon or (_only_source(block) and constant.name not in REGIME):
                    means[_generation(block), problem.section, constant].append(value)
                if silicon and not (
                    _generation(block) in OWN_ATTENTION and problem.section[0] in ("prefill", "decode")
                ):
                    means["common", problem.section, constant].append(value)
                if silicon and constant.name in MEMORY:
                    means[_family(block), problem.section, constant].append(value)
            error = 100.0 * float(np.mean(np.abs(block.errors())))
            records[record]["-".join(problem.section)] = (block.rows.size, error)
    for (file, section, constant), numbers in means.items():
        updates[file][*section, constant.name] = constant.text(float(np.median(numbers)))
    for file, entries in updates.items():
        update_file(KERNELS / f"{file}.yaml", entries, records.get(file))


def _write_shared(problem: Problem, blocks: list[Block], into: dict[tuple[str, ...], str | float]) -> None:
    for constant in problem.shared:
        into[*problem.section, constant.name] = constant.text(_anywhere(constant, blocks))
    for name, section in (problem.tied or {}).items():
        into[*problem.section, name] = into[*section, name]


def _owned(problem: Problem) -> list[Constant]:
    """Constants that a calibration record states: those of the device, and what holds for it in this data set."""
    owned = [*problem.own, *(problem.shared if problem.data_set != "gpu-silicon" else ())]
    named = {constant.name for constant in owned}
    fixed = [*(problem.seeds or {}), *(MEMORY if problem.section[0] == "gemm" else ())]
    if problem.section == ("moe",):
        fixed += MEMORY[:1]
    return [*owned, *(Constant(name, 0.0, 0.0) for name in dict.fromkeys(fixed) if name not in named)]


def update_file(
    path: Path, entries: dict[tuple[str, ...], str | float], record: dict[str, tuple[int, float]] | None
) -> None:
    """Set `entries` in a file and leave the rest; a calibration record keeps nothing else in a section it has."""
    yaml = YAML()
    yaml.width = 4096
    yaml.preserve_quotes = True
    document = yaml.load(path.read_text(encoding="utf-8"))
    if record:
        for section in {keys[:-1] for keys in entries}:
            _section(document, section).clear()
    for keys, value in entries.items():
        _section(document, keys[:-1])[keys[-1].removesuffix("_s")] = value
    if record:
        calibration = document.setdefault("calibration", {})
        calibration["data_set"] = path.stem.rpartition(".")[2]
        calibration["date"] = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        calibration.setdefault("rows", {}).update({name: rows for name, (rows, _) in record.items()})
        calibration.setdefault("mape_pct", {}).update({name: float(f"{e:.3g}") for name, (_, e) in record.items()})
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def _section(document: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        document = document.setdefault(key, {})
    return document


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="folder with gpu_silicon/, measured_llm/, llmcompass/")
    parser.add_argument("--write", action="store_true", help="update hwconfigs/gpu_kernels")
    parser.add_argument("--only", nargs="*", default=[], help="problems whose name contains one of these")
    parser.add_argument("--no-tables", action="store_true", help="leave out the leave-one-out tables")
    parser.add_argument("--ablate", action="store_true", help="print what each shared constant is worth")
    chosen = parser.parse_args(arguments)
    shared: Found = {}
    memory: Found = {}
    found: dict[str, tuple[Problem, list[Block]]] = {}
    for problem in PROBLEMS:
        label = f"{problem.name} [{problem.data_set}]"
        if not chosen.only or any(word in label for word in chosen.only):
            found[label] = (problem, fit(problem, chosen.reference, shared, memory))
    count(problem for problem, _ in found.values())
    if chosen.write:
        write(found)
    if chosen.ablate:
        for problem, blocks in found.values():
            if problem in SILICON:
                without_each(problem, blocks)
    if not chosen.no_tables:
        for problem, blocks in found.values():
            if problem in SILICON and len(blocks) > 2:
                leave_one_device_out(problem, blocks)
            if problem in SILICON and problem.section != ("moe",):  # whose runs hold the loads of all rows
                rows_left_out(problem, blocks)
            if problem in VIDUR[:1]:
                leave_one_model_out(problem, blocks)
        beside_others([problem for problem, _ in found.values()], chosen.reference)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
