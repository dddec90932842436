import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.jobs.pages import choose_people, write_attention
from tokenpose.models.create import create_model


def test_page_and_numbers_are_written_into_new_folders(tmp_path):
    torch.manual_seed(0)
    model = create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    boxes = [(5.0, 5.0, 50.0, 50.0), (0.0, 0.0, 80.0, 60.0)]
    people = choose_people([tmp_path / "photo.png"], None, boxes, lambda pixels: [])
    page, maps = tmp_path / "out" / "page.html", tmp_path / "maps"
    write_attention(people, [("first", model)], page, maps=maps)

    _, _, rest = page.read_text("utf-8").partition('<script type="application/json" id="people">')
    titles = [panel["title"] for panel in json.loads(rest.partition("</script>")[0])]
    assert titles == ["photo.png, person 1 of 2, first", "photo.png, person 2 of 2, first"]
    assert sorted(Path(maps).iterdir()) == [maps / "photo.1.npz", maps / "photo.2.npz"]
    expected = attention_maps(model, tmp_path / "photo.png", boxes[1])
    np.testing.assert_allclose(AttentionMaps.load(maps / "photo.2.npz").to_image, expected.to_image, atol=1e-6)


def test_without_a_folder_for_them_no_numbers_are_written(tmp_path):
    model = create_model("tokenpose_t.lsp_256x192", image_size=(64, 48), depth=2, heads=4)
    Image.new("RGB", (80, 60)).save(tmp_path / "photo.png")
    people = choose_people([tmp_path / "photo.png"], None, [(5.0, 5.0, 50.0, 50.0)], lambda pixels: [])
    write_attention(people, [("first", model)], tmp_path / "page.html")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "photo.png"]


def test_file_in_the_way_is_named_before_anything_is_computed(tmp_path):
    (tmp_path / "out").touch()
    for places in (
        {"page": tmp_path / "out" / "page.html"},
        {"page": tmp_path / "page.html", "maps": tmp_path / "out"},
    ):
        with pytest.raises(OSError, match=r"out is a file, where a folder is needed; choose another output$"):
            write_attention([], [], **places)
