"""See what training did: records of each update, a logger for them, figures, a report as one HTML file.

>>> recorder = TrainingRecorder()
>>> params = OnPolicyTrainerParams(..., logger=recorder)  # doctest: +SKIP
>>> save_records("run/records.jsonl", [*recorder.updates, *recorder.tests])
>>> figure = learning_figure(recorder.updates, max_kl=0.01, tests=recorder.tests)
>>> write_report("run/report.html", {"Learning": figure}, {"seed": 0}, title="A run", description="")
"""

__all__ = [
    "EvaluationRecord",
    "PolicySnapshot",
    "Record",
    "RolloutRecord",
    "TrainingRecorder",
    "UpdateRecord",
    "learning_figure",
    "load_records",
    "policy_snapshot_figure",
    "rollout_figure",
    "save_records",
    "write_json",
    "write_report",
]

from trpo_ts.diagnostics.figures import learning_figure, policy_snapshot_figure, rollout_figure
from trpo_ts.diagnostics.recorder import TrainingRecorder
from trpo_ts.diagnostics.records import EvaluationRecord, PolicySnapshot, Record, RolloutRecord, UpdateRecord
from trpo_ts.diagnostics.report import write_report
from trpo_ts.diagnostics.storage import load_records, save_records
from trpo_ts.diagnostics.text_files import write_json
