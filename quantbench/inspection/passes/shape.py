"""Passes that remove or join data movement, and the optimizer's line forms that carry no pass name."""

from quantbench.inspection.passes.entry import GENERAL, PassEntry

ENTRIES: tuple[PassEntry, ...] = (
    PassEntry(
        "ConstShuffleFusion", GENERAL, "Reshapes or transposes a constant at build time.", "Neutral.",
        "[const] --> [Shuffle]", "[const]",
    ),
    PassEntry(
        "ShuffleShuffleFusion", GENERAL, "Joins two reshapes or transposes in a row into one.",
        "Neutral; a Q or DQ between them must move first.", "[Transpose] --> [Reshape]", "[Shuffle]",
    ),
    PassEntry(
        "ShuffleErasure", GENERAL, "Removes a reshape or transpose that changes nothing.", "Neutral.",
        "[Shuffle (none)] -->", "-->",
    ),
    PassEntry(
        "PoolingErasure", GENERAL, "Removes a pooling layer that changes nothing (window 1).", "Neutral.",
        "[AvgPool 1x1] -->", "-->",
    ),
    PassEntry(
        "SqueezePushDownJoin", GENERAL, "Moves a squeeze behind the layer that follows it.",
        "Neutral: it clears the way for a fusion.",
        "[MatMul] --> [Squeeze] --> [Add]", "[MatMul] --> [Add] --> [Squeeze]",
    ),
    PassEntry(
        "SqueezePushDownFork", GENERAL, "Moves a squeeze that several layers read behind each of them.",
        "Neutral: it clears the way for a fusion.", "[Squeeze] --> [Relu], [Sum]", "[Relu] --> [Squeeze], [Sum] --> …",
    ),
    PassEntry(
        "Merging layers", GENERAL, "Runs layers that read the same input as one: `A || B`.",
        "Good. Convs merge only if they agree in kernel, stride and scales: parallel quantized convs with Qs of "
        "different scales behind them stay apart.",
        "     /--> [Conv A]\nx --*\n     \\--> [Conv B]", "x --> [Conv A || B]",
    ),
    PassEntry(
        "Eliminating concatenation", GENERAL, "Lets the inputs of a Concat write straight into its output.",
        "Good, if all inputs have one type and one scale. An input that cannot gets a copy (`Generating copy for …`).",
        "[A] --> \\\n         [Concat] -->\n[B] --> /", "[A] --> [  part 1 | part 2  ] <-- [B]",
    ),
    PassEntry(
        "Eliminating slice", GENERAL, "Reads a slice in place from the tensor that it is cut from.",
        "Good: no copy.", "[x] --> [Slice] --> [A]", "[x (part)] --> [A]",
    ),
    PassEntry(
        "Retargeting", GENERAL, "Gives a tensor the memory of the Concat or Slice that it belongs to.", "Neutral.",
        "[A] --> a", "[A] --> part of concat",
    ),
    PassEntry(
        "Generating copy", GENERAL,
        "Adds a copy because a tensor cannot be written in place (stomping hazard, striding).",
        "Costs a pass over the tensor, in INT8 a quarter of FP32's.", "[A] --> part", "[A] --> a --> [copy] --> part",
    ),
    PassEntry(
        "Eliminating duplicate", GENERAL, "Keeps one of two layers that compute the same.",
        "For Qs see HorizontalMergeQNodes.", "x --> [A], [A']", "x --> [A]",
    ),
)  # fmt: skip
