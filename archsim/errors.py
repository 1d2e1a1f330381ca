"""The errors a user can cause, each with the exit code the command line returns for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ArchsimError(Exception):
    """Base of every error that is reported as one line, without a traceback."""

    exit_code = 2


class CheckFailedError(ArchsimError):
    """A check that the user asked for did not pass."""

    exit_code = 1


class UsageError(ArchsimError):
    """The call itself is wrong: an unknown name, a bad option value."""

    exit_code = 2


class ConfigError(ArchsimError):
    """A description is wrong. Carries where: file, line and key path, as far as they are known."""

    exit_code = 2

    def __init__(
        self, problem: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.problem, self.file, self.line, self.key = problem, file, line, key
        place = f"{file}:{line}" if file and line else (file or "")
        super().__init__(": ".join(part for part in (place, key, problem) if part))


class InfeasibleError(ArchsimError):
    """The design is well formed but cannot run the work, because something does not fit."""

    exit_code = 3


class InputError(ArchsimError):
    """A data file (trace, result, reference) is unreadable, truncated or corrupt."""

    exit_code = 4


def suggest(name: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the allowed name nearest to `name`, or an empty string."""
    near = difflib.get_close_matches(str(name), list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""


def unknown_name(what: str, name: str, allowed: Iterable[str]) -> str:
    """One line for a name that is not in `allowed`: what was found, what is allowed, the nearest."""
    names = sorted(allowed)
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f"unknown {what} {name!r}{suggest(name, names)} (allowed: {shown or 'none'})"
