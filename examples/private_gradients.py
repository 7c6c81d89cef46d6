"""Learn from images without giving away any of them: gradients of single examples, limited in size, hidden in noise.

    python examples/private_gradients.py
    python examples/private_gradients.py --noise 0 1 4 --seed 1

It shows: gradients of single examples, `jax.vmap` of `pax.grad`; and DP-SGD, `opax.differentially_private_aggregate`.
More noise is more privacy and less accuracy. How much privacy is said by ε: for no image can its absence change the
probability of any result by more than a factor of exp(ε), up to δ = 10⁻⁴. Without noise there is no such ε; below 1 is
strong. The bound is that of Mironov et al., "Rényi Differential Privacy of the Sampled Gaussian Mechanism", 2019,
https://arxiv.org/abs/1908.10530, for whole orders; an accounting library gives a slightly smaller one.

The folder gets a picture with accuracy and ε of each noise and the sizes of gradients, and a folder for each run.
Ctrl-C stops; the same command goes on.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import load_images
from matplotlib.figure import Figure
from rich.console import Console
from training import Run, options_of

import opax
import pax

EXPECTED = 128  # images in a batch
CAPACITY = 192  # places in a batch: so many images are as good as never drawn
LIMIT = 1.0  # for the norm of the gradient of one image
DELTA = 1e-4


def loss_fn(net: Any, image: jax.Array, label: jax.Array, present: jax.Array) -> jax.Array:
    """Returns the loss of one image, `[8, 8, 1]`; 0 where a place in the batch is empty."""
    scores = net(image[None])[0]
    loss: jax.Array = optax.softmax_cross_entropy_with_integer_labels(scores, label)
    return present * loss


per_image_grads = jax.vmap(pax.value_and_grad(loss_fn), in_axes=(None, 0, 0, 0))


@jax.jit
def train_step(net: Any, optimizer: Any, images: jax.Array, labels: jax.Array, present: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, and the mean loss."""
    losses, grads = per_image_grads(net, images, labels, present)  # each leaf of `grads` has an axis for the images
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, losses.sum() / present.sum()


@jax.jit
def gradient_norms(net: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the norm of the gradient of each image."""
    _, grads = per_image_grads(net, images, labels, jnp.ones(len(images)))
    squares = [jnp.square(leaf).reshape(len(images), -1).sum(axis=1) for leaf in jax.tree.leaves(grads)]
    return jnp.sqrt(jnp.stack(squares).sum(axis=0))


def make_network() -> pax.Sequential:
    """Returns a network without batch normalization, which would mix the images of a batch."""
    return pax.Sequential(
        pax.Conv2D(1, 16, 3),
        jnp.tanh,
        pax.AvgPool2D(2),
        pax.Conv2D(16, 32, 3),
        jnp.tanh,
        pax.Flatten(),
        pax.Linear(4 * 4 * 32, 10),
    )


def draw_batch(number_of_images: int, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns indices, and which of them count: each image is drawn by itself, which the theory asks for."""
    drawn = np.random.default_rng((seed, step)).random(number_of_images) < EXPECTED / number_of_images
    chosen = np.flatnonzero(drawn)[:CAPACITY]
    places = np.arange(CAPACITY) < len(chosen)
    return np.resize(chosen, CAPACITY), places.astype(np.float32)


def epsilon(noise: float, rate: float, steps: int, delta: float = DELTA) -> float:
    """Returns ε after some steps, each with a share `rate` of the images."""
    if noise == 0:
        return math.inf

    def bound(order: int) -> float:
        def term(k: int) -> float:
            choices = math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            return choices + (order - k) * math.log1p(-rate) + k * math.log(rate) + (k * k - k) / (2 * noise**2)

        terms = [term(k) for k in range(order + 1)]
        moment = max(terms) + math.log(sum(math.exp(value - max(terms)) for value in terms))  # without an overflow
        return (steps * moment + math.log(1 / delta)) / (order - 1)

    return min(bound(order) for order in range(2, 129))


def train(options: argparse.Namespace, noise: float, images: np.ndarray, labels: np.ndarray) -> Any:
    """Returns a network that was trained with some noise."""
    pax.seed_rng_key(options.seed)  # all start from the same weights
    net = make_network()
    private = opax.differentially_private_aggregate(LIMIT, noise, seed=options.seed)  # in earnest: a secret seed
    optimizer = opax.chain(private, opax.sgd(opax.schedule.cosine_decay(1.0, options.steps + 1)))(net.parameters())

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        chosen, present = draw_batch(len(images), options.seed, number)
        net, optimizer, loss = train_step(*state, images[chosen], labels[chosen], present)
        return (net, optimizer), {"loss": loss}

    run = Run(argparse.Namespace(**{**vars(options), "out": options.out / f"noise-{noise:g}"}))
    net, _ = run.train(step, (net, optimizer))
    run.plot()
    if run.steps_done < options.steps:
        raise SystemExit  # Ctrl-C: there is nothing to compare yet
    return net


def plot(results: list[tuple[float, float, float, np.ndarray]], path: Path) -> None:
    """Draws accuracy and ε for each noise, and the sizes of the gradients."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(results))
    left.bar(places, [accuracy for _, _, accuracy, _ in results], width=0.6, alpha=0.8)
    labels = []
    for place, (noise, spent, accuracy, norms) in zip(places, results, strict=True):
        labels.append(f"{noise:g}\n" + ("no privacy" if math.isinf(spent) else f"ε = {spent:.1f}"))
        left.annotate(f"{accuracy:.0%}", (place, accuracy), (0, 3), textcoords="offset points", ha="center")
        if place in (0, len(results) - 1):
            sizes = np.clip(np.log10(norms + 1e-9), -8, 3)
            right.hist(sizes, bins=33, range=(-8, 3), alpha=0.5, label=f"noise {noise:g}")
    left.set_xticks(places, labels)
    left.set(title="test accuracy", xlabel="noise, in units of the limit", ylim=(0, 1.1))
    left.yaxis.set_major_formatter("{x:.0%}")
    right.axvline(math.log10(LIMIT), color="black", linestyle="--", linewidth=1, label="limit")
    right.set(title="gradients of single images, after training", xlabel="norm", ylabel="images")
    right.xaxis.set_major_formatter(lambda exponent, _: f"$10^{{{exponent:g}}}$")
    right.legend(frameon=False, loc="upper left")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains once for each noise, and compares."""
    parser = options_of(__doc__, steps=300, out="private-gradients-out")
    noises = [0.0, 0.5, 1.0, 2.0, 4.0]
    parser.add_argument("--noise", type=float, nargs="+", default=noises, help="in units of the limit")
    options = parser.parse_args()
    if min(options.noise) < 0:
        parser.error("--noise has to be at least 0")
    images, test_images, labels, test_labels = load_images(options.seed)

    console = Console()
    results = []
    for noise in options.noise:
        net = train(options, noise, images, labels)
        spent = epsilon(noise, EXPECTED / len(images), options.steps)
        accuracy = float(np.mean(net.eval()(test_images).argmax(-1) == test_labels))
        console.print(f"noise {noise:g}: ε = {spent:.2f}, test accuracy {accuracy:.1%}", highlight=False)
        results.append((noise, spent, accuracy, np.asarray(gradient_norms(net, images, labels))))
    plot(results, options.out / "privacy.png")
    console.print(f"The picture is in {options.out}", highlight=False)


if __name__ == "__main__":
    main()
