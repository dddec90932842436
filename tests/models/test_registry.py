import pytest

from tokenpose.models.registry import Registry


@pytest.fixture
def pets() -> Registry[int]:
    registry: Registry[int] = Registry("pet")
    registry.add("hamster", 1)
    registry.add("goldfish", 2)
    return registry


def test_part_is_found_by_its_name(pets):
    assert pets.find("hamster") == 1
    assert list(pets) == ["hamster", "goldfish"]


def test_decorator_keeps_and_gives_back_the_part(pets):
    @pets.register("parrot")
    def parrot() -> None: ...

    assert pets.find("parrot") is parrot


def test_unknown_name_is_refused_with_the_closest(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'hamstre'; did you mean hamster\?"):
        pets.find("hamstre")


def test_first_letters_are_refused_with_the_names_that_start_so(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'g'; did you mean goldfish\?"):
        pets.find("g")


def test_name_close_to_nothing_is_refused_with_all(pets):
    with pytest.raises(LookupError, match=r"there is no pet named 'x'; did you mean goldfish, hamster\?"):
        pets.find("x")


def test_taken_name_is_refused(pets):
    with pytest.raises(ValueError, match="a pet named 'hamster' is registered already; choose another name"):
        pets.add("hamster", 3)
    assert pets.find("hamster") == 1
