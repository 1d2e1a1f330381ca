"""What a reader must know about a result, below its tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console


def print_notes(notes: Iterable[str], console: Console) -> None:
    """Each once, one line each."""
    for note in dict.fromkeys(notes):
        console.print(f"note: {escape(note)}", highlight=False)
