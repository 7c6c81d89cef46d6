"""Read digits from a poor scanner after five images of each, with a network that knows good ones: freeze and fine-tune.

    python examples/finetune_resnet.py
    python examples/finetune_resnet.py --images 20 --seed 1

It shows: a network of `pax.nets`; `pax.freeze_parameters`; layers that are put in place of others; a learning rate for
each part of a model, `opax.partition`; and weight decay for some parameters, by a pattern.
A ResNet learns the digits from clean images. The same images with little contrast and much noise it cannot read. Then
it learns from five of these for each digit, and is compared with a new network that learns from these alone.

The folder gets a picture that compares the accuracy of both in each step, and a folder for each of the three runs.
Ctrl-C stops; the same command goes on.
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import load_images
from matplotlib.figure import Figure
from training import Run, choose, options_of

import opax
import pax

BATCH_SIZE = 32
TESTED = 200  # test images, in each step
KERNELS = "**/weight"  # of convolutions and the last layer; scales of the batch normalization are no `weight`


# ---- networks and optimizers ----------------------------------------------------------------------------------------


def make_network() -> Any:
    """Returns a network from images `[N, 1, 8, 8]` to the scores of ten digits.

    Its first layer keeps all of the few pixels, and of four groups of blocks three are enough: there is one pixel left.
    """
    with pax.nn.initializers.use_numpy():  # JAX would compile a program for each shape of weights
        net = pax.nets.ResNet18(1, 10, initial_conv_config={"kernel_shape": 3, "stride": 1, "padding": "SAME"})
        return net.replace(block_groups=net.block_groups[:3], logits=pax.Linear(256, 10))


def falling(learning_rate: float, steps: int) -> Any:
    """Returns a rule: gradient descent with momentum, and a learning rate that falls to zero."""
    return opax.sgd(opax.schedule.cosine_decay(learning_rate, steps + 1), momentum=0.9)


def new_optimizer(net: Any, learning_rate: float, steps: int) -> Any:
    """Returns the optimizer of a network that starts from nothing."""
    decay = opax.masked(opax.add_decayed_weights(1e-3), KERNELS)
    return opax.chain(decay, falling(learning_rate, steps))(net.parameters())


def for_other_images(net: Any) -> Any:
    """Returns a trained network in which what sees strokes and edges stays as it is."""
    # Frozen are parameters. Batch statistics are states: in evaluation mode they stay as they are, too.
    first, *others = net.block_groups
    net = net.replace(initial_batchnorm=net.initial_batchnorm.eval(), block_groups=[first.eval(), *others])
    for part in ("initial_conv", "initial_batchnorm", "block_groups/0"):
        net = pax.freeze_parameters(net, part)
    return net


def careful_optimizer(net: Any, steps: int) -> Any:
    """Returns an optimizer that trains a part the less, the further it is from the last layer."""
    decay = opax.masked(opax.add_decayed_weights(1e-3), KERNELS)
    rates = opax.partition(
        ("block_groups/1", falling(0.01, steps)),
        ("block_groups/2", falling(0.02, steps)),
        ("logits", falling(0.05, steps)),
    )
    return opax.chain(decay, rates)(net.parameters())


# ---- training -------------------------------------------------------------------------------------------------------


def loss_fn(net: Any, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and the network with its new batch statistics."""
    net, scores = pax.purecall(net, images)
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean(), net


@jax.jit
def train_step(net: Any, optimizer: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, and the loss."""
    (loss, net), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, images, labels)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss


@jax.jit
def accuracy(net: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
    """Returns the share of images that a network in evaluation mode reads correctly."""
    return jnp.mean(net(images).argmax(-1) == labels)


def train(net: Any, optimizer: Any, data: Any, options: argparse.Namespace, name: str, steps: int) -> tuple[Any, Run]:
    """Returns the trained network, and its run."""
    images, labels, test_images, test_labels = data
    run = Run(argparse.Namespace(**{**vars(options), "out": options.out / name, "steps": steps}))
    run.console.print(f"[bold]{name}[/bold]: {len(images)} images")

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        batch = choose(len(images), min(BATCH_SIZE, len(images)), options.seed, number)
        net, optimizer, loss = train_step(*state, images[batch], labels[batch])
        same = pax.unfreeze_parameters(net.eval())  # of one structure, frozen or not: compiled once
        return (net, optimizer), {"loss": loss, "test accuracy": accuracy(same, test_images, test_labels)}

    net, _ = run.train(step, (net, optimizer))
    run.plot()
    if run.steps_done < steps:
        raise SystemExit  # Ctrl-C: the next part would build on what is not finished
    return net, run


def clean_images(seed: int) -> Any:
    """Returns images and labels, for training and for testing."""
    images, test_images, labels, test_labels = load_images(seed)
    first_axes = (0, 3, 1, 2)  # the networks of `pax.nets` want the channels before the pixels
    return images.transpose(first_axes), labels, test_images[:TESTED].transpose(first_axes), test_labels[:TESTED]


def scanned(data: Any, seed: int, limit: int) -> Any:
    """Returns them as a poor scanner gives them, with not more than a limit of each digit for training."""
    images, labels, test_images, test_labels = data
    rng = np.random.default_rng(seed)
    poor, test_poor = (0.3 + 0.4 * clean + 0.08 * rng.normal(size=clean.shape) for clean in (images, test_images))
    chosen = np.sort(np.concatenate([np.flatnonzero(labels == digit)[:limit] for digit in range(10)]))
    return poor[chosen].astype(np.float32), labels[chosen], test_poor.astype(np.float32), test_labels


def count_parameters(net: Any) -> int:
    """Returns how many numbers are trained."""
    return sum(parameter.size for parameter in jax.tree.leaves(net.parameters()))


def plot(runs: dict[str, Run], path: Path) -> None:
    """Draws the test accuracy in each step of some runs."""
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    axis = figure.subplots()
    for name, run in runs.items():
        values = run.history["test accuracy"]
        axis.plot(range(1, len(values) + 1), values, label=f"{name}: {values[-1]:.1%}")
    axis.set(xlabel="step", title="accuracy on test images of the poor scanner")
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains three times, and compares."""
    parser = options_of(__doc__, steps=80, out="finetune-resnet-out")
    parser.add_argument("--pretraining-steps", type=int, default=120, help="on clean images (default: %(default)s)")
    parser.add_argument("--images", type=int, default=5, help="of each digit, scanned (default: %(default)s)")
    options = parser.parse_args()
    if options.pretraining_steps < 1 or options.images < 1:
        parser.error("--pretraining-steps and --images have to be at least 1")

    pax.seed_rng_key(options.seed)
    net = make_network()
    clean = clean_images(options.seed)
    optimizer = new_optimizer(net, 0.1, options.pretraining_steps)
    net, pretrained = train(net, optimizer, clean, options, "pretrained", options.pretraining_steps)

    few = scanned(clean, options.seed, options.images)
    before = accuracy(net.eval(), *few[2:])
    net = for_other_images(net)
    trained, everything = (count_parameters(some) for some in (net, pax.unfreeze_parameters(net)))
    _, finetuned = train(net, careful_optimizer(net, options.steps), few, options, "finetuned", options.steps)
    new = make_network()
    _, scratch = train(new, new_optimizer(new, 0.05, options.steps), few, options, "scratch", options.steps)

    plot({"fine-tuned": finetuned, "from scratch": scratch}, options.out / "comparison.png")
    console = finetuned.console
    console.print(f"Trained parameters in fine-tuning: {trained:,} of {everything:,}")
    console.print(f"Clean images: test accuracy {pretrained.history['test accuracy'][-1]:.1%}; scanned: {before:.1%}")
    for name, run in (("fine-tuned", finetuned), ("from scratch", scratch)):
        console.print(f"{name:>12}: test accuracy [bold]{run.history['test accuracy'][-1]:.1%}[/bold]")
    console.print(f"Pictures are in {options.out}", highlight=False)


if __name__ == "__main__":
    main()
