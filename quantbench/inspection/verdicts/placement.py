"""Layers on DLA and on GPU, and how often the work changes sides."""

import itertools

from quantbench.inspection.inspection import Inspection
from quantbench.inspection.verdicts.verdict import Item, Verdict, count


def judge(inspection: Inspection) -> list[Verdict]:
    """Only for builds that put something on DLA; GPU-only builds are what everyone expects."""
    placed = inspection.build.placements if inspection.build is not None else []
    on_dla = [name for device, _, name in placed if device == "DLA"]
    on_gpu = [(kind, name) for device, kind, name in placed if device == "GPU"]
    if not on_dla:
        return []
    groups = len(list(itertools.groupby(on_dla)))
    items = [Item(name, "on DLA") for name in on_dla]
    items += [
        Item(name, f"on GPU ({kind.lower() or 'type not logged'}): the DLA cannot run it") for kind, name in on_gpu
    ]
    verdict = Verdict(
        "placement", "cost" if on_gpu else "note",
        f"{count(groups, 'subgraph')} on DLA, {count(len(on_gpu), 'layer')} on GPU",
        "Each change of sides copies a tensor and waits for the other side. DLA subgraphs are ForeignNodes.",
        "Replace the layers that fall back to GPU by ones that the DLA runs." if on_gpu else "", tuple(items),
    )  # fmt: skip
    return [verdict]
