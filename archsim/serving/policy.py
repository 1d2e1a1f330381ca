"""What a scheduling policy is, and where policies are found by name.

A policy decides at iteration boundaries only. There are two kinds behind one registry:

* a `CompiledPolicy` names a batch-formation kernel and turns its options into the kernel's settings: the built-in ones;
* a `Policy` is a Python class with hooks, which the event loop of `python_engine` calls: yours (see README.md here).

A package adds its own with an entry point in the group `archsim.policies`; a file is named in place of a policy.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from archsim.config.base import Config
from archsim.serving.policy_file import PolicyRegistry


def _load_built_ins() -> None:
    for path in sorted((Path(__file__).parent / "policies").glob("[a-z]*.py")):
        if not path.stem.endswith("_kernels"):
            importlib.import_module(f"archsim.serving.policies.{path.stem}")


class PolicyOptions(Config):
    """Options every policy has."""

    block_tokens: int = Field(default=16, ge=1, le=65_536, description="tokens of a KV block")
    max_batch: int = Field(default=128, ge=1, le=1_000_000, description="requests running at once")
    prefix_caching: bool = Field(
        default=False,
        description="a prompt skips what an earlier turn of its conversation processed",
    )


class CompiledPolicy(ABC):
    """A built-in policy: its options, and how they become the settings of its kernel."""

    Options: ClassVar[type[PolicyOptions]] = PolicyOptions
    kernel: ClassVar[int]

    @classmethod
    @abstractmethod
    def settings(cls, options: PolicyOptions, blocks: int, longest_tokens: int) -> dict[str, float]:
        """Fields of `state_kernels.OPTIONS`.

        blocks          of the KV cache of an instance
        longest_tokens  longest prompt + output of the trace
        """

    @classmethod
    def watermark(cls, options: PolicyOptions, blocks: int) -> int:
        """Blocks that admission leaves free for the running requests."""
        return 0


POLICIES = PolicyRegistry("policy", "archsim.policies", _load_built_ins)
