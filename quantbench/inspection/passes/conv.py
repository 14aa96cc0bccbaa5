"""Fusions around convolutions and matrix products."""

from quantbench.inspection.passes.entry import GENERAL, PassEntry

ENTRIES: tuple[PassEntry, ...] = (
    PassEntry(
        "ConvReluFusion", GENERAL, "Puts a Relu into the conv before it.",
        "Good: no pass over memory for the Relu; in INT8 its lower bound comes with the rounding.",
        "[Conv] --> [Relu]", "[Conv + Relu]",
    ),
    PassEntry(
        "GenericConvActFusion", GENERAL,
        "Puts an activation (LeakyRelu, Sigmoid, Swish as PWN) into the conv before it.",
        "Good: the activation runs on the sums before they are rounded to INT8.",
        "[Conv] --> [PWN(act)]", "[Conv + PWN(act)]",
    ),
    PassEntry(
        "GenericConvActFusionBase", GENERAL,
        "The same as GenericConvActFusion, under the name that newer versions log.",
        "Good: the activation runs on the sums before they are rounded to INT8.",
        "[Conv] --> [PWN(act)]", "[Conv + PWN(act)]",
    ),
    PassEntry(
        "ConvPointWiseClipFusion", GENERAL, "Puts a Clip (Relu6) into the conv before it.",
        "Good: MobileNet's Relu6 costs nothing; in INT8 the upper bound often falls together with the range.",
        "[Conv] --> [Clip 0..6]", "[Conv + Clip]",
    ),
    PassEntry(
        "ConvEltwiseSumFusion", GENERAL, "Puts a residual Add, and the Relu behind it, into the conv before it.",
        "Good for time. Under Q/DQ the residual stays float unless its edge carries Q/DQ too "
        "(QuantizeConvWithResidualAdd).",
        "[Conv] --> [Add] --> [Relu]\nres ------/", "[Conv + Add + Relu]\nres --/",
    ),
    PassEntry(
        "ConvActPoolFusion", GENERAL, "Puts the max-pool behind a first conv and its activation into one kernel.",
        "Good: the large first feature map is never written. Needs an INT8 path through conv, Relu and pool.",
        "[Conv + Relu] --> [MaxPool]", "[Conv + Relu + MaxPool]",
    ),
    PassEntry(
        "ConvScaleFusion", GENERAL, "Folds a BatchNormalization (Scale) into the weights of the conv before it.",
        "Neutral in float. Under Q/DQ it cannot fold into quantized weights: QConvScaleFusion does that.",
        "[Conv] --> [BN]", "[Conv (w*s, b)]",
    ),
    PassEntry(
        "ConvReshapeBiasAddFusion", GENERAL, "Takes an Add with a constant behind conv and reshape as the conv's bias.",
        "Good: the bias is added in INT32.", "[Conv] --> [Reshape] --> [Add const]", "[Conv (bias)] --> [Reshape]",
    ),
    PassEntry(
        "DeconvScaleFusion", GENERAL, "Folds a BatchNormalization into the ConvTranspose before it.",
        "Neutral. For ConvTranspose the weights' channel axis is 1.", "[Deconv] --> [BN]", "[Deconv (w*s, b)]",
    ),
    PassEntry(
        "DeconvReluFusion", GENERAL, "Puts a Relu into the ConvTranspose before it.", "Good, as ConvReluFusion.",
        "[Deconv] --> [Relu]", "[Deconv + Relu]",
    ),
    PassEntry(
        "MatMulToConvTransform", GENERAL, "Runs a MatMul with constant weights as a 1x1 convolution.",
        "Good: it opens the conv's INT8 kernels to it.", "[MatMul W]", "[Conv 1x1 W]",
    ),
    PassEntry(
        "FCToConvTransform", GENERAL, "Runs a fully connected layer as a 1x1 convolution.",
        "Good: it opens the conv's INT8 kernels to it.", "[FullyConnected]", "[Conv 1x1]",
    ),
    PassEntry(
        "ReduceToPoolingFusion", GENERAL, "Runs a mean over height and width as a global average pool.",
        "Good: pooling has INT8 kernels; with Q/DQ on its input it takes INT8.", "[ReduceMean 2,3]", "[AvgPool global]",
    ),
)  # fmt: skip
