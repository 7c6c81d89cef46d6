"""Residual networks for images."""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Num

from pax import Module
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe
from pax.nn._axes import positive_int
from pax.nn._batch_norm import BatchNorm2D
from pax.nn._conv import Conv2D
from pax.nn._dtypes import AnyArray, as_array
from pax.nn._initialize import key_or_next, split_key
from pax.nn._linear import Linear
from pax.nn._normalize import AxisNames
from pax.nn._pool import max_pool

Config = Mapping[str, Any]
_ConvNorm = tuple[Conv2D, BatchNorm2D]


class _Factory:
    """Makes the layers of one network, which share a source of keys and some options."""

    def __init__(
        self,
        keys: Iterator[jax.Array | None],
        dtype: DTypeLike | None,
        param_dtype: DTypeLike | None,
        axis_name: AxisNames | None,
    ) -> None:
        self.keys = keys
        self.options: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
        self.axis_name = axis_name

    def conv(
        self, in_features: int, out_features: int, size: int, stride: int, *, name: str, config: Config | None = None
    ) -> Conv2D:
        arguments: dict[str, Any] = {
            "in_features": in_features,
            "out_features": out_features,
            "kernel_shape": size,
            "stride": stride,
            "padding": [(size // 2, size // 2)] * 2,
            "with_bias": False,
            "data_format": "NCHW",
            "rng_key": next(self.keys),
            **self.options,
            **(config or {}),
        }
        return Conv2D(**arguments, name=name)

    def norm(self, num_channels: int, *, name: str) -> BatchNorm2D:
        return BatchNorm2D(num_channels, data_format="NCHW", name=name, axis_name=self.axis_name, **self.options)

    def logits(self, in_dim: int, out_dim: int, config: Config) -> Linear:
        arguments: dict[str, Any] = {
            "in_dim": in_dim,
            "out_dim": out_dim,
            "w_init": jax.nn.initializers.zeros,
            "rng_key": next(self.keys),
            **self.options,
            **config,
        }
        return Linear(**arguments, name="fc")


class ResnetBlock(Module):
    """Two or three convolutions, whose output is added to their input.

    ``y = relu(layers(x) + shortcut(x))``; the shortcut is ``x`` itself or, where the shape changes, a convolution of
    size 1.
    """

    use_projection: bool
    proj_conv: Conv2D
    proj_batchnorm: BatchNorm2D
    layers: tuple[_ConvNorm, ...]

    def __init__(
        self, in_channels: int, channels: int, stride: int, *, bottleneck: bool, use_projection: bool, factory: _Factory
    ) -> None:
        super().__init__()
        self.use_projection = use_projection
        if use_projection:
            self.proj_conv = factory.conv(in_channels, channels, 1, stride, name="proj_conv")
            self.proj_batchnorm = factory.norm(channels, name="proj_bn")
        # The narrow convolution has the stride: the first one, of size 1, would skip three of four pixels.
        narrow = channels // 4
        sizes = [(narrow, 1, 1), (narrow, 3, stride), (channels, 1, 1)]
        if not bottleneck:
            sizes = [(channels, 3, stride), (channels, 3, 1)]
        layers = []
        for number, (out_channels, size, step) in enumerate(sizes, start=1):
            conv = factory.conv(in_channels, out_channels, size, step, name=f"conv{number}")
            layers.append((conv, factory.norm(out_channels, name=f"bn{number}")))
            in_channels = out_channels
        self.layers = tuple(layers)

    def __call__(self, x: Num[Array, "batch channels_in height_in width_in"]) -> Float[Array, "batch channels h w"]:
        """Returns the sum of both paths, cut at 0."""
        shortcut = self.proj_batchnorm(self.proj_conv(x)) if self.use_projection else x
        for index, (conv, norm) in enumerate(self.layers):
            x = norm(conv(x if index == 0 else jax.nn.relu(x)))
        total: Array = jax.nn.relu(x + shortcut)
        return total


class BlockGroup(Module):
    """Blocks of the same width, the first of which has a stride and may change the number of channels."""

    blocks: list[ResnetBlock]

    def __init__(
        self,
        num_blocks: int,
        in_channels: int,
        channels: int,
        stride: int,
        *,
        bottleneck: bool,
        use_projection: bool,
        factory: _Factory,
    ) -> None:
        super().__init__()
        make = functools.partial(ResnetBlock, bottleneck=bottleneck, factory=factory)
        self.blocks = [make(in_channels, channels, stride, use_projection=use_projection)]
        self.blocks += [make(channels, channels, 1, use_projection=False) for _ in range(num_blocks - 1)]

    def __call__(self, x: Num[Array, "batch channels_in height_in width_in"]) -> Float[Array, "batch channels h w"]:
        """Returns the output of the last block."""
        for block in self.blocks:
            x = block(x)
        return x


class ResNetNN(Module):
    """What residual networks of every depth have in common; the subclasses say how many blocks of which kind."""

    _blocks_per_group: ClassVar[tuple[int, ...]]
    _bottleneck: ClassVar[bool] = False
    _own_name: ClassVar[str | None] = None

    initial_conv: Conv2D
    initial_batchnorm: BatchNorm2D
    block_groups: list[BlockGroup]
    logits: Linear

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        logits_config: Config | None = None,
        initial_conv_config: Config | None = None,
        *,
        rng_key: jax.Array | None = None,
        dtype: DTypeLike | None = None,
        param_dtype: DTypeLike | None = None,
        axis_name: AxisNames | None = None,
    ) -> None:
        """Draws the weights.

        Args:
            input_channels: number of channels of the images, at least 1.
            num_classes: number of outputs, at least 1.
            logits_config: arguments of the last :class:`pax.nn.Linear`, by name, in the place of its defaults here:
                zeros for ``w_init``. Not ``in_dim`` and ``name``.
            initial_conv_config: arguments of the first :class:`pax.nn.Conv2D`, by name, in the place of its defaults
                here: ``out_features=64``, ``kernel_shape=7``, ``stride=2``, ``padding=[(3, 3), (3, 3)]``,
                ``with_bias=False``. Not ``data_format`` and ``name``. Small images keep more of their pixels with
                ``{"kernel_shape": 3, "stride": 1, "padding": "SAME"}``.
            rng_key: the key to draw from; default: the next key of the global generator for each layer. The keys are
                used by the first convolution, then by those of each block (the one of the shortcut first), then by
                the last layer.
            dtype: dtype of computation and output; default: the promoted dtype of input and weights.
            param_dtype: dtype in which the weights are stored; default: what the initializers return.
            axis_name: axes of ``jax.vmap`` or ``jax.shard_map`` over which the batch normalisations take their
                statistics together, see :class:`pax.nn.BatchNorm2D`.

        Raises:
            ArgumentError: a number smaller than 1, or a configuration with an argument that is not for it.
            ArgumentTypeError: a number that is no integer, a configuration that is no dictionary, no key for
                ``rng_key``, or no floating dtype.
        """
        super().__init__(name=self._own_name)
        where = type(self).__name__
        input_channels = positive_int(input_channels, what="input_channels", where=where)
        num_classes = positive_int(num_classes, what="num_classes", where=where)
        logits_config = _check_config(logits_config, _LOGITS_OPTIONS, what="logits_config", where=where)
        conv_config = _check_config(initial_conv_config, _CONV_OPTIONS, what="initial_conv_config", where=where)

        keys: Iterator[jax.Array | None] = itertools.repeat(None)
        if rng_key is not None:
            most = 2 + len(self._blocks_per_group) + 3 * sum(self._blocks_per_group)
            keys = iter(split_key(key_or_next(rng_key, where=where), most))
        factory = _Factory(keys, dtype, param_dtype, axis_name)

        self.initial_conv = factory.conv(input_channels, 64, 7, 2, name="conv1", config=conv_config)
        self.initial_batchnorm = factory.norm(self.initial_conv.out_features, name="bn1")
        self.block_groups = []
        channels = self.initial_conv.out_features
        width = 256 if self._bottleneck else 64
        for index, num_blocks in enumerate(self._blocks_per_group):
            group = BlockGroup(
                num_blocks,
                channels,
                width,
                1 if index == 0 else 2,
                bottleneck=self._bottleneck,
                use_projection=index > 0 or self._bottleneck or channels != width,
                factory=factory,
            )
            self.block_groups.append(group)
            channels, width = width, 2 * width
        self.logits = factory.logits(channels, num_classes, logits_config)

    def __call__(self, x: Num[AnyArray, "batch channels height width"]) -> Float[Array, "batch classes"]:
        """Returns the logits of each class.

        Args:
            x: ``(N, input_channels, H, W)``. In train mode the statistics of the batch are used, so it should have
                more than one image.

        Returns:
            ``(N, num_classes)``.

        Raises:
            ArgumentError: another number of axes or of channels.
            MutationError: in train mode, outside of ``pax.purecall`` or ``pax.pure``.
        """
        x = as_array(x, module=self)
        self._check_images(x)
        x = jax.nn.relu(self.initial_batchnorm(self.initial_conv(x)))
        # After relu a border of zeros never wins against a pixel, nor takes its gradient.
        x = jnp.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)])
        x = max_pool(x, (3, 3), (2, 2), "VALID")
        for group in self.block_groups:
            x = group(x)
        return self.logits(jnp.mean(x, (2, 3)))

    def _check_images(self, x: jax.Array) -> None:
        channels = self.initial_conv.in_features
        if x.ndim != 4:
            headline = f"Expecting an input with 4 axes. Get {x.ndim} axes."
            fix = "x[None]   # a batch of one" if x.ndim == 3 else None
        elif x.shape[1] != channels:
            headline = f"Expecting {channels} input channels. Get {x.shape[1]} channels."
            fix = f"{type(self).__name__}({x.shape[1]}, ...)"
            if x.shape[-1] == channels:
                fix = "jnp.moveaxis(x, -1, 1)   # the channels come before the pixels"
        else:
            return
        want = f"float[*,{channels},*,*], the axes NCHW"
        raise ArgumentError(headline, module=self, got=describe(x), want=want, fix=fix)


_CONV_OPTIONS = (
    "in_features",
    "out_features",
    "kernel_shape",
    "stride",
    "rate",
    "padding",
    "with_bias",
    "w_init",
    "b_init",
    "feature_group_count",
    "rng_key",
    "dtype",
    "param_dtype",
)
_LOGITS_OPTIONS = ("out_dim", "with_bias", "w_init", "b_init", "rng_key", "dtype", "param_dtype")


def _check_config(config: Any, allowed: Sequence[str], *, what: str, where: str) -> dict[str, Any]:
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ArgumentTypeError(
            f"Expecting a dictionary for `{what}`.",
            where=where,
            got=describe(config),
            want="arguments by name",
            fix=f'{what}={{"with_bias": True}}',
        )
    wrong = [repr(key) for key in config if key not in allowed]
    if wrong:
        raise ArgumentError(
            f"`{what}` has arguments that cannot be set there.",
            where=where,
            got=", ".join(wrong),
            want=", ".join(allowed),
        )
    return dict(config)


class ResNet18(ResNetNN):
    """A residual network of 18 layers with weights: 8 blocks of two convolutions of size 3.

    Convolution (size 7, stride 2) → batch normalisation → relu → maximum of 3 by 3 pixels (stride 2) → four groups of
    blocks with 64, 128, 256 and 512 channels → mean over the pixels → linear layer. All groups but the first halve
    height and width. Layout and attribute tree fit torchvision's, see :func:`load_torchvision_weights`.

    Shapes:
        input: ``(N, input_channels, H, W)``, the channels before the pixels; 224 by 224 in the paper, any size works.
        output: ``(N, num_classes)``, logits, in ``dtype``; by default in the promoted dtype of input and weights.
    Parameters:
        11,689,512 for 3 channels and 1000 classes: kernels, scale and offset of each normalisation, and the linear
        layer.
    State:
        means and variances of the batch normalisations, see :class:`pax.nn.BatchNorm2D`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import pax
    >>> jax.eval_shape(lambda: pax.nets.ResNet18(3, 10).eval()(jnp.ones((2, 3, 32, 32)))).shape
    (2, 10)

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385, table 1.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (2, 2, 2, 2)
    _own_name = "ResNet18"


class ResNet34(ResNetNN):
    """A residual network of 34 layers with weights: as :class:`ResNet18`, with 3, 4, 6 and 3 blocks per group.

    Shapes, state and references are those of :class:`ResNet18`.

    Parameters:
        21,797,672 for 3 channels and 1000 classes.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)


class ResNet50(ResNetNN):
    """A residual network of 50 layers with weights: 3, 4, 6 and 3 blocks of three convolutions.

    The frame is that of :class:`ResNet18`. The blocks are bottlenecks: convolutions of size 1, 3 and 1, of which the
    first two have a quarter of the block's channels; these are 256, 512, 1024 and 2048 in the four groups. The one of
    size 3 has the stride (as in torchvision; in the paper it is the first).

    Shapes and state are those of :class:`ResNet18`.

    Parameters:
        25,557,032 for 3 channels and 1000 classes.

    References:
        He et al., "Deep Residual Learning for Image Recognition", 2015, https://arxiv.org/abs/1512.03385, table 1 and
        figure 5.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (3, 4, 6, 3)
    _bottleneck = True


class ResNet101(ResNetNN):
    """A residual network of 101 layers with weights: as :class:`ResNet50`, with 3, 4, 23 and 3 blocks per group.

    Parameters:
        44,549,160 for 3 channels and 1000 classes.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (3, 4, 23, 3)
    _bottleneck = True


class ResNet152(ResNetNN):
    """A residual network of 152 layers with weights: as :class:`ResNet50`, with 3, 8, 36 and 3 blocks per group.

    Parameters:
        60,192,808 for 3 channels and 1000 classes.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (3, 8, 36, 3)
    _bottleneck = True


class ResNet200(ResNetNN):
    """A residual network of 200 layers with weights: as :class:`ResNet50`, with 3, 24, 36 and 3 blocks per group.

    Parameters:
        64,673,832 for 3 channels and 1000 classes.

    References:
        The depths are those of He et al., "Identity Mappings in Deep Residual Networks", 2016,
        https://arxiv.org/abs/1603.05027; the order of the layers in a block is that of the paper of 2015.
    """

    _blocks_per_group: ClassVar[tuple[int, ...]] = (3, 24, 36, 3)
    _bottleneck = True
