"""Reports of trainings: one HTML page with a verdict in words, charts of everything, settings; runs overlaid.

run = RecordedRun(recorder.updates, recorder.tests, settings={"task": "Hopper-v5", "max_kl": 0.01})
report_runs("report.html", run, title="TRPO on Hopper")
for finding in run.verdict.findings:
    print(finding.title, finding.evidence, finding.advice)
"""

__all__ = ["Finding", "RecordedRun", "Verdict", "judge", "report_runs"]

from trpo_ts.reports.recorded_run import RecordedRun
from trpo_ts.reports.run_page import report_runs
from trpo_ts.reports.verdict import Finding, Verdict, judge
