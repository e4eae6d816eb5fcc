"""What environments say beside observations and rewards, step by step.

Environments in this process return a dictionary each, EnvPool's and gymnasium's vectors one dictionary of arrays. Both
are kept as they come, and turned into what a buffer or a policy takes only where somebody asks: making Tianshou's
``Batch`` of sixteen dictionaries takes longer than the policy's forward pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
from tianshou.data import Batch

__all__ = ["ColumnInfos", "Infos", "RowInfos", "concatenated_infos", "infos_of", "joined_infos"]


class Infos(Protocol):
    """The infos of one step of some environments."""

    def with_rows(self, where: np.ndarray, other: Infos) -> Infos:
        """Return these with those of some rows replaced."""

    def with_key(self, key: str, values: np.ndarray) -> Infos:
        """Return these with a further number in each row."""

    def __getitem__(self, rows: np.ndarray) -> Infos:
        """Return those of some rows."""

    def as_dictionaries(self) -> np.ndarray:
        """Return one dictionary for each environment, as Tianshou's collector keeps them."""

    def as_batch(self) -> Batch:
        """Return them as a policy and a buffer take them."""


class RowInfos:
    """One dictionary for each environment.

    :param rows: the dictionaries, which nobody changes later.
    """

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        self.rows = rows

    @classmethod
    def of(cls, dictionaries: Iterable[dict[str, Any]]) -> RowInfos:
        """Return the infos of dictionaries that environments may change later."""
        return cls([_snapshot(info) for info in dictionaries])

    def with_rows(self, where: np.ndarray, other: Infos) -> RowInfos:
        """Return these with those of some rows replaced."""
        rows = self.as_dictionaries()
        rows[where] = other.as_dictionaries()
        return RowInfos(rows.tolist())

    def with_key(self, key: str, values: np.ndarray) -> RowInfos:
        """Return these with a further number in each row."""
        return RowInfos([{**info, key: value} for info, value in zip(self.rows, values, strict=True)])

    def __getitem__(self, rows: np.ndarray) -> RowInfos:
        """Return those of some rows."""
        return RowInfos(self.as_dictionaries()[rows].tolist())

    def as_dictionaries(self) -> np.ndarray:
        """Return the dictionaries in an array of objects."""
        return _objects(self.rows)

    def as_batch(self) -> Batch:
        """Return them by key; empty where no environment says anything."""
        return _stacked(list(self.rows))


class ColumnInfos:
    """One dictionary of arrays, nested or not, each of ``R`` rows.

    :param columns: the arrays, which nobody changes later.
    :param count: :math:`R`.
    """

    def __init__(self, columns: dict[str, Any], count: int) -> None:
        self.columns, self.count = columns, count

    def with_rows(self, where: np.ndarray, other: Infos) -> Infos:
        """Return these with those of some rows replaced."""
        if isinstance(other, ColumnInfos) and _same_keys(self.columns, other.columns):

            def replaced(mine: np.ndarray, its: np.ndarray) -> np.ndarray:
                mine = mine.copy()
                mine[where] = its
                return mine

            return ColumnInfos(_by_column(replaced, self.columns, other.columns), self.count)
        return RowInfos(self.as_dictionaries().tolist()).with_rows(where, other)

    def with_key(self, key: str, values: np.ndarray) -> ColumnInfos:
        """Return these with a further number in each row."""
        return ColumnInfos({**self.columns, key: values}, self.count)

    def __getitem__(self, rows: np.ndarray) -> ColumnInfos:
        """Return those of some rows."""
        return ColumnInfos(_by_column(lambda column: column[rows], self.columns), len(np.arange(self.count)[rows]))

    def as_dictionaries(self) -> np.ndarray:
        """Return one dictionary for each row."""
        return _objects([_by_column(lambda column, i=i: column[i], self.columns) for i in range(self.count)])

    def as_batch(self) -> Batch:
        """Return the arrays as a batch."""
        return _batch_of(self.columns)


def infos_of(value: Any, count: int) -> Infos:
    """Return the infos in what a vector of ``count`` rows returned: an array of dictionaries, or one of arrays."""
    if isinstance(value, dict):
        return ColumnInfos(_by_column(np.array, value), count)
    return RowInfos.of(value)


def joined_infos(steps: Sequence[Infos]) -> Batch:
    """Return the infos of several steps, one after another, as a buffer takes them."""
    return concatenated_infos(steps).as_batch()


def concatenated_infos(parts: Sequence[Infos]) -> Infos:
    """Return the infos of several groups of environments, or of several steps, one after another."""
    if len(parts) == 1:
        return parts[0]
    columns = [part.columns for part in parts if isinstance(part, ColumnInfos)]
    if len(columns) == len(parts) and all(_same_keys(columns[0], other) for other in columns[1:]):
        count = sum(part.count for part in parts if isinstance(part, ColumnInfos))
        return ColumnInfos(_by_column(lambda *arrays: np.concatenate(arrays), *columns), count)
    return RowInfos(
        [info for part in parts for info in (part.rows if isinstance(part, RowInfos) else part.as_dictionaries())]
    )


def _objects(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


def _snapshot(info: dict[str, Any]) -> dict[str, Any]:
    """Return a copy that the environment cannot change."""
    if _FIXED.issuperset(map(type, info.values())):
        return info.copy()
    return {key: copy.deepcopy(value) if isinstance(value, _CHANGEABLE) else value for key, value in info.items()}


_FIXED = frozenset({bool, int, float, str, type(None), np.bool_, np.int64, np.float32, np.float64})
_CHANGEABLE = (np.ndarray, dict, list, set)


def _stacked(rows: list[dict[str, Any]]) -> Batch:
    """Return dictionaries by key as Tianshou's ``Batch`` does: what a row lacks is zero there."""
    first = next((row for row in rows if row), None)
    if first is None:
        return Batch()
    columns = _simple_columns(rows, first)
    return _stacked_by_tianshou(rows, first) if columns is None else _batch_of(columns)


def _simple_columns(rows: list[dict[str, Any]], first: dict[str, Any]) -> dict[str, Any] | None:
    """Return dictionaries by key where all have the same keys, and numbers of one kind each; else None."""
    if set(map(len, rows)) != {len(first)}:
        return None
    columns: dict[str, Any] = {}
    for key in first:
        try:
            values = list(map(itemgetter(key), rows))
        except KeyError:
            return None
        kinds = set(map(type, values))
        if len(kinds) > 1 or not issubclass(kinds.pop(), _SIMPLE):
            return None
        columns[key] = np.array(values)
    return columns


_SIMPLE = (bool, int, float, np.bool_, np.number)


def _stacked_by_tianshou(rows: list[dict[str, Any]], first: dict[str, Any]) -> Batch:
    array = _objects(rows)
    empty = np.array([not row for row in rows])
    if empty.any():
        array[empty] = first  # Batch drops rows without keys, so they get keys first and zeros then
    batch: Batch = Batch(info=array).info
    if empty.any():
        batch[empty] = {}
    return batch


def _by_column(function: Callable[..., Any], columns: Mapping[str, Any], *others: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a function makes of each array, in the same nested dictionaries."""
    return {
        key: _by_column(function, value, *(other[key] for other in others))
        if isinstance(value, Mapping)
        else function(value, *(other[key] for other in others))
        for key, value in columns.items()
    }


def _same_keys(left: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return left.keys() == right.keys() and all(
        _same_keys(value, right[key]) if isinstance(value, Mapping) else not isinstance(right[key], Mapping)
        for key, value in left.items()
    )


def _batch_of(columns: Mapping[str, Any]) -> Batch:
    batch = Batch()
    for key, value in columns.items():
        batch.__dict__[key] = _batch_of(value) if isinstance(value, Mapping) else value
    return batch
