"""Know what you do not know: many small networks, trained at once by `jax.vmap`, and how far they agree.

    python examples/ensemble.py
    python examples/ensemble.py --members 20 --seed 1

It shows: everything is written for one network, its optimizer, its step; `jax.vmap` makes it an ensemble. Modules and
optimizers are pytrees, so they are mapped over like arrays. (`pax.nn.Ensemble` is an ensemble as a layer.)
The networks see 300 images each in an order of their own. What they disagree on is hard, or no digit at all.

The folder gets a picture of images with the probabilities that the members give to each digit, and of how well
uncertainty finds the mistakes; and the curve of the training. Ctrl-C stops; the same command goes on.

Lakshminarayanan et al., "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", 2017,
https://arxiv.org/abs/1612.01474
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from digits import load_images
from matplotlib.figure import Figure
from training import Run, choose, options_of

import opax
import pax

TRAINED_ON = 300  # images, so that there is something to be unsure about
BATCH_SIZE = 64


# ---- one network ----------------------------------------------------------------------------------------------------


def make_network(key: jax.Array) -> pax.Sequential:
    """Returns a network from images `[N, 8, 8, 1]` to the scores of ten digits."""
    keys = jax.random.split(key, 3)
    return pax.Sequential(
        pax.Conv2D(1, 16, 3, rng_key=keys[0]),
        jax.nn.relu,
        pax.MaxPool2D(2),
        pax.Flatten(),
        pax.Linear(4 * 4 * 16, 64, rng_key=keys[1]),
        jax.nn.relu,
        pax.Linear(64, 10, rng_key=keys[2]),
    )


def make_optimizer(net: pax.Sequential) -> Any:
    """Returns the optimizer of a network."""
    return opax.adam(2e-3)(net.parameters())


def loss_fn(net: pax.Sequential, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the mean loss of a batch."""
    loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(net(images), labels).mean()
    return loss


def train_step(net: Any, optimizer: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns network and optimizer after one step, and the loss."""
    loss, grads = pax.value_and_grad(loss_fn)(net, images, labels)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss


def probabilities(net: Any, images: jax.Array) -> jax.Array:
    """Returns what the network thinks of each digit, `[N, 10]`."""
    return jax.nn.softmax(net.eval()(images))


# ---- many of them ---------------------------------------------------------------------------------------------------

make_networks = jax.vmap(make_network)
make_optimizers = jax.vmap(make_optimizer)
train_steps = jax.jit(jax.vmap(train_step))  # a batch for each
all_probabilities = jax.jit(jax.vmap(probabilities, in_axes=(0, None)))  # the same images for all


def disagreement(votes: np.ndarray) -> np.ndarray:
    """Returns the entropy in bits of the mean of the probabilities `[members, N, 10]`, for each image."""
    mean = votes.mean(axis=0)
    entropy: np.ndarray = -(mean * np.log2(mean + 1e-12)).sum(axis=-1)
    return entropy


def two_in_one(images: np.ndarray, labels: np.ndarray, seed: int) -> np.ndarray:
    """Returns images each of which shows two different digits."""
    order = np.random.default_rng(seed).permutation(len(images))
    differ = labels != labels[order]
    both: np.ndarray = np.maximum(images[differ], images[order][differ])
    return both


def shuffled(images: np.ndarray, seed: int) -> np.ndarray:
    """Returns images that show nothing: their pixels are shuffled."""
    rng = np.random.default_rng(seed)
    pixels: np.ndarray = rng.permuted(images.reshape(len(images), -1), axis=1)
    return pixels.reshape(images.shape)


# ---- pictures -------------------------------------------------------------------------------------------------------


Pairs = dict[str, tuple[np.ndarray, np.ndarray]]


def plot(rows: Pairs, curves: Pairs, path: Path) -> None:
    """Draws images with their votes, and curves.

    Args:
        rows: images `[8, 8, 8, 1]` and votes `[members, 8, 10]`, by title.
        curves: entropies of images, and whether they were read correctly, by name.
        path: the file.
    """
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    sides: Any = figure.subfigures(1, 2, width_ratios=(2.1, 1))
    strips = sides[0].subfigures(len(rows), 1)
    for strip, (title, (images, votes)) in zip(strips, rows.items(), strict=True):
        strip.suptitle(title, fontsize=10, x=0.01, ha="left")
        axes = strip.subplots(2, len(images), height_ratios=(2, 1), squeeze=False)
        for index, image in enumerate(images):
            picture, bars = axes[:, index]
            picture.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
            picture.axis("off")
            bars.bar(range(10), votes[:, index].mean(axis=0), color="tab:blue", width=0.9)
            bars.plot(np.tile(np.arange(10), len(votes)), votes[:, index].ravel(), ",", color="black", alpha=0.6)
            bars.set(ylim=(0, 1), yticks=[])
            bars.set_xticks(range(10), [str(digit) for digit in range(10)], fontsize=5)
            bars.tick_params(length=0, pad=1)
            bars.spines[["top", "right", "left"]].set_visible(False)
    axis = sides[1].subplots()
    for name, (entropies, correct) in curves.items():
        order = np.argsort(entropies)
        share = np.arange(1, len(order) + 1) / len(order)
        axis.plot(share, 1 - np.cumsum(correct[order]) / np.arange(1, len(order) + 1), label=name)
    axis.set(xlabel="share of images answered, surest first", title="mistakes among the answers")
    axis.xaxis.set_major_formatter("{x:.0%}")
    axis.yaxis.set_major_formatter("{x:.1%}")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Trains the ensemble, and looks at what it is unsure about."""
    parser = options_of(__doc__, steps=300, out="ensemble-out")
    parser.add_argument("--members", type=int, default=10, help="networks (default: %(default)s)")
    options = parser.parse_args()
    if options.members < 2:
        parser.error("--members has to be at least 2")
    images, test_images, labels, test_labels = load_images(options.seed)
    # What is not trained on is left for tests.
    test_images = np.concatenate([images[TRAINED_ON:], test_images])
    test_labels = np.concatenate([labels[TRAINED_ON:], test_labels])

    nets = make_networks(jax.random.split(jax.random.key(options.seed), options.members))
    optimizers = make_optimizers(nets)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        seeds = options.members * options.seed + np.arange(options.members)
        batches = np.stack([choose(TRAINED_ON, BATCH_SIZE, int(seed), number) for seed in seeds])
        nets, optimizers, losses = train_steps(*state, images[batches], labels[batches])
        return (nets, optimizers), {"loss": losses.mean()}

    run = Run(options)
    nets, optimizers = run.train(step, (nets, optimizers))
    run.plot()

    votes = np.asarray(all_probabilities(nets, test_images))
    correct = votes.argmax(-1) == test_labels
    together = votes.mean(axis=0).argmax(-1) == test_labels
    say = partial(run.console.print, highlight=False)
    say(f"Test accuracy of single networks: {correct.mean(1).min():.1%} to {correct.mean(1).max():.1%}")
    say(f"Test accuracy of all {options.members} together: [bold]{together.mean():.1%}[/bold]")

    unsure = disagreement(votes)
    order = np.argsort(unsure)
    rows = {
        "test images, surest": (test_images[order[:8]], votes[:, order[:8]]),
        "test images, least sure": (test_images[order[-8:]], votes[:, order[-8:]]),
    }
    say(f"Entropy of test images: {unsure.mean():.2f} bits")
    for name, strange in (
        ("two digits in one image", two_in_one(test_images, test_labels, options.seed)),
        ("shuffled pixels", shuffled(test_images, options.seed)),
    ):
        strange_votes = np.asarray(all_probabilities(nets, strange))
        rows[name] = strange[:8], strange_votes[:, :8]
        say(f"Entropy of {name}: {disagreement(strange_votes).mean():.2f} bits")
    curves = {"one network": (disagreement(votes[:1]), correct[0]), f"all {options.members}": (unsure, together)}
    plot(rows, curves, run.out / "uncertainty.png")
    say(f"Pictures are in {run.out}")


if __name__ == "__main__":
    main()
