"""Passes of the seven Q/DQ phases."""

from quantbench.inspection.passes.entry import PassEntry

ENTRIES: tuple[PassEntry, ...] = (
    PassEntry(
        "ConstQDQInitializersFusion", 1,
        "Reads the scale and zero-point of each Q and DQ, which ONNX gives as constants, into the layer itself.",
        "Preparation only. A Q or DQ that misses here has a scale that is computed at run time and fuses with nothing.",
        "[scale] [zero]\n   \\     /\n--> [ Q ] ==>",
        "--> [ Q s=0.02 ] ==>",
    ),
    PassEntry(
        "VanillaSwapWithPreceedingDQ", 2,
        "Moves a DQ forward past a layer that only moves data (reshape, transpose, slice, max-pool).",
        "Good: the data mover then runs on INT8, a quarter of FP32's bytes, and the DQ comes nearer to a layer that "
        "can take it in. The spelling is TensorRT's.",
        "==> [DQ] --> [Reshape] -->",
        "==> [Reshape] ==> [DQ] -->",
    ),
    PassEntry(
        "VanillaSwapWithFollowingQ", 3,
        "Moves a Q backward before a layer that only moves data or commutes with rounding (Slice, Resize, Flatten, "
        "MaxPool).",
        "Good: the layer then works on INT8 and the Q comes nearer to the conv that can take it in as its output "
        "conversion.",
        "--> [Slice] --> [Q] ==>",
        "--> [Q] ==> [Slice] ==>",
    ),
    PassEntry(
        "SplitQAcrossPrecedingFanIn", 3,
        "Copies a Q that follows a Concat onto each of the Concat's inputs. The copies are named Q_clone_0, Q_clone_1 "
        "…; only the Running line is logged.",
        "Good where each branch ends in a conv that takes its clone in: the Concat runs on INT8 and may vanish. A "
        "branch whose producer cannot take it in keeps its clone as a copy. All inputs share the one scale.",
        "--> \\\n     [Concat] --> [Q] ==>\n--> /",
        "--> [Q_clone_0] ==> \\\n                     [Concat] ==>\n--> [Q_clone_1] ==> /",
    ),
    PassEntry(
        "HorizontalMergeQNodes", 3,
        "Keeps one of several Qs that read the same tensor with the same scale; logged as `Eliminating Q2 which "
        "duplicates (Q) Q1`.",
        "Good: one quantization instead of several, and a producer with one Q behind it can take it in. Qs of the same "
        "tensor with different scales are not merged: give a tensor one scale.",
        "     /--> [Q1] ==>\n--> *\n     \\--> [Q2] ==>",
        "--> [Q1] ==> *==>\n              \\==>",
    ),
    PassEntry(
        "ConstWeightsQuantizeFusion", 4,
        "Quantizes a weight constant at build time: weight and Q become an INT8 constant named `W + Q`.",
        "Wanted for every weight. A weight without it is quantized at run time or stays float.",
        "[W fp32] --> [Q] ==>",
        "[W + Q int8] ==>",
    ),
    PassEntry(
        "QuantizeDoubleInputNodes", 4,
        "Takes the DQs of both inputs (activation and weights), and the Q behind it if there is one, into a Conv, Gemm "
        "or MatMul.",
        "This is where a conv becomes an INT8 conv. With a `fusing Q into Conv` line it also gives INT8. Without that "
        "line it takes INT8 and gives float, and the next layer pays for the conversion.",
        "==> [DQ] --> \\\n              [Conv] --> [Q] ==>\nW=> [DQ] --> /",
        "==> [ int8 Conv ] ==>",
    ),
    PassEntry(
        "QuantizeSingleInputNodes", 4,
        "Takes the DQ before and the Q behind a layer with one input (average pooling, unary, reduce) into it.",
        "Good: the layer runs on INT8. It needs both a DQ before and a Q behind; with one of them it stays float.",
        "==> [DQ] --> [AvgPool] --> [Q] ==>",
        "==> [int8 AvgPool] ==>",
    ),
    PassEntry(
        "QuantizeConvWithResidualAdd", 4,
        "Swaps a residual Add (and its Relu) with the Q behind it, so that a quantized conv takes them all in and "
        "reads the residual as INT8.",
        "The gain of quantizing the residual edge: conv, Add, Relu and Q become one INT8 kernel. Without Q/DQ on the "
        "residual input the Add reads float and the Q behind it is left over as a copy.",
        "==> [int8 Conv] --> [Add] --> [Relu] --> [Q] ==>\n==> [DQ] ----------/",
        "==> [ int8 Conv + Add + Relu ] ==>\n==> /",
    ),
    PassEntry(
        "QConvScaleFusion", 4,
        "Folds a BatchNormalization (Scale), and the Relu fused with it, into the quantized conv before it.",
        "Good: the scale multiplies the INT32 sum on its way out, for free. Train without folding BN and it is folded "
        "here all the same.",
        "==> [int8 Conv] --> [BN + Relu] -->",
        "==> [int8 Conv (BN, Relu inside)] -->",
    ),
    PassEntry(
        "ConstWeightsFusion", 4,
        "Joins the INT8 constant `W + Q` with its conv: the conv owns its weights from here on.",
        "Closes the quantization of a conv; its name grows to `W + Q + Conv`.",
        "[W + Q] ==> \\\n             [int8 Conv] ==>\nx ========> /",
        "x ==> [W + Q + Conv] ==>",
    ),
    PassEntry(
        "QDQToCopy", 7,
        "Turns a Q or DQ that no layer took in into a copy (kQDQ), which becomes a Reformat layer of origin QDQ.",
        "The sign of an unfused Q: it costs a pass over the tensor. At the network's input it cannot be helped. "
        "Anywhere else look at its producer: a residual Add with a float input, a layer without INT8 kernel, a Concat "
        "branch, or a tensor that is read in float as well.",
        "--> [Q] ==>",
        "--> [Reformat, origin QDQ] ==>",
    ),
)  # fmt: skip
