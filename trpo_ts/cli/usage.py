"""Errors that a user can repair by typing something else."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from trpo_ts.presets.job_settings import Settings

__all__ = ["UsageError", "refused_values"]


class UsageError(Exception):
    """What was typed cannot be done; the message is one line that says what to type. Nothing has been written."""


@contextlib.contextmanager
def refused_values() -> Iterator[None]:
    """Turn the errors of constructors about their arguments into usage errors that name the flag."""
    try:
        yield
    except (TypeError, ValueError) as error:
        text = " ".join(str(error).split())
        name = re.match(r"\w*", text)
        known = name is not None and name[0] in (*Settings.names(), "env_backend", "seed")
        hint = f"; change --{name[0].replace('_', '-')}" if name is not None and known else ""
        raise UsageError(text + hint) from error
