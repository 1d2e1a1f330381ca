"""What has to be in which memory, whether it fits, and the largest batch that does."""

from __future__ import annotations

import math

from archsim.config.schemas.model import Model
from archsim.config.schemas.system import System, Unit
from archsim.errors import InfeasibleError
from archsim.mapping.plan import Places
from archsim.mapping.spill import move_overflow
from archsim.results import Capacity, UnitCapacity
from archsim.units import format_bytes

MAX_BATCH = 1 << 20


def device_capacity_bytes(unit: Unit) -> float:
    """Memory of one device of a unit."""
    if unit.memory_capacity is not None:
        return unit.memory_capacity
    if unit.type == "pim" or unit.type == "neupims":
        return unit.device.capacity_bytes
    if unit.type == "memory":
        return unit.device.capacity
    return unit.device.memory_capacity


def requirements(system: System, model: Model, batch: int, input_len: int, output_len: int) -> list[UnitCapacity]:
    """Bytes each memory of the machine must hold, and what for; one entry for every unit with a memory of its own.

    weights      where they are used, a copy for every data-parallel group
    kv           where decode attention runs; the last token's keys and values are never read again, so not kept
    activations  on the main unit: the largest operator of one request's prompt (prompts may be taken one by one) or
                 of the decode batch, all its inputs and outputs; an encoder holds the whole batch
    With `mapping.spill`, what overflows the main unit lies there.
    """
    places = Places.of(system, "decode")
    contents: dict[str, dict[str, float]] = {_home(system, name): {} for name in system.units}
    slips = system.mapping.reference_slips
    weights = model.layers * model.layer_weight_bytes if slips else model.weight_bytes
    main = contents[_home(system, places.main)]
    main["weights"] = weights * places.groups
    if not slips:
        main["activations"] = _activation_bytes(model, places, batch, input_len)
    kv = contents[_home(system, places.kv_home)]
    kv["kv"] = batch * model.kv_bytes(input_len + output_len - 1) * _kv_copies(model, places)
    home = _home(system, places.main)
    move_overflow(system, contents, device_capacity_bytes(system.units[home]) * system.units[home].count)
    return [
        UnitCapacity(
            unit=name,
            required_bytes=sum(held.values()),
            available_bytes=device_capacity_bytes(system.units[name]) * system.units[name].count,
            contents=held,
        )
        for name, held in contents.items()
    ]


def _home(system: System, unit: str) -> str:
    return system.units[unit].memory_in or unit


def _activation_bytes(model: Model, places: Places, batch: int, input_len: int) -> float:
    share = math.ceil(batch / places.groups)
    prompts = share if model.architecture == "encoder" else 1
    rows = max(prompts * input_len, share)
    width = 2 * model.hidden * places.ways + max(
        (model.heads + 2 * model.key_value_heads) * model.head_size,
        (3 if model.ffn_gated else 2) * model.ffn_hidden * (model.experts.active if model.experts else 1),
    )
    scores = 2.0 * model.heads * input_len * input_len * prompts  # a request's score matrix and its softmax
    return places.groups * (rows * width + scores) * model.activation_element_bytes


def capacity(system: System, model: Model, batch: int, input_len: int, output_len: int) -> Capacity:
    """Capacity use at `batch`, and the largest batch that fits."""
    units = requirements(system, model, batch, input_len, output_len)
    return Capacity(
        required_bytes=sum(unit.required_bytes for unit in units),
        available_bytes=sum(unit.available_bytes for unit in units),
        fits=_lacking(system, units) is None,
        max_batch=largest_batch(system, model, input_len, output_len),
        units=tuple(units),
    )


def largest_batch(system: System, model: Model, input_len: int, output_len: int) -> int:
    """The largest batch that fits; 0 if not even one request does."""

    def fits(batch: int) -> bool:
        return _lacking(system, requirements(system, model, batch, input_len, output_len)) is None

    if not fits(1):
        return 0
    low, high = 1, 2
    while high <= MAX_BATCH and fits(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if system.mapping.capacity == "pooled" and system.mapping.reference_slips:
        return low + 1  # the AttAcc paper's points round the quotient up
    return low


def free_bytes(system: System, model: Model, unit: str, batch: int, input_len: int, output_len: int) -> float:
    """What is left of a unit's memory beside what it must hold."""
    for found in requirements(system, model, batch, input_len, output_len):
        if found.unit == _home(system, unit):
            return max(0.0, found.available_bytes - found.required_bytes)
    return 0.0


def kv_room_bytes(system: System, model: Model, longest_prompt: int) -> float:
    """What the memory of decode attention has left for keys and values beside weights and activations."""
    places = Places.of(system, "decode")
    copies = _kv_copies(model, places)
    room = free_bytes(system, model, places.kv_home, 1, longest_prompt, 1)
    return (room + model.kv_bytes(longest_prompt) * copies) / copies


def _kv_copies(model: Model, places: Places) -> int:
    """Tensor-parallel devices beyond the number of key/value heads hold copies."""
    return max(1, math.ceil(places.ways / model.key_value_heads)) if places.kv_home == places.main else 1


def check_fits(system: System, model: Model, batch: int, input_len: int, output_len: int) -> Capacity:
    """`capacity`, or InfeasibleError with one sentence that says what lacks how much."""
    found = capacity(system, model, batch, input_len, output_len)
    if found.fits or system.mapping.reference_slips:
        return found
    lacking = _lacking(system, list(found.units))
    assert lacking is not None
    held = ", ".join(f"{what} {format_bytes(size)}" for what, size in lacking.contents.items())
    advice = f"the largest batch that fits is {found.max_batch}" if found.max_batch else "not even batch 1 fits"
    raise InfeasibleError(
        f"{system.name} cannot hold {model.name} at batch {batch} with {input_len}+{output_len} tokens: {lacking.unit} "
        f"needs {format_bytes(lacking.required_bytes)} ({held}) but has {format_bytes(lacking.available_bytes)}, "
        f"{format_bytes(lacking.required_bytes - lacking.available_bytes)} short; {advice}"
    )


def _lacking(system: System, units: list[UnitCapacity]) -> UnitCapacity | None:
    """The unit that lacks most, or None if everything fits; the pool counts as one unit."""
    if system.mapping.capacity == "pooled":
        contents: dict[str, float] = {}
        for unit in units:
            for what, size in unit.contents.items():
                contents[what] = contents.get(what, 0.0) + size
        available = sum(unit.available_bytes for unit in units)
        units = [UnitCapacity("all memories together", sum(contents.values()), available, contents)]
    worst = max(units, key=lambda unit: unit.required_bytes - unit.available_bytes)
    return worst if worst.required_bytes > worst.available_bytes else None
