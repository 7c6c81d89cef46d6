"""Learn to write like the reference of Python, letter by letter, with a transformer.

    python examples/transformer_lm.py
    python examples/transformer_lm.py --prompt "The tuple " --temperature 0.5

It shows `pax.nets.Transformer`, with rotary positions and dropout; an embedding that is the output layer, too; and
sampling with a cache of keys and values: `pax.nn.init_cache` gives a copy of the network that remembers what it has
seen, so each step computes one position and not all of them. The program samples in both ways, with the same random
numbers, compares the letters, and says how long each took.

The folder gets the samples and the curve of the training. Ctrl-C stops; the same command goes on.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from python_text import VOCABULARY, all_windows, decode, encode, load_text, random_windows
from training import Run, options_of

import opax
import pax

BATCH_SIZE = 16
LENGTH = 128  # letters that the network sees in training
SIZE = 128
NUM_LAYERS = 3
NUM_HEADS = 4
NUM_SAMPLES = 4


# ---- the network -----------------------------------------------------------------------------------------------------


class LanguageModel(pax.Module):
    """From letters `int32[N, T]` to the scores of the letters that follow, `[N, T, 96]`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = pax.Embed(len(VOCABULARY), SIZE, w_init=jax.nn.initializers.normal(0.1))
        self.blocks = pax.nets.Transformer(SIZE, NUM_HEADS, NUM_LAYERS, dropout_rate=0.1, rotary=True)

    def __call__(self, letters: jax.Array) -> jax.Array:
        """Returns the scores: how well the features fit the embedding of each letter."""
        return self.embed.attend(self.blocks(self.embed(letters)))


# ---- one step of training --------------------------------------------------------------------------------------------


def loss_fn(net: LanguageModel, windows: jax.Array) -> tuple[jax.Array, LanguageModel]:
    """Returns the loss in bits for each letter, and the network with the new keys of its dropout."""
    net, scores = pax.purecall(net, windows[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, windows[:, 1:])
    return losses.mean() / jnp.log(2.0), net


@jax.jit
def train_step(net: LanguageModel, optimizer: Any, windows: jax.Array) -> tuple[LanguageModel, Any, jax.Array]:
    """Returns the network and the optimizer after one step, and the loss."""
    (loss, net), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, windows)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss


@jax.jit
def test_loss(net: LanguageModel, windows: jax.Array) -> jax.Array:
    """Returns the loss without dropout."""
    return loss_fn(net.eval(), windows)[0]


# ---- sampling --------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="length")
def sample(net: LanguageModel, prompts: jax.Array, key: jax.Array, temperature: jax.Array, length: int) -> jax.Array:
    """Returns `length` letters that follow each prompt `int32[N, T]`: each step computes the last position only."""
    decoder = pax.nn.init_cache(net.eval(), len(prompts), prompts.shape[1] + length)
    decoder, scores = pax.purecall(decoder, prompts)

    def write(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        decoder, scores = carry
        letters = jax.random.categorical(key, scores / temperature)
        decoder, scores = pax.purecall(decoder, letters[:, None])
        return (decoder, scores[:, -1]), letters

    _, letters = jax.lax.scan(write, (decoder, scores[:, -1]), jax.random.split(key, length))
    return letters.T


@partial(jax.jit, static_argnames="length")
def sample_anew(
    net: LanguageModel, prompts: jax.Array, key: jax.Array, temperature: jax.Array, length: int
) -> jax.Array:
    """Returns the same as `sample`; each step computes all positions, of which none sees what comes after it."""
    net = net.eval()
    start = prompts.shape[1]
    keys = jax.random.split(key, length)

    def write(index: jax.Array, letters: jax.Array) -> jax.Array:
        scores = net(letters)[:, start + index - 1]
        chosen = jax.random.categorical(keys[index], scores / temperature)
        return letters.at[:, start + index].set(chosen.astype(letters.dtype))

    written: jax.Array = jax.lax.fori_loop(0, length, write, jnp.pad(prompts, ((0, 0), (0, length))))
    return written[:, start:]


def timed(function: Callable[..., jax.Array], *arguments: Any, **options: Any) -> tuple[jax.Array, float]:
    """Returns the result, and the seconds that the second call took; the first one compiles."""
    function(*arguments, **options).block_until_ready()
    start = time.perf_counter()
    result = function(*arguments, **options).block_until_ready()
    return result, time.perf_counter() - start


# ---- the program -----------------------------------------------------------------------------------------------------


def write_samples(net: LanguageModel, options: argparse.Namespace, run: Run) -> None:
    """Samples in both ways, compares them, and writes the letters."""
    prompts = jnp.asarray(np.tile(encode(options.prompt), (NUM_SAMPLES, 1)))
    arguments = net, prompts, jax.random.key(options.seed), options.temperature
    letters, cached = timed(sample, *arguments, length=options.length)
    anew, full = timed(sample_anew, *arguments, length=options.length)
    texts = [f"{options.prompt}{decode(row)}" for row in np.asarray(letters)]
    (run.out / "samples.txt").write_text("\n\n---- another one ----\n\n".join(texts) + "\n")
    run.console.print(texts[0], markup=False, highlight=False)
    equal = f"{int((letters == anew).sum())} of them are equal"
    run.console.print(f"\n{letters.size} letters: {cached:.2f} s with the cache, {full:.2f} s without; {equal}")


def main() -> None:
    """Trains, tests, and writes samples."""
    parser = options_of(__doc__, steps=600, out="transformer-lm-out")
    parser.add_argument("--prompt", default="The ", help="what the samples start with (default: %(default)r)")
    parser.add_argument("--length", type=int, default=250, help="letters of a sample (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=0.7, help="above 0 (default: %(default)s)")
    options = parser.parse_args()
    if options.length < 1 or not encode(options.prompt).size:
        parser.error("--length and --prompt have to be at least one letter")
    if not options.temperature > 0:
        parser.error("--temperature has to be above 0")

    run = Run(options)
    pax.seed_rng_key(options.seed)
    text, test_text = load_text()
    net = LanguageModel()
    schedule = opax.schedule.warmup_cosine_decay(3e-3, warmup_steps=options.steps // 10, steps=options.steps)
    optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.adamw(schedule, weight_decay=0.01))(net.parameters())
    weights = sum(weight.size for weight in jax.tree.leaves(net.parameters()))
    run.console.print(f"{NUM_LAYERS} layers with {NUM_HEADS} heads, {weights:,} weights", highlight=False)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        windows = random_windows(text, BATCH_SIZE, LENGTH + 1, options.seed, number)
        net, optimizer, loss = train_step(*state, windows)
        return (net, optimizer), {"bits per letter": loss}

    net, _ = run.train(step, (net, optimizer))

    run.plot()
    write_samples(net, options, run)
    bits = float(test_loss(net, all_windows(test_text, LENGTH + 1)))
    run.console.print(f"Test: {bits:.2f} bits per letter, where guessing needs {np.log2(len(VOCABULARY)):.2f}")
    run.console.print(f"Samples and curve are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
