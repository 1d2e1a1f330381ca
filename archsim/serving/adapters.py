"""Adapters (LoRA) of a trace on machines: bytes, places, load times, and what they add to an iteration.

An adapter of rank r has two thin matrices for each of the query, key, value and output projections of every layer, in
the precision of activations: what S-LoRA (MLSys 2024) serves. For a model without grouped heads they take as much
memory as the keys and values of 4 r tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from archsim.config.schemas.model import Model
from archsim.errors import UsageError
from archsim.serving.nodes import Loading
from archsim.serving.oracle import LatencyOracle
from archsim.serving.state_kernels import ADAPTER
from archsim.workload.traces import Trace


@runtime_checkable
class AdapterOracle(Protocol):
    """An oracle that knows what adapters add to an iteration; others add nothing."""

    def adapter_s(self, weight_bytes: float, flop_per_token: float) -> tuple[float, float]:
        """Seconds to read an adapter that an iteration uses, and for each token that uses it."""
        ...


def adapter_weights(model: Model, rank: int) -> int:
    """Elements of an adapter of the four attention projections."""
    queries, keys = model.heads * model.head_size, model.key_value_heads * model.head_size
    return model.layers * rank * 2 * ((model.hidden + queries) + (model.hidden + keys))


def adapter_rows(
    trace: Trace, model: Model | None, oracles: Sequence[LatencyOracle], block_tokens: int, loading: Loading | None
) -> NDArray[np.void] | None:
    """(machines, adapters) ADAPTER; None for a trace without adapters. Raises UsageError if something is not said."""
    if trace.adapter is None:
        return None
    if model is None:
        raise UsageError(f"{trace.name} has adapters: a model is needed, their size follows from it")
    if loading is None:
        raise UsageError(f"{trace.name} has adapters, but nothing says how fast they load: give --host-link LINK")
    rows = np.zeros((len(oracles), len(trace.adapters)), dtype=ADAPTER)
    for m, oracle in enumerate(oracles):
        for row, adapter in zip(rows[m], trace.adapters, strict=True):
            weights = adapter_weights(model, adapter.rank)
            bytes_ = weights * model.activation_element_bytes
            row["blocks"] = int(np.ceil(bytes_ / model.kv_bytes(block_tokens)))
            row["load_ns"] = max(1, round(loading.seconds(bytes_) * 1e9))
            if isinstance(oracle, AdapterOracle):
                row["read_s"], row["token_s"] = oracle.adapter_s(bytes_, 2.0 * weights)
    return rows
