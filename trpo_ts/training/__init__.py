"""What training needs besides the algorithm: whole jobs, trainer parameters, logger, schedule, checked environments."""

from trpo_ts.loggers import tensorboard_logger
from trpo_ts.schedules import LinearSchedule
from trpo_ts.training.finite import FiniteVectorEnv
from trpo_ts.training.job import Job, make_job
from trpo_ts.training.learning_rates import LinearDecay
from trpo_ts.training.trainer_params import trainer_params

__all__ = [
    "FiniteVectorEnv",
    "Job",
    "LinearDecay",
    "LinearSchedule",
    "make_job",
    "tensorboard_logger",
    "trainer_params",
]
