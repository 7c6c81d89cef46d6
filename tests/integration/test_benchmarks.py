"""The benchmarks run, with tiny models, and their arithmetic is right."""

import importlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from benchmarks._arrays import count_arrays, count_modules, stage_arrays, supply
from benchmarks._figures import Figure, Target, judge, timed_figures
from benchmarks._harness import Spread, Timing, time_in_turns
from benchmarks._plot import plot_ratios
from benchmarks._report import in_words
from benchmarks._settings import RESNET_200, Settings
from benchmarks.models import models_available, transformer_weights
from benchmarks.peers import Library, available

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the other libraries

TINY = Settings(
    rounds=2,
    seconds_a_sample=1e-5,
    blocks=(2,),
    modules=(5,),
    real_modules=(3,),
    processes=1,
    layers=2,
    networks=("mlp",),
    model_libraries=2,
    rounds_of_networks=2,
    seconds_of_networks=1e-5,
    norm_layers=1,
    depths=(1, 2),
    rounds_of_tracing=2,
    constructions=("transformer",),
    cold_processes=1,
)


@pytest.fixture(autouse=True)
def as_users_run() -> Iterator[None]:
    """Other libraries, and what one writes without a library, rely on promotions that the tests forbid."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def libraries() -> tuple[Library, ...]:
    return available()[0]


def test_spread_is_median_and_quartiles() -> None:
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 100.0]) == Spread(median=3.0, low=2.0, high=4.0, samples=5)
    assert Spread.of([7.0]) == Spread(7.0, 7.0, 7.0, 1)


def test_ratio_is_the_median_of_the_ratios_within_a_round() -> None:
    timings = {"a": Timing((1.0, 10.0, 2.0), (0.0,) * 3), "b": Timing((2.0, 30.0, 2.0), (5.0,) * 3)}
    reference, other = timed_figures("x", "y", "z", timings, reference="a")
    assert other.ratio == Spread(median=2.0, low=1.5, high=2.5, samples=3)
    assert other.value.median == 2.0
    assert other.wall is not None
    assert other.wall.median == 5.0
    assert reference.ratio == Spread(1.0, 1.0, 1.0, 3)


def test_time_of_a_call_is_that_of_a_sample_divided_by_its_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def case_of(seconds: float) -> Callable[[], None]:
        def case() -> None:
            nonlocal now
            now += seconds

        return case

    monkeypatch.setattr("time.perf_counter", lambda: now)
    monkeypatch.setattr("time.thread_time", lambda: now / 2)
    timings = time_in_turns({"slow": case_of(0.5), "fast": case_of(0.125)}, rounds=3, seconds_a_sample=2.0)
    assert timings == {"slow": Timing((0.25,) * 3, (0.5,) * 3), "fast": Timing((0.0625,) * 3, (0.125,) * 3)}


def test_only_pax_is_held_against_the_targets() -> None:
    figures = [
        Figure("trees", "flatten", "9 modules", library, Spread.of([1.0]), ratio=Spread.of([ratio]))
        for library, ratio in (("nested dicts", 1.0), ("PAX", 0.5), ("PAX, as built", 2.0))
    ]
    targets = [
        Target("flatten", "ratio", 0.9),
        Target("flatten", "value", 0.5, frozenset({"10 modules"})),
        Target("other", "value", 1),
    ]
    assert [(v.figure.library, v.reached, v.met) for v in judge(targets, figures)] == [
        ("PAX", 0.5, True),
        ("PAX, as built", 2.0, False),
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5e-5, "s", "15 µs"), (0.0123, "s", "12.3 ms"), (2.0, "s", "2 s"), (3e-10, "s", "0.3 ns"), (2, "count", "2")],
)
def test_durations_have_a_fitting_unit(value: float, unit: str, text: str) -> None:
    assert in_words(value, unit) == text


def test_the_large_tree_has_as_many_modules_and_arrays_as_is_said(libraries: tuple[Library, ...]) -> None:
    assert (count_modules(RESNET_200), count_arrays(RESNET_200)) == (884, 1016)
    for library in libraries:
        assert len(jax.tree.leaves(library.resnet(supply(), (2, 1)))) == count_arrays((2, 1))


@pytest.mark.parametrize("modules", [3, 10, 100, 1000])
def test_a_network_of_stages_has_so_many_modules(modules: int) -> None:
    stages = stage_arrays(modules, (0,))
    assert 1 + len(stages) + sum(map(len, stages)) == modules


def test_all_libraries_compute_the_same(libraries: tuple[Library, ...]) -> None:
    arrays = stage_arrays(7, (1,))
    outputs = [
        float(run(model, jax.numpy.full((1,), 2.0))[0])
        for model, run in (library.stages(arrays) for library in libraries)
    ]
    assert outputs == [2.0 * sum(map(len, arrays))] * len(libraries)


@pytest.mark.parametrize(
    "name",
    [
        "trees",
        "train_step",
        "optimizers",
        "flattener",
        "mixed_precision",
        "dialects",
        "eager",
        "operations",
        "traces",
        "training",
        "norms",
        "tracing",
    ],
)
def test_benchmark_gives_finite_figures(name: str, tmp_path: Path) -> None:
    benchmark = importlib.import_module(f"benchmarks.{name}")
    figures = benchmark.run(TINY)
    assert len({figure.library for figure in figures}) > 1
    assert "PAX" in {figure.library for figure in figures}
    for figure in figures:
        spreads = [spread for spread in (figure.value, figure.ratio, figure.wall) if spread is not None]
        assert all(math.isfinite(spread.median) and spread.median > 0 for spread in spreads)
    expected = {target.measure for target in benchmark.TARGETS}
    assert expected <= {figure.measure for figure in figures}
    assert plot_ratios(tmp_path / "ratios.png", figures, []) == any(figure.ratio for figure in figures)


def test_import_is_timed_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import_time = importlib.import_module("benchmarks.import_time")
    monkeypatch.setattr(import_time, "_MODULES", {"PAX": "pax", "absent": "no_such_package.module"})
    (figure,) = import_time.run(TINY)
    assert (figure.library, figure.size) == ("PAX", "pax")
    assert 0 < figure.value.median < 60


def test_construction_is_timed_in_processes_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    construction = importlib.import_module("benchmarks.construction")
    asked = []

    def process(label: str, model: str) -> dict[str, Any]:
        asked.append((label, model))
        return {"cold": 2.0 if label == "plain JAX" else 1.0, "warm": 0.5, "compilations": 0}

    monkeypatch.setattr(construction, "_process", process)
    figures = construction.run(TINY)
    assert ("PAX", "transformer") in asked
    ratio = {(f.measure, f.library): f.ratio.median for f in figures if f.ratio is not None}
    assert ratio["cold", "PAX, NumPy"] == 0.5
    assert ratio["warm", "PAX"] == 1.0
    missed = {(v.target.measure, v.figure.library) for v in judge(construction.TARGETS, figures) if not v.met}
    assert missed == {("cold", "PAX, NumPy")}  # half the time is not a tenth of it


def test_construction_without_weights_compiles_nothing() -> None:
    construction = importlib.import_module("benchmarks.construction")
    sample = construction.measure_here("PAX, abstract", "transformer")
    assert sample["compilations"] == 0
    assert sample["cold"] > 0


def test_networks_of_all_libraries_return_the_same() -> None:
    weights = transformer_weights(1, 8)
    x = jax.random.normal(jax.random.key(0), (2, 3, 8))
    outputs = {}
    for library in models_available():
        network = library.transformer(weights, 2)
        outputs[library.name] = np.asarray(jax.jit(network.run)(network.params, network.rest, x)[0])
    for output in outputs.values():
        np.testing.assert_allclose(output, outputs["plain JAX"], atol=1e-5)


def test_training_refuses_networks_that_differ() -> None:
    training = importlib.import_module("benchmarks.training")
    losses = {"plain JAX": jax.numpy.ones(()), "other": jax.numpy.full((), 1.1)}
    with pytest.raises(RuntimeError, match="other computes something else"):
        training._check({label: lambda loss=loss: loss for label, loss in losses.items()})
