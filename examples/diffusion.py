"""Generate handwritten digits by denoising diffusion: a network that tells noise from digit takes it away in 100 steps.

    python examples/diffusion.py
    python examples/diffusion.py --steps 3000 --out longer

It shows: a network of blocks of your own with skip connections; a sampler that is one `jax.lax.scan`; and a moving
average of the weights, which an optimizer keeps (`opax.params_ema`) and the sampler uses (`opax.evaluation_model`).
A support vector machine, trained on the real images, reads the samples: which share is the digit that was asked for?

The folder gets samples, a row for each digit; the path from noise to a digit; and the curve of the training.
Ctrl-C stops; the same command goes on.

Ho et al., "Denoising Diffusion Probabilistic Models", 2020, https://arxiv.org/abs/2006.11239
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from digits import load_images
from sklearn.svm import SVC
from training import Run, choose, draw_images, options_of

import opax
import pax

BATCH_SIZE = 128
LEVELS = 100  # of noise: 0 is a clean image, the last one is noise alone
# The share of the image in the variance of a noisy image, for each level, as in https://arxiv.org/abs/2102.09672.
SHARES = np.clip(np.cos(np.linspace(0, 1, LEVELS + 1) * np.pi / 2) ** 2, 1e-4, 1).astype(np.float32)


# ---- the network ----------------------------------------------------------------------------------------------------


class Block(pax.Module):
    """Two convolutions that are added to their input. What is known about the image comes in between."""

    def __init__(self, inputs: int, outputs: int, known: int) -> None:
        super().__init__()
        self.norm1 = pax.GroupNorm(8, inputs)
        self.conv1 = pax.Conv2D(inputs, outputs, 3)
        self.scale = pax.Linear(known, outputs, w_init=jax.nn.initializers.zeros)
        self.shift = pax.Linear(known, outputs)
        self.norm2 = pax.GroupNorm(8, outputs)
        self.conv2 = pax.Conv2D(outputs, outputs, 3, w_init=jax.nn.initializers.zeros)
        self.shortcut = pax.Identity() if inputs == outputs else pax.Conv2D(inputs, outputs, 1)

    def __call__(self, x: jax.Array, known: jax.Array) -> jax.Array:
        y = self.conv1(jax.nn.silu(self.norm1(x)))
        scale, shift = (linear(known)[:, None, None, :] for linear in (self.scale, self.shift))
        y = self.norm2(y) * (1 + scale) + shift
        return self.conv2(jax.nn.silu(y)) + self.shortcut(x)


class Denoiser(pax.Module):
    """Tells the noise in images `[N, 8, 8, 1]` from their noise levels `[N]` and digits `[N]`: a small U-Net."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        known = 2 * width
        self.level = pax.MLP([width, known, known], jax.nn.silu)
        self.digit = pax.Embed(10, known)
        self.first = pax.Conv2D(1, width, 3)
        self.down = Block(width, width, known)
        self.middle = [Block(width, 2 * width, known), Block(2 * width, 2 * width, known)]
        self.up = Block(3 * width, width, known)
        self.norm = pax.GroupNorm(8, width)
        self.last = pax.Conv2D(width, 1, 3, w_init=jax.nn.initializers.zeros)

    def __call__(self, images: jax.Array, levels: jax.Array, digits: jax.Array) -> jax.Array:
        known = self.level(pax.nn.sinusoidal_positions(levels, self.level.layers[0].in_dim)) + self.digit(digits)
        known = jax.nn.silu(known)
        fine = self.down(self.first(images), known)
        coarse = pax.avg_pool(fine, (2, 2, 1), (2, 2, 1), "VALID")
        for block in self.middle:
            coarse = block(coarse, known)
        coarse = coarse.repeat(2, axis=1).repeat(2, axis=2)
        x = self.up(jnp.concatenate([fine, coarse], axis=-1), known)
        return self.last(jax.nn.silu(self.norm(x)))


# ---- training -------------------------------------------------------------------------------------------------------


def loss_fn(net: Denoiser, images: jax.Array, digits: jax.Array, key: jax.Array) -> jax.Array:
    """Returns how wrong the network is about noise of random levels."""
    level_key, noise_key = jax.random.split(key)
    levels = jax.random.randint(level_key, digits.shape, 1, LEVELS + 1)
    noise = jax.random.normal(noise_key, images.shape)
    share = jnp.asarray(SHARES)[levels][:, None, None, None]
    noisy = jnp.sqrt(share) * images + jnp.sqrt(1 - share) * noise
    return jnp.mean((net(noisy, levels, digits) - noise) ** 2)


@jax.jit
def train_step(net: Denoiser, optimizer: Any, images: jax.Array, digits: jax.Array, key: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, and the loss."""
    loss, grads = pax.value_and_grad(loss_fn)(net, images, digits, key)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss


def make_optimizer(net: Denoiser, steps: int) -> Any:
    """Returns Adam, which keeps an average of the weights besides: over a tenth of the steps, more or less."""
    schedule = opax.schedule.warmup_cosine_decay(2e-3, warmup_steps=steps // 20 + 1, steps=steps + 2, end_value=2e-4)
    rule = opax.chain(opax.clip_by_global_norm(1.0), opax.adam(schedule), opax.params_ema(1 - 1 / (steps / 10 + 2)))
    return rule(net.parameters())


# ---- sampling -------------------------------------------------------------------------------------------------------


@jax.jit
def sample(net: Denoiser, digits: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns new images `[N, 8, 8, 1]` of digits `[N]`, and what they were at each level: `[LEVELS, N, 8, 8, 1]`."""
    net = net.eval()
    shares = jnp.asarray(SHARES)

    def less_noise(noisy: jax.Array, level: jax.Array) -> tuple[jax.Array, jax.Array]:
        share, share_below = shares[level], shares[level - 1]
        noise = net(noisy, jnp.full(digits.shape, level), digits)
        image = jnp.clip((noisy - jnp.sqrt(1 - share) * noise) / jnp.sqrt(share), -1, 1)
        # The noisy image one level below is normal, given this one and the clean one.
        step = share / share_below
        mean = (jnp.sqrt(share_below) * (1 - step) * image + jnp.sqrt(step) * (1 - share_below) * noisy) / (1 - share)
        deviation = jnp.sqrt((1 - step) * (1 - share_below) / (1 - share))
        return mean + deviation * jax.random.normal(jax.random.fold_in(key, level), noisy.shape), noisy

    start = jax.random.normal(key, (len(digits), 8, 8, 1))
    return jax.lax.scan(less_noise, start, jnp.arange(LEVELS, 0, -1))


def main() -> None:
    """Trains, samples, and writes the pictures."""
    parser = options_of(__doc__, steps=1000, out="diffusion-out")
    parser.add_argument("--samples", type=int, default=10, help="of each digit (default: %(default)s)")
    options = parser.parse_args()
    if options.samples < 1:
        parser.error("--samples has to be at least 1")
    pax.seed_rng_key(options.seed)
    images, _, labels, _ = load_images(options.seed)
    net = Denoiser()
    optimizer = make_optimizer(net, options.steps)
    key = jax.random.key(options.seed)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        batch = choose(len(images), BATCH_SIZE, options.seed, number)
        net, optimizer, loss = train_step(*state, 2 * images[batch] - 1, labels[batch], jax.random.fold_in(key, number))
        return (net, optimizer), {"loss": loss}

    run = Run(options)
    net, optimizer = run.train(step, (net, optimizer))
    run.plot()

    reader = SVC().fit(images.reshape(len(images), -1), labels)
    wanted = np.repeat(np.arange(10), options.samples)
    for name, model in (("last", net), ("averaged", opax.evaluation_model(net, optimizer))):
        samples, path = (np.asarray(array) / 2 + 0.5 for array in sample(model, jnp.asarray(wanted), key))
        share = np.mean(reader.predict(samples.reshape(len(samples), -1)) == wanted)
        run.console.print(f"{name:>8} weights: {share:6.1%} of {len(wanted)} samples are read as the digit asked for")

    draw_images(samples, run.out / "samples.png", columns=options.samples)
    shown = np.linspace(0, LEVELS - 1, 9).astype(int)
    titles = [*(f"level {LEVELS - index}" for index in shown), "image"]
    one = wanted.tolist().index(3)
    draw_images(np.concatenate([path[shown, one], samples[[one]]]), run.out / "path.png", titles=titles)
    run.console.print(f"Pictures are in {run.out}", highlight=False)


if __name__ == "__main__":
    main()
