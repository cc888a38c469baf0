"""The compiled kernels: one package per instruction set and precision. Only `_dispatch` imports from here."""
