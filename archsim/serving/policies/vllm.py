"""vLLM, first scheduler (Kwon et al., SOSP 2023): paged KV cache, prompts first, preemption by recomputation."""

from __future__ import annotations

from bisect import insort
from typing import ClassVar

from pydantic import Field

from archsim.serving.policy import POLICIES, Policy, PolicyOptions
from archsim.serving.request import Batch, RequestState


class VllmOptions(PolicyOptions):
    """Options of `vllm`."""

    watermark: float = Field(
        default=0.01, ge=0, lt=1, description="share of the blocks that admission leaves free, for running requests"
    )
    max_batch_tokens: int = Field(
        default=4096, ge=1, description="longest prompt x prompts of an iteration; one prompt alone may exceed it"
    )
    decode_reserve: int = Field(
        default=1, ge=0, le=1,
        description="1: a decode runs only while a block is free, needed or not; 0: only if its last block is full",
    )  # fmt: skip


@POLICIES.register("vllm")
class Vllm(Policy):
    """An iteration runs either the prompts that can be admitted or, if there are none, one decode step of all others.

    A prompt is admitted with the blocks it fills; a request takes another block when its last one is full. When there
    is none, the latest arrived loses all its blocks and goes back to the head of the queue, to be recomputed.
    """

    Options: ClassVar[type[PolicyOptions]] = VllmOptions

    def __init__(self, options: PolicyOptions, capacity_tokens: int, longest_tokens: int) -> None:
        super().__init__(options, capacity_tokens, longest_tokens)
        assert isinstance(options, VllmOptions)
        self.watermark = int(options.watermark * self.pool.total)
        self.max_batch_tokens = options.max_batch_tokens
        self.decode_reserve = options.decode_reserve

    def claim_tokens(self, request: RequestState) -> int:
        """Its last step must fit, and its recomputation with everything but the last token as prompt."""
        margin = max(self.watermark, self.decode_reserve)
        return (self.pool.blocks_for(request.longest) + margin) * self.pool.block_tokens

    def form_batch(self) -> Batch:
        """Prompts if any can be admitted, else decodes."""
        prefills = self._admit()
        return Batch(prefills, []) if prefills else Batch([], self._decodes())

    def steady_steps(self, batch: Batch) -> int:
        """Until the first one finishes or the free blocks could run out.

        In s further steps a request fills at most ceil(s / block) blocks more. Who finds no room now, finds none before
        the first one finishes.
        """
        if self.waiting and self._has_room(self.waiting[0]):  # just preempted; tried again at the next iteration
            return 1
        done = min(request.output - request.generated for request in batch.decodes)
        rounds = (self.pool.free - self.decode_reserve) // len(batch.decodes)
        return max(1, min(done, rounds * self.pool.block_tokens))

    def extend_run(self, batch: Batch, steps: int) -> None:
        """The blocks of the last of `steps` iterations."""
        size, further = self.pool.block_tokens, steps - 1
        for request in batch.decodes:
            if request.processed + further > request.blocks * size:
                self.pool.grow(request, self.pool.blocks_for(request.processed + further))

    def _has_room(self, request: RequestState) -> bool:
        """Whether there is a place for it, and blocks for its prompt above the watermark."""
        left = self.pool.free - self.pool.blocks_for(request.target)
        return len(self.running) < self.max_batch and left >= self.watermark

    def _admit(self) -> list[RequestState]:
        admitted: list[RequestState] = []
        longest = 0
        while self.waiting and self._has_room(self.waiting[0]):
            request = self.waiting[0]
            longest = max(longest, request.target)
            if admitted and (len(admitted) + 1) * longest > self.max_batch_tokens:
                break
            self.waiting.popleft()
            self.pool.grow(request, self.pool.blocks_for(request.target))
            insort(self.running, request, key=_order)
            admitted.append(request)
        return admitted

    def _decodes(self) -> list[RequestState]:
        """Running requests in order of arrival, each with room for its step; the latest make room if need be."""
        pool, running, size, place = self.pool, self.running, self.pool.block_tokens, 0
        while place < len(running):
            request = running[place]
            full = request.processed > request.blocks * size
            if pool.free < (1 if full else self.decode_reserve):
                self._preempt(running.pop())  # the latest arrived, perhaps the request itself
                continue
            if full:
                pool.grow(request, request.blocks + 1)
            place += 1
        return running[:]

    def _preempt(self, victim: RequestState) -> None:
        self.pool.release(victim)
        victim.restart()
        self.waiting.appendleft(victim)


def _order(request: RequestState) -> tuple[int, int]:
    return request.order
