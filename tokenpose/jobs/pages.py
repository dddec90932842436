"""Attention pages: from photographs and models to one HTML file."""

from collections.abc import Sequence
from pathlib import Path

from tokenpose.attention.page import Person, look_inside, write_page
from tokenpose.files import make_folder
from tokenpose.models.tokenpose import TokenPose


def write_attention(
    people: Sequence[Person],
    models: Sequence[tuple[str, TokenPose]],
    page: Path,
    *,
    maps: Path | None = None,
    decoder: str = "dark",
) -> None:
    """Write a page with a panel for each person and model. ``models`` are (name, model).

    ``maps``: a folder for the `AttentionMaps` of each panel, PHOTO.1.npz for panel 1.
    """
    for folder in filter(None, (page.parent, maps)):
        make_folder(folder)
    panels = look_inside(people, models, decoder)
    write_page(panels, page)
    if maps is not None:
        stems = [person.path.stem for person in people for _ in models]
        for number, (stem, panel) in enumerate(zip(stems, panels, strict=True), 1):
            panel.maps.save(maps / f"{stem}.{number}.npz")
