"""Layers: shapes, parameters, forward and backward; the arithmetic is in ``fastconv.ops``."""

from .activation import Activation, LeakyReLU, ReLU, Softmax
from .base import Layer
from .conv import Conv2D
from .dense import Dense
from .dropout import Dropout
from .parameter import Parameter
from .pool import AvgPool2D, GlobalAvgPool2D, MaxPool2D
from .reshape import Flatten, Input
from .stack import Stack

__all__ = [
    "Activation",
    "AvgPool2D",
    "Conv2D",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2D",
    "Input",
    "Layer",
    "LeakyReLU",
    "MaxPool2D",
    "Parameter",
    "ReLU",
    "Softmax",
    "Stack",
]
