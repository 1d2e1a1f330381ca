"""Decoding byte addresses into packed locations."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from archsim.memory.dram import layout_kernels as lay

_BLOCK = 1024  # requests whose locations stay in the nearest cache


@njit(cache=True, nogil=True)
def decode(
    addresses: NDArray[np.int64],
    writes: NDArray[np.int64],
    slices: NDArray[np.int64],
    divide: int,
    tx_bits: int,
    out: NDArray[np.int64],
) -> None:
    """Packed location (see layout_kernels) of each address.

    addresses  (n,) bytes
    writes     (n,) 0 or 1
    slices     (k, 3) source shift, mask, target shift
    divide     number of channels to cut out by division, 0: the slices do it
    out        (n,) packed locations
    """
    low = (1 << tx_bits) - 1
    for first in range(0, addresses.size, _BLOCK):
        part = slice(first, min(first + _BLOCK, addresses.size))
        own, location = addresses[part], out[part]
        for i in range(own.size):
            location[i] = writes[first + i] << lay.LOC_WRITE
        if divide > 0:
            for i in range(own.size):
                location[i] |= ((own[i] >> tx_bits) % divide) << lay.LOC_CHANNEL
        for k in range(slices.shape[0]):
            shift, mask, target = slices[k, 0], slices[k, 1], slices[k, 2]
            if divide > 0:
                for i in range(own.size):
                    a = ((own[i] >> tx_bits) // divide << tx_bits) | (own[i] & low)
                    location[i] ^= ((a >> shift) & mask) << target
            else:
                for i in range(own.size):
                    location[i] ^= ((own[i] >> shift) & mask) << target
