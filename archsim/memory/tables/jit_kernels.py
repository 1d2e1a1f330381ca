"""How the functions of the command engine are compiled.

`entry` functions are called from Python and kept in the disk cache. `inner` functions are only ever part of an entry:
they are merged into it (`forceinline`), so they need no cache entry and no Python wrapper. `_nrt=False` drops
reference counting, which no engine function needs since none allocates: two atomic operations less per call.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar  # noqa: UP035  (kernel files import little)

from numba import njit

F = TypeVar("F", bound=Callable[..., Any])


def entry(function: F) -> F:
    """Compile a function that Python calls."""
    compiled: F = njit(cache=True, nogil=True, _nrt=False)(function)
    return compiled


def inner(function: F) -> F:
    """Compile a small function that is merged into its caller."""
    compiled: F = njit(nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)(
        function
    )
    return compiled


def outlined(function: F) -> F:
    """Compile a rarely called function that stays a call."""
    compiled: F = njit(nogil=True, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
    return compiled
