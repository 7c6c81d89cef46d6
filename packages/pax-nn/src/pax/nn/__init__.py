"""Layers for PAX. Every name here is also a name of ``pax``: ``pax.Linear`` is ``pax.nn.Linear``."""

from pax.nn import initializers as initializers
from pax.nn._attention import MultiHeadAttention as MultiHeadAttention
from pax.nn._batch_norm import BatchNorm1D as BatchNorm1D
from pax.nn._batch_norm import BatchNorm2D as BatchNorm2D
from pax.nn._batch_norm import BatchNorm3D as BatchNorm3D
from pax.nn._conv import Conv1D as Conv1D
from pax.nn._conv import Conv2D as Conv2D
from pax.nn._conv import Conv3D as Conv3D
from pax.nn._conv_depthwise import DepthwiseConv1D as DepthwiseConv1D
from pax.nn._conv_depthwise import DepthwiseConv2D as DepthwiseConv2D
from pax.nn._conv_separable import SeparableConv1D as SeparableConv1D
from pax.nn._conv_separable import SeparableConv2D as SeparableConv2D
from pax.nn._conv_transpose import Conv1DTranspose as Conv1DTranspose
from pax.nn._conv_transpose import Conv2DTranspose as Conv2DTranspose
from pax.nn._conv_transpose import Conv3DTranspose as Conv3DTranspose
from pax.nn._dropout import Dropout as Dropout
from pax.nn._dropout import dropout as dropout
from pax.nn._einsum import Einsum as Einsum
from pax.nn._ema import EMA as EMA
from pax.nn._embedding import Embed as Embed
from pax.nn._ensemble import Ensemble as Ensemble
from pax.nn._flatten import Flatten as Flatten
from pax.nn._group_norm import GroupNorm as GroupNorm
from pax.nn._init_cache import init_cache as init_cache
from pax.nn._instance_norm import InstanceNorm as InstanceNorm
from pax.nn._kv_cache import KVCache as KVCache
from pax.nn._layer_norm import LayerNorm as LayerNorm
from pax.nn._linear import Linear as Linear
from pax.nn._mlp import MLP as MLP
from pax.nn._pool import avg_pool as avg_pool
from pax.nn._pool import max_pool as max_pool
from pax.nn._pool_adaptive import AdaptiveAvgPool1D as AdaptiveAvgPool1D
from pax.nn._pool_adaptive import AdaptiveAvgPool2D as AdaptiveAvgPool2D
from pax.nn._pool_adaptive import AdaptiveMaxPool1D as AdaptiveMaxPool1D
from pax.nn._pool_adaptive import AdaptiveMaxPool2D as AdaptiveMaxPool2D
from pax.nn._pool_global import GlobalAvgPool as GlobalAvgPool
from pax.nn._pool_global import GlobalMaxPool as GlobalMaxPool
from pax.nn._pool_layers import AvgPool1D as AvgPool1D
from pax.nn._pool_layers import AvgPool2D as AvgPool2D
from pax.nn._pool_layers import AvgPool3D as AvgPool3D
from pax.nn._pool_layers import MaxPool1D as MaxPool1D
from pax.nn._pool_layers import MaxPool2D as MaxPool2D
from pax.nn._pool_layers import MaxPool3D as MaxPool3D
from pax.nn._positions import LearnedPositions as LearnedPositions
from pax.nn._positions import SinusoidalPositions as SinusoidalPositions
from pax.nn._positions import sinusoidal_positions as sinusoidal_positions
from pax.nn._prelu import PReLU as PReLU
from pax.nn._recurrent_bidirectional import Bidirectional as Bidirectional
from pax.nn._recurrent_gru import GRU as GRU
from pax.nn._recurrent_gru import GRUState as GRUState
from pax.nn._recurrent_lstm import LSTM as LSTM
from pax.nn._recurrent_lstm import LSTMState as LSTMState
from pax.nn._recurrent_rnn import RNN as RNN
from pax.nn._recurrent_stacked import StackedCells as StackedCells
from pax.nn._recurrent_vanilla import VanillaRNN as VanillaRNN
from pax.nn._recurrent_vanilla import VanillaRNNState as VanillaRNNState
from pax.nn._remat import Remat as Remat
from pax.nn._remat import remat as remat
from pax.nn._rms_norm import RMSNorm as RMSNorm
from pax.nn._rotary import rotary_embedding as rotary_embedding
from pax.nn._sequential import Identity as Identity
from pax.nn._sequential import Lambda as Lambda
from pax.nn._sequential import Sequential as Sequential
from pax.nn._spectral_norm import SpectralNorm as SpectralNorm
from pax.nn._stack import Stack as Stack
from pax.nn._tied import Tied as Tied
from pax.nn._version import __version__ as __version__
from pax.nn._weight_norm import WeightNorm as WeightNorm

__all__ = [
    "EMA",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "AdaptiveAvgPool1D",
    "AdaptiveAvgPool2D",
    "AdaptiveMaxPool1D",
    "AdaptiveMaxPool2D",
    "AvgPool1D",
    "AvgPool2D",
    "AvgPool3D",
    "BatchNorm1D",
    "BatchNorm2D",
    "BatchNorm3D",
    "Bidirectional",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Conv3D",
    "Conv3DTranspose",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Dropout",
    "Einsum",
    "Embed",
    "Ensemble",
    "Flatten",
    "GRUState",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "Identity",
    "InstanceNorm",
    "KVCache",
    "LSTMState",
    "Lambda",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "MaxPool1D",
    "MaxPool2D",
    "MaxPool3D",
    "MultiHeadAttention",
    "PReLU",
    "RMSNorm",
    "Remat",
    "SeparableConv1D",
    "SeparableConv2D",
    "Sequential",
    "SinusoidalPositions",
    "SpectralNorm",
    "Stack",
    "StackedCells",
    "Tied",
    "VanillaRNN",
    "VanillaRNNState",
    "WeightNorm",
    "avg_pool",
    "dropout",
    "init_cache",
    "max_pool",
    "remat",
    "rotary_embedding",
    "sinusoidal_positions",
]
