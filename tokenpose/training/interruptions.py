"""Ctrl-C, SIGTERM and a closed terminal during a run: they end it between steps, never within a step."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_HANG_UP: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = (signal.SIGINT, signal.SIGTERM, *(() if _HANG_UP is None else (_HANG_UP,)))


class Interruptions:
    """A context in which SIGINT raises KeyboardInterrupt, and SIGTERM and SIGHUP SystemExit(143) and SystemExit(129);
    within `held` they wait. A SIGHUP that is ignored, as under nohup, stays ignored.

    Python may ignore the exception, in a destructor for example. The signal therefore stays ``pending``, and the next
    `held` raises it again.

    ``patient``: signals always wait until `raise_pending` is called, since several processes have to agree on when to
    stop. A second signal of the same kind has its usual effect. Outside the main thread, which alone gets signals, the
    context does nothing.
    """

    def __init__(self, patient: bool = False) -> None:
        self.patient = patient
        self.pending: int | None = None
        """The signal that is still to be raised."""
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruptions":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number != _HANG_UP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number in list(self._before):
            self._restore(number)
        self.pending = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Delay signals while the block runs, and raise them at its end, unless the block itself fails."""
        if not self.patient:
            self.raise_pending()
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if not self.patient:
            self.raise_pending()

    def raise_pending(self) -> None:
        """Raise the pending signal's exception, once."""
        number, self.pending = self.pending, None
        if number is not None:
            raise _error_of(number)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._restore(number)
        self.pending = number
        if not (self._held or self.patient):
            raise _error_of(number)

    def _restore(self, number: int) -> None:
        if number in self._before:
            signal.signal(number, self._before.pop(number))


def _error_of(number: int) -> BaseException:
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
