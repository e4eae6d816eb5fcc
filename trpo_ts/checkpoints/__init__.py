"""Checkpoints of a learner or of a whole run, and the trainer that resumes from them.

>>> from trpo_ts.checkpoints import ResumableTrainer
>>> ResumableTrainer(algorithm, params, "runs/pendulum").run()  # doctest: +SKIP
"""

from trpo_ts.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from trpo_ts.checkpoints.trainer import ResumableTrainer

__all__ = ["ResumableTrainer", "load_checkpoint", "save_checkpoint"]
