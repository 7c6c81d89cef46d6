"""Learn to read handwritten digits in half precision: faster, and with less memory, where the hardware has it.

    python examples/mixed_precision.py                       # float16, whose smallest number is 6e-8: with a loss scale
    python examples/mixed_precision.py --compute bfloat16    # needs none; or float32, to compare

Weights, batch statistics and the optimizer are float32 always; matrices and convolutions compute in half precision.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import opax
import pax


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
def train_step(net: Any, optimizer: Any, loss_scale: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns network, optimizer and loss scale after one step."""

    def loss_fn(model: Any) -> tuple[jax.Array, Any]:
        model, scores = pax.purecall(model, images)
        loss = optax.softmax_cross_entropy_with_integer_labels(scores, labels).mean()
        return loss_scale.scale(loss), model

    grads, model = pax.grad(loss_fn, has_aux=True)(net)
    return pax.experimental.apply_scaled_gradients(model, optimizer, loss_scale, grads, previous_model=net)


def train(net: Any, loss_scale: Any, images: np.ndarray, labels: np.ndarray, steps: int, seed: int) -> tuple[Any, Any]:
    """Returns the trained network and its last loss scale."""
    schedule = optax.warmup_cosine_decay_schedule(0.0, 5e-3, warmup_steps=steps // 10, decay_steps=steps)
    optimizer = opax.adamw(schedule, weight_decay=1e-2)(net.parameters())
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        chosen = rng.choice(len(images), 128, replace=False)
        net, optimizer, loss_scale = train_step(net, optimizer, loss_scale, images[chosen], labels[chosen])
    return net, loss_scale


def main() -> None:
    """Trains, and tests on the half of the images that were not shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compute", choices=("float16", "bfloat16", "float32"), default="float16")
    parser.add_argument("--steps", type=int, default=200, help="steps of 128 images (default: %(default)s)")
    options = parser.parse_args()
    digits = load_digits()
    images, labels = (digits.images[..., None] / 16).astype(np.float32), digits.target
    images, test_images, labels, test_labels = train_test_split(images, labels, test_size=0.5, random_state=0)
    pax.seed_rng_key(0)
    loss_scale = jmp.DynamicLossScale(jnp.float32(2**15)) if options.compute == "float16" else jmp.NoOpLossScale()
    net = computing_in(make_network(), jnp.dtype(options.compute))
    net, loss_scale = train(net, loss_scale, images, labels, options.steps, seed=0)
    accuracy = np.mean(net.eval()(test_images).argmax(-1) == test_labels)
    print(f"{options.compute}: test accuracy {accuracy:.2%}, loss scale {float(loss_scale.loss_scale):g}")


if __name__ == "__main__":
    main()
