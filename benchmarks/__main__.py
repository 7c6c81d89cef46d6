"""``python -m benchmarks``: measures, prints tables, writes JSON and a picture.

The exit status says whether the benchmarks ran, not how fast anything was.
"""

import argparse
import importlib
import time
from pathlib import Path

from rich.console import Console

from benchmarks._environment import describe_environment
from benchmarks._figures import Figure, judge
from benchmarks._plot import plot_ratios
from benchmarks._report import print_figures, print_verdicts, write_json
from benchmarks._settings import FULL, QUICK
from benchmarks.peers import available

NAMES = (
    "training",
    "norms",
    "tracing",
    "construction",
    "trees",
    "train_step",
    "optimizers",
    "flattener",
    "mixed_precision",
    "dialects",
    "eager",
    "operations",
    "traces",
    "import_time",
)


def main() -> None:
    """Runs the benchmarks that are named on the command line."""
    arguments = _parse()
    settings = QUICK if arguments.quick else FULL
    # The tables are wider than a terminal of a machine without one.
    console = Console(width=None if Console().is_terminal else 200)
    environment = describe_environment()
    console.print("\n".join(f"{name}: {value}" for name, value in environment.items()), highlight=False)
    for note in available()[1]:
        console.print(note)
    figures: list[Figure] = []
    verdicts = []
    for name in arguments.names or NAMES:
        benchmark = importlib.import_module(f"benchmarks.{name}")
        console.print(f"\nmeasuring {name} …", highlight=False)
        start = time.monotonic()
        new = benchmark.run(settings)
        console.print(f"took {time.monotonic() - start:.0f} s", highlight=False)
        print_figures(console, (benchmark.__doc__ or name).splitlines()[0], new)
        figures += new
        verdicts += judge(benchmark.TARGETS, new)
    print_verdicts(console, verdicts)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_json(arguments.out / "results.json", environment, settings, figures, verdicts)
    written = [arguments.out / "results.json"]
    if plot_ratios(arguments.out / "ratios.png", figures, verdicts):
        written.append(arguments.out / "ratios.png")
    console.print("written:", *written, highlight=False)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures PAX and other libraries.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"what to measure: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller models, less than two minutes")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("benchmarks/results"),
        metavar="DIR",
        help="directory for results.json and ratios.png (default: %(default)s)",
    )
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}")
    return arguments


if __name__ == "__main__":
    main()
