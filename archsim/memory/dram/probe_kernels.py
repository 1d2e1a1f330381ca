"""Asking the constraint tables: after these commands, when may that one issue?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay
from archsim.memory.dram.bank_kernels import apply_constraints, ready_at, scope_ready_at
from archsim.memory.tables.jit_kernels import entry


@entry
def earliest_after(
    s: NDArray[np.int64], o: int, roles: NDArray[np.int64], banks: NDArray[np.int64], t: int, follow: int, bank: int
) -> int:
    """Earliest tick of a command of class `follow` to flat bank `bank` after all of `roles` issued to `banks` at `t`.

    s  engine array, changed; o  start of the channel block; roles, banks  (n,)
    """
    for k in range(roles.size):
        b = (o + lay.BANK + lay.BANK_SIZE * banks[k]) & lay.AT
        apply_constraints(s, o, roles[k] & lay.AT, b, t)
    b = (o + lay.BANK + lay.BANK_SIZE * bank) & lay.AT
    if follow == lay.F_PREA or follow == lay.F_REFAB:
        return scope_ready_at(s, b, follow)
    return ready_at(s, b, follow, s[lay.G_MODE])
