"""onnxruntime's calibration.flatbuffers, the table that its TensorRT execution provider reads.

Schema CalTableFlatBuffers: TrtTable { dict: [KeyValue] }, KeyValue { key: string; value: string }, the value a decimal
amax (with the flaw that `onnxruntime_text` tells of). Read field by field with the `flatbuffers` runtime, which
onnxruntime brings along; the buffer carries no file identifier.
"""

import struct

from quantbench.cache.model import CalibrationCache, Entry
from quantbench.cache.onnxruntime_text import NOTE
from quantbench.calibration.ranges import INT8_MAX, Ranges
from quantbench.errors import QuantbenchError

DIALECT = "onnxruntime-flatbuffers"
_FIRST_SLOT = 4  # offset of field 0 in a vtable (FlatBuffers binary format)
_SECOND_SLOT = 6


def parse(data: bytes) -> CalibrationCache:
    """Read the table; the value is amax. Raises QuantbenchError for bytes that are no such table."""
    try:
        pairs = _pairs(data)
        entries = tuple(Entry(name, float(value) / INT8_MAX, value) for name, value in pairs)
    except (struct.error, IndexError, ValueError, TypeError, OverflowError) as error:
        raise QuantbenchError("these bytes are no calibration table of onnxruntime (flatbuffers)") from error
    return CalibrationCache(DIALECT, entries, notes=(NOTE,))


def render(ranges: Ranges) -> bytes:
    """`ranges` as the bytes of calibration.flatbuffers, sorted by name as onnxruntime writes them."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    pairs = []
    for name in sorted(ranges):
        key, value = builder.CreateString(name), builder.CreateString(repr(ranges[name].amax))
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, key, 0)
        builder.PrependUOffsetTRelativeSlot(1, value, 0)
        pairs.append(builder.EndObject())
    builder.StartVector(4, len(pairs), 4)
    for pair in reversed(pairs):
        builder.PrependUOffsetTRelative(pair)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def _pairs(data: bytes) -> list[tuple[str, str]]:
    from flatbuffers.table import Table

    (root,) = struct.unpack_from("<I", data, 0)
    table = Table(data, root)
    offset = table.Offset(_FIRST_SLOT)
    if not offset or root >= len(data):
        raise ValueError("no dict")
    start, count = table.Vector(offset), table.VectorLen(offset)
    if count * 4 > len(data):
        raise ValueError("longer than the file")
    found = []
    for index in range(count):
        pair = Table(data, table.Indirect(start + 4 * index))
        key, value = pair.Offset(_FIRST_SLOT), pair.Offset(_SECOND_SLOT)
        if not key or not value:
            raise ValueError("a pair without key or value")
        texts = [pair.String(slot + pair.Pos) for slot in (key, value)]
        found.append((texts[0].decode("utf-8"), texts[1].decode("utf-8")))
    return found
