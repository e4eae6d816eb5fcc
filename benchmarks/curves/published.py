"""Returns that others have published for the MuJoCo tasks, after 1M steps.

Mostly the mean over seeds of the maximum over training; the documents name the sources. Most are of the tasks' ``-v3``.
"""

from __future__ import annotations

__all__ = ["PPO", "TRPO"]

TRPO = {
    "Ant": {"Tianshou": 2867, "SB3": 3554, "RL-Zoo": 4982, "OmniSafe": 4362},
    "HalfCheetah": {"Tianshou": 4471, "SB3": 1803, "RL-Zoo": 1785, "OmniSafe": 3313},
    "Hopper": {"Tianshou": 2046, "SB3": 3372, "RL-Zoo": 3618, "OmniSafe": 2698},
    "Walker2d": {"Tianshou": 3827, "SB3": 4502, "RL-Zoo": 4933, "OmniSafe": 4100},
    "Swimmer": {"Tianshou": 41, "SB3": 359, "RL-Zoo": 366, "OmniSafe": 105},
    "Humanoid": {"Tianshou": 810, "OmniSafe": 1462, "Engstrom": 1030},
    "Reacher": {"Tianshou": -5.1, "NPG": -4.5, "baselines": -4.8},
    "InvertedPendulum": {"Tianshou": 1000},
    "InvertedDoublePendulum": {"Tianshou": 8435, "NPG": 9243},
}
"""By task and source."""

PPO = {
    "Ant": {"Tianshou": 3258, "RL-Zoo": 1327},
    "HalfCheetah": {"Tianshou": 5784, "RL-Zoo": 5819, "CleanRL": 1443},
    "Hopper": {"Tianshou": 2609, "RL-Zoo": 2410, "CleanRL": 2383},
    "Walker2d": {"Tianshou": 3589, "RL-Zoo": 3479, "CleanRL": 2288},
    "Swimmer": {"Tianshou": 67, "RL-Zoo": 282},
    "Humanoid": {"Tianshou": 787, "CleanRL": 716},
    "Reacher": {"Tianshou": -4.1},
    "InvertedPendulum": {"Tianshou": 1000, "CleanRL": 963},
    "InvertedDoublePendulum": {"Tianshou": 9231},
}
"""The same for PPO."""
