"""What benchmarks keep of an earlier run."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield importlib.import_module("speed")
    for name in ("speed", "published"):
        sys.modules.pop(name, None)


def test_rows_of_this_machine_are_gone_on_from(speed, tmp_path):
    path = tmp_path / "speed.json"
    assert speed.read_output(path, {"forward": []}) == {"forward": [], "machine": speed.describe_machine()}
    path.write_text(json.dumps({"machine": speed.describe_machine(), "forward": [1]}))
    assert speed.read_output(path, {"forward": []})["forward"] == [1]


def test_rows_of_another_machine_are_refused_and_kept(speed, tmp_path, monkeypatch):
    path = tmp_path / "speed.json"
    other = {**speed.describe_machine(), "processor": "an abacus", "torch": "1.0"}
    path.write_text(json.dumps({"machine": other, "forward": [], "stages": []}))
    before = path.read_text()
    monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(path)])
    with pytest.raises(
        SystemExit, match=r"measured elsewhere \(processor an abacus there, .* here; torch 1\.0 there, .*--output"
    ):
        speed.main()
    assert path.read_text() == before


def test_a_photograph_that_is_given_is_measured(speed, tmp_path, monkeypatch, capsys):
    path = tmp_path / "speed.json"
    row = {"people": 1, "size": [480, 640], "ms": {"crop": 1.0}}
    path.write_text(json.dumps({"machine": speed.describe_machine(), "forward": [], "stages": [row]}))
    monkeypatch.setattr(speed, "ARCHITECTURES", [])
    monkeypatch.setattr(speed, "measure_stages", lambda options: [{**row, "ms": {"crop": 2.0}}])
    for arguments, milliseconds in (([], 1.0), (["--photograph", "photo.jpg"], 2.0)):
        monkeypatch.setattr(sys, "argv", ["speed.py", "--output", str(path), *arguments])
        speed.main()
        assert json.loads(path.read_text())["stages"][0]["ms"] == {"crop": milliseconds}
