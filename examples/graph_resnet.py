"""Write a residual network as a graph, `x >> layer`, and get its picture: Mermaid for Markdown files, DOT for Graphviz.

    python examples/graph_resnet.py

It shows: `pax.experimental.graph`, in which a network is a function of nodes. Its blocks are functions, too; nodes are
added with `+`. What comes out is a module like any other, which knows its own graph. It has two outputs here: the
scores, and the features before them.

The folder gets graph.mmd and graph.dot, and graph.svg where Graphviz is installed (`pip install graphviz`, and its
program `dot`); a map of the test images by their features; and the curves of the training.
Ctrl-C stops; the same command goes on.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from digits import load_images
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from training import Run, choose, options_of

import opax
import pax
from pax.experimental.graph import GraphModule, Node, build_graph_module

BATCH_SIZE = 128


# ---- the graph ------------------------------------------------------------------------------------------------------


def residual_block(x: Node, inputs: int, outputs: int, stride: int = 1) -> Node:
    """Adds the output of two convolutions to the input, which goes through a convolution if its shape changes."""
    y = x >> pax.Conv2D(inputs, outputs, 3, stride, with_bias=False) >> pax.BatchNorm2D(outputs) >> jax.nn.relu
    y = y >> pax.Conv2D(outputs, outputs, 3, with_bias=False) >> pax.BatchNorm2D(outputs)
    shortcut = x if inputs == outputs else x >> pax.Conv2D(inputs, outputs, 1, stride, name="shortcut")
    return (y + shortcut) >> jax.nn.relu


def residual_network(images: Node) -> dict[str, Node]:
    """Returns the nodes of scores `[N, 10]` and features `[N, 64]`."""
    x = images >> pax.Conv2D(1, 16, 3, with_bias=False) >> pax.BatchNorm2D(16) >> jax.nn.relu
    x = residual_block(x, 16, 16)
    x = residual_block(x, 16, 32, stride=2)
    x = residual_block(x, 32, 64, stride=2)
    features = x >> pax.GlobalAvgPool()
    return {"scores": features >> pax.Linear(64, 10), "features": features}


def draw(net: GraphModule, images: jax.ShapeDtypeStruct, folder: Path) -> list[str]:
    """Writes pictures of the graph with the shapes of its arrays, and returns their names."""
    texts = {"graph.mmd": net.to_mermaid(images), "graph.dot": net.to_dot(images)}
    try:
        texts["graph.svg"] = net.to_svg(images)
    except (ModuleNotFoundError, FileNotFoundError):
        pass  # Graphviz is not installed
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(texts)


# ---- training -------------------------------------------------------------------------------------------------------


def loss_fn(net: GraphModule, images: jax.Array, labels: jax.Array) -> tuple[jax.Array, Any]:
    """Returns the loss, and as extras the network with its new batch statistics, and the accuracy."""
    net, outputs = pax.purecall(net, images)
    loss = optax.softmax_cross_entropy_with_integer_labels(outputs["scores"], labels).mean()
    return loss, (net, jnp.mean(outputs["scores"].argmax(-1) == labels))


@jax.jit
def train_step(net: GraphModule, optimizer: Any, images: jax.Array, labels: jax.Array) -> tuple[Any, ...]:
    """Returns the network and the optimizer after one step, the loss and the accuracy."""
    (loss, (net, accuracy)), grads = pax.value_and_grad(loss_fn, has_aux=True)(net, images, labels)
    net, optimizer = opax.apply_gradients(net, optimizer, grads)
    return net, optimizer, loss, accuracy


def plot_features(features: np.ndarray, labels: np.ndarray, path: Path) -> None:
    """Draws each image as its digit, at the first two principal components of its features."""
    places = PCA(2).fit_transform(features)
    figure = Figure(figsize=(6, 5), layout="constrained")
    axis = figure.subplots()
    for digit in range(10):
        of_digit = places[labels == digit]
        axis.scatter(of_digit[:, 0], of_digit[:, 1], 40, marker=f"${digit}$", color=f"C{digit}", linewidths=0.4)
    axis.set(xticks=[], yticks=[], title="features of test images: two principal components")
    axis.spines[:].set_color("lightgray")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Builds, draws, trains and tests."""
    options = options_of(__doc__, steps=200, out="graph-resnet-out").parse_args()
    run = Run(options)
    pax.seed_rng_key(options.seed)
    images, test_images, labels, test_labels = load_images(options.seed)
    example = jax.ShapeDtypeStruct((BATCH_SIZE, 8, 8, 1), jnp.float32)
    net = build_graph_module(residual_network)(example)
    run.console.print(net.to_text(example), highlight=False, markup=False, soft_wrap=True)
    drawn = draw(net, example, run.out)
    optimizer = opax.adam(opax.schedule.cosine_decay(3e-3, options.steps + 1))(net.parameters())

    def step(state: Any, number: int) -> tuple[Any, dict[str, Any]]:
        batch = choose(len(images), BATCH_SIZE, options.seed, number)
        net, optimizer, loss, accuracy = train_step(*state, images[batch], labels[batch])
        return (net, optimizer), {"loss": loss, "accuracy": accuracy}

    net, optimizer = run.train(step, (net, optimizer))
    run.plot()

    outputs = net.eval()(test_images)
    accuracy = np.mean(outputs["scores"].argmax(-1) == test_labels)
    plot_features(np.asarray(outputs["features"]), test_labels, run.out / "features.png")
    run.console.print(f"Test accuracy: [bold]{accuracy:.1%}[/bold]")
    run.console.print(f"The graph is in {', '.join(drawn)}, in {run.out}", highlight=False)


if __name__ == "__main__":
    main()
