"""The kinds of description: their schema class (imported on use) and the folder of their presets."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from archsim.config.base import Preset
from archsim.errors import UsageError, unknown_name


@dataclass(frozen=True)
class Kind:
    """`schema` is `module:class` below archsim.config.schemas; `folder` is relative to the preset root."""

    name: str
    schema: str
    folder: str

    def schema_class(self) -> type[Preset]:
        """The pydantic class that validates this kind."""
        module, _, name = self.schema.partition(":")
        found: type[Preset] = getattr(importlib.import_module(f"archsim.config.schemas.{module}"), name)
        return found


KINDS = {
    kind.name: kind
    for kind in (
        Kind("system", "system:System", "hwconfigs/system"),
        Kind("gpu", "gpu:Gpu", "hwconfigs/gpu"),
        Kind("gpu-kernels", "gpu_library:GpuKernels", "hwconfigs/gpu_kernels"),
        Kind("framework", "launch:Launch", "hwconfigs/framework"),
        Kind("conversion", "conversion:Conversions", "hwconfigs/conversion"),
        Kind("npu", "npu:Npu", "hwconfigs/npu"),
        Kind("cpu", "cpu:Cpu", "hwconfigs/cpu"),
        Kind("pim", "pim:Pim", "hwconfigs/pim"),
        Kind("neupims", "pim_neupims:NeupimsDevice", "hwconfigs/neupims"),
        Kind("memory", "memory:Memory", "hwconfigs/memory"),
        Kind("link", "link:Link", "hwconfigs/link"),
        Kind("expander", "expander:Expander", "hwconfigs/expander"),
        Kind("cost", "cost:Cost", "hwconfigs/cost"),
        Kind("economics", "economics:Economics", "hwconfigs/economics"),
        Kind("model", "model:Model", "workloads/models"),
        Kind("oracle", "oracle:Oracle", "hwconfigs/oracle"),
        Kind("requests", "requests:Requests", "workloads/requests"),
        Kind("events", "events:NodeEvents", "workloads/events"),
        Kind("space", "space:Space", "workloads/spaces"),
    )
}


def find_kind(name: str) -> Kind:
    """The kind called `name`. Raises UsageError with the names there are."""
    if name not in KINDS:
        raise UsageError(unknown_name("kind", name, KINDS))
    return KINDS[name]
