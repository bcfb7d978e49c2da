"""What a run was asked for: checked once, stored with the run, and compared when it goes on."""

import math
from dataclasses import asdict, dataclass

from scalpel_tf.core.targets import Target, find_target

METHODS = ("scalpel", "traditional", "optimized")
KINDS, WAYS = ("conv", "fc"), ("groups", "nodes")
# Yu et al., Scalpel, ISCA 2017, section 3: what each parallelism prunes.
PAPER = {
    "low": {"conv": "groups", "fc": "groups"},
    "moderate": {"conv": "nodes", "fc": "groups"},
    "high": {"conv": "nodes", "fc": "nodes"},
}


@dataclass(frozen=True)
class Options:
    """The arguments of `scalpel` that decide the course of a run; see there."""

    target: str
    method: str = "scalpel"
    mix: str | dict = "auto"
    max_accuracy_drop: float = 0.0
    flash: int | None = None
    ram: int | None = None
    latency: float | None = None
    metric: str | None = None
    epochs: int = 3
    step: float = 0.6
    min_density: float = 0.02
    criterion: str = "taylor"
    rounds: int = 3
    distillation: float = 1.0
    seed: int = 0

    def __post_init__(self):
        facts = self.facts
        if self.method not in METHODS:
            raise ValueError(f"`method` is one of {', '.join(METHODS)}; got {self.method!r}.")
        if self.method != "scalpel" and not facts.is_microcontroller:
            raise ValueError(
                f"`method` {self.method!r} stores single weights as CSR, for which only "
                f'microcontrollers have kernels here; take "scalpel" for {self.target}.'
            )
        for name in ("step", "min_density"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"`{name}` lies between 0 and 1; got {getattr(self, name)!r}.")
        for name in ("epochs", "rounds"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` is a whole number from 1 on; got {value!r}.")
        if not 0 <= self.distillation < math.inf:
            raise ValueError(f"`distillation` is a number from 0 on; got {self.distillation!r}.")
        if not math.isfinite(self.max_accuracy_drop) or self.max_accuracy_drop < 0:
            raise ValueError(
                "`max_accuracy_drop` is a number from 0 on, in the unit of the metric; "
                f"got {self.max_accuracy_drop!r}."
            )
        for name in ("flash", "ram", "latency"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"A budget of `{name}` is above 0; got {value!r}.")
        if not facts.is_microcontroller and (self.flash or self.ram):
            raise ValueError(
                f"`flash` and `ram` are budgets of microcontrollers, which {self.target} is not; "
                "leave them out."
            )
        if isinstance(self.mix, str):
            if self.mix not in ("auto", "paper"):
                raise ValueError(f'`mix` is "auto", "paper" or a dict; got {self.mix!r}.')
        elif set(self.mix) != set(KINDS) or not set(self.mix.values()) <= set(WAYS):
            raise ValueError(
                f'`mix` has "conv" and "fc", each "groups" or "nodes"; got {self.mix!r}.'
            )

    @property
    def facts(self) -> Target:
        return find_target(self.target)

    @property
    def width(self) -> int:
        """Weights in a group: the target's, 1 for the baselines, 8 where it has none."""
        return 1 if self.method != "scalpel" else self.facts.group_width or 8

    @property
    def paper_mix(self) -> dict[str, str]:
        """What each kind of layer loses, before anything is measured."""
        if self.method != "scalpel":
            return {"conv": "groups", "fc": "groups"}
        return dict(self.mix) if isinstance(self.mix, dict) else PAPER[self.facts.parallelism]

    @property
    def races(self) -> bool:
        """Whether the mix for convolutions is decided by a trial."""
        return (
            self.method == "scalpel"
            and self.mix == "auto"
            and self.facts.parallelism in ("low", "moderate")
        )

    def as_json(self) -> dict:
        return {**asdict(self), "parallelism": self.facts.parallelism}
