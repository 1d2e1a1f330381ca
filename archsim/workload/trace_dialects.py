"""Published traces by the names their own columns have: Azure, BurstGPT, Mooncake, LLMServingSim.

Sources of the columns: AzurePublicDataset (LLM inference traces), HPMLL/BurstGPT, kvcache-ai/Mooncake (FAST'25 traces),
casys-kaist/LLMServingSim (workloads).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Dialect:
    """Names of the columns arrival_s, prompt_tokens and output_tokens, and seconds of a unit of time (0: a date)."""

    arrival: str
    prompt: str
    output: str
    unit_s: float

    @property
    def columns(self) -> tuple[str, str, str]:
        """In our order."""
        return self.arrival, self.prompt, self.output


DIALECTS = {
    "azure": Dialect("TIMESTAMP", "ContextTokens", "GeneratedTokens", 0.0),
    "burstgpt": Dialect("Timestamp", "Request tokens", "Response tokens", 1.0),
    "mooncake": Dialect("timestamp", "input_length", "output_length", 1e-3),
    "llmservingsim": Dialect("arrival_time_ns", "input_toks", "output_toks", 1e-9),
}
OWN = Dialect("arrival_s", "prompt_tokens", "output_tokens", 1.0)


def dialect_of(header: Sequence[str]) -> Dialect:
    """The dialect all of whose columns are in `header`; ours if there is none."""
    return next((one for one in DIALECTS.values() if set(one.columns) <= set(header)), OWN)


def to_seconds(dialect: Dialect) -> Callable[[str], str]:
    """Turns an arrival into seconds, a date into those since the first one; what is no time stays as it is."""
    first: list[datetime] = []

    def since_first(text: str) -> str:
        try:
            when = datetime.fromisoformat(text.strip())
            if not first:
                first.append(when)
            return repr((when - first[0]).total_seconds())
        except (ValueError, TypeError):
            return text

    def scaled(text: str) -> str:
        try:
            return repr(float(text) * dialect.unit_s) if "_" not in text else text
        except ValueError:
            return text

    return since_first if not dialect.unit_s else scaled
