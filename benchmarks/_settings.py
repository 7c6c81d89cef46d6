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
        networks: of the training: which of "mlp", "transformer" and "resnet".
        model_libraries: of the training: of how many libraries; the first two are plain JAX and PAX.
        rounds_of_networks: of the training and the norms: samples for each figure.
        seconds_of_networks: of the training and the norms: how long one sample takes, at least one step.
        norm_layers: of the norms: number of layers.
        depths: of the tracing: numbers of layers.
        rounds_of_tracing: of the tracing: samples for each figure.
        constructions: of the construction: which of "transformer" and "resnet50".
        cold_processes: of the construction: processes for each case.
    """

    rounds: int
    seconds_a_sample: float
    blocks: tuple[int, ...]
    modules: tuple[int, ...]
    real_modules: tuple[int, ...]
    processes: int
    layers: int = 10
    networks: tuple[str, ...] = ("mlp", "transformer", "resnet")
    model_libraries: int | None = None
    rounds_of_networks: int = 41
    seconds_of_networks: float = 0.1
    norm_layers: int = 4
    depths: tuple[int, ...] = (12, 48)
    rounds_of_tracing: int = 15
    constructions: tuple[str, ...] = ("transformer", "resnet50")
    cold_processes: int = 5


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
    networks=("transformer",),
    model_libraries=2,
    rounds_of_networks=9,
    seconds_of_networks=0.03,
    depths=(2, 8),
    rounds_of_tracing=3,
    constructions=("transformer",),
    cold_processes=1,
)
