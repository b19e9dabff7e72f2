"""What other distributions add to snnc's tables: passes, targets and presets, found by their entry points.

A distribution names what it brings in its metadata::

    [project.entry-points."snnc.passes"]
    prune = "prune_for_snnc:Prune"

Nothing is looked up before all names are asked for, or one that snnc itself does not have, and nothing is
imported before it is used. What is broken is told in one line, and what snnc itself brings is never replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from snnc.errors import SnncError, UsageError

_log = logging.getLogger("snnc")

T = TypeVar("T")
Load = Callable[[], object]


class Plugged(Mapping[str, T]):
    """The members that snnc brings, in their order, and behind them those of other distributions."""

    def __init__(self, group: str, own: Mapping[str, T], adopt: Callable[[str, Load], T]) -> None:
        """Make a table.

        Args:
            group: of the entry points, such as ``snnc.passes``.
            own: what snnc brings.
            adopt: makes a member of a name and of what imports the object behind it, which raises a
                :class:`UsageError` where that does not work.
        """
        self._group, self._own, self._adopt = group, own, adopt
        self._found: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> T:
        if name in self._own:
            return self._own[name]
        return self._adopt(name, _loading(self._group, self._others()[name]))

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._others()

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        yield from self._others()

    def __len__(self) -> int:
        return len(self._own) + len(self._others())

    def is_own(self, name: str) -> bool:
        """Whether snnc itself brings a member."""
        return name in self._own

    def _others(self) -> dict[str, EntryPoint]:
        """Return the entry points of other distributions; warn, once, of those that cannot be used."""
        if self._found is None:
            self._found = {}
            for point in _entry_points(self._group):
                taken = "snnc itself" if point.name in self._own else _origin(self._found.get(point.name))
                if taken:
                    warn(f"{self._group}: {point.name!r} of {_origin(point)} is ignored: {taken} provides it")
                else:
                    self._found[point.name] = point
        return self._found


def warn(message: str) -> None:
    """Warn of a member that cannot be used, without stopping anything."""
    _log.warning("warning: %s", message)


def broken(group: str, name: str, reason: object) -> UsageError:
    """Return the error for a member that was asked for and cannot be used."""
    first = str(reason).strip().partition("\n")[0]
    return UsageError(
        f"{name!r} of the entry points {group} cannot be used: {first}; update or remove the package that "
        "brings it"
    )


def _entry_points(group: str) -> list[EntryPoint]:
    try:
        return sorted(entry_points(group=group), key=lambda point: (point.name, _origin(point)))
    except Exception as error:  # noqa: BLE001 - damaged metadata of any package on the path
        warn(f"the entry points {group} cannot be read: {type(error).__name__}: {error}")
        return []


def _loading(group: str, point: EntryPoint) -> Load:
    def load() -> object:
        try:
            return point.load()
        except SnncError as error:
            raise broken(group, point.name, error) from error
        except (Exception, SystemExit) as error:
            raise broken(group, point.name, f"{type(error).__name__}: {error}") from error

    return load


def _origin(point: EntryPoint | None) -> str:
    """Return the distribution that brings an entry point."""
    if point is None:
        return ""
    return point.dist.name if point.dist is not None else point.value
