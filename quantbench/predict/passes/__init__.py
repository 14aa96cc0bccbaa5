"""The passes of TensorRT's graph optimizer by phase. Each file numbers its rules; tests quote them.

cleanup, myelin, fusions, motions, quantize, epilogue, memory: the order in which a build runs through them, as far as
they do not alternate (`optimizer`).
"""
