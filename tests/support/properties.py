"""How many cases a property is tried on; the profiles are in ``tests/conftest.py``."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def examples(count: int, **options: Any) -> settings:
    """Return the settings of a property: ``count`` cases under the default profile, more of them under ``nightly``.

    :param count: the cases where the profile has 100.
    :param options: other settings of hypothesis.
    """
    return settings(max_examples=count * settings.default.max_examples // 100, **options)
