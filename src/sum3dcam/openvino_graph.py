"""An .onnx graph compiled by OpenVINO, the same way where it is certified and where it is served."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

# Exact float32, as certified: it would take bfloat16 where the processor has it.
_EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def read_graph(source: Path | bytes) -> Any:
    """The openvino.Model of an .onnx file, in which every weight is a constant that one operator reads.

    OpenVINO 2026.4 is wrong by percents where a convolution and its backward share one. And what the file derives from
    others, as the backward's weights, each part of the graph that is compiled would derive again and keep for itself.
    """
    import openvino
    from openvino import opset13
    from openvino.passes import ConstantFolding, Manager

    model = openvino.Core().read_model(str(source) if isinstance(source, Path) else source)
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    taken: set[int] = set()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant" and node.output(0).get_element_type() == openvino.Type.f32:
            # Two constants can be one place in memory: one is the other reshaped.
            for reader in node.output(0).get_target_inputs():
                if node.data.ctypes.data in taken:
                    reader.replace_source_output(opset13.constant(node.data.copy()).output(0))
                taken.add(node.data.ctypes.data)
    return model


def compile_graph(
    model: Any, *, outputs: Collection[str], one_clip: bool, num_threads: int = 0, clocks: bool = False
) -> Any:
    """The openvino.CompiledModel for the CPU of what these outputs need, in the order of the graph.

    Args:
        one_clip: for batches of one clip, which is a tenth faster than for batches of any size.
        num_threads: 0 leaves them to OpenVINO.
        clocks: time each operator, which costs a little.
    """
    import openvino

    part = model.clone()
    for result in part.get_results():
        if not result.output(0).get_names() & set(outputs):
            part.remove_result(result)
    if one_clip:
        part.reshape({node: [1, *list(node.partial_shape)[1:]] for node in part.inputs})
    options = _EXACT | {"PERF_COUNT": clocks} | ({"INFERENCE_NUM_THREADS": num_threads} if num_threads else {})
    return openvino.Core().compile_model(part, "CPU", options)
