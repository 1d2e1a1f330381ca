"""Splitwise (Patel et al., ISCA 2024): prompts and tokens on pools of machines, and a mixed pool between them.

A request is two tasks. A prompt goes to the prompt machine with the fewest pending tokens, its tokens to the token
machine with the least promised memory; what finds its pool full uses the mixed pool, which borrows machines from the
other one until they have drained the foreign work. The cache moves while both machines work on. With one pool only,
every machine runs both tasks of its requests.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import Field

from archsim.serving.hooks import Batch, Instance, Policy, RequestState
from archsim.serving.policy import POLICIES, PolicyOptions

RETRY_S = 1.0


class SplitwiseOptions(PolicyOptions):
    """Options of `splitwise`."""

    block_tokens: int = Field(default=1, ge=1, le=1, description="memory is counted in tokens")
    max_batch: int = Field(default=512, ge=1, le=1_000_000, description="tasks running at once")
    max_batch_tokens: int = Field(default=2048, ge=1, description="tokens of an iteration; one prompt may exceed it")
    max_preemptions: int = Field(default=4, ge=1, description="a task left out this often comes first")
    prompt_instances: int = Field(default=1, ge=0, description="the first instances are the prompt pool; 0: no pools")
    router: Literal["jsq-tokens", "round-robin"] = Field(
        default="jsq-tokens", description="without pools: how requests are spread"
    )
    prompt_limit_tokens: int = Field(
        default=8192, ge=1, description="a queue with more pending tokens sends prompts to the mixed pool"
    )
    transfer_s_per_token: float | None = Field(
        default=None, ge=0, lt=1, description="time to move the cache of one token; none: from the network model"
    )


@dataclass(eq=False)
class Task:
    """The prompt or the tokens of a request on a machine."""

    request: RequestState
    is_prompt: bool
    left_out: int = 0
    blocked: bool = False
    started: bool = False

    @property
    def tokens(self) -> int:
        """Of an iteration."""
        return self.request.prompt if self.is_prompt else 1

    @property
    def memory(self) -> int:
        """Tokens it takes when it starts: the cache of the prompt and one more, or all further ones."""
        return self.request.prompt + 1 if self.is_prompt else self.request.output - 1


@dataclass(eq=False)
class Machine:
    """What the scheduler knows of an instance. `pool` is its own pool, `mixed` whether it works in the other."""

    instance: Instance
    pool: str
    mixed: bool = False
    batch: list[Task] = field(default_factory=list)
    steps_left: int = 0
    wake: bool = False
    pending: list[Task] = field(default_factory=list)  # by times left out when they came, then arrival
    prompts: list[Task] = field(default_factory=list)
    blocked: list[Task] = field(default_factory=list)
    members: list[RequestState] = field(default_factory=list)  # by arrival
    tasks: dict[RequestState, list[Task]] = field(default_factory=dict)
    held: int = 0
    promised: int = 0
    pending_tokens: int = 0
    batch_tokens: int = 0

    @property
    def capacity(self) -> int:
        """Tokens."""
        return self.instance.pool.total

    def hold(self, tokens: int) -> None:
        """Take (or with a negative number give back) memory; the pool never gives more than there is."""
        self.held += tokens
        self.instance.pool.take(tokens)

    def free(self, tokens: int) -> None:
        """A request's cache is gone, and what was promised for it."""
        self.hold(-tokens)
        self.promised -= tokens


@POLICIES.register("splitwise")
class Splitwise(Policy):
    """Pools of prompt and token machines; batches of prompts first, then tokens, within a token limit."""

    Options: ClassVar[type[PolicyOptions]] = SplitwiseOptions
    takes_node_events: ClassVar[bool] = False
    takes_adapters: ClassVar[bool] = False

    def __init__(self, options: PolicyOptions, instances: Sequence[Instance], longest_tokens: int) -> None:
        super().__init__(options, instances, longest_tokens)
        assert isinstance(options, SplitwiseOptions)
        self.options = options
        prompts = options.prompt_instances
        names = ["all" if not prompts else "prompt" if index < prompts else "token" for index in range(len(instances))]
        self.machines = [Machine(instance, name) for instance, name in zip(instances, names, strict=True)]
        for machine in self.machines:
            machine.instance.role = ("all", "prompt", "token").index(machine.pool)
        self.pools: dict[str, list[Machine]] = {"all": [], "prompt": [], "token": [], "mixed": []}
        for machine in self.machines:
            self.pools[machine.pool].append(machine)
        self.turn = 0
        self.memory: dict[RequestState, int] = {}
        self.target: dict[RequestState, Machine] = {}

    def fits(self, request: RequestState, instance: Instance) -> bool:
        """Whether the smallest machine could hold all of it."""
        return request.prompt + request.output <= min(machine.capacity for machine in self.machines)

    def route(self, request: RequestState) -> Instance:
        """Where its prompt will run, as far as that is known before its arrival is final."""
        return self.instances[0]

    def on_arrival(self, request: RequestState, instance: Instance) -> None:
        """Choose both machines, and queue the prompt; on one machine, the tokens queue with it."""
        prompt, token = self._place(request)
        self.target[request] = token
        request.instance = token.instance.index
        self._arrive(prompt, Task(request, True))
        if prompt is token and request.output > 1:
            self._arrive(token, Task(request, False))

    def form_batch(self, instance: Instance) -> Batch:
        """The same tasks until one is done or somebody is to join, then a new choice."""
        machine = self.machines[instance.index]
        if machine.steps_left == 0:
            if not machine.wake:
                return Batch([], [])
            machine.wake = False
            self._start(machine)
        machine.steps_left = max(0, machine.steps_left - 1)
        prefills = [task.request for task in machine.batch if task.is_prompt]
        return Batch(prefills, [task.request for task in machine.batch if not task.is_prompt])

    def on_iteration_end(self, instance: Instance, batch: Batch, finished: list[RequestState]) -> None:
        """Finished tasks leave; a prompt's cache is sent if its tokens run elsewhere."""
        machine = self.machines[instance.index]
        done = [task for task in machine.batch if task.is_prompt or task.request.completed_ns >= 0]
        for task in done:
            self._complete(machine, task)
        if machine.steps_left == 0 or done:
            machine.steps_left, machine.wake = 0, True

    def on_transfer_end(self, request: RequestState, instance: Instance) -> None:
        """A retry of a transfer that found no memory, or the end of one: then its tokens queue."""
        source, target = self.machines[instance.index], self.target[request]
        if request.index not in self.sent:
            self._send(source, request)
            return
        self.sent.discard(request.index)
        source.free(self.memory[request])
        self._arrive(target, Task(request, False))
        room = len(source.batch) < self.max_batch and source.batch_tokens < self.options.max_batch_tokens
        if source.pending and (room if source.batch else source.held + source.pending[0].memory <= source.capacity):
            self._join_or_start(source)

    @property
    def sent(self) -> set[int]:
        """Requests whose cache is on its way."""
        if not hasattr(self, "_sent"):
            self._sent: set[int] = set()
        return self._sent

    def _place(self, request: RequestState) -> tuple[Machine, Machine]:
        if self.pools["all"]:
            machine = self._one_for_both()
            machine.pending_tokens += request.prompt + 1
            return machine, machine
        prompt, token = self._from_pools(request)
        whole = request.prompt + 1 + request.output - 1
        if prompt is not token:
            prompt.promised += request.prompt + 1
        token.promised += whole
        prompt.pending_tokens += request.prompt
        token.pending_tokens += 1
        return prompt, token

    def _one_for_both(self) -> Machine:
        if self.options.router == "round-robin":
            self.turn += 1
            return self.machines[(self.turn - 1) % len(self.machines)]
        return min(self.machines, key=_pending_tokens)

    def _from_pools(self, request: RequestState) -> tuple[Machine, Machine]:
        """A machine for the prompt and one for the tokens; borrowed, or the same for both, where the pools are full."""
        pools = self.pools
        prompt = self._prompt_machine(pools["prompt"], request) or self._prompt_machine(pools["mixed"], request)
        token = self._token_machine(pools["token"], request) or self._token_machine(pools["mixed"], request)
        if prompt is None and pools["token"]:
            prompt = self._borrow(min(pools["token"], key=_pending_tokens))
        if token is None and pools["prompt"]:
            token = self._borrow(min(pools["prompt"], key=_promised))
        if prompt is None or token is None:
            prompt = min([*pools["prompt"], *pools["mixed"], *pools["token"]], key=_pending_tokens)
            token = prompt
        return prompt, token

    def _prompt_machine(self, machines: list[Machine], request: RequestState) -> Machine | None:
        if not machines:
            return None
        best = min(machines, key=_pending_tokens)
        full = best.pending and best.pending_tokens + request.prompt > self.options.prompt_limit_tokens
        return None if full else best

    def _token_machine(self, machines: list[Machine], request: RequestState) -> Machine | None:
        if not machines:
            return None
        best = min(machines, key=_promised)
        return None if best.promised + request.prompt + request.output >= best.capacity else best

    def _borrow(self, machine: Machine) -> Machine:
        self.pools[machine.pool].remove(machine)
        self.pools["mixed"].append(machine)
        machine.mixed = True
        return machine

    def _arrive(self, machine: Machine, task: Task) -> None:
        """Queue a task; it joins at the next iteration if there is room, or starts an idle machine."""
        self._enqueue(machine, task)
        if not machine.batch:
            if machine.held + task.memory <= machine.capacity:
                machine.wake = True
            return
        prompts = sum(task.is_prompt for task in machine.batch)
        within = machine.batch_tokens + task.tokens <= self.options.max_batch_tokens
        if len(machine.batch) < self.max_batch and within:
            self._join_or_start(machine)
        elif task.is_prompt and prompts < len(machine.batch):
            of_prompts = machine.batch_tokens - (len(machine.batch) - prompts)
            if of_prompts + task.tokens <= self.options.max_batch_tokens:
                self._join_or_start(machine)

    def _enqueue(self, machine: Machine, task: Task) -> None:
        request = task.request
        if request not in machine.tasks:
            insort(machine.members, request, key=lambda member: member.index)
            machine.tasks[request] = []
        machine.tasks[request].append(task)
        self._make_pending(machine, task)

    @staticmethod
    def _make_pending(machine: Machine, task: Task) -> None:
        insort(machine.pending, task, key=lambda other: (other.left_out, other.request.index))
        if task.is_prompt:
            machine.prompts.append(task)

    def _join_or_start(self, machine: Machine) -> None:
        """Choose anew when the iteration in flight ends, or at once if there is none."""
        if not machine.batch:
            machine.wake = True
        elif not any(task.is_prompt for task in machine.batch):
            machine.steps_left = 0

    def _start(self, machine: Machine) -> None:
        """Choose the next batch and for how many iterations it stays."""
        chosen = self._choose(machine)
        runs, ran = set(chosen), set(machine.batch)
        for task in [task for task in machine.batch if task not in runs]:
            task.blocked = True
            machine.blocked.append(task)
            self._make_pending(machine, task)
        for task in [task for task in chosen if task not in ran]:
            machine.pending.remove(task)
            if task.is_prompt:
                machine.prompts.remove(task)
            if task.blocked:
                machine.blocked.remove(task)
                task.blocked = False
            if not task.started:
                task.started = True
                machine.hold(task.memory)
                self.memory[task.request] = self.memory.get(task.request, 0) + task.memory
        machine.batch = [task for task in machine.batch if task in runs] + [task for task in chosen if task not in ran]
        for request in machine.members:
            if machine.tasks[request][0] not in runs:
                machine.tasks[request][0].left_out += 1
        if not machine.batch:
            if not machine.members and machine.mixed:
                machine.mixed = False
                self.pools["mixed"].remove(machine)
                self.pools[machine.pool].append(machine)
            return
        decodes = [task.request for task in machine.batch if not task.is_prompt]
        only_decodes = len(decodes) == len(machine.batch)
        machine.steps_left = min(r.prompt + r.output - r.processed for r in decodes) if only_decodes else 1

    def _choose(self, machine: Machine) -> list[Task]:
        """Left out too often, prompts, preempted tokens, running tokens, others, while tokens and memory last."""
        choice = _Choice(machine, self.max_batch, self.options.max_batch_tokens)
        for task in machine.pending:
            if task.left_out < self.options.max_preemptions or not choice.has_room(task):
                break
            choice.add(task, must_fit=False)
        for task in machine.prompts:
            if not choice.has_room(task) or not choice.add(task):
                break
        for group in (machine.blocked, machine.batch):
            for task in group:
                if not choice.has_room(task):
                    break
                choice.add(task)
        for request in machine.members:
            if len(choice.tasks) == self.max_batch:
                break
            task = machine.tasks[request][0]
            if request in choice.requests:
                continue
            if not choice.has_room(task) or not choice.add(task):
                break
        machine.batch_tokens = choice.tokens
        return choice.tasks

    def _complete(self, machine: Machine, task: Task) -> None:
        request = task.request
        machine.batch.remove(task)
        machine.tasks[request].remove(task)
        if not machine.tasks[request]:
            del machine.tasks[request]
            machine.members.remove(request)
        machine.pending_tokens -= request.prompt if task.is_prompt else 1
        target = self.target[request]
        if request.completed_ns >= 0:
            machine.free(self.memory.pop(request))
            if task.is_prompt:
                target.pending_tokens -= 1
        elif target is not machine:
            self._send(machine, request)

    def _send(self, source: Machine, request: RequestState) -> None:
        """Start moving a cache if the target has room, else try again in a second."""
        target, tokens = self.target[request], self.memory[request]
        if target.held + tokens > target.capacity:
            self.send_cache(request, source.instance, self.now_ns, RETRY_S)
            return
        target.hold(tokens)
        self.sent.add(request.index)
        span_s = request.prompt * (self.options.transfer_s_per_token or 0.0)
        self.send_cache(request, source.instance, self.now_ns, span_s)


class _Choice:
    """A batch in the making."""

    def __init__(self, machine: Machine, most: int, most_tokens: int) -> None:
        self.machine, self.most, self.most_tokens = machine, most, most_tokens
        self.tasks: list[Task] = []
        self.requests: set[RequestState] = set()
        self.tokens, self.held = 0, machine.held

    def has_room(self, task: Task) -> bool:
        """For one more task of that many tokens; the first may have more than the limit."""
        within = not self.tasks or self.tokens + task.tokens <= self.most_tokens
        return len(self.tasks) < self.most and within

    def add(self, task: Task, must_fit: bool = True) -> bool:
        """Add it unless its request is there already; False if its memory does not fit."""
        if task.request in self.requests:
            return True
        if not task.started:
            if self.held + task.memory > self.machine.capacity:
                return not must_fit
            self.held += task.memory
        self.tasks.append(task)
        self.requests.add(task.request)
        self.tokens += task.tokens
        return True


def _pending_tokens(machine: Machine) -> int:
    return machine.pending_tokens


def _promised(machine: Machine) -> int:
    return machine.promised
