"""A stream of requests: a recorded trace, or arrivals and lengths drawn at random."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import Hertz, Seconds

Tokens = Annotated[int, Field(ge=1, le=2**31 - 1)]


class TraceFile(Config):
    """A CSV or JSONL file: arrival_s, prompt_tokens, output_tokens and, if there are several, tenant_id."""

    file: str = Field(min_length=1, max_length=1000, description="relative to the folder of this description")
    limit: int | None = Field(default=None, ge=1, description="take this many requests from the start")
    rate: Hertz | None = Field(
        default=None, gt=0, description="stretch the arrivals evenly to this mean rate, requests per second"
    )


class PoissonArrivals(Config):
    """Independent arrivals: exponential gaps."""

    process: Literal["poisson"] = "poisson"
    rate: Hertz = Field(gt=0, description="mean requests per second")


class GammaArrivals(Config):
    """Gamma-distributed gaps, bursty for cv > 1."""

    process: Literal["gamma"]
    rate: Hertz = Field(gt=0, description="mean requests per second")
    cv: float = Field(gt=0, le=100, description="standard deviation of the gaps over their mean; 1 is Poisson")


class ConstantArrivals(Config):
    """Evenly spaced arrivals; gap 0: all at once."""

    process: Literal["constant"]
    gap: Seconds = Field(ge=0, description="time between two arrivals")


class OnOffArrivals(Config):
    """Poisson arrivals at `rate` while on, at `off_rate` while off, in turn; starts on."""

    process: Literal["on-off"]
    rate: Hertz = Field(gt=0, description="mean requests per second while on")
    off_rate: Hertz = Field(default=0.0, ge=0, description="mean requests per second while off")
    on: Seconds = Field(gt=0, description="length of an on phase")
    off: Seconds = Field(gt=0, description="length of an off phase")


class DiurnalArrivals(Config):
    """Poisson arrivals whose rate follows a sine around its mean."""

    process: Literal["diurnal"]
    rate: Hertz = Field(gt=0, description="mean requests per second")
    amplitude: float = Field(default=0.5, ge=0, le=1, description="largest deviation from the mean, as a share of it")
    period: Seconds = Field(default=86_400.0, gt=0, description="of the sine; it starts at the mean and rises")


class FixedLength(Config):
    """Every request alike."""

    distribution: Literal["fixed"] = "fixed"
    tokens: Tokens


class UniformLength(Config):
    """Any length from low to high, both included, equally likely."""

    distribution: Literal["uniform"]
    low: Tokens
    high: Tokens

    @model_validator(mode="after")
    def _ordered(self) -> UniformLength:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self


class LognormalLength(Config):
    """A lognormal length, rounded and clipped to low..high."""

    distribution: Literal["lognormal"]
    median: float = Field(gt=0, le=2**31, description="tokens")
    sigma: float = Field(ge=0, le=10, description="standard deviation of the natural logarithm")
    low: Tokens = 1
    high: Tokens = 131_072

    @model_validator(mode="after")
    def _ordered(self) -> LognormalLength:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self


class ZipfLength(Config):
    """Length low + k - 1 with probability proportional to k^-theta, up to high: many short, few long."""

    distribution: Literal["zipf"]
    theta: float = Field(gt=0, le=10, description="exponent; Vidur's generator uses 0.6")
    low: Tokens = 1
    high: Annotated[int, Field(ge=1, le=1_000_000)] = 4096

    @model_validator(mode="after")
    def _ordered(self) -> ZipfLength:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self


Arrivals = Annotated[
    PoissonArrivals | GammaArrivals | ConstantArrivals | OnOffArrivals | DiurnalArrivals, Field(discriminator="process")
]
Length = Annotated[FixedLength | UniformLength | LognormalLength | ZipfLength, Field(discriminator="distribution")]


class Sessions(Config):
    """Conversations: every further turn repeats what was said before it as part of its prompt."""

    turns: Length = Field(description="turns of a conversation")
    think: Seconds = Field(default=10.0, gt=0, description="mean time between two arrivals of a conversation")
    system_prompt: int = Field(default=0, ge=0, le=1_000_000, description="tokens every conversation starts with")
    max_prompt: Tokens = Field(default=8192, description="a conversation ends before a prompt would be longer")


class Tenant(Config):
    """A tenant and its part of the arrivals."""

    name: str = Field(min_length=1, max_length=100)
    share: float = Field(gt=0, description="relative to the shares of the others")


class Adapters(Config):
    """Adapters (LoRA) drawn for every request; the first one is used most."""

    count: int = Field(ge=1, le=100_000)
    ranks: tuple[Annotated[int, Field(ge=1, le=65_536)], ...] = Field(
        default=(8,), min_length=1, max_length=1000, description="of the adapters, in turn"
    )
    popularity: Literal["zipf", "power"] = Field(
        default="zipf",
        description="zipf: adapter k with probability proportional to k^-alpha; power: floor(count u), u drawn from "
        "NumPy's power distribution, as S-LoRA's workloads are (alpha 1: all alike, less: the first ones more)",
    )
    alpha: float = Field(default=1.0, gt=0, le=10)
    share: float = Field(default=1.0, gt=0, le=1, description="of the requests; the others run the model itself")


class LengthsFile(Config):
    """Prompt and output lengths drawn together, with repetition, from a CSV (prompt_tokens, output_tokens)."""

    file: str = Field(min_length=1, max_length=1000, description="relative to the folder of this description")


class Synthetic(Config):
    """Requests drawn at random; the same seed gives the same requests."""

    count: int = Field(ge=1, le=10_000_000)
    seed: int = Field(default=0, ge=0, lt=2**63)
    arrivals: Arrivals
    prompt: Length | None = None
    output: Length | None = None
    lengths: LengthsFile | None = Field(default=None, description="in place of prompt and output")
    tenants: tuple[Tenant, ...] = Field(default=(), max_length=1000, description="drawn for every request by share")
    adapters: Adapters | None = None
    sessions: Sessions | None = Field(
        default=None, description="the requests are turns of conversations; `arrivals` are those of conversations"
    )

    @model_validator(mode="after")
    def _one_source_of_lengths(self) -> Synthetic:
        pair = self.prompt is not None and self.output is not None
        if pair == (self.lengths is not None) or (self.prompt is None) != (self.output is None):
            raise ValueError("give either prompt and output, or lengths")
        return self


class Requests(Preset):
    """A stream of requests: `trace` or `synthetic`."""

    kind: Literal["requests"] = "requests"
    trace: TraceFile | None = None
    synthetic: Synthetic | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Requests:
        if (self.trace is None) == (self.synthetic is None):
            raise ValueError("give either trace or synthetic")
        return self
