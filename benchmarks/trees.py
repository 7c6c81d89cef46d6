"""How long does it take to take a large model apart and to put it together?

Every call of a compiled function does both, and compares the structures.
"""

from collections.abc import Callable
from typing import Any

import jax

from benchmarks._arrays import count_modules, modules_in_words, supply
from benchmarks._figures import Figure, Target, timed_figures
from benchmarks._harness import time_in_turns
from benchmarks._settings import Settings
from benchmarks.peers import Library, available

TARGETS = (
    Target("flatten", "ratio", 0.9),
    Target("unflatten", "ratio", 3.5),
    Target("round trip", "ratio", 1.8),
    Target("treedef ==", "ratio", 0.6),
)


def run(settings: Settings) -> list[Figure]:
    """Measures flattening, unflattening, both, and the comparison of the structures of two equal models."""
    libraries, _ = available()
    size = modules_in_words(count_modules(settings.blocks))
    cases: dict[str, dict[str, Callable[[], object]]] = {target.measure: {} for target in TARGETS}
    for library in libraries:
        for label, (tree, twin) in _pairs_of_trees(library, settings).items():
            for measure, case in _cases(tree, twin).items():
                cases[measure][label] = case
    figures = []
    for measure, case_by_label in cases.items():
        timings = time_in_turns(case_by_label, rounds=settings.rounds, seconds_a_sample=settings.seconds_a_sample)
        figures += timed_figures("trees", measure, size, timings, libraries[0].name)
    return figures


def _pairs_of_trees(library: Library, settings: Settings) -> dict[str, tuple[Any, Any]]:
    first, second = (library.trees(supply(), settings.blocks) for _ in range(2))
    return {label: (first[label], second[label]) for label in first}


def _cases(tree: Any, twin: Any) -> dict[str, Callable[[], object]]:
    leaves, structure = jax.tree.flatten(tree)
    other: object = jax.tree.structure(twin)

    def round_trip() -> object:
        leaves, structure = jax.tree.flatten(tree)
        return jax.tree.unflatten(structure, leaves)

    return {
        "flatten": lambda: jax.tree.flatten(tree),
        "unflatten": lambda: jax.tree.unflatten(structure, leaves),
        "round trip": round_trip,
        "treedef ==": lambda: other == structure,
    }
