"""What TensorRT will make of a Q/DQ network, told without a GPU: a simulation of its Q/DQ graph optimizer."""

from quantbench.callable_rooms import make_callable

make_callable(__name__)
