"""Learn to fill in letters that are missing in the reference of Python: masked language modelling, as in BERT.

    python examples/masked_lm.py            # once through the text
    python examples/masked_lm.py --steps 2000

It shows `pax.nn.Stack`: equal blocks held as one module and applied in one loop, so six of them are traced and compiled
as fast as one; and `remat`, which computes the insides of a block again in the backward pass, and saves their memory.
Attention goes to both sides here, with rotary positions.

Of the letters 15% are chosen, and the loss is taken at these. Eight in ten are replaced by a mask, one by a random
letter, and one stays, so the network cannot rely on what it sees.

The folder gets a page of the test text as the network filled it in, and the curve of the training.
Ctrl-C stops; the same command goes on.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from python_text import VOCABULARY, all_windows, load_text
from rich.text import Text
from training import Run, choose, options_of

import opax
import pax

BATCH_SIZE = 8
LENGTH = 64  # letters that the network sees
SIZE = 128
NUM_LAYERS = 6
MASK = len(VOCABULARY)  # the number of the mask, behind those of the letters


# ---- the network -----------------------------------------------------------------------------------------------------


class Block(pax.Module):
    """Attention to all letters, then a small network for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = pax.RMSNorm(SIZE)
        self.attention = pax.MultiHeadAttention(4, SIZE // 4, 1.0, rotary=True)
        self.mlp_norm = pax.RMSNorm(SIZE)
        self.mlp = pax.MLP([SIZE, 4 * SIZE, SIZE], activation=jax.nn.gelu)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.norm(x)
        x = x + self.attention(y, y, y)
        return x + self.mlp(self.mlp_norm(x))


class MaskedModel(pax.Module):
    """From letters and masks `int32[N, T]` to the scores of the letters that were there, `[N, T, 96]`."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = pax.Embed(len(VOCABULARY) + 1, SIZE, w_init=jax.nn.initializers.normal(0.1))
        self.blocks = pax.nn.Stack(Block, NUM_LAYERS, remat=True)
        self.norm = pax.RMSNorm(SIZE)
        self.out = pax.Linear(SIZE, len(VOCABULARY))

    def __call__(self, letters: jax.Array) -> jax.Array:
        return self.out(self.norm(self.blocks(self.embed(letters))))


# ---- data ------------------------------------------------------------------------------------------------------------


def hide(letters: np.ndarray, seed: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the letters as the network sees them, and which of them it has to tell: `int32` and `bool`, `[N, T]`."""
    rng = np.random.default_rng((seed, step))
    is_chosen = rng.random(letters.shape) < 0.15
    what = rng.random(letters.shape)
    replaced = np.where(what < 0.8, MASK, np.where(what < 0.9, rng.integers(0, MASK, letters.shape), letters))
    return np.where(is_chosen, replaced, letters).astype(np.int32), is_chosen


# ---- one step of training --------------------------------------------------------------------------------------------


def loss_fn(net: MaskedModel, seen: jax.Array, letters: jax.Array, is_chosen: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the mean loss at the chosen letters, and which share of them is right."""
    scores = net(seen)
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, letters)
    count = jnp.maximum(1, is_chosen.sum())
    right = (scores.argmax(-1) == letters) & is_chosen
    return jnp.where(is_chosen, losses, 0.0).sum() / count, right.sum() / count


@jax.jit
def train_step(
    net: MaskedModel, optimizer: Any, seen: jax.Array, letters: jax.Array, is_chosen: jax.Array
) -> tuple[MaskedModel, Any, dict[str, jax.Array]]:
    """Returns the network and the optimizer after one step, and numbers to show."""
    (loss, accuracy), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, seen, letters, is_chosen)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, {"loss": loss, "accuracy": accuracy}


@jax.jit
def fill_in(net: MaskedModel, seen: jax.Array) -> jax.Array:
    """Returns the most likely letters, `int32[N, T]`."""
    return net(seen).argmax(-1)


# ---- results ---------------------------------------------------------------------------------------------------------


def page(letters: np.ndarray, filled: np.ndarray, is_chosen: np.ndarray) -> Text:
    """Returns the text with what was filled in: green where it is right; where it is not, red, then what was there."""
    text = Text()
    for letter, guess, chosen in zip(letters.flat, filled.flat, is_chosen.flat, strict=True):
        right, guessed = VOCABULARY[letter], VOCABULARY[guess]
        if not chosen:
            text.append(right)
        elif letter == guess:
            text.append(right, "bold green")
        else:
            text.append(f"[{guessed}→{right}]".replace("\n", "⏎"), "bold red")
    return text


def main() -> None:
    """Trains, tests, and fills in a page."""
    text, test_text = load_text()
    windows, test_windows = all_windows(text, LENGTH), all_windows(test_text, LENGTH)
    once = len(windows) // BATCH_SIZE
    options = options_of(__doc__, steps=once, out="masked-lm-out").parse_args()
    run = Run(options)
    pax.seed_rng_key(options.seed)
    net = MaskedModel()
    schedule = opax.schedule.warmup_cosine_decay(2e-3, warmup_steps=options.steps // 10, steps=options.steps)
    optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.adamw(schedule, weight_decay=0.01))(net.parameters())
    run.console.print(net.summary(), highlight=False, soft_wrap=True)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        letters = windows[choose(len(windows), BATCH_SIZE, options.seed, number)]
        seen, is_chosen = hide(letters, options.seed, number)
        net, optimizer, numbers = train_step(*state, seen, letters, is_chosen)
        return (net, optimizer), numbers

    net, _ = run.train(step, (net, optimizer))

    run.plot()
    seen, is_chosen = hide(test_windows, options.seed, options.steps)
    filled = np.asarray(fill_in(net, seen))
    result = page(test_windows[:16], filled[:16], is_chosen[:16])
    hidden = "".join("▁" if letter == MASK else VOCABULARY[letter] for letter in seen[:16].flat)
    (run.out / "filled.txt").write_text(
        f"---- what the network saw ----\n{hidden}\n\n---- filled in ----\n{result.plain}\n", encoding="utf-8"
    )
    run.console.print(result)
    right = (filled == test_windows)[is_chosen].mean()
    spaces = (test_windows == VOCABULARY.index(" "))[is_chosen].mean()
    run.console.print(f"Test: {right:.1%} of the chosen letters are right; {spaces:.1%} would be, if all were spaces")
    run.console.print(f"The filled-in page and the curves are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
