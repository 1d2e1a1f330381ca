"""Iteration times of a machine as an affine function of tokens and contexts: measured, fitted or assumed."""

from __future__ import annotations

from typing import Literal

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
    prompts: tuple[AffineCoefficients, ...] = Field(default=(), description="for iterations without decodes")
    decodes: tuple[AffineCoefficients, ...] = Field(default=(), description="for iterations without prompts")
    energy: AffineEnergy | None = None
    max_tokens: int = Field(ge=1, description="tokens whose keys and values fit")
    kv_bytes_per_token: float = Field(default=1.0, gt=0)
    usd_per_hour: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_source(self) -> Oracle:
        if (self.seconds is None) == (self.measured is None):
            raise ValueError("give either seconds or measured")
        return self
