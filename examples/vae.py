"""Learn to draw handwritten digits with a variational autoencoder: from an image to a point of the plane, and back.

    python examples/vae.py

It shows a module that draws random numbers while it runs: `pax.RngSeq` holds the key, a call in training changes it,
and `pax.purecall` returns the changed module. In evaluation nothing is drawn: `net.eval()` can be called directly.

Each pixel counts the black dots among 4 by 4 of the scanned page, 0 to 16. So the decoder gives the probability of a
dot, and the loss is that of a binomial distribution: an upper bound of the bits that an image needs.

The folder gets reconstructions, samples, a map of the plane, and the curve of the training.
Ctrl-C stops; the same command goes on.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln, ndtri
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from training import Run, choose, draw_images, options_of

import opax
import pax

BATCH_SIZE = 128
DOTS = 16  # of a pixel
LATENT_SIZE = 2


# ---- the network -----------------------------------------------------------------------------------------------------


class VAE(pax.Module):
    """An encoder, which says where in the plane an image may be, and a decoder, which draws the image of a point."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = pax.MLP([64, 256, 256, 2 * LATENT_SIZE], jax.nn.silu)
        self.decoder = pax.MLP([LATENT_SIZE, 256, 256, 64], jax.nn.silu)
        self.rng_seq = pax.RngSeq()

    def encode(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns mean and logarithm of the standard deviation, `[N, 2]` each, for images `[N, 8, 8]`."""
        mean, log_deviation = jnp.split(self.encoder(images.reshape(-1, 64) / DOTS * 2 - 1), 2, axis=-1)
        return mean, log_deviation

    def decode(self, points: jax.Array) -> jax.Array:
        """Returns the logits of the probability of a dot, `[N, 8, 8]`, for points `[N, 2]`."""
        return self.decoder(points).reshape(-1, 8, 8)

    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the logits of the decoder, mean and logarithm of the standard deviation."""
        mean, log_deviation = self.encode(images)
        points = mean
        if self.training:  # a random point near the mean, such that gradients reach both numbers
            points = mean + jnp.exp(log_deviation) * jax.random.normal(self.rng_seq.next_rng_key(), mean.shape)
        return self.decode(points), mean, log_deviation


# ---- one step of training --------------------------------------------------------------------------------------------


def bits_of_images(logits: jax.Array, images: jax.Array) -> jax.Array:
    """Returns how many bits each image needs, `[N]`, if the decoder's dots are independent."""
    ways = gammaln(DOTS + 1.0) - gammaln(images + 1) - gammaln(DOTS + 1 - images)  # to place that many dots
    nats = images * jax.nn.softplus(-logits) + (DOTS - images) * jax.nn.softplus(logits) - ways
    return nats.sum((1, 2)) / jnp.log(2.0)


def bits_of_points(mean: jax.Array, log_deviation: jax.Array) -> jax.Array:
    """Returns how many bits each point needs, `[N]`: the divergence of the encoder's normal from the standard one."""
    nats = (jnp.exp(2 * log_deviation) + mean**2 - 1) / 2 - log_deviation
    return nats.sum(-1) / jnp.log(2.0)


def loss_fn(net: VAE, images: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the bits of an image, and as extras the network with its new key, and the share of the points."""
    net, (logits, mean, log_deviation) = pax.purecall(net, images)
    points = bits_of_points(mean, log_deviation).mean()
    return bits_of_images(logits, images).mean() + points, (net, points)


@jax.jit
def train_step(net: VAE, optimizer: Any, images: jax.Array) -> tuple[VAE, Any, dict[str, jax.Array]]:
    """Returns the network and the optimizer after one step, and numbers to show."""
    (loss, (net, points)), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, images)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, {"bits per image": loss, "for the point": points}


@jax.jit
def test_bits(net: VAE, images: jax.Array) -> jax.Array:
    """Returns the mean of the loss over 20 random points for each image: in train mode, as a point is drawn there."""
    return loss_fn(net.train(), jnp.tile(images, (20, 1, 1)))[0]


# ---- results ---------------------------------------------------------------------------------------------------------


def draw_reconstructions(net: VAE, images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Draws each image, titled with its digit, above its reconstruction."""
    logits, _, _ = net.eval()(jnp.asarray(images))
    drawn = np.asarray(jax.nn.sigmoid(logits))
    rows, titles = [], []
    for start in range(0, len(images), 10):
        part = slice(start, start + 10)
        rows += [images[part] / DOTS, drawn[part]]
        titles += [str(label) for label in labels[part]] + [""] * len(images[part])
    draw_images(np.concatenate(rows), path, titles=titles)


def draw_map(net: VAE, images: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Draws where the images are in the plane, and what the decoder draws at the points of a grid."""
    mean = np.asarray(net.encode(jnp.asarray(images))[0])
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    points = left.scatter(*mean.T, c=labels, cmap="tab10", vmin=-0.5, vmax=9.5, s=10)
    figure.colorbar(points, ax=left, ticks=range(10), label="digit", location="left")
    left.set(title="where the test images are", aspect="equal", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
    left.grid(alpha=0.3)
    size = 15
    steps = ndtri((jnp.arange(size) + 0.5) / size)  # as far from each other as the points of a normal distribution
    grid = jnp.stack(jnp.meshgrid(steps, steps[::-1]), axis=-1).reshape(-1, LATENT_SIZE)
    drawn = np.asarray(jax.nn.sigmoid(net.decode(grid))).reshape(size, size, 8, 8)
    drawn = np.pad(drawn, ((0, 0), (0, 0), (1, 1), (1, 1)))  # a white edge around each image
    right.imshow(drawn.transpose(0, 2, 1, 3).reshape(10 * size, 10 * size), cmap="gray_r", vmin=0, vmax=1)
    right.set(title="what the decoder draws there, denser in the middle", xticks=[], yticks=[])
    figure.savefig(path, dpi=150)


def main() -> None:
    """Trains, tests, and draws."""
    options = options_of(__doc__, steps=2000, out="vae-out").parse_args()
    run = Run(options)
    pax.seed_rng_key(options.seed)
    digits = load_digits()
    images, test_images, _, test_labels = train_test_split(
        digits.images.astype(np.float32), digits.target, test_size=0.2, random_state=options.seed
    )
    net = VAE()
    schedule = opax.schedule.warmup_cosine_decay(2e-3, warmup_steps=options.steps // 20, steps=options.steps)
    optimizer = opax.adamw(schedule, weight_decay=0.01)(net.parameters())
    run.console.print(net.summary(), highlight=False, soft_wrap=True)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        net, optimizer, numbers = train_step(*state, images[choose(len(images), BATCH_SIZE, options.seed, number)])
        return (net, optimizer), numbers

    net, _ = run.train(step, (net, optimizer))

    run.plot()
    draw_reconstructions(net, test_images[:20], test_labels[:20], run.out / "reconstructions.png")
    draw_map(net, test_images, test_labels, run.out / "map.png")
    points = jax.random.normal(jax.random.key(options.seed), (60, LATENT_SIZE))
    draw_images(np.asarray(jax.nn.sigmoid(net.decode(points))), run.out / "samples.png")
    # One probability for each pixel, whatever the image is: what there is to gain.
    share = images.mean(0).clip(0.01, DOTS - 0.01) / DOTS
    plain = bits_of_images(jnp.asarray(np.log(share / (1 - share)))[None], test_images).mean()
    bits = float(test_bits(net, test_images))
    run.console.print(f"Test: {bits:.1f} bits per image; without the plane it would be {float(plain):.1f}")
    run.console.print(f"Pictures are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
