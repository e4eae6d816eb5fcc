"""Settings that learn well, a file per family of tasks.

>>> from trpo_ts.presets import preset_for
>>> preset_for("Hopper-v5").name
'mujoco'
"""

from trpo_ts.presets.job_settings import Settings
from trpo_ts.presets.preset import Preset, load_preset, preset_names
from trpo_ts.presets.selection import choose_preset, preset_for

__all__ = ["Preset", "Settings", "choose_preset", "load_preset", "preset_for", "preset_names"]
