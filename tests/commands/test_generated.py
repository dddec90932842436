import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from tokenpose.cli import app
from tokenpose.commands.generated import with_settings
from tokenpose.commands.training import train_command
from tokenpose.data.settings import Augmentation, check_settings, declarations, setting
from tokenpose.evaluation.settings import EvaluationSettings
from tokenpose.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    rounds: int = setting(3, help="Number of rounds.", panel="Run", at_least=1)
    rate: float = setting(0.5, help="The rate.", panel="Run", above=0, at_most=1)
    mood: Literal["calm", "wild"] = setting("calm", help="The mood.", panel="Run")
    secret: Path | None = setting(None, help="A file.", panel="Run")
    steps: tuple[int, ...] = setting((2, 4), help="The steps.", panel="Run", at_least=1)
    names: tuple[str, ...] | None = setting(None, help="A name.", panel="Run", repeat="--name")
    loud: bool = setting(True, help="Shout.", panel="Run")
    unseen: int = 7

    def __post_init__(self) -> None:
        check_settings(self)


def command_of(kind: type) -> tuple[typer.Typer, list[dict[str, Any]]]:
    """An app with one command, made of settings, and a list of what it was called with."""
    calls: list[dict[str, Any]] = []

    def command(place: Annotated[str, typer.Option("--place")] = "here", *, settings: dict[str, Any]) -> None:
        """Do it."""
        calls.append({"place": place, **settings})

    own = typer.Typer(add_completion=False, rich_markup_mode=None)
    own.command()(with_settings(kind, panels={"Data": ["place"], "Run": []})(command))
    return own, calls


def call(*arguments: str, kind: type = Settings) -> dict[str, Any]:
    own, calls = command_of(kind)
    result = CliRunner().invoke(own, arguments)
    assert result.exit_code == 0, result.output
    return calls[0]


def test_command_gets_what_was_given_and_nothing_else():
    assert call() == {"place": "here"}
    assert call("--place", "there", "--rounds", "3") == {"place": "there", "rounds": 3}


def test_values_have_the_types_of_the_fields():
    given = call(
        *("--rate", "1", "--mood", "wild", "--secret", "a.txt", "--steps", "1, 2,3", "--name", "a", "--name", "b"),
        "--no-loud",
    )
    assert given == {
        "place": "here", "rate": 1.0, "mood": "wild", "secret": Path("a.txt"), "steps": (1, 2, 3), "names": ("a", "b"),
        "loud": False,
    }  # fmt: skip
    assert type(given["mood"]) is str
    assert Settings(**{name: value for name, value in given.items() if name != "place"}).steps == (1, 2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "4;5"), "expected numbers, 4,5,6 for example; got '4;5'"),
        (("--mood", "sad"), "'sad' is not one of 'calm', 'wild'"),
        (("--rounds", "many"), "Invalid value for '--rounds'"),
        (("--unseen", "3"), "No such option"),
    ],
)
def test_wrong_values_are_wrong_usage(arguments, message):
    result = CliRunner().invoke(command_of(Settings)[0], arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


def test_help_has_the_defaults_and_no_undeclared_field():
    text = " ".join(CliRunner().invoke(command_of(Settings)[0], ["--help"]).output.split())
    for part in ("Number of rounds. [default: 3]", "[default: calm]", "[default: 2,4]", "[default: loud]", "A file."):
        assert part in text
    assert "unseen" not in text


def test_new_field_is_checked_and_on_the_command_line_from_its_declaration_alone():
    names = [(entry.name, entry.type, entry) for entry in dataclasses.fields(Settings)]
    new = ("patience", int, setting(10, help="Epochs without a gain until the end.", panel="Run", at_least=1))
    longer = dataclasses.make_dataclass(
        "Longer",
        [*((name, kind, setting_again(entry)) for name, kind, entry in names), new],
        frozen=True, kw_only=True, namespace={"__post_init__": check_settings},
    )  # fmt: skip
    assert call("--patience", "2", kind=longer) == {"place": "here", "patience": 2}
    assert "Epochs without a gain" in CliRunner().invoke(command_of(longer)[0], ["--help"]).output
    with pytest.raises(ValueError, match="patience must be at least 1; got 0"):
        longer(patience=0)


def setting_again(entry: dataclasses.Field[Any]) -> Any:
    return dataclasses.field(default=entry.default, metadata=entry.metadata)


@pytest.mark.parametrize("kind", [TrainingSettings, Augmentation, EvaluationSettings])
def test_every_field_is_declared_with_help(kind):
    assert {entry.name for entry in dataclasses.fields(kind)} - {"augmentation"} == declarations(kind).keys()
    for declaration in declarations(kind).values():
        assert declaration.help[0].isupper() or declaration.help[0] == '"'
        assert declaration.help.endswith(".")


@pytest.mark.parametrize(
    ("command", "kinds"), [("train", (TrainingSettings, Augmentation)), ("evaluate", (EvaluationSettings,))]
)
def test_every_setting_is_an_option_with_its_help(command, kinds):
    text = "".join(CliRunner().invoke(app, [command, "--help"]).output.split())  # lines are broken, at hyphens too
    for kind in kinds:
        for name, declaration in declarations(kind).items():
            assert (declaration.repeat or f"--{name.replace('_', '-')}") in text
            assert "".join(declaration.help.split()) in text


def test_options_of_train_are_in_groups():
    panels = [
        parameter.annotation.__metadata__[0].rich_help_panel
        for name, parameter in inspect.signature(train_command).parameters.items()
        if name != "context"
    ]
    assert list(dict.fromkeys(panels)) == ["Data", "Model", "Optimization", "Augmentation", "Run"]
    assert panels == sorted(panels, key=["Data", "Model", "Optimization", "Augmentation", "Run"].index)
