"""The entry point: parse, run, and answer what cannot be done with one line."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trpo_ts.cli.stop_signals import INTERRUPTED
from trpo_ts.cli.usage import UsageError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line.

    :param arguments: the words after the program's name; None takes those of the process.
    :return: the exit code: 0, 2 for what cannot be done as it was typed, 130 for a run that was stopped.
    """
    from trpo_ts.cli.parsing import parse

    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(parse(words))
    except UsageError as error:
        print(f"trpo-ts: {error}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if not _is_of_ranks(error):
            raise
        print(f"trpo-ts: {error}", file=sys.stderr)
        return 1
    except OSError as error:  # a folder that cannot be made, a file that is none, a full disk
        print(f"trpo-ts: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("trpo-ts: stopped", file=sys.stderr)
        return INTERRUPTED


def _is_of_ranks(error: RuntimeError) -> bool:
    if "trpo_ts.distributed.rank_errors" not in sys.modules:  # it would load torch for a mere --help
        return False
    from trpo_ts.distributed.rank_errors import RankError

    return isinstance(error, RankError)


def _run(command: object) -> int:
    from trpo_ts.cli import commands

    if isinstance(command, commands.Tasks):
        from trpo_ts.cli.tasks_command import list_tasks

        return list_tasks()
    if isinstance(command, commands.Train):
        from trpo_ts.cli.train_command import train

        return train(command)
    if isinstance(command, commands.Resume):
        from trpo_ts.cli.train_command import resume

        return resume(command)
    if isinstance(command, commands.Evaluate):
        from trpo_ts.cli.evaluate_command import evaluate

        return evaluate(command)
    assert isinstance(command, commands.Report)
    from trpo_ts.cli.report_command import report

    return report(command)
