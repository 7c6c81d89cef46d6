"""How much is measured, and how long."""

from dataclasses import dataclass

RESNET_200 = (3, 24, 36, 3)


@dataclass(frozen=True)
class Settings:
    """The amount of work of one run.

    Attributes:
        rounds: samples for each figure.
        seconds_a_sample: how long one sample takes, at least one call.
        blocks: of the tree that is taken apart and changed: number of blocks in each group of a residual network.
        modules: of the train step: numbers of modules.
        real_modules: of the train step with arithmetic: numbers of modules.
        processes: of the import time: processes for each library.
        layers: of the eager forward pass.
    """

    rounds: int
    seconds_a_sample: float
    blocks: tuple[int, ...]
    modules: tuple[int, ...]
    real_modules: tuple[int, ...]
    processes: int
    layers: int = 10


FULL = Settings(
    rounds=61,
    seconds_a_sample=0.005,
    blocks=RESNET_200,
    modules=(10, 100, 1000),
    real_modules=(10, 100),
    processes=11,
)
QUICK = Settings(
    rounds=21,
    seconds_a_sample=0.003,
    blocks=RESNET_200,
    modules=(10, 100),
    real_modules=(10,),
    processes=3,
)
