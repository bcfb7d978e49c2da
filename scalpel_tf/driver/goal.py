"""What a step has to reach: the metric on the validation data, the dense model's, and the bar."""

import math

EPSILON = 1e-6  # metrics are float32


class Goal:
    """metric: its name.  mode: "max" or "min".  baseline: the dense model's value.

    drop: how much worse than the baseline a step may be, in the metric's unit.
    """

    def __init__(self, metric: str, mode: str, baseline: float, drop: float):
        self.metric, self.baseline = metric, baseline
        self._sign = 1 if mode == "max" else -1
        self.bar = baseline - self._sign * drop

    def score(self, value: float) -> float:
        """The value, turned so that more is better; what is not finite is worst."""
        return self._sign * value if math.isfinite(value) else -math.inf

    def is_good(self, value: float) -> bool:
        """Whether a step with this value is kept."""
        return self.score(value) >= self.score(self.bar) - EPSILON

    def is_back(self, value: float) -> bool:
        """Whether it is as good as the dense model's, so that training may end."""
        return self.score(value) >= self.score(self.baseline)

    def why_not(self, value: float) -> str:
        """A clause on a value that is not good."""
        return f"{self.metric} did not come back: {value:.4f}, where {self.bar:.4f} is needed"
