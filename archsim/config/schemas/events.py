"""Instances that go and come during a serving run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from archsim.config.base import Config, Preset
from archsim.config.quantity import Seconds

NotNegative = Annotated[Seconds, Field(ge=0, le=1e9)]
Positive = Annotated[Seconds, Field(gt=0, le=1e9)]


class NodeEvent(Config):
    """One thing that happens to an instance.

    fail    it is gone at once
    notice  it is gone after `grace` (a spot instance) and gets no new requests from now on
    leave   it gets no new requests and is gone when it has served those it has
    join    it starts, and takes requests once the weights are loaded
    """

    time: NotNegative = Field(description="on the clock of the arrivals")
    instance: int = Field(ge=0, le=4095)
    event: Literal["fail", "notice", "leave", "join"]
    grace: Positive | None = Field(default=None, description="notice: how long it stays")
    load_time: NotNegative | None = Field(
        default=None, description="join: until it takes requests; none: startup and the weights over the host link"
    )

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> NodeEvent:
        if (self.grace is None) == (self.event == "notice"):
            raise ValueError("found grace with another event than notice, or a notice without it")
        if self.load_time is not None and self.event != "join":
            raise ValueError(f"found load_time with {self.event}, it belongs to join")
        return self


class NodeEvents(Preset):
    """Instances that go and come. One whose first event is a join is not there before."""

    kind: Literal["events"] = "events"
    startup: NotNegative = Field(default=0.0, description="of an instance that joins, before it loads weights")
    events: tuple[NodeEvent, ...] = Field(min_length=1, max_length=100_000)
