"""Links, topologies and collectives."""

from archsim.network.collectives import (
    all_gather_joules,
    all_gather_seconds,
    all_reduce_joules,
    all_reduce_protocol,
    all_reduce_seconds,
    all_to_all_joules,
    all_to_all_seconds,
    broadcast_joules,
    broadcast_seconds,
    gather_joules,
    gather_seconds,
    reduce_scatter_joules,
    reduce_scatter_seconds,
    send_receive_seconds,
    transfer_joules,
    transfer_seconds,
)
from archsim.network.links import memory_bandwidth

__all__ = [
    "all_gather_joules",
    "all_gather_seconds",
    "all_reduce_joules",
    "all_reduce_protocol",
    "all_reduce_seconds",
    "all_to_all_joules",
    "all_to_all_seconds",
    "broadcast_joules",
    "broadcast_seconds",
    "gather_joules",
    "gather_seconds",
    "memory_bandwidth",
    "reduce_scatter_joules",
    "reduce_scatter_seconds",
    "send_receive_seconds",
    "transfer_joules",
    "transfer_seconds",
]
