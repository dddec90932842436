"""XML files as streams of elements: no document type, so no entities; bounded depth; memory for one element."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

DEEPEST = 64
"""Elements within elements."""
LARGEST = 64 << 20
"""Characters of one of the elements."""
_CHUNK = 1 << 20


def read_elements(path: Path, names: Collection[str]) -> Iterator[Element]:
    """The elements of these names, each complete, in the file's order; what is outside them is skipped.

    Raises FileNotFoundError, and ValueError that names the file where it is not XML, has a document type (which is what
    entities need, and with them a small file can stand for gigabytes) or nests too deeply.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    reader = _Reader(path, names)
    with path.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            reader.feed(chunk)
            yield from reader.take()
        reader.feed(b"", at_end=True)
        yield from reader.take()


def parse_fragment(text: str) -> list[Element]:
    """The outermost elements of a text that may have several. Raises ValueError as `read_elements` does."""
    reader = _Reader(Path("the text"), ("fragment",))
    reader.feed(b"<fragment>" + text.encode() + b"</fragment>", at_end=True)
    return list(reader.take()[0])


class _Reader:
    """Builds the wanted elements from the parser's events."""

    def __init__(self, path: Path, names: Collection[str]) -> None:
        self.path, self.names = path, names
        self._done: list[Element] = []
        self._builder: TreeBuilder | None = None
        self._depth = self._inside = self._length = 0
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._data
        self._parser.StartDoctypeDeclHandler = self._refuse_type

    def feed(self, chunk: bytes, at_end: bool = False) -> None:
        """Read on."""
        try:
            self._parser.Parse(chunk, at_end)
        except expat.ExpatError as error:
            raise ValueError(f"{self.path} is not XML: {error}") from error

    def take(self) -> list[Element]:
        """The elements that are complete by now."""
        done, self._done = self._done, []
        return done

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f"{self.path} has more than {DEEPEST} elements within each other")
        if self._builder is None and name in self.names:
            self._builder, self._length = TreeBuilder(), 0
        if self._builder is not None:
            self._inside += 1
            self._count(len(name) + sum(len(key) + len(value) for key, value in attributes.items()))
            self._builder.start(name, attributes)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._builder is None:
            return
        self._builder.end(name)
        self._inside -= 1
        if not self._inside:
            self._done.append(self._builder.close())
            self._builder = None

    def _data(self, text: str) -> None:
        if self._builder is not None:
            self._count(len(text))
            self._builder.data(text)

    def _count(self, characters: int) -> None:
        self._length += characters
        if self._length > LARGEST:
            raise ValueError(f"{self.path} has an element of more than {LARGEST:,} characters")

    def _refuse_type(self, *_: Any) -> None:
        raise ValueError(f"{self.path} has a document type (<!DOCTYPE ...>), which is not read; remove that line")
