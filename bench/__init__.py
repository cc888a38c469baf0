"""Benchmarks of fastconv against NumPy, PyTorch, JAX and ONNX Runtime.

``python -m bench.kernels`` times every convolution of :mod:`bench.shapes`, ``python -m
bench.training`` whole training steps, ``python -m bench.overhead`` what Python adds to the kernels,
``python -m bench.import_time`` the import. They are no part of the installed package.
docs/benchmarks.md tells how to run and read them.
"""
