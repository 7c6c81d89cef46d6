"""What the examples share: options, a progress bar with live numbers, Ctrl-C and going on after it, and pictures.

A training loop is here a function of its state and the number of the step, so a run that is stopped and started again
does what it would have done in one go:

    def step(state, number):
        batch = choose(images, options.seed, number)
        net, optimizer, loss = train_step(*state, batch)
        return (net, optimizer), {"loss": loss}

    run = Run(options)
    net, optimizer = run.train(step, (net, optimizer))
"""

import argparse
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
Step = Callable[[T, int], tuple[T, Mapping[str, Any]]]

_SAVE_EVERY = 100  # steps
_RECENT = 20  # steps, whose mean is shown


def options_of(description: str | None, *, steps: int, out: str) -> argparse.ArgumentParser:
    """Returns a parser with the options of all examples; add more, and call ``parse_args``.

    Args:
        description: the text of ``--help``.
        steps: the default of ``--steps``.
        out: the default of ``--out``.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=_at_least_one, default=steps, help="how long to train (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, data and order (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder of the results (default: %(default)s)")
    parser.add_argument("--fresh", action="store_true", help="start anew, also if the folder has a run to go on with")
    return parser


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("has to be at least 1")
    return number


def choose(number_of_examples: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Returns the indices of the examples of a batch: another random order for each pass over the data."""
    batches = max(1, number_of_examples // batch_size)
    epoch, position = divmod(step, batches)
    order = np.random.default_rng((seed, epoch)).permutation(number_of_examples)
    return order[position * batch_size : (position + 1) * batch_size]


class Run:
    """A training run, and the folder with what it leaves.

    Args:
        options: what the parser of `options_of` returned.
        console: where to write.

    Attributes:
        history: the numbers of each step, by name.
        console: where it writes.
        out: the folder.
    """

    def __init__(self, options: argparse.Namespace, console: Console | None = None) -> None:
        self.history: dict[str, list[float]] = {}
        self.console = console or Console()
        self.out: Path = options.out
        self._steps: int = options.steps
        self._fresh: bool = options.fresh
        self.out.mkdir(parents=True, exist_ok=True)

    @property
    def steps_done(self) -> int:
        """How many steps have been done, in this run and those that it goes on with."""
        return max(map(len, self.history.values()), default=0)

    def train(self, step: Step[T], state: T) -> T:
        """Does the steps that are left, and returns the last state.

        Ctrl-C ends it after the current step. What was learnt is saved, and the next run goes on there.

        Args:
            step: takes the state and the number of the step, from 0; returns the new state, and numbers to show.
            state: a pytree; what the run starts with, if there is nothing to go on with.
        """
        state = self._restored(state)
        columns = (
            TextColumn("training"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[live]}"),
            TimeRemainingColumn(),
        )
        start = self.steps_done
        with _interrupts() as interrupts, Progress(*columns, console=self.console) as progress:
            task = progress.add_task("training", total=self._steps, completed=start, live="compiling …")
            for number in range(start, self._steps):
                state, numbers = step(state, number)
                for name, value in numbers.items():
                    self.history.setdefault(name, []).append(float(value))
                progress.update(task, advance=1, live=self.recent())
                if interrupts:
                    break
                if (number + 1) % _SAVE_EVERY == 0:
                    self._save(state)
        if self.steps_done > start:
            self._save(state)
        if self.steps_done < self._steps:
            self.console.print(f"Stopped after {self.steps_done} steps. The same command goes on from there.")
        return state

    def recent(self) -> str:
        """Returns the means of the last steps as text."""
        return "  ".join(f"{name} {np.mean(values[-_RECENT:]):.3f}" for name, values in self.history.items())

    def plot(self, name: str = "training.png") -> None:
        """Draws the numbers of all steps, and their moving means."""
        figure = Figure(figsize=(5 * max(1, len(self.history)), 3.6), layout="constrained")
        axes = figure.subplots(1, max(1, len(self.history)), squeeze=False)[0]
        for axis, (title, values) in zip(axes, self.history.items(), strict=False):
            steps = np.arange(1, len(values) + 1)
            window = max(1, min(25, len(values) // 20))
            mean = np.ones(window) / window
            axis.plot(steps, values, color="tab:blue", alpha=0.25, linewidth=1)
            axis.plot(np.convolve(steps, mean, "valid"), np.convolve(values, mean, "valid"), color="tab:blue")
            axis.set(title=title, xlabel="step")
            axis.grid(alpha=0.3)
            axis.spines[["top", "right"]].set_visible(False)
        figure.savefig(self.out / name, dpi=150)

    # ---- going on ---------------------------------------------------------------------------------------------------

    @property
    def _file(self) -> Path:
        return self.out / "state.npz"

    def _save(self, state: Any) -> None:
        arrays = {f"state{path}": _as_plain(leaf) for path, leaf in _leaves(state)}
        arrays |= {f"history/{name}": np.asarray(values) for name, values in self.history.items()}
        unfinished = self._file.with_suffix(".unfinished.npz")
        np.savez(unfinished, allow_pickle=False, **arrays)
        os.replace(unfinished, self._file)  # a run that is killed leaves the last whole file

    def _restored(self, state: T) -> T:
        if self._fresh or not self._file.exists():
            return state
        with np.load(self._file) as file:
            arrays = dict(file)
        saved = {name: array for name, array in arrays.items() if name.startswith("state")}
        wanted = [(f"state{path}", leaf) for path, leaf in _leaves(state)]
        fits = len(saved) == len(wanted) and all(
            name in saved and saved[name].shape == _as_plain(leaf).shape for name, leaf in wanted
        )
        if not fits:
            raise SystemExit(
                f"{self._file} is of a run with other options. Use --fresh, or another folder: --out FOLDER"
            )
        self.history = {
            name.removeprefix("history/"): array.tolist()
            for name, array in arrays.items()
            if name.startswith("history/")
        }
        self.console.print(f"Going on after step {self.steps_done} of {self._file}; --fresh starts anew.")
        leaves = [_like(leaf, saved[name]) for name, leaf in wanted]
        restored: T = jax.tree.unflatten(jax.tree.structure(state), leaves)
        return restored


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _as_plain(leaf: Any) -> np.ndarray:
    """Returns a leaf as an array that NumPy's files can hold."""
    array = np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def _like(leaf: Any, array: np.ndarray) -> jax.Array:
    if _is_key(leaf):
        key: jax.Array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        return key
    return jnp.asarray(array, dtype=leaf.dtype)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yields a list that gets an entry on Ctrl-C, instead of a `KeyboardInterrupt`; a second one ends the program."""
    signals: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield signals
    finally:
        signal.signal(signal.SIGINT, before)


def draw_images(images: np.ndarray, path: Path, *, columns: int = 10, titles: Sequence[str] = ()) -> None:
    """Draws gray images in a grid.

    Args:
        images: ``[N, height, width]`` or ``[N, height, width, 1]``; 0 is white, 1 is black.
        path: the file.
        columns: how many in a row.
        titles: texts above the images.
    """
    images = np.asarray(images).reshape(len(images), *images.shape[1:3])
    columns = min(columns, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = Figure(figsize=(0.9 * columns, (1.15 if titles else 0.9) * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for index, axis in enumerate(axes.flat):
        axis.axis("off")
        if index < len(images):
            axis.imshow(images[index], cmap="gray_r", vmin=0, vmax=1)
            if titles:
                axis.set_title(titles[index], fontsize=8)
    figure.savefig(path, dpi=150)


def draw_misread(images: np.ndarray, labels: np.ndarray, read: np.ndarray, path: Path) -> None:
    """Draws images that were misread, the first forty, with the true digits and what was read.

    Args:
        images: ``[N, 8, 8]`` or ``[N, 8, 8, 1]``; 0 is white, 1 is black.
        labels: the true digits, ``[N]``.
        read: what was read, ``[N]``.
        path: the file.
    """
    wrong = np.flatnonzero(read != labels)[:40]
    draw_images(images[wrong], path, titles=[f"{labels[index]}, not {read[index]}" for index in wrong])
