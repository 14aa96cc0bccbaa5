"""Q/DQ placement: rules that write a Plan, and the ONNX inserter that carries it out."""
