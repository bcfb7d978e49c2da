"""When to prune, and how much: step -> ratio.

A schedule is called with the number of optimizer steps taken and returns the ratio that holds then;
`due(step)` says whether masks are recomputed at that step; `final_ratio` is where it ends.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

from scalpel_tf.core.selection import check_ratio

_LAST_STEP = 2**31 - 1


class _Schedule:
    """What the frozen schedules below share: a window of steps and a configuration."""

    def __post_init__(self):
        if self.begin_step < 0 or self.frequency < 1:
            raise ValueError(
                "`begin_step` is at least 0 and `frequency` at least 1; "
                f"got {self.begin_step} and {self.frequency}."
            )
        if self.end_step != -1 and self.end_step < self.begin_step:
            raise ValueError(
                f"`end_step` is not before `begin_step`; got {self.end_step} and {self.begin_step}."
            )

    def due(self, step: int) -> bool:
        """Whether masks are recomputed at `step`: every `frequency` steps and at `end_step`."""
        if step < self.begin_step or -1 < self.end_step < step:
            return False
        return (step - self.begin_step) % self.frequency == 0 or step == self.end_step

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        """The schedule of that configuration."""
        return cls(**config)


@dataclass(frozen=True)
class Constant(_Schedule):
    """`ratio` from `begin_step` on, masks recomputed until `end_step` (-1: for ever)."""

    ratio: float
    begin_step: int = 0
    end_step: int = -1
    frequency: int = 100

    def __post_init__(self):
        super().__post_init__()
        check_ratio(self.ratio)

    @property
    def final_ratio(self) -> float:
        return self.ratio

    def __call__(self, step: int) -> float:
        return self.ratio if step >= self.begin_step else 0.0


@dataclass(frozen=True)
class Polynomial(_Schedule):
    """From `initial_ratio` at `begin_step` to `final_ratio` at `end_step`, ever slower.

    ratio = final + (initial - final) * (1 - progress) ** power
    (Zhu and Gupta, To prune, or not to prune, 2017, section 3).
    """

    final_ratio: float
    end_step: int
    initial_ratio: float = 0.0
    begin_step: int = 0
    power: float = 3.0
    frequency: int = 100

    def __post_init__(self):
        super().__post_init__()
        check_ratio(self.final_ratio, "`final_ratio`")
        check_ratio(self.initial_ratio, "`initial_ratio`")
        if self.end_step < 0:
            raise ValueError(f"`end_step` is a step from 0 on; got {self.end_step}.")

    def __call__(self, step: int) -> float:
        if step < self.begin_step:
            return 0.0
        if step >= self.end_step:
            return self.final_ratio
        rest = (self.end_step - step) / (self.end_step - self.begin_step)
        return self.final_ratio + (self.initial_ratio - self.final_ratio) * rest**self.power


@dataclass(frozen=True)
class Adapted:
    """A schedule around any callable: step -> ratio, or step -> (should_prune, ratio).

    The values may be tensors. A callable that returns a bare ratio is due where its value changes.
    """

    function: Callable

    @property
    def begin_step(self) -> int:
        return getattr(self.function, "begin_step", 0)

    @property
    def end_step(self) -> int:
        return getattr(self.function, "end_step", -1)

    @property
    def final_ratio(self) -> float:
        return self(self.end_step if self.end_step >= 0 else _LAST_STEP)

    def __call__(self, step: int) -> float:
        if step < self.begin_step:
            return 0.0
        value = self.function(step)
        ratio = value[1] if isinstance(value, tuple) else value
        return check_ratio(ratio, f"step {step}")

    def due(self, step: int) -> bool:
        """Whether masks are recomputed at `step`."""
        value = self.function(step)
        if isinstance(value, tuple):
            return bool(value[0])
        return step == 0 or self(step) != self(step - 1)


def _from_constant_sparsity(schedule):
    return Constant(
        schedule.target_sparsity, schedule.begin_step, schedule.end_step, schedule.frequency
    )


def _from_polynomial_decay(schedule):
    return Polynomial(
        schedule.final_sparsity,
        schedule.end_step,
        schedule.initial_sparsity,
        schedule.begin_step,
        schedule.power,
        schedule.frequency,
    )


_TFMOT = {"ConstantSparsity": _from_constant_sparsity, "PolynomialDecay": _from_polynomial_decay}


def as_schedule(schedule: Any) -> Constant | Polynomial | Adapted:
    """The schedule that `schedule` means: a ratio, a schedule, any callable of the step.

    tfmot's ConstantSparsity and PolynomialDecay become their equals here, so that they can be
    saved; any other tfmot PruningSchedule is called as it is. Raises ValueError for anything else.
    """
    if isinstance(schedule, (Constant, Polynomial, Adapted)):
        return schedule
    if isinstance(schedule, Real):
        return Constant(check_ratio(schedule))
    kind = type(schedule)
    if kind.__module__.startswith("tensorflow_model_optimization") and kind.__name__ in _TFMOT:
        return _TFMOT[kind.__name__](schedule)
    if callable(schedule):
        return Adapted(schedule)
    raise ValueError(
        "`schedule` is a ratio, a schedule, or a callable of the step; "
        f"got {schedule!r} of type {kind.__name__}."
    )
