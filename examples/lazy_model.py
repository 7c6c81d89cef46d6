"""A network that finds its sizes by itself, for images as for sequences: no layer says how many inputs it has.

    python examples/lazy_model.py                     # reads digits as images [N, 8, 8, 1]
    python examples/lazy_model.py --data sequences    # the same class; a digit is a sequence of 64 pixels [N, 64, 1]

It shows: `LazyModule`, which makes its layers when it sees the shapes of the inputs; `init`, which does that from
shapes alone, without computing anything; and that the module is then one like any other. The optimizer is made
afterwards: before, there are no parameters.

The folder gets the test images that were misread, and the curves of the training.
Ctrl-C stops; the same command goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import load_images
from training import Run, choose, draw_misread, options_of

import opax
import pax
from pax.experimental import LazyModule

BATCH_SIZE = 128
CONV = {1: pax.Conv1D, 2: pax.Conv2D}  # by the number of axes between the first and the last
NORM = {1: pax.BatchNorm1D, 2: pax.BatchNorm2D}


@dataclass
class Classifier(LazyModule):
    """Convolutions for inputs with any number of channels and one or two axes of any length, and a linear layer."""

    widths: Sequence[int]
    num_classes: int

    def __call__(self, x: jax.Array) -> jax.Array:
        axes = tuple(range(1, x.ndim - 1))
        for index, width in enumerate(self.widths):
            # The name says which part it is: the second call finds what the first one made.
            conv = self.get_or_create(f"conv{index}", partial(CONV[len(axes)], x.shape[-1], width, 3, with_bias=False))
            norm = self.get_or_create(f"norm{index}", partial(NORM[len(axes)], width))
            x = jax.nn.relu(norm(conv(x)))
            if x.shape[1] > 4:
                half = (*(2 for _ in axes), 1)
                x = pax.max_pool(x, half, half, "SAME")
        x = x.reshape(len(x), -1)
        head = self.get_or_create("head", partial(pax.Linear, x.shape[-1], self.num_classes))
        scores: jax.Array = head(x)
        return scores


def loss_fn(net: Classifier, inputs: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and as extras the network with its new batch statistics, and the accuracy."""
    net, scores = pax.purecall(net, inputs)
    loss = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
    return loss, (net, jnp.mean(scores.argmax(-1) == labels))


@jax.jit
def train_step(net: Classifier, optimizer: Any, inputs: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, the loss and the accuracy."""
    (loss, (net, accuracy)), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, inputs, labels)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss, accuracy


def main() -> None:
    """Makes the network for the data, trains and tests it."""
    parser = options_of(__doc__, steps=200, out="lazy-model-out")
    parser.add_argument("--data", choices=("images", "sequences"), default="images", help="default: %(default)s")
    options = parser.parse_args()
    images, test_images, labels, test_labels = load_images(options.seed)
    inputs, test_inputs = images, test_images
    if options.data == "sequences":
        inputs, test_inputs = images.reshape(-1, 64, 1), test_images.reshape(-1, 64, 1)
    run = Run(options)

    pax.seed_rng_key(options.seed)
    net = Classifier([32, 64, 64], num_classes=10)
    run.console.print("Before:", net.summary(), sep="\n", highlight=False, soft_wrap=True)
    net = net.init(jax.ShapeDtypeStruct((1, *inputs.shape[1:]), jnp.float32))
    run.console.print(
        "After a look at the shape of the inputs:", net.summary(), sep="\n", highlight=False, soft_wrap=True
    )
    optimizer = opax.adam(opax.schedule.cosine_decay(3e-3, options.steps + 1))(net.parameters())

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        batch = choose(len(inputs), BATCH_SIZE, options.seed, number)
        net, optimizer, loss, accuracy = train_step(*state, inputs[batch], labels[batch])
        return (net, optimizer), {"loss": loss, "accuracy": accuracy}

    net, optimizer = run.train(step, (net, optimizer))
    run.plot()

    read = np.asarray(net.eval()(jnp.asarray(test_inputs)).argmax(-1))
    draw_misread(test_images, test_labels, read, run.out / "misread.png")
    run.console.print(f"Test accuracy on {options.data}: [bold]{np.mean(read == test_labels):.1%}[/bold]")
    run.console.print(f"Pictures are in {run.out}", highlight=False)


if __name__ == "__main__":
    main()
