"""Learn to read handwritten digits in half precision: faster, and with less memory, where the hardware has it.

    python examples/mixed_precision.py                       # float16, whose smallest number is 6e-8: with a loss scale
    python examples/mixed_precision.py --compute bfloat16    # needs none; or float32, to compare

Weights, batch statistics and the optimizer are float32 always; matrices and convolutions compute in half precision.
The loss scale is as large as it can be: it doubles after 50 good steps; a step with infinite gradients is left out,
and halves it.

Each kind of numbers has a folder of its own, with the curves of the training and the misread images.
Ctrl-C stops; the same command goes on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from training import Run, choose, draw_misread, options_of

import opax
import pax

BATCH_SIZE = 128


def make_network() -> pax.Sequential:
    """Returns a network, not trained yet: from images `[N, 8, 8, 1]` to the scores of ten digits `[N, 10]`."""
    layers: list[Any] = []
    for inputs, outputs in ((1, 8), (8, 16)):
        layers += [pax.Conv2D(inputs, outputs, 3, with_bias=False), pax.BatchNorm2D(outputs), jax.nn.relu]
    return pax.Sequential(*layers, pax.Flatten(), pax.Linear(8 * 8 * 16, 10))


def computing_in(net: Any, dtype: Any) -> Any:
    """Returns the network with convolutions and matrices that compute in `dtype`, on weights of float32."""
    policy = jmp.Policy(param_dtype=jnp.float32, compute_dtype=dtype, output_dtype=jnp.float32)
    return net.apply(lambda m: pax.apply_mp_policy(m, policy) if isinstance(m, pax.Conv2D | pax.Linear) else m)


@jax.jit
def train_step(
    net: Any, optimizer: Any, loss_scale: Any, images: jax.Array, labels: jax.Array
) -> tuple[Any, dict[str, jax.Array]]:
    """Returns network, optimizer and loss scale after one step, and numbers to show."""

    def loss_fn(model: Any) -> tuple[jax.Array, Any]:
        model, scores = pax.purecall(model, images)
        loss = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
        return loss_scale.scale(loss), (model, loss)

    grads, (model, loss) = pax.grad(loss_fn, has_aux=True)(net)
    # After a step that is left out, the batch statistics are those of `net`, too.
    state = pax.experimental.apply_scaled_gradients(model, optimizer, loss_scale, grads, previous_model=net)
    return state, {"loss": loss, "scale (log2)": jnp.log2(jnp.float32(loss_scale.loss_scale))}


def train(
    net: Any,
    loss_scale: Any,
    images: np.ndarray,
    labels: np.ndarray,
    steps: int,
    seed: int,
    run: Run | None = None,
) -> tuple[Any, Any]:
    """Returns the trained network and its last loss scale; a run shows how it goes, and can be stopped."""
    schedule = opax.schedule.warmup_cosine_decay(5e-3, warmup_steps=steps // 10, steps=steps)
    optimizer = opax.adamw(schedule, weight_decay=1e-2)(net.parameters())

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        chosen = choose(len(images), BATCH_SIZE, seed, number)
        state, numbers = train_step(*state, images[chosen], labels[chosen])
        return state, numbers

    state = net, optimizer, loss_scale
    if run is not None:
        state = run.train(step, state)
    else:
        for number in range(steps):
            state, _ = step(state, number)
    net, _, loss_scale = state
    return net, loss_scale


@jax.jit
def read_digits(net: Any, images: jax.Array) -> jax.Array:
    """Returns the digit with the highest score for each image."""
    scores: jax.Array = net.eval()(images)
    return scores.argmax(-1)


def main() -> None:
    """Trains, and tests on the half of the images that were not shown."""
    parser = options_of(__doc__, steps=400, out="mixed-precision-out")
    parser.add_argument("--compute", choices=("float16", "bfloat16", "float32"), default="float16")
    options = parser.parse_args()
    options.out /= options.compute
    run = Run(options)
    digits = load_digits()
    images, test_images, labels, test_labels = train_test_split(
        (digits.images[..., None] / 16).astype(np.float32), digits.target, test_size=0.5, random_state=options.seed
    )
    pax.seed_rng_key(options.seed)
    loss_scale = (
        jmp.DynamicLossScale(jnp.float32(2**15), period=50) if options.compute == "float16" else jmp.NoOpLossScale()
    )
    net = computing_in(make_network(), jnp.dtype(options.compute))
    run.console.print(net.summary(), highlight=False, soft_wrap=True)
    net, loss_scale = train(net, loss_scale, images, labels, options.steps, options.seed, run)

    run.plot()
    read = np.asarray(read_digits(net, test_images))
    draw_misread(test_images, test_labels, read, run.out / "misread.png")
    accuracy = np.mean(read == test_labels)
    scale = float(loss_scale.loss_scale)
    run.console.print(f"{options.compute}: test accuracy {accuracy:.2%}, loss scale {scale:g}", highlight=False)
    run.console.print(f"Pictures are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
