"""Errors of dynamic shapes and profiles."""

from quantbench.inspection.errors.entry import ErrorEntry, error

ENTRIES: tuple[ErrorEntry, ...] = (
    error(
        "no-profile",
        "Network has dynamic or shape inputs, but no optimization profile has been defined.",
        r"no optimization profile has been defined",
        "An input has a dimension of -1, and the builder was not told between which sizes it lies.",
        ("a model with dynamic axes, built without --shapes", "the profile was made and never added to the config"),
        "quantbench build MODEL.onnx --shapes INPUT=MIN:OPT:MAX, e.g. images=1x3x640x640:8x3x640x640:16x3x640x640",
        "NVIDIA/TensorRT#1116",
    ),
    error(
        "profile-incomplete",
        "…: dynamic input is missing dimensions in profile 0.",
        r"missing dimensions in profile|dimensions is \d+ but profile|does not match network definition|kMIN <= kOPT",
        "The profile lacks an input, has another number of dimensions, or varies one that is fixed in the model.",
        (
            "an input forgotten: each dynamic one must be in the profile",
            "a dimension that the model fixes (NHWC and NCHW mixed up, an image size burnt in)",
        ),
        "quantbench inspect MODEL.onnx shows the inputs; then quantbench build MODEL.onnx --shapes with all of them",
        "NVIDIA/TensorRT#939",
    ),
    error(
        "outside-profile",
        "Supplied binding dimension […] for bindings[0] exceed min ~ max range at index 0, maximum dimension in "
        "profile "
        "is 1",
        r"exceed min ~ max range|profileM(?:ax|in)Dims|does not satisfy any optimization profile",
        "An input at run time is outside the profile that the engine was built for.",
        (
            "a larger batch than the profile's maximum",
            "images of another size than the engine's (no letterbox, another --size)",
            "profile 0 is active and the shape belongs to another one",
        ),
        "build again: quantbench build MODEL.onnx --shapes INPUT=MIN:OPT:MAX with the sizes that occur",
        "NVIDIA/TensorRT#2739",
    ),
    error(
        "static-mismatch",
        "condition: engineDims.d[i] == dims.d[i] Static dimension mismatch while setting input shape.",
        r"[Ss]tatic dimension mismatch",
        "The engine's input has a fixed size, and the program gave another.",
        ("a batch other than the one of a static export", "the image size of another model"),
        "give the input in the engine's size (quantbench inspect ENGINE shows it), or export with dynamic axes",
        "QwenAudio/CosyVoice#901",
    ),
    error(
        "shape-constraints",
        "kOPT values for profile 0 violate shape constraints: broadcast with incompatible dimensions",
        r"violate shape constraints|incompatible dimensions|Min value of this profile is not valid",
        "With these sizes the network's own shapes contradict each other.",
        (
            "inputs whose sizes must agree (ids and mask) have different ones in the profile",
            "a minimum below what convs and strides allow",
        ),
        "choose sizes that the float model accepts: quantbench bench MODEL.onnx --shapes INPUT=SIZE tries one",
        "NVIDIA/TensorRT#1947",
    ),
)
