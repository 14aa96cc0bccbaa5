"""PP-OCR's ONNX models (text detection, recognition, direction) in the package rapidocr 3.10.0 (Apache-2.0)."""

from pathlib import Path

from quantbench.demo.packages import package_file
from quantbench.errors import QuantbenchError
from quantbench.images.preprocess import Preprocess

INSTALL = "pip install --no-deps rapidocr==3.10.0"
MODELS = {
    "detector": "models/PP-OCRv6_det_small.onnx",
    "recogniser": "models/PP-OCRv6_rec_small.onnx",
    "direction": "models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}

# rapidocr/ch_ppocr_det/utils.py (DetPreProcess): BGR, (x / 255 - 0.5) / 0.5, sides that 32 divides. It resizes to a
# shorter side of 736; a fixed square serves batches, and no letterbox, whose border makes a whole photo look like a
# line of text on a page. Input `x` float32 [N, 3, H, W], output a map of text probability [N, 1, H, W].
DETECTOR_PREPROCESS = Preprocess(exact=(640, 640), scale=1 / 255, mean=(0.5,), std=(0.5,), channels="BGR")


def onnx_path(which: str = "detector") -> Path:
    """Path of one of MODELS inside the installed package. Raises QuantbenchError where name or package is missing."""
    if which not in MODELS:
        raise QuantbenchError(f"no PP-OCR model {which!r}; there are {', '.join(MODELS)}")
    return package_file("rapidocr", MODELS[which], f"the PP-OCR {which}", INSTALL)
