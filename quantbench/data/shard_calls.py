"""Arrays in tar shards as calls of a model of any inputs: a sample a key, `key.NAME.npy` for the input NAME."""

from quantbench.data.array_calls import plain_name
from quantbench.data.tensor_inputs import Call, TensorInput, fitted, refuse_unfit
from quantbench.images.shard_arrays import ArraySamples
from quantbench.images.shards import Shards


class ShardCalls(ArraySamples):
    """Samples in `shards`, each with or without the axis of the batch. Raises QuantbenchError where the first does not
    fit the inputs."""

    def __init__(self, inputs: tuple[TensorInput, ...], shards: Shards) -> None:
        super().__init__(shards)
        self.inputs = inputs
        self.call(0)

    @property
    def shared(self) -> frozenset[str]:
        """None: every sample brings its own."""
        return frozenset()

    def call(self, index: int) -> Call:
        """The arrays of one sample, by input. Raises BadImageError where one cannot be read."""
        where = self.name(index)
        lone = self.inputs[0].name if len(self.inputs) == 1 else ""
        named = {plain_name(entry.name).lower(): entry.name for entry in self.inputs}
        arrays = self.arrays(index)
        given = {lone if lone and len(arrays) == 1 else named.get(plain_name(key).lower(), key): array
                 for key, array in arrays.items()}  # fmt: skip
        refuse_unfit(self.inputs, given, where)
        found: Call = {}
        for entry in self.inputs:
            array = given[entry.name]
            if entry.shape is not None and array.ndim == len(entry.shape) - 1:
                array = array[None]
            found[entry.name] = fitted(entry, array, where, batch=array.shape[:1] == (1,))
        return found
