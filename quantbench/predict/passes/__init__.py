"""The passes of TensorRT's graph optimizer, one a file, each `run(net)`."""
