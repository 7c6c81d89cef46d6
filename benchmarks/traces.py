"""How often is a function traced? Once for each distinct structure, and never again, is what PAX promises."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax

from benchmarks._arrays import count_modules, modules_in_words, supplies
from benchmarks._figures import Figure, Target
from benchmarks._harness import Spread
from benchmarks._settings import Settings
from benchmarks.peers import Library, Take, available

_BLOCKS = (2, 1)
_REPETITIONS = 5

TARGETS = (
    Target("the output of the last call", "value", 1),
    Target("built anew for every call", "value", 1),
    Target("train, eval, train, eval, …", "value", 2),
    Target("built and frozen for every call", "value", 1),
    Target("frozen once more for every call", "value", 1),
)


def run(settings: Settings) -> list[Figure]:
    """Counts the traces of one compiled function in each of several situations; ``settings`` change nothing here."""
    libraries, _ = available()
    new_supply = supplies(_BLOCKS)
    size = modules_in_words(count_modules(_BLOCKS))
    figures = []
    for target, situation in zip(TARGETS, _SITUATIONS, strict=True):
        for library in libraries:
            count = situation(library, new_supply)
            if count is not None:
                value = Spread.of([count])
                figures.append(Figure("traces", target.measure, size, library.name, value, unit="count"))
    return figures


def count_traces(library: Library, models: Iterable[Any]) -> int:
    """Calls one compiled function with all models and returns how often it was traced."""
    traces = 0

    def leaves(model: Any) -> list[jax.Array]:
        nonlocal traces
        traces += 1
        return jax.tree.leaves(model)

    compiled = library.jit(leaves)
    for model in models:
        compiled(model)
    return traces


def _fed_back(library: Library, new_supply: Callable[[], Take]) -> int | None:
    traces = 0

    def identity(model: Any) -> Any:
        nonlocal traces
        traces += 1
        return model

    compiled = library.jit(identity)
    model = library.resnet(new_supply(), _BLOCKS)
    for _ in range(_REPETITIONS):
        model = compiled(model)
    return traces


def _built_anew(library: Library, new_supply: Callable[[], Take]) -> int | None:
    return count_traces(library, (library.resnet(new_supply(), _BLOCKS) for _ in range(_REPETITIONS)))


def _switched(library: Library, new_supply: Callable[[], Take]) -> int | None:
    if library.switched(library.resnet(new_supply(), _BLOCKS), False) is None:
        return None

    def models() -> Iterator[Any]:
        model = library.resnet(new_supply(), _BLOCKS)
        for _ in range(_REPETITIONS):
            for training in (True, False):
                model = library.switched(model, training)
                yield model

    return count_traces(library, models())


def _frozen_apart(library: Library, new_supply: Callable[[], Take]) -> int | None:
    models = [library.frozen(library.resnet(new_supply(), _BLOCKS)) for _ in range(_REPETITIONS)]
    return None if models[0] is None else count_traces(library, models)


def _frozen_again(library: Library, new_supply: Callable[[], Take]) -> int | None:
    models = [library.frozen(library.resnet(new_supply(), _BLOCKS))]
    if models[0] is None:
        return None
    for _ in range(_REPETITIONS):
        models.append(library.frozen(models[-1]))
    return count_traces(library, models)


_SITUATIONS: tuple[Callable[[Library, Callable[[], Take]], int | None], ...] = (
    _fed_back,
    _built_anew,
    _switched,
    _frozen_apart,
    _frozen_again,
)
