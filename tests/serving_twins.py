"""Orca, vLLM and Sarathi written once more, in Python on the hooks: what the kernels must equal."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from archsim.serving.hooks import Batch, Instance, Policy, RequestState
from archsim.serving.policies.orca import ReservingOptions
from archsim.serving.policies.sarathi import SarathiOptions
from archsim.serving.policies.vllm import VllmOptions
from archsim.serving.policy import POLICIES, PolicyOptions


@POLICIES.register("twin-orca")
class TwinOrca(Policy):
    Options = ReservingOptions

    def __init__(self, options: PolicyOptions, instances: Sequence[Instance], longest_tokens: int) -> None:
        super().__init__(options, instances, longest_tokens)
        assert isinstance(options, ReservingOptions)
        self.max_length = options.max_length or longest_tokens

    def claim_tokens(self, request: RequestState, instance: Instance) -> int:
        return instance.pool.blocks_for(self.max_length) * instance.pool.block_tokens

    def fits(self, request: RequestState, instance: Instance) -> bool:
        return request.prompt + request.output <= self.max_length and super().fits(request, instance)

    def form_batch(self, instance: Instance) -> Batch:
        pool, reserved = instance.pool, instance.pool.blocks_for(self.max_length)
        decodes, prefills = instance.running[:], []
        while instance.waiting and len(instance.running) < self.max_batch:
            if pool.room(instance.waiting[0]) < reserved:
                break
            request = instance.waiting.popleft()
            pool.grow(request, reserved)
            instance.running.append(request)
            prefills.append(request)
        return Batch(prefills, decodes)


class Paged(Policy):
    """Blocks as they are needed, the latest arrived is the victim."""

    def __init__(self, options: PolicyOptions, instances: Sequence[Instance], longest_tokens: int) -> None:
        super().__init__(options, instances, longest_tokens)
        assert isinstance(options, VllmOptions | SarathiOptions)
        self.options = options
        self.watermark = int(options.watermark * instances[0].pool.total)

    def claim_tokens(self, request: RequestState, instance: Instance) -> int:
        margin = max(self.watermark, self.options.decode_reserve)
        return (instance.pool.blocks_for(request.longest) + margin) * instance.pool.block_tokens

    def has_room(self, instance: Instance) -> bool:
        left = instance.pool.room(instance.waiting[0]) - instance.pool.blocks_for(instance.waiting[0].target)
        return len(instance.running) < self.max_batch and left >= self.watermark

    def admit(self, instance: Instance) -> RequestState:
        request = instance.waiting.popleft()
        instance.pool.grow(request, instance.pool.blocks_for(request.target))
        insort(instance.running, request, key=lambda member: member.index)
        return request

    def make_room(self, instance: Instance, request: RequestState) -> bool:
        pool = instance.pool
        full = request.processed > request.blocks * pool.block_tokens
        while pool.free < (1 if full else self.options.decode_reserve):
            victim = instance.running.pop()
            pool.release(victim)
            victim.restart()
            instance.waiting.appendleft(victim)
            if victim is request:
                return False
        if full:
            pool.grow(request, request.blocks + 1)
        return True

    def decodes(self, instance: Instance) -> list[RequestState]:
        chosen = []
        for request in [member for member in instance.running if not member.prefilling]:
            if request not in instance.running or not self.make_room(instance, request):
                break
            chosen.append(request)
        return chosen


@POLICIES.register("twin-vllm")
class TwinVllm(Paged):
    Options = VllmOptions

    def form_batch(self, instance: Instance) -> Batch:
        prefills: list[RequestState] = []
        longest = 0
        while instance.waiting and self.has_room(instance):
            longest = max(longest, instance.waiting[0].target)
            assert isinstance(self.options, VllmOptions)
            if prefills and (len(prefills) + 1) * longest > self.options.max_batch_tokens:
                break
            prefills.append(self.admit(instance))
        return Batch(prefills, [] if prefills else self.decodes(instance))


@POLICIES.register("twin-sarathi")
class TwinSarathi(Paged):
    Options = SarathiOptions

    def form_batch(self, instance: Instance) -> Batch:
        assert isinstance(self.options, SarathiOptions)
        decodes = self.decodes(instance)
        left = self.options.chunk_tokens - len(decodes)
        prefills, chunks = [], {}
        for request in [member for member in instance.running if member.prefilling]:
            if left > 0:
                prefills.append(request)
                chunks[request.index] = min(left, request.target - request.processed)
                left -= chunks[request.index]
        while instance.waiting and left > 0 and self.has_room(instance):
            request = self.admit(instance)
            prefills.append(request)
            chunks[request.index] = min(left, request.target - request.processed)
            left -= chunks[request.index]
        return Batch(prefills, decodes, chunks)
