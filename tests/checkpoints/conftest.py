"""A run that several files of tests resume."""

import pytest
from resumable import trainer_of


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run: its folder and its trainer."""
    folder = tmp_path_factory.mktemp("whole")
    trainer = trainer_of(folder)
    trainer.run()
    return folder, trainer
