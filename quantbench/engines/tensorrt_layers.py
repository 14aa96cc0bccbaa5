"""Layer information of an engine through TensorRT's EngineInspector."""

from quantbench.engines.tensorrt_session import LoadedEngine


def layer_information(loaded: LoadedEngine) -> str:
    """The inspector's JSON text: what `trtexec --exportLayerInfo` writes. Detailed where the build was."""
    inspector = loaded.engine.create_engine_inspector()
    return str(inspector.get_engine_information(loaded.trt.LayerInformationFormat.JSON))
