"""Learn to draw handwritten digits with two networks: one draws, the other one tells drawings from real images.

    python examples/dcgan.py

It shows a step with two models and two optimizers in one compiled function; `pax.Conv2DTranspose`; and batch
normalization where it takes care: each call returns a network with new statistics, and the program says which to keep.

The loss of such a pair tells little. So a nearest-neighbour classifier of scikit-learn reads a thousand drawings: if
the generator has left out digits, it shows there.

The folder gets drawings, drawings on the way between two of them, and the curves of the training.
Ctrl-C stops; the same command goes on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from training import Run, choose, draw_images, options_of

import opax
import pax

BATCH_SIZE = 64
NOISE_SIZE = 32


# ---- the networks ----------------------------------------------------------------------------------------------------


def leaky_relu(x: jax.Array) -> jax.Array:
    """Lets a fifth of what is negative through, and its gradients."""
    return jax.nn.leaky_relu(x, negative_slope=0.2)


def as_images(features: jax.Array) -> jax.Array:
    """Makes images of 2 by 2 pixels of vectors."""
    return features.reshape(len(features), 2, 2, -1)


def make_generator() -> pax.Sequential:
    """Returns a network from noise `[N, 32]` to images `[N, 8, 8, 1]`, values from -1 to 1."""
    return pax.Sequential(
        pax.Linear(NOISE_SIZE, 2 * 2 * 128, with_bias=False),
        as_images,
        pax.BatchNorm2D(128),
        jax.nn.relu,
        pax.Conv2DTranspose(128, 64, kernel_shape=4, stride=2, with_bias=False),
        pax.BatchNorm2D(64),
        jax.nn.relu,
        pax.Conv2DTranspose(64, 32, kernel_shape=4, stride=2, with_bias=False),
        pax.BatchNorm2D(32),
        jax.nn.relu,
        pax.Conv2D(32, 1, kernel_shape=3),
        jnp.tanh,
    )


def make_discriminator() -> pax.Sequential:
    """Returns a network from images to scores `[N, 1]`: positive for real ones."""
    return pax.Sequential(
        pax.Conv2D(1, 32, kernel_shape=3),
        leaky_relu,
        pax.Conv2D(32, 64, kernel_shape=4, stride=2),
        leaky_relu,
        pax.Dropout(0.3),
        pax.Conv2D(64, 128, kernel_shape=4, stride=2),
        leaky_relu,
        pax.Flatten(),
        pax.Dropout(0.3),
        pax.Linear(2 * 2 * 128, 1),
    )


# ---- one step of training --------------------------------------------------------------------------------------------


def discriminator_loss(discriminator: Any, real: jax.Array, drawn: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and as extras the network with new keys of dropout, and the share of right answers."""
    discriminator, scores = pax.purecall(discriminator, jnp.concatenate([real, drawn]))
    scores_of_real, scores_of_drawn = jnp.split(scores, 2)
    right = (jnp.mean(scores_of_real > 0) + jnp.mean(scores_of_drawn < 0)) / 2
    # Not to be too sure of real images keeps the gradients of the generator alive.
    loss = 0.9 * jax.nn.softplus(-scores_of_real) + 0.1 * jax.nn.softplus(scores_of_real)
    return jnp.mean(loss + jax.nn.softplus(scores_of_drawn)), (discriminator, right)


def generator_loss(generator: Any, discriminator: Any, noise: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and the generator with new batch statistics; what happens to the discriminator is dropped."""
    generator, drawn = pax.purecall(generator, noise)
    _, scores = pax.purecall(discriminator, drawn)
    return jnp.mean(jax.nn.softplus(-scores)), generator


@jax.jit
def train_step(state: Any, real: jax.Array, key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
    """Returns both networks and both optimizers after one step, and numbers to show."""
    generator, discriminator, optimizer_g, optimizer_d = state
    noise = jax.random.normal(key, (2, BATCH_SIZE, NOISE_SIZE))

    _, drawn = pax.purecall(generator, noise[0])
    (loss_d, (discriminator, right)), grads = pax.value_and_grad(discriminator_loss, has_aux=True)(
        discriminator, real, drawn
    )
    discriminator, optimizer_d = opax.apply_gradients(discriminator, optimizer_d, grads)

    (loss_g, generator), grads = pax.value_and_grad(generator_loss, has_aux=True)(generator, discriminator, noise[1])
    generator, optimizer_g = opax.apply_gradients(generator, optimizer_g, grads)

    numbers = {"loss of generator": loss_g, "of discriminator": loss_d, "told apart": right}
    return (generator, discriminator, optimizer_g, optimizer_d), numbers


@jax.jit
def draw(generator: pax.Sequential, noise: jax.Array) -> jax.Array:
    """Returns images `[N, 8, 8]`, values from 0 to 1, with the statistics of all batches."""
    images: jax.Array = generator.eval()(noise)
    return (images[..., 0] + 1) / 2


# ---- results ---------------------------------------------------------------------------------------------------------


def digits_read(drawn: np.ndarray, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many of the drawings a nearest-neighbour classifier reads as 0, 1, …, 9."""
    reader = KNeighborsClassifier(3).fit(images.reshape(-1, 64), labels)
    return np.bincount(reader.predict(drawn.reshape(-1, 64)), minlength=10)


def main() -> None:
    """Trains, tests, and draws."""
    options = options_of(__doc__, steps=1200, out="dcgan-out").parse_args()
    run = Run(options)
    pax.seed_rng_key(options.seed)
    digits = load_digits()
    images = (digits.images[..., None] / 8 - 1).astype(np.float32)
    generator, discriminator = make_generator(), make_discriminator()
    optimizer = opax.adam(5e-4, b1=0.5)
    state = generator, discriminator, optimizer(generator.parameters()), optimizer(discriminator.parameters())
    run.console.print(generator.summary(), highlight=False, soft_wrap=True)
    run.console.print(discriminator.summary(), highlight=False, soft_wrap=True)
    key = jax.random.key(options.seed)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        real = images[choose(len(images), BATCH_SIZE, options.seed, number)]
        state, numbers = train_step(state, real, jax.random.fold_in(key, number))
        return state, numbers

    generator, *_ = run.train(step, state)

    run.plot()
    noise = jax.random.normal(key, (1000, NOISE_SIZE))
    drawn = np.asarray(draw(generator, noise))
    draw_images(drawn[:80], run.out / "drawings.png")
    share = jnp.linspace(0, 1, 10)[None, :, None]
    ways = (1 - share) * noise[:6, None] + share * noise[6:12, None]
    ways /= jnp.sqrt((1 - share) ** 2 + share**2)  # as long as noise is
    draw_images(np.asarray(draw(generator, ways.reshape(-1, NOISE_SIZE))), run.out / "ways.png")
    counts = digits_read(drawn, digits.images / 16, digits.target)
    found = ", ".join(f"{count} × {digit}" for digit, count in enumerate(counts))
    run.console.print(f"Of {len(drawn)} drawings were read: {found}", highlight=False)
    run.console.print(f"Pictures are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
