"""Advice on Q/DQ models: what will cost time in TensorRT, where, how much, and the mend."""

from quantbench.callable_rooms import make_callable

make_callable(__name__)
