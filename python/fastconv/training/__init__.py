"""Training: `Sequential` and its ``fit``, callbacks, and models in files."""

from . import callbacks
from .model import Sequential
from .serialization import ModelFileError, load_model

__all__ = ["ModelFileError", "Sequential", "callbacks", "load_model"]
