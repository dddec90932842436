import os
import signal
import sys
import threading

import pytest

from tokenpose.training.interruptions import Interruptions


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
)
def test_signal_raises_at_once_outside_and_at_the_end_of_what_is_held(number, error):
    with pytest.raises(error), Interruptions():
        send(number)
    done = []

    def step(interruptions: Interruptions) -> None:
        with interruptions.held():
            send(number)
            done.append("the step")
        done.append("never")

    with Interruptions() as interruptions:
        with pytest.raises(error):
            step(interruptions)
        done.append("after")
    assert done == ["the step", "after"]


def test_sigterm_has_the_exit_code_of_a_terminated_process():
    with pytest.raises(SystemExit) as raised, Interruptions():
        send(signal.SIGTERM)
    assert raised.value.code == 143


def test_sighup_has_the_exit_code_of_a_closed_terminal_unless_it_is_ignored():
    with pytest.raises(SystemExit) as raised, Interruptions():
        send(signal.SIGHUP)
    assert raised.value.code == 129
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with Interruptions() as interruptions:
            send(signal.SIGHUP)
            assert interruptions.pending is None
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_error_of_what_is_held_is_not_hidden_by_the_signal():
    def fail() -> None:
        with Interruptions() as interruptions, interruptions.held():
            send(signal.SIGINT)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()


def test_patient_ones_wait_until_they_are_asked():
    with Interruptions(patient=True) as interruptions:
        with interruptions.held():
            send(signal.SIGINT)
        assert interruptions.pending == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            interruptions.raise_pending()
        interruptions.raise_pending()  # once is enough


def test_handlers_are_put_back_and_other_threads_leave_them_alone():
    before = signal.getsignal(signal.SIGTERM)
    with Interruptions():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before

    def elsewhere() -> None:
        with Interruptions(), Interruptions().held():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before]


def test_signal_that_python_swallowed_is_raised_by_the_next_step():
    class Destroyed:
        def __del__(self) -> None:
            send(signal.SIGINT)  # what is raised here Python ignores

    done = []

    def run() -> None:
        with Interruptions() as interruptions:
            Destroyed()
            done.append("went on")
            with interruptions.held():
                done.append("never")

    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
    finally:
        sys.unraisablehook = hook
    assert done == ["went on"]
