"""What TensorRT is predicted to make of the Q/DQ model."""

from quantbench.predict.traffic import NO_QDQ
from quantbench.records.prediction import DeviceLatency
from quantbench.report.blocks import Block, Section, Table, Text
from quantbench.report.figures import Run, is_for_cpu
from quantbench.report.words import listed, size


def section(run: Run) -> Section:
    """Layers, the fate of the Q/DQ, and each weighted layer that writes or computes float, with the mend."""
    facts = run.prediction
    fates = ", ".join(f"{count} {fate}" for fate, count in sorted(facts.fates.items(), key=lambda kv: -kv[1]))
    rows = (
        ("Layers", str(facts.layers)),
        ("Weighted layers in INT8", f"{facts.int8_layers} of {facts.weighted}"),
        ("Known how well", ", ".join(f"{count} {level}" for level, count in facts.confidence.items())),
        ("Fate of the Q and DQ", fates),
        ("Left over as a kernel of their own", str(len(facts.left_over))),
        ("Reformats and copies", str(facts.reformats)),
        ("Bytes of float tensors between INT8 layers", size(facts.float_bytes)),
    )
    blocks: list[Block] = [
        Text(
            f"{facts.version}'s Q/DQ optimizer, simulated on this model without a GPU and held against real build logs "
            f"(quantbench predict says more; an unknown batch counts as one image). {facts.headline}."
        ),
        Table(("", "INT8"), rows),
    ]
    if is_for_cpu(run):
        blocks.insert(0, Text("The model is placed for onnxruntime on a CPU; this is what TensorRT would make of it."))
    blocks.extend(latency_blocks(facts.latency) if facts.latency is not None else ())
    kept = [item.node for item in facts.float_weighted if item.reason == NO_QDQ]
    if kept:
        names = listed(kept, most=4)
        blocks.append(Text(f"Float, without Q/DQ ({_weighted(len(kept))}): {names}."))
    floats = [item for item in (*facts.float_weighted, *facts.float_outputs) if item.reason != NO_QDQ]
    if floats:
        blocks.append(
            Table(
                ("Weighted layer", "Why it computes or writes float", "What would mend it"),
                tuple((item.node, item.reason, item.mend) for item in floats),
            )
        )
    if facts.guesses:
        guesses = tuple((guess.why, guess.what) for guess in facts.guesses)
        blocks.append(Table(("Guessed: no build log or engine at hand shows it", "What it concerns"), guesses))
    return Section("TensorRT, predicted", tuple(blocks))


def _weighted(count: int) -> str:
    return "1 weighted layer" if count == 1 else f"{count} weighted layers"


def latency_blocks(found: DeviceLatency) -> list[Block]:
    """The verdict on a device, ms by precision, what INT8 loses time on."""
    rows = tuple(
        (time.precision, f"{time.ms:.3f} ({time.low_ms:.3f} to {time.high_ms:.3f})", f"{time.profile_ms:.3f}",
         f"{time.kernels_ms:.3f}", ", ".join(f"{part} {ms:.3f}" for part, ms in time.shares_ms.items()))
        for time in found.times
    )  # fmt: skip
    note = "".join(f" Note: {caveat}." for caveat in found.caveats)
    blocks: list[Block] = [
        Text(f"On {found.device}, batch {found.batch}, without the card (docs/latency.md): {found.sentence}.{note}"),
        Table(("", "GPU compute, ms (90 %)", "Sum of a profile, ms", "Kernels alone, ms", "Kernels by part, ms"), rows),
    ]  # fmt: skip
    if found.mends:
        mends = tuple((mend.what, f"{mend.ms * 1e3:.1f}") for mend in found.mends)
        blocks.append(Table(("What INT8 loses time on", "µs"), mends))
    return blocks
