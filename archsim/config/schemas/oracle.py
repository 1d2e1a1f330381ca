"""Iteration times of a machine as an affine function of tokens and contexts: measured, fitted or assumed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import Seconds


class AffineCoefficients(Config):
    """base + per prompt (n new tokens after p cached): request + token n + pair n (p + n / 2) + per decode with context
    c: request + context c."""

    base: Seconds = Field(ge=0, description="of every iteration")
    request: Seconds = Field(default=0.0, ge=0, description="of each request in it")
    token: Seconds = Field(default=0.0, ge=0, description="of each prompt token")
    pair: Seconds = Field(default=0.0, ge=0, description="of each pair of a prompt token and one it attends to")
    context: Seconds = Field(default=0.0, ge=0, description="of each token a decode attends to")
    from_decodes: int = Field(default=0, ge=0, description="holds for iterations with at least so many decodes")


class AffineEnergy(Config):
    """The same sum in joules."""

    base_j: float = Field(default=0.0, ge=0)
    request_j: float = Field(default=0.0, ge=0)
    token_j: float = Field(default=0.0, ge=0)
    pair_j: float = Field(default=0.0, ge=0)
    context_j: float = Field(default=0.0, ge=0)


FileName = Annotated[str, Field(min_length=1, max_length=1000)]


class MeasuredOperators(Config):
    """Operators timed one by one, in CSV files beside this file; their columns are in `operator_oracle.py`."""

    dense: FileName = Field(description="operators beside attention, by tokens or sequences")
    attention: FileName = Field(description="launches of attention: decode, prefill, and both in one")
    only: dict[str, str] = Field(default={}, description="column and text of the rows to use")
    layers: int = Field(ge=1, le=10_000, description="of the model")
    runs: dict[str, Annotated[int, Field(ge=1, le=100_000)]] = Field(
        default={}, description="times an operator runs in an iteration; once a layer where it is not named"
    )


class Oracle(Preset):
    """A machine that serves one model, for `archsim serve` in place of a system."""

    kind: Literal["oracle"] = "oracle"
    seconds: AffineCoefficients | None = None
    measured: str | None = Field(
        default=None,
        min_length=1,
        max_length=1000,
        description="in place of seconds, prompts and decodes: a CSV file of measured iterations beside this file",
    )
    operators: MeasuredOperators | None = Field(
        default=None, description="in place of seconds, prompts, decodes and energy: measured operators, added up"
    )
    prompts: tuple[AffineCoefficients, ...] = Field(default=(), description="for iterations without decodes")
    decodes: tuple[AffineCoefficients, ...] = Field(default=(), description="for iterations without prompts")
    energy: AffineEnergy | None = None
    adapter_read: Seconds = Field(default=0.0, ge=0, description="of an iteration, per byte of each adapter it uses")
    adapter_flop: Seconds = Field(default=0.0, ge=0, description="per operation of a token's products with its adapter")
    max_tokens: int = Field(ge=1, description="tokens whose keys and values fit")
    kv_bytes_per_token: float = Field(default=1.0, gt=0)
    usd_per_hour: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Oracle:
        if sum(source is not None for source in (self.seconds, self.measured, self.operators)) != 1:
            raise ValueError("give either seconds, measured or operators")
        if self.operators is not None and (self.prompts or self.decodes or self.energy is not None):
            raise ValueError("with operators, prompts, decodes and energy have no place")
        return self
