"""Registry: finds parts by name; the error for an unknown name lists the closest."""

from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Generic, TypeVar

from tokenpose.files import shown

Part = TypeVar("Part")


class Registry(Generic[Part]):
    """Parts of one kind by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._parts: dict[str, Part] = {}

    def add(self, name: str, part: Part) -> None:
        """Add a part. Raises ValueError where the name is taken."""
        if name in self._parts:
            raise ValueError(f"a {self.kind} named {shown(name)} is registered already; choose another name")
        self._parts[name] = part

    def register(self, name: str) -> Callable[[Part], Part]:
        """The decorator form of `add`."""

        def keep(part: Part) -> Part:
            self.add(name, part)
            return part

        return keep

    def find(self, name: str) -> Part:
        """The part of that name. Raises LookupError with the closest names where there is none."""
        if name not in self._parts:
            lower = name.lower()
            longer = [part for part in self._parts if name and part.lower().startswith(lower)]
            closest = longer or get_close_matches(lower, self._parts, n=3, cutoff=0.4) or sorted(self._parts)
            raise LookupError(
                f"there is no {self.kind} named {shown(name)}; did you mean {', '.join(closest)}? "
                f"Register your own first (tokenpose.register_{self.kind})"
            )
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)
