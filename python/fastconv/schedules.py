"""Learning rates that change from step to step: functions of the number of steps made so far.

An optimizer takes a schedule wherever it takes a rate. Names, arguments and values are Keras's; `StepDecay` is
PyTorch's StepLR, and `Warmup` stands before any of them. Steps count batches, not epochs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ._config import Configurable
from ._shapes import integer
from ._validation import at_least_zero


class Schedule(Configurable):
    """Base class; a subclass writes `rate`.

    Examples
    --------
    >>> class Harmonic(Schedule):
    ...     def rate(self, step):
    ...         return 1 / (1 + step)
    >>> Harmonic()(3)
    0.25
    """

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        raise NotImplementedError(f"{type(self).__name__} must define rate(step)")

    def __call__(self, step: int) -> float:
        """Return the learning rate of `step`.

        Parameters
        ----------
        step : int, at least 0

        Raises
        ------
        ValueError
            If the rate is negative or not finite.
        """
        rate = float(self.rate(step))
        if not 0 <= rate < math.inf:
            raise ValueError(f"expected {self!r} to give a finite rate of at least 0; received {rate} at step {step}")
        return rate


class ExponentialDecay(Schedule):
    """``initial_learning_rate * decay_rate^(step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int, at least 1
        Steps in which the rate is multiplied by `decay_rate`.
    decay_rate : float
    staircase : bool, default False
        Only after whole `decay_steps`.

    Examples
    --------
    >>> ExponentialDecay(0.1, 100, 0.5)(200)
    0.025
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = integer(decay_steps, "decay_steps", 1)
        self.decay_rate = at_least_zero(decay_rate, "decay_rate")
        self.staircase = bool(staircase)

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        return float(self.initial_learning_rate * self.decay_rate ** _part(step, self.decay_steps, self.staircase))


class InverseTimeDecay(Schedule):
    """``initial_learning_rate / (1 + decay_rate * step / decay_steps)``.

    Parameters
    ----------
    initial_learning_rate, decay_steps, decay_rate, staircase
        As in `ExponentialDecay`.

    Examples
    --------
    >>> InverseTimeDecay(0.1, 10, 1.0)(10)
    0.05
    """

    def __init__(
        self, initial_learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = integer(decay_steps, "decay_steps", 1)
        self.decay_rate = at_least_zero(decay_rate, "decay_rate")
        self.staircase = bool(staircase)

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        return self.initial_learning_rate / (1 + self.decay_rate * _part(step, self.decay_steps, self.staircase))


class StepDecay(Schedule):
    """``initial_learning_rate * gamma^floor(step / step_size)``: PyTorch's StepLR, a step being a batch.

    Parameters
    ----------
    initial_learning_rate : float
    step_size : int, at least 1
    gamma : float, default 0.1

    Examples
    --------
    >>> [StepDecay(1.0, 10, 0.5)(step) for step in (0, 9, 10, 25)]
    [1.0, 1.0, 0.5, 0.25]
    """

    def __init__(self, initial_learning_rate: float, step_size: int, gamma: float = 0.1) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.step_size = integer(step_size, "step_size", 1)
        self.gamma = at_least_zero(gamma, "gamma")

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        return float(self.initial_learning_rate * self.gamma ** (step // self.step_size))


class PiecewiseConstantDecay(Schedule):
    """``values[i]`` up to and including step ``boundaries[i]``, and the last value after all of them.

    Parameters
    ----------
    boundaries : sequence of int, rising
    values : sequence of float, one more than boundaries

    Examples
    --------
    >>> schedule = PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1])
    >>> [schedule(step) for step in (0, 10, 11, 21)]
    [1.0, 1.0, 0.5, 0.1]
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        self.boundaries = [integer(boundary, "boundaries", 0) for boundary in boundaries]
        self.values = [at_least_zero(value, "values") for value in values]
        if len(self.values) != len(self.boundaries) + 1:
            raise ValueError(
                f"expected one value more than boundaries; received {len(self.boundaries)} boundaries and "
                f"{len(self.values)} values"
            )
        if sorted(set(self.boundaries)) != self.boundaries:
            raise ValueError(f"expected rising boundaries; received {list(boundaries)}")

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        return self.values[sum(step > boundary for boundary in self.boundaries)]


class PolynomialDecay(Schedule):
    """From the initial rate to `end_learning_rate` in `decay_steps`, along ``(1 - step / decay_steps)^power``.

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int, at least 1
    end_learning_rate : float, default 0.0001
    power : float, default 1
        1 is a straight line.
    cycle : bool, default False
        Begin again, with a decay one `decay_steps` longer, in place of staying at the end.

    Examples
    --------
    >>> PolynomialDecay(0.1, 10, end_learning_rate=0.0)(5)
    0.05
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
    ) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = integer(decay_steps, "decay_steps", 1)
        self.end_learning_rate = at_least_zero(end_learning_rate, "end_learning_rate")
        self.power = at_least_zero(power, "power")
        self.cycle = bool(cycle)

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        total = self.decay_steps
        if self.cycle:
            total *= max(1, -(-step // self.decay_steps))
        left = 1 - min(step, total) / total
        return float((self.initial_learning_rate - self.end_learning_rate) * left**self.power + self.end_learning_rate)


class CosineDecay(Schedule):
    """Half a cosine from the initial rate to `alpha` times it (Loshchilov and Hutter, 2017).

    Parameters
    ----------
    initial_learning_rate : float
    decay_steps : int, at least 1
    alpha : float, default 0
        Share of the initial rate that is left at the end; of `warmup_target`, where there is one.
    warmup_target : float, optional
        Rise to this rate in a straight line first, in `warmup_steps`.
    warmup_steps : int, default 0

    Examples
    --------
    >>> [round(CosineDecay(0.1, 10)(step), 4) for step in (0, 5, 10, 20)]
    [0.1, 0.05, 0.0, 0.0]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.decay_steps = integer(decay_steps, "decay_steps", 1)
        self.alpha = at_least_zero(alpha, "alpha")
        self.warmup_target = None if warmup_target is None else at_least_zero(warmup_target, "warmup_target")
        self.warmup_steps = integer(warmup_steps, "warmup_steps", 0)

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        start = self.initial_learning_rate
        if self.warmup_target is not None:
            if step < self.warmup_steps:
                return start + (self.warmup_target - start) * step / self.warmup_steps
            start, step = self.warmup_target, step - self.warmup_steps
        return start * _cosine(min(step / self.decay_steps, 1), self.alpha)


class CosineDecayRestarts(Schedule):
    """`CosineDecay` that begins again, each time longer and lower (SGDR, Loshchilov and Hutter, 2017).

    Parameters
    ----------
    initial_learning_rate : float
    first_decay_steps : int, at least 1
    t_mul : float, at least 1, default 2
        How many times longer each period is than the one before.
    m_mul : float, default 1
        How many times higher each restart begins than the one before.
    alpha : float, default 0
        Share of a period's first rate that is left at its end.

    Examples
    --------
    >>> schedule = CosineDecayRestarts(0.1, 10)
    >>> [round(schedule(step), 4) for step in (0, 5, 10, 20, 30)]
    [0.1, 0.05, 0.1, 0.05, 0.1]
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
    ) -> None:
        self.initial_learning_rate = at_least_zero(initial_learning_rate, "initial_learning_rate")
        self.first_decay_steps = integer(first_decay_steps, "first_decay_steps", 1)
        self.t_mul = at_least_zero(t_mul, "t_mul")
        if self.t_mul < 1:
            raise ValueError(f"expected t_mul to be at least 1; received {t_mul!r}")
        self.m_mul = at_least_zero(m_mul, "m_mul")
        self.alpha = at_least_zero(alpha, "alpha")

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        done = step / self.first_decay_steps  # periods of the first length
        if self.t_mul == 1:
            period, inside = divmod(done, 1)
        else:
            # Periods before the n-th take (t^n - 1) / (t - 1) of the first length. The small term mends its rounding.
            period = math.floor(math.log(1 + done * (self.t_mul - 1), self.t_mul) + 1e-12)
            inside = max(done - (self.t_mul**period - 1) / (self.t_mul - 1), 0) / self.t_mul**period
        return float(self.initial_learning_rate * self.m_mul**period * _cosine(inside, self.alpha))


class Warmup(Schedule):
    """A straight line from `start` to a schedule's first rate, then that schedule, its steps counted from there.

    Parameters
    ----------
    after : float or Schedule
        What follows.
    warmup_steps : int, at least 1
    start : float, default 0

    Examples
    --------
    >>> schedule = Warmup(StepDecay(1.0, 10, 0.5), 4)
    >>> [schedule(step) for step in (0, 1, 4, 14)]
    [0.0, 0.25, 1.0, 0.5]
    """

    def __init__(self, after: float | Schedule, warmup_steps: int, start: float = 0.0) -> None:
        self.after = after if isinstance(after, Schedule) else at_least_zero(after, "after")
        self.warmup_steps = integer(warmup_steps, "warmup_steps", 1)
        self.start = at_least_zero(start, "start")

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        later = max(step - self.warmup_steps, 0)
        top = self.after(later) if isinstance(self.after, Schedule) else self.after
        if step >= self.warmup_steps:
            return top
        return self.start + (top - self.start) * step / self.warmup_steps


def _part(step: int, steps: int, staircase: bool) -> float:
    return step // steps if staircase else step / steps


def _cosine(done: float, alpha: float) -> float:
    return (1 - alpha) * 0.5 * (1 + math.cos(math.pi * done)) + alpha


__all__ = [
    "CosineDecay",
    "CosineDecayRestarts",
    "ExponentialDecay",
    "InverseTimeDecay",
    "PiecewiseConstantDecay",
    "PolynomialDecay",
    "Schedule",
    "StepDecay",
    "Warmup",
]
