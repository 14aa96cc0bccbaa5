"""Fusions of elementwise layers, scales, constants and casts."""

from quantbench.inspection.passes.entry import GENERAL, PassEntry

ENTRIES: tuple[PassEntry, ...] = (
    PassEntry(
        "PointWiseFusion", GENERAL, "Runs elementwise layers in a row as one kernel, PWN(a, b).",
        "Good for time. Such a kernel runs in float unless Q/DQ stand around it.",
        "[Mul] --> [Add] --> [Sigmoid]", "[PWN(Mul, Add, Sigmoid)]",
    ),
    PassEntry(
        "EltwiseAddToPwn", GENERAL, "Makes an elementwise Add a pointwise layer, so that others may join it.",
        "Often an Add that found no conv to join: check whether its residual input carries Q/DQ.",
        "[Add]", "[PWN(Add)]",
    ),
    PassEntry(
        "EltWiseToPointwiseConversion", GENERAL, "Makes an elementwise layer a pointwise layer.", "Neutral.",
        "[Mul]", "[PWN(Mul)]",
    ),
    PassEntry(
        "ActivationToPointwiseConversion", GENERAL, "Makes an activation a pointwise layer.",
        "Neutral: a conv may still take it in (GenericConvActFusion).", "[LeakyRelu]", "[PWN(LeakyRelu)]",
    ),
    PassEntry(
        "EltReluFusion", GENERAL, "Puts a Relu into the Add before it.",
        "Good: `Add + Relu` then joins the conv before it (ConvEltwiseSumFusion).", "[Add] --> [Relu]", "[Add + Relu]",
    ),
    PassEntry(
        "ScaleActivationFusion", GENERAL, "Puts an activation into the Scale (BatchNormalization) before it.",
        "Good: `BN + Relu` then goes into a quantized conv as one (QConvScaleFusion).",
        "[BN] --> [Relu]", "[BN + Relu]",
    ),
    PassEntry(
        "ScaleScaleFusion", GENERAL, "Multiplies two Scales in a row into one.", "Neutral.",
        "[Scale a] --> [Scale b]", "[Scale a*b]",
    ),
    PassEntry(
        "ConstEltFusion", GENERAL, "Computes an elementwise layer of constants at build time.", "Neutral.",
        "[const] --> [Add const]", "[const]",
    ),
    PassEntry(
        "ConstCastFold", GENERAL, "Computes a cast of a constant at build time.", "Neutral.",
        "[const] --> [Cast]", "[const]",
    ),
    PassEntry(
        "IdentityToCastTransform", GENERAL, "Makes an Identity a cast; with equal types it vanishes later.", "Neutral.",
        "[Identity]", "[Cast]",
    ),
    PassEntry(
        "CastToCopyTransform", GENERAL, "Makes a cast a copy with conversion (Reformat).",
        "A cast next to a Q or DQ can keep it from fusing.", "[Cast]", "[Reformat]",
    ),
    PassEntry(
        "SoftmaxTopKFusion", GENERAL, "Runs Softmax and TopK or ArgMax as one kernel.", "Stays float.",
        "[Softmax] --> [TopK]", "[Softmax + TopK]",
    ),
    PassEntry(
        "LogSoftmaxTopKFusion", GENERAL, "Runs LogSoftmax and TopK or ArgMax as one kernel.", "Stays float.",
        "[LogSoftmax] --> [TopK]", "[LogSoftmax + TopK]",
    ),
)  # fmt: skip
