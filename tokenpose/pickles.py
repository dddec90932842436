"""PyTorch files, looked through before PyTorch reads them: what their pickles hold, and that they stay small.

PyTorch's weights_only runs no code from a file, but it makes what a few bytes ask for: bytearray(10**10), for example.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tokenpose.files import LONGEST_VALUE, check_size, foreign, shown

MOST_BYTES = 64_000_000_000
MOST_OPCODES = 2_000_000
"""Of one pickle; a tensor takes about 30. Each makes a few hundred bytes at most."""
MOST_COPIES = 4  # of other containers, as a Counter of a dict
_MOST_ITEMS = 16  # of tuples whose content matters here: arguments
_PICKLES = 5  # that a file before PyTorch 1.6 begins with
_MAGIC = 0x1950A86A20F9469CFC6C  # the first of them

_FUNCTIONS = {
    "collections.OrderedDict", "collections.Counter", "torch.Size", "torch.device", "_codecs.encode",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_meta_tensor_no_storage",
    "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
}  # fmt: skip
_TYPES = re.compile(r"torch\.([A-Z]\w+Storage|[a-z]+\d+(_\w+)?|bool)|torch\.storage\.UntypedStorage")
_OTHER = object()  # a value whose content doesn't matter here


class _Global(NamedTuple):
    """Something that a pickle imports."""

    name: str


@contextmanager
def plain_numpy() -> Iterator[None]:
    """Let torch.load read NumPy's numbers, which training code writes as scores. They become None: nobody needs them.

    For files that `check_pickles` has passed.
    """
    import torch

    with torch.serialization.safe_globals([(_Skipped, name) for name in _FUNCTIONS if name.startswith("numpy.")]):
        yield


class _Skipped:
    """In place of NumPy's functions."""

    def __init__(self, *_: Any) -> None:
        return

    def __setstate__(self, state: Any) -> None:
        return


def check_pickles(path: Path) -> None:
    """Raise ValueError for a file that is not one of PyTorch's, that holds anything but tensors and plain values, or
    that could take much more memory than its size. Nothing in it is run."""
    check_size(path, "a PyTorch file", MOST_BYTES)
    if zipfile.is_zipfile(path):
        _check_zip(path)
        return
    with path.open("rb") as opened:
        is_pickle = opened.read(1) == b"\x80"
        opened.seek(0)
        if not is_pickle or _check_pickle(opened, path) != _MAGIC:
            raise ValueError(f"{path} is not a file that torch.save wrote")
        for _ in range(_PICKLES - 1):
            _check_pickle(opened, path)


def _check_zip(path: Path) -> None:
    with foreign(f"{path} is a broken PyTorch file"), zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError(f"{path} is compressed, unlike the files that PyTorch writes, so it is not read")
    starts, names = [entry.header_offset for entry in entries], [entry.filename for entry in entries]
    if sum(entry.file_size for entry in entries) > path.stat().st_size or len(set(names)) < len(names) or min(starts):
        raise ValueError(f"{path} is not laid out as PyTorch writes files, so it is not read")
    for entry in entries:
        if entry.filename.endswith(".pkl"):
            with foreign(f"{path} is a broken PyTorch file"), zipfile.ZipFile(path) as archive:
                opened = archive.open(entry)
            with opened:
                _check_pickle(opened, path)


def _check_pickle(opened: BinaryIO | Any, path: Path) -> int | None:
    """Check the pickle that comes next; its last number. Follows only what functions are called with."""
    walk = _Walk()
    with foreign(f"{path} is a broken PyTorch file"):
        for operation, argument, _ in islice(pickletools.genops(opened), MOST_OPCODES):
            walk.step(operation, argument)
            if walk.fault:
                break
    if walk.fault:
        raise ValueError(f"{path} {walk.fault}")
    if not walk.is_done:
        raise ValueError(f"{path} has a pickle of more than {MOST_OPCODES:,} instructions, more than weights need")
    return walk.number


class _Walk:
    """The stack of an unpickler that makes nothing."""

    def __init__(self) -> None:
        self.fault, self.is_done = "", False
        self.number: int | None = None
        self.copies = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[Any, Any] = {}

    def step(self, operation: pickletools.OpcodeInfo, argument: Any) -> None:
        """Follow an operation; ``fault`` then says what tensors and plain values don't need."""
        name, popped = operation.name, self._pop(operation)
        if name in ("GLOBAL", "STACK_GLOBAL"):
            found = _name_global(name, argument, popped)
            self._check_global(found)
            self.stack.append(found)
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif "TUPLE" in name:
            self.stack.append(tuple(popped) if len(popped) <= _MOST_ITEMS else _OTHER)
        elif "GET" in name:
            self.stack.append(self.memo[argument])
        elif "PUT" in name or name == "MEMOIZE":
            self.stack += popped
            self.memo[argument if "PUT" in name else len(self.memo)] = self.stack[-1]
        elif "UNICODE" in name and len(argument) <= LONGEST_VALUE:
            self.stack.append(argument)
        else:
            if name in ("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "REDUCE", "EXT1", "EXT2", "EXT4"):
                self._check_call(popped)
            self.stack += [_OTHER] * len(operation.stack_after)
            self.number = argument if name.startswith("LONG") else self.number
            self.is_done = name == "STOP"

    def _pop(self, operation: pickletools.OpcodeInfo) -> list[Any]:
        """Take what the operation takes from the stack."""
        before = operation.stack_before
        if not before:
            return []
        is_marked = pickletools.markobject in before
        below = before.index(pickletools.markobject) if is_marked else len(before)
        split = (self.marks.pop() if is_marked else len(self.stack)) - below
        if split < 0:
            raise ValueError("its stack is empty")
        popped = self.stack[split:]
        del self.stack[split:]
        return popped

    def _check_global(self, found: _Global) -> None:
        if found.name not in _FUNCTIONS and not _TYPES.fullmatch(found.name):
            self.fault = (
                f"is not a PyTorch checkpoint that holds nothing but tensors and plain values: it holds "
                f"{shown(found.name)}; where it was made, save the state dict alone: torch.save(model.state_dict(), "
                '"weights.pth")'
            )

    def _check_call(self, popped: list[Any]) -> None:
        function, arguments = (*popped, None, None)[:2]
        sound = isinstance(function, _Global) and function.name in _FUNCTIONS and isinstance(arguments, tuple)
        if sound and function.name == "_codecs.encode":  # bytes; other encodings would double them again and again
            sound = len(arguments) == 2 and isinstance(arguments[0], str) and arguments[1] == "latin1"
        elif sound and any(entry is _OTHER for entry in arguments) and function.name.startswith(("coll", "torch.S")):
            self.copies += 1
            sound = self.copies <= MOST_COPIES
        if not sound:
            self.fault = "has a pickle that PyTorch wouldn't write for weights, so it is not read"


def _name_global(name: str, argument: Any, popped: list[Any]) -> _Global:
    module, entry = argument.split(" ", 1) if name == "GLOBAL" else (*popped, None, None)[:2]
    return _Global(f"{module}.{entry}".replace("__builtin__.", "builtins."))
