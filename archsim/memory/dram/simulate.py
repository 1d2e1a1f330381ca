"""`simulate_memory`: a device, a stream of requests, a controller -> a MemoryResult."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from archsim.config.schemas.memory import Memory
    from archsim.memory.dram.controller import Controller
    from archsim.memory.dram.result import MemoryResult
    from archsim.memory.dram.streams import Stream


def simulate_memory(
    device: Memory | str,
    stream: Stream | str,
    controller: Controller | dict[str, Any] | None = None,
    *,
    parameters: dict[str, Any] | None = None,
    explain: bool = True,
    trace: bool = False,
    requests: bool = False,
    advance: Any = None,
) -> MemoryResult:
    """Simulate every DRAM command of a request stream.

    device      a loaded description, or a preset name or path
    stream      a Stream (see archsim.memory.dram.streams), or a pattern name with `parameters`
    controller  options (see archsim.memory.dram.controller.Controller), default: FR-FCFS, open rows, one channel
    explain     compute the bandwidth stack (costs about as much again as the run itself)
    trace       keep every command; requests: keep the end tick of every request (both need memory)
    advance     called with the number of requests offered so far, for progress

    Raises ConfigError, UsageError or InputError for what does not fit together, InfeasibleError for a run that stops.
    """
    from archsim.config import load
    from archsim.memory.dram.controller import Controller, controller_from
    from archsim.memory.dram.run import run_stream

    loaded: Memory = load("memory", device) if isinstance(device, str) else device
    options = controller if isinstance(controller, Controller) else controller_from(dict(controller or {}))
    return run_stream(
        loaded, stream, options, parameters or {}, explain=explain, trace=trace, requests=requests, advance=advance
    )
