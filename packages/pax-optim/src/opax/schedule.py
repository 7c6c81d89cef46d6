"""Learning rates that depend on the number of steps.

A schedule is any function of an int32 scalar (1 in the first step) that returns a number; all of optax's can be used.
Those here compare by value and can be pickled, so optimizers that hold them do and can, too. They take numbers and
arrays of any shape, to be drawn for example: ``cosine_decay(0.1, 100)(np.arange(100))``.

Steps are counted from the begin of training: ``steps`` is the whole length, a warm-up included. After it the last value
stays.
"""

from opax._schedule_joined import inverse_sqrt as inverse_sqrt
from opax._schedule_joined import join as join
from opax._schedule_joined import one_cycle as one_cycle
from opax._schedule_joined import piecewise_constant as piecewise_constant
from opax._schedule_joined import warmup_cosine_decay as warmup_cosine_decay
from opax._schedule_joined import warmup_linear_decay as warmup_linear_decay
from opax._schedule_simple import constant as constant
from opax._schedule_simple import cosine_decay as cosine_decay
from opax._schedule_simple import exponential_decay as exponential_decay
from opax._schedule_simple import linear as linear
from opax._schedule_simple import polynomial as polynomial
from opax._schedules import ScheduleFn as ScheduleFn
from opax._schedules import ScheduleOrFloat as ScheduleOrFloat

__all__ = [
    "ScheduleFn",
    "ScheduleOrFloat",
    "constant",
    "cosine_decay",
    "exponential_decay",
    "inverse_sqrt",
    "join",
    "linear",
    "one_cycle",
    "piecewise_constant",
    "polynomial",
    "warmup_cosine_decay",
    "warmup_linear_decay",
]
