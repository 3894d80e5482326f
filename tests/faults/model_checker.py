"""An exhaustive walk through all states of a small model, the shortest ways first."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)

STUCK = "every state can come to rest without a further fault"


class Step(NamedTuple, Generic[State]):
    """What may happen next, and the state it leads to.

    ``optional`` is what nobody may count on: a fault, or an operator's wish. ``writer`` is the attempt in whose name
    the step writes, if it does so.
    """

    name: str
    state: State
    optional: bool = False
    writer: int | None = None


class Model(ABC, Generic[State]):
    """What the walk has to know of a model."""

    @abstractmethod
    def beginnings(self) -> Iterable[Step[State]]:
        """Return the steps by which it all begins."""

    @abstractmethod
    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield all that may happen in a state."""

    @abstractmethod
    def broken_rule(self, before: State, step: Step[State]) -> str | None:
        """Return the safety rule that a step breaks, or None."""

    @abstractmethod
    def at_rest(self, state: State) -> bool:
        """Whether nothing is left to be done."""


@dataclass(frozen=True)
class Violation:
    """A broken rule, and the shortest way to break it."""

    rule: str
    trace: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(
            [f"broken: {self.rule}", *(f"{number:3}. {name}" for number, name in enumerate(self.trace, 1))]
        )


@dataclass(frozen=True)
class Verdict:
    """How many states were seen, and what went wrong first, if anything did."""

    states: int
    violation: Violation | None


class _Walk(Generic[State]):
    def __init__(self, model: Model[State]) -> None:
        self._model = model
        self._came_by: dict[State, tuple[State | None, str]] = {}
        self._ahead: deque[State] = deque()
        self._led_to_by_itself: defaultdict[State, list[State]] = defaultdict(list)

    def verdict(self) -> Verdict:
        for beginning in self._model.beginnings():
            self._note(None, beginning)
        violation = self._broken() or self._stuck()
        return Verdict(len(self._came_by), violation)

    def _note(self, before: State | None, step: Step[State]) -> None:
        if step.state not in self._came_by:
            self._came_by[step.state] = (before, step.name)
            self._ahead.append(step.state)

    def _broken(self) -> Violation | None:
        while self._ahead:
            before = self._ahead.popleft()
            for step in self._model.steps(before):
                rule = self._model.broken_rule(before, step)
                if rule is not None:
                    return Violation(rule, (*self._trace(before), step.name))
                if not step.optional:
                    self._led_to_by_itself[step.state].append(before)
                self._note(before, step)
        return None

    def _stuck(self) -> Violation | None:
        restful = {state for state in self._came_by if self._model.at_rest(state)}
        backwards = list(restful)
        while backwards:
            for before in self._led_to_by_itself[backwards.pop()]:
                if before not in restful:
                    restful.add(before)
                    backwards.append(before)
        # States were noted in the order of their distance from a beginning.
        stuck = next((state for state in self._came_by if state not in restful), None)
        return None if stuck is None else Violation(STUCK, self._trace(stuck))

    def _trace(self, state: State) -> tuple[str, ...]:
        names: list[str] = []
        at: State | None = state
        while at is not None:
            at, name = self._came_by[at]
            names.append(name)
        return tuple(reversed(names))


def check(model: Model[State]) -> Verdict:
    """Walk through all states of a model; stop at the first that breaks a rule of safety."""
    return _Walk(model).verdict()
