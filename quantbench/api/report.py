"""What a run folder came to, for notebooks: its verdict, its figures, its leads."""

from dataclasses import dataclass
from pathlib import Path

from quantbench.api.html import shown
from quantbench.qat.report import summary_lines as qat_lines
from quantbench.records.run import PtqRun, QatRun, load_run
from quantbench.report.decision import decide
from quantbench.report.leads import Lead
from quantbench.report.verdict import Verdict
from quantbench.report.write import summary_lines


@dataclass(frozen=True, repr=False)
class Report:
    """`run`: the record of the run in `folder`; `verdict`: what to do; `leads`: what would make it better, the most
    costly first; `page`: report.html."""

    folder: Path
    run: PtqRun | QatRun
    verdict: Verdict
    leads: tuple[Lead, ...]

    @property
    def page(self) -> Path:
        """The whole report."""
        return self.folder / "report.html"

    def __repr__(self) -> str:
        return f"<Report of {self.folder}: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        run = self.run
        found = (
            summary_lines(self.folder, run, self.verdict) if isinstance(run, PtqRun) else qat_lines(self.folder, run)
        )
        rows = [(lead.title, lead.evidence, lead.next_step) for lead in self.leads]
        return shown(f"{run.model.name}: {self.verdict.headline}", ("lead", "evidence", "next"), rows, found)


def read_report(folder: Path) -> Report:
    """Raises QuantbenchError for a folder that holds no finished run of this version."""
    run = load_run(folder)
    decision = decide(folder, run)
    return Report(folder, run, decision.verdict, decision.leads)
