"""JSON files as streams: the records of their lists one by one, in little memory however long the file."""

import json
import re
from collections.abc import Collection, Iterator
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NoReturn

from tokenpose.files import check_encoding

_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode
_REACH = 16  # an error this near the end of what was read so far may be due to the end: "tru", "1.", "\u12"


class JsonRecords:
    """A JSON object of lists, or one list, read record by record; a context manager.

    ``without``: a member of records that isn't needed. Lists of numbers in it, such as polygons, are not parsed but
    replaced by 0, which halves the time. ``chunk``: the least number of characters to read at a time.
    Raises ValueError that says where in the file it isn't JSON.
    """

    def __init__(self, path: Path, *, without: str | None = None, chunk: int = 1 << 22) -> None:
        self.path, self._chunk = path, chunk
        self._text, self._at, self._place = "", 0, "the file"
        self._unneeded = None if without is None else _numbers_of(without)
        self._instead = f'"{without}":0'
        self.members: set[str] = set()
        """The names in the object, as far as its sections were read."""
        opened = path.open("rb")
        self._start = opened.peek(4)[:4]
        self._opened = TextIOWrapper(opened, encoding="utf-8-sig", newline="")

    def __enter__(self) -> "JsonRecords":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    @property
    def kind(self) -> Literal["object", "list"]:
        """What the file holds; ask before its records are read."""
        first = self._peek(at_end="is empty")
        if first not in "{[":
            raise ValueError(f"{self.path} holds neither a JSON object nor a list, but {self._excerpt()}")
        return "object" if first == "{" else "list"

    def sections(self, names: Collection[str]) -> Iterator[tuple[str, Iterator[Any]]]:
        """The object's lists of these names, in the file's order, with their records; other members are skipped.

        Raises ValueError if one of these members is not a list.
        """
        self._place = "the object"
        known = self.members = set()
        more = self._opens("{", "}")
        while more:
            name = self._name(known)
            known.add(name)
            is_list = self._peek() == "["
            if name in names and not is_list:
                raise ValueError(f"{self.path}: {name} must be a list of records; it is {self._value()!r:.60}")
            records = self.records(name) if is_list else iter((self._value(),))
            if name in names:
                yield name, records
            for _ in records:  # those that the caller left
                pass
            self._place = "the object"
            more = self._goes_on("}", f"after {name}")
        self._finish()

    def records(self, name: str | None = None) -> Iterator[Any]:
        """The records of a list: of the whole file, or of the section that comes next."""
        index, (before, behind) = 0, ("record ", "") if name is None else (f"{name}[", "]")
        self._place = f"{before}{index}{behind}"
        more = self._opens("[", "]")
        while more:
            yield self._value()
            more = self._goes_on("]", f"after {self._place}")
            index += 1
            self._place = f"{before}{index}{behind}"
        if name is None:
            self._finish()

    def _name(self, known: Collection[str]) -> str:
        if self._peek() != '"':
            self._refuse(f"a name in quotes expected in the object, before {self._excerpt()}")
        name: str = self._value()
        if name in known:
            self._refuse(f"it has {name} twice")
        if self._peek() != ":":
            self._refuse(f"':' expected after the name {name}, before {self._excerpt()}")
        self._at += 1
        self._place = name
        return name

    def _opens(self, opening: str, closing: str) -> bool:
        """Step into a list or object; whether it has content."""
        self._peek()
        self._at += len(opening)
        empty = self._peek() == closing
        self._at += empty
        return not empty

    def _goes_on(self, closing: str, where: str) -> bool:
        """Step over the comma or out of the list or object; whether it was a comma."""
        found = self._peek()
        if found not in (",", closing):
            self._refuse(f"',' or '{closing}' expected {where}, before {self._excerpt()}")
        self._at += 1
        return found == ","

    def _finish(self) -> None:
        if self._peek(at_end=""):
            self._refuse(f"there is more after its end, before {self._excerpt()}")

    def _peek(self, at_end: str | None = None) -> str:
        """Skip spaces and give the next character; at the end "", or an error that says so."""
        while True:
            following = self._text[self._at : self._at + 1]
            if following > " ":
                return following
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._read():
                if at_end == "":
                    return ""
                self._refuse(f"it {at_end or f'ends in the middle of {self._place}'}")

    def _value(self) -> Any:
        """Read the next value completely."""
        self._peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                self._read_on(error)
                continue
            except RecursionError:
                self._refuse(f"{self._place} is nested too deeply")
            except ValueError as error:  # Python's limit of digits
                self._refuse(f"{self._place}: {error}")
            if isinstance(value, int | float) and end > len(self._text) - _REACH and self._read():
                continue  # "1" may go on ".5e3"
            self._at = end
            return value

    def _read_on(self, error: json.JSONDecodeError) -> None:
        """Read more if the error may come from the end of what was read so far; else raise it."""
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text.rstrip())
        near_the_end = cut or error.pos > len(self._text) - _REACH
        if near_the_end and self._read():
            return
        if cut:
            self._refuse(f"it ends in the middle of {self._place}")
        self._refuse(f"{error.msg} in {self._place}, before {self._excerpt(error.pos - self._at)}")

    def _read(self) -> bool:
        """Read more of the file; whether there was more."""
        left = self._text[self._at :]
        try:
            check_encoding(self._start)
            more = self._opened.read(max(self._chunk, len(left)))  # doubling, so that a long value is decoded few times
        except UnicodeDecodeError as error:
            self._refuse(f"{error}; save it as UTF-8")
        except ValueError as error:
            self._refuse(str(error))
        if more:
            self._text, self._at = left + more, 0
        if more and self._unneeded is not None:
            self._text = self._unneeded.sub(self._instead, self._text)
        return bool(more)

    def _excerpt(self, ahead: int = 0) -> str:
        while len(self._text) < self._at + ahead + 20 and self._read():
            pass
        return repr(self._text[self._at + ahead :][:20])

    def _refuse(self, reason: str) -> NoReturn:
        raise ValueError(f"{self.path} is not JSON: {' '.join(reason.split())}")


def _numbers_of(name: str) -> re.Pattern[str]:
    """A pattern for a member of this name whose value is a list of numbers, or of lists of numbers.

    It never matches inside a text: there a backslash comes before each quote, and no letter follows the closing quote.
    """
    numbers = r"[-+.,eE\d \t\n\r]*"
    value = rf"\[{numbers}(?:\[{numbers}\]{numbers})*\]"
    quoted = f'"{re.escape(name)}"'  # first, because it is found fast
    return re.compile(rf"{quoted}(?<!\\{quoted})[ \t\n\r]*:[ \t\n\r]*{value}")
