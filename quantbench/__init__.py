"""quantbench: an INT8 quantization workbench. PTQ, QAT, Q/DQ placement, engine inspection."""

__version__ = "0.1.0"
