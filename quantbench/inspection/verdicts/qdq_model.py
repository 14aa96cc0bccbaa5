"""A Q/DQ model that is not compiled yet: which weighted nodes are covered."""

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count


def judge(inspection: Inspection) -> list[Verdict]:
    """Only where an ONNX model is at hand."""
    model = inspection.model
    if model is None or not model.weighted:
        return []
    if not model.nodes:
        return [
            Verdict("qdq_model", "note", "The model holds no Q/DQ", "It is a float model.",
                    "Quantize it: quantbench ptq.")
        ]  # fmt: skip
    bare = [n for n in model.weighted if not (n.input_quantized and n.weight_quantized)]
    covered = len(model.weighted) - len(bare)
    open_ended = [n for n in model.weighted if n.input_quantized and n.weight_quantized and not n.output_quantized]
    found = [
        Verdict(
            "qdq_model", "note",
            f"{covered} of {count(len(model.weighted), 'weighted node')} have Q/DQ on input and weights",
            f"{count(len(model.nodes), 'Q and DQ node')} in all; without both a node computes in float.", "",
            tuple(Item(n.name, f"{n.op}: input {_yes(n.input_quantized)}, weights {_yes(n.weight_quantized)}")
                  for n in bare),
        )
    ]  # fmt: skip
    if open_ended:
        found.append(
            Verdict(
                "float_outputs", "note", f"{count(len(open_ended), 'quantized node')} with no Q behind",
                "Such a node takes INT8 and gives float.",
                "Right for the network's output and before layers that stay float; else its readers lack a Q.",
                tuple(Item(n.name, n.op) for n in open_ended),
            )
        )  # fmt: skip
    return found


def _yes(value: bool) -> str:
    return "quantized" if value else "float"
