"""Learn to write like the reference of Python, letter by letter, with a recurrent network.

    python examples/character_rnn.py                # two layers of GRU cells
    python examples/character_rnn.py --cell lstm --out lstm-out

It shows `pax.RNN`, which runs a cell over a sequence, and `pax.StackedCells`, which makes one cell of several; dropout
between the cells, whose key is a state of the network; and sampling in one `jax.lax.scan`, at different temperatures.

A low temperature takes the likely letters only: few mistakes, many repetitions. 1 is what was learnt.
The folder gets the samples and the curve of the training. Ctrl-C stops; the same command goes on.
"""

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

BATCH_SIZE = 32
LENGTH = 96  # letters of a window
SIZE = 192  # of the state of each cell


# ---- the network -----------------------------------------------------------------------------------------------------


class CharacterRNN(pax.Module):
    """From letters `int32[N, T]` to the scores of the letters that follow, `[N, T, 96]`."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        make_cell = {"gru": pax.GRU, "lstm": pax.LSTM}[cell]
        self.embed = pax.Embed(len(VOCABULARY), SIZE)
        self.rnn = pax.RNN(pax.StackedCells(make_cell(SIZE, SIZE), pax.Dropout(0.1), make_cell(SIZE, SIZE)))
        self.out = pax.Linear(SIZE, len(VOCABULARY))

    def __call__(self, letters: jax.Array, state: Any = None) -> tuple[Any, jax.Array]:
        """Returns the state after the last letter, and the scores."""
        state, features = self.rnn(self.embed(letters), state, return_state=True)
        return state, self.out(features)


# ---- one step of training --------------------------------------------------------------------------------------------


def loss_fn(net: CharacterRNN, windows: jax.Array) -> tuple[jax.Array, CharacterRNN]:
    """Returns the loss in bits for each letter, and the network with the new keys of its dropout."""
    net, (_, scores) = pax.purecall(net, windows[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(scores, windows[:, 1:])
    return losses.mean() / jnp.log(2.0), net


@jax.jit
def train_step(net: CharacterRNN, optimizer: Any, windows: jax.Array) -> tuple[CharacterRNN, Any, jax.Array]:
    """Returns the network and the optimizer after one step, and the loss."""
    (loss, net), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, windows)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss


@jax.jit
def test_loss(net: CharacterRNN, windows: jax.Array) -> jax.Array:
    """Returns the loss without dropout."""
    return loss_fn(net.eval(), windows)[0]


# ---- sampling --------------------------------------------------------------------------------------------------------


@partial(jax.jit, static_argnames="length")
def sample(net: CharacterRNN, prompt: jax.Array, key: jax.Array, temperature: jax.Array, length: int) -> jax.Array:
    """Returns `length` letters that follow the prompt `int32[T]`.

    The state of the cells is all that the network knows of what it has written; it is the carry of the loop.
    """
    net = net.eval()
    state, scores = net(prompt[None])

    def write(carry: Any, key: jax.Array) -> tuple[Any, jax.Array]:
        state, scores = carry
        letter = jax.random.categorical(key, scores[:, -1] / temperature)
        return net(letter[:, None], state), letter[0]

    _, letters = jax.lax.scan(write, (state, scores[:, -1:]), jax.random.split(key, length))
    return letters


# ---- the program -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Trains, tests, and writes samples."""
    parser = options_of(__doc__, steps=800, out="character-rnn-out")
    parser.add_argument("--cell", choices=("gru", "lstm"), default="gru", help="(default: %(default)s)")
    parser.add_argument("--prompt", default="The ", help="what the samples start with (default: %(default)r)")
    parser.add_argument("--length", type=int, default=500, help="letters of a sample (default: %(default)s)")
    options = parser.parse_args()
    if options.length < 1 or not encode(options.prompt).size:
        parser.error("--length and --prompt have to be at least one letter")

    run = Run(options)
    pax.seed_rng_key(options.seed)
    text, test_text = load_text()
    net = CharacterRNN(options.cell)
    schedule = opax.schedule.warmup_cosine_decay(4e-3, warmup_steps=options.steps // 20, steps=options.steps)
    optimizer = opax.chain(opax.clip_by_global_norm(1.0), opax.adam(schedule))(net.parameters())
    run.console.print(net.summary(), highlight=False, soft_wrap=True)

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        windows = random_windows(text, BATCH_SIZE, LENGTH + 1, options.seed, number)
        net, optimizer, loss = train_step(*state, windows)
        return (net, optimizer), {"bits per letter": loss}

    net, _ = run.train(step, (net, optimizer))

    run.plot()
    samples = []
    for temperature in (0.3, 0.7, 1.0):
        letters = sample(net, encode(options.prompt), jax.random.key(options.seed), temperature, options.length)
        samples.append(f"---- temperature {temperature} ----\n{options.prompt}{decode(np.asarray(letters))}\n")
    (run.out / "samples.txt").write_text("\n".join(samples))
    run.console.print(samples[1], markup=False, highlight=False)
    bits = float(test_loss(net, all_windows(test_text, 4 * LENGTH + 1)))
    run.console.print(f"Test: {bits:.2f} bits per letter, where guessing needs {np.log2(len(VOCABULARY)):.2f}")
    run.console.print(f"Samples and curve are in {run.out}/", highlight=False)


if __name__ == "__main__":
    main()
