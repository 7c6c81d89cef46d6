"""How long does it take to build a large model, to copy and change it, and to run a pure function on it?"""

from collections.abc import Callable

from benchmarks._arrays import count_modules, modules_in_words, supplies
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers import available

TARGETS = (
    Target("pure(identity)", "value", 5e-3),
    Target("eval()", "value", 5e-3),
    Target("parameters()", "value", 5e-3),
    Target("replace(), one layer", "value", 50e-6),
)


def run(settings: Settings) -> list[Figure]:
    """Measures every operation that PAX has, and those of the others that come closest to it."""
    libraries, _ = available()
    new_supply = supplies(settings.blocks)
    cases: dict[str, dict[str, Callable[[], object]]] = {}
    for library in libraries:
        for measure, case in library.operations(new_supply, settings.blocks).items():
            cases.setdefault(measure, {})[library.name] = case
    size = modules_in_words(count_modules(settings.blocks))
    figures = []
    for measure, case_by_library in cases.items():
        timings = time_in_turns(case_by_library, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
        figures += timed_figures("operations", measure, size, timings, reference=None)
    return figures
