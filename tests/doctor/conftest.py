"""The check on drawn people, whose labels are right, so that a test can plant one fault at a time."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import check_data, check_records, read_files
from tokenpose.doctor.findings import Finding
from tokenpose.doctor.page import write_findings_page

from ..drawing import draw_people
from .planting import PEOPLE, Content
from .sheets import Page


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return draw_people(tmp_path_factory.mktemp("drawn"), PEOPLE)


@pytest.fixture
def content(drawn) -> Content:
    return json.loads(drawn.read_text())


@pytest.fixture
def check(drawn, tmp_path) -> Callable[..., tuple[Finding, ...]]:
    """Findings about a content, saved as people.json; with the drawn images, or those of another folder."""

    def run(content: Content, images: Path | None = None, **options: Any) -> tuple[Finding, ...]:
        path = tmp_path / "people.json"
        path.write_text(json.dumps(content))
        return check_data(path, images or drawn.parent / "images", **options).findings

    return run


@pytest.fixture
def sheet(tmp_path) -> Any:
    """Write the sheet of a changed file of drawn people; gives its page."""
    drawn = draw_people(tmp_path, 30)

    def write(change: Any, with_images: bool = True, **options: Any) -> Page:
        content = json.loads(drawn.read_text())
        change(content)
        drawn.write_text(json.dumps(content))
        source = ImageSource(tmp_path / "images") if with_images else None
        files = read_files([drawn])
        write_findings_page(check_records(files, source), files, source, tmp_path / "suspects.html", **options)
        return Page(tmp_path / "suspects.html")

    return write
