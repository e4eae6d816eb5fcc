"""What training needs besides the algorithm: sound trainer parameters, logger, schedule, checked environments."""

from trpo_ts.training.finite import FiniteVectorEnv
from trpo_ts.training.loggers import tensorboard_logger
from trpo_ts.training.schedules import LinearDecay
from trpo_ts.training.trainer_params import trainer_params

__all__ = ["FiniteVectorEnv", "LinearDecay", "tensorboard_logger", "trainer_params"]
