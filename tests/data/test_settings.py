from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from tokenpose.data.settings import Augmentation, check_settings, declarations, setting, value_types


@dataclass(frozen=True, kw_only=True)
class Settings:
    count: Any = 0
    rounds: int = setting(3, help="Rounds.", at_least=1, at_most=9)
    rate: float | None = setting(None, help="Rate.", above=0, below=1)
    mood: Literal["calm", "wild"] = setting("calm", help="Mood.")
    only: Literal["this"] = setting("this", help="Only.")
    place: Path = setting(Path("here"), help="Place.")
    steps: tuple[int, ...] = setting((2, 4), help="Steps.", at_least=1)
    names: tuple[str, ...] | None = setting(None, help="Names.")
    moods: tuple[Literal["calm", "wild"], ...] = setting((), help="Moods.")
    loud: bool = setting(False, help="Loud.")

    def __post_init__(self) -> None:
        check_settings(self)


def test_settings_within_their_limits_are_taken():
    settings = Settings(rounds=9, rate=0.5, mood="wild", place=Path("b"), steps=(1,), names=("a",), moods=("calm",))
    assert (settings.rounds, settings.rate, settings.steps) == (9, 0.5, (1,))
    assert Settings(count="anything").rate is None


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"rounds": 0}, "rounds must be at least 1 and at most 9; got 0"),
    ({"rounds": 10}, "rounds must be at least 1 and at most 9; got 10"),
    ({"rate": 0.0}, "rate must be above 0 and below 1; got 0.0"),
    ({"rate": 1.0}, "rate must be above 0 and below 1; got 1.0"),
    ({"rate": float("nan")}, "rate must be a finite number; got nan"),
    ({"rate": True}, "rate must be a finite number; got True"),
    ({"rounds": None}, "rounds must be a whole number; got None"),
    ({"rounds": True}, "rounds must be a whole number; got True"),
    ({"mood": "sad"}, 'mood must be "calm" or "wild"; got \'sad\''),
    ({"only": "that"}, "only must be \"this\"; got 'that'"),
    ({"place": "here"}, "place must be a path; got 'here'"),
    ({"steps": [1]}, "steps must be a list of whole numbers; got [1]"),
    ({"steps": (1, 0)}, "each of steps must be at least 1; got 0"),
    ({"names": (1,)}, "names must be a list of names; got (1,)"),
    ({"moods": ("sad",)}, 'moods must be a list of "calm" or "wild"; got (\'sad\',)'),
    ({"loud": 1}, "loud must be true or false; got 1"),
]


def test_wrong_settings_are_refused_by_field_expectation_and_value(unchecked):
    for changes, message in WRONG:
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
            Settings(**changes)
        assert str(caught.value) == message


def test_whole_numbers_become_floats_where_floats_are_expected(unchecked):
    @dataclass(frozen=True, kw_only=True)
    class Rates:
        rate: float = setting(0.5, help="Rate.")

        def __post_init__(self) -> None:
            check_settings(self)

    assert type(Rates(rate=2).rate) is float


def test_declarations_leave_out_other_fields():
    assert list(declarations(Settings)) == [
        "rounds", "rate", "mood", "only", "place", "steps", "names", "moods", "loud",
    ]  # fmt: skip
    assert declarations(Settings)["rounds"].help == "Rounds."


def test_types_tell_what_may_be_none():
    types = value_types(Settings)
    assert types["rate"] == (float, True)
    assert types["steps"] == (tuple[int, ...], False)
    assert types["names"] == (tuple[str, ...], True)
    assert types["mood"] == (Literal["calm", "wild"], False)


# Augmentation


def test_published_values_are_the_defaults():
    settings = Augmentation()
    assert (settings.scale, settings.rotation, settings.rotation_probability) == (0.35, 45.0, 0.6)
    assert (settings.flip, settings.half_body, settings.color, settings.blur) == (0.5, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 1.0}, r"scale must be at least 0 and below 1; got 1\.0"),
        ({"color": -0.1}, r"color must be at least 0 and below 1; got -0\.1"),
        ({"rotation": 181.0}, "rotation must be at least 0 and at most 180; got 181.0"),
        ({"rotation": -1.0}, "rotation must be at least 0 and at most 180; got -1.0"),
        ({"flip": 1.5}, r"flip must be at least 0 and at most 1; got 1\.5"),
        ({"rotation_probability": -0.5}, r"rotation_probability must be at least 0 and at most 1; got -0\.5"),
        ({"half_body": 1.1}, r"half_body must be at least 0 and at most 1; got 1\.1"),
        ({"blur": -1.0}, r"blur must be at least 0 and at most 1; got -1\.0"),
        ({"scale": float("nan")}, "scale must be a finite number; got nan"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)
