"""The attention page: what lies in the file, and what a real browser makes of it."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tokenpose.attention.computation import attention_maps
from tokenpose.attention.maps import AttentionMaps
from tokenpose.attention.page import Panel, write_attention_page
from tokenpose.images import read_image
from tokenpose.jobs.pages import choose_people
from tokenpose.models.create import create_model
from tokenpose.models.tokenpose import TokenPose
from tokenpose.skeletons import Skeleton

HEIGHT, WIDTH = 240, 200
BOX = [30.0, 20.0, 150.0, 220.0]
HOSTILE = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"quoted\" & 'so'",
    "Kopf ⊕ 頭 \u2028",
]
CHOICES = ["mean", "max", "rollout"]  # then head by head

CHROMIUM = shutil.which("chromium")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run",
         "--disable-component-update", "--disable-sync")  # fmt: skip


def make(name: str = "tokenpose_t.lsp_256x192", **changes: Any) -> TokenPose:
    """A small model from random weights whose outputs are far from constant."""
    torch.manual_seed(0)
    model = create_model(name, **{"image_size": (64, 48), "depth": 4, "heads": 4, "head_hidden": 24, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def look(model: TokenPose, title: str = "photo.jpg, model") -> Panel:
    """A panel of a noise photograph whose keypoints are moved to places that a pointer tells apart."""
    pixels = noise(HEIGHT, WIDTH)
    maps = attention_maps(model, pixels, BOX)
    index = np.arange(len(maps.names))
    places = np.stack((20 + 40 * (index % 5), 30 + 50 * (index // 5)), axis=-1).astype(np.float32)
    pose = replace(maps.pose, keypoints=places[None])
    return Panel(image=pixels, maps=replace(maps, pose=pose), title=title)


@pytest.fixture(scope="module")
def panel() -> Panel:
    return look(make())


@pytest.fixture(scope="module")
def maps(panel) -> AttentionMaps:
    return panel.maps


def read_people(path: Path) -> list[dict]:
    content = re.findall(r'<script type="application/json" id="people">(.*?)</script>', path.read_text("utf-8"))
    assert len(content) == 1
    return json.loads(content[0])


def unpack(part: dict) -> tuple[np.ndarray, np.ndarray]:
    """The numbers, and the step of each."""
    shape = part["shape"]
    low, step = (np.array(part[name]) for name in ("low", "step"))
    blocks = np.frombuffer(base64.b64decode(part["bytes"]), dtype=np.uint8).reshape(len(low), -1)
    values = low[:, None] + step[:, None] * blocks
    return values.reshape(shape), np.broadcast_to(step[:, None], blocks.shape).reshape(shape)


# The file


def test_file_holds_the_maps_within_half_a_step(panel, maps, tmp_path):
    write_attention_page([panel], tmp_path / "page.html")
    (person,) = read_people(tmp_path / "page.html")
    heads = [*CHOICES, *range(4)]
    for part, name in (("toImage", "to_image"), ("toKeypoints", "to_keypoints")):
        values, step = unpack(person[part])
        exact = np.concatenate([getattr(maps.reduce(choice), name) for choice in heads], axis=1)
        if name == "to_keypoints":
            assert values.shape == (4, 7, 14, 14)
        kept = [index for index, choice in enumerate(heads) if choice != "max"]  # whose rows don't sum to 1 in Python
        assert (np.abs(values - exact)[:, kept] <= 0.501 * step[:, kept] + 1e-6).all()
        assert step.max() <= 1 / 255
    values, step = unpack(person["heatmaps"])
    assert (np.abs(values - maps.heatmaps) <= 0.501 * step + 1e-6).all()
    np.testing.assert_allclose(person["points"], maps.pose.keypoints[0], rtol=1e-6)


def test_shares_of_maxima_sum_to_1_as_in_the_evidence(panel, maps, tmp_path):
    write_attention_page([panel], tmp_path / "page.html")
    (person,) = read_people(tmp_path / "page.html")
    largest = maps.reduce("max")
    totals = largest.to_image.sum(axis=(-2, -1)) + largest.to_keypoints.sum(axis=-1)
    shares = largest.to_image.sum(axis=(-2, -1)) / totals
    np.testing.assert_allclose(np.array(person["imageShares"])[:, 1], shares[:, 0], atol=1e-6)


def test_sentences_are_those_of_python(panel, maps, tmp_path):
    write_attention_page([panel], tmp_path / "page.html")
    (person,) = read_people(tmp_path / "page.html")
    for layer, choice, heads in ((0, 0, "mean"), (3, 2, "rollout"), (1, 5, 2)):
        assert person["evidence"][layer][choice] == [maps.evidence(name, layer, heads) for name in maps.names]


def test_crop_lies_where_a_canvas_draws_it(panel, maps, tmp_path):
    write_attention_page([panel], tmp_path / "page.html")
    a, b, c, d, e, f = read_people(tmp_path / "page.html")[0]["cropToImage"]
    corner = maps.matrix @ [e - 0.5, f - 0.5, 1]  # the canvas's (0, 0) is the corner of the first pixel
    np.testing.assert_allclose(corner, [-0.5, -0.5], atol=1e-4)
    far = maps.matrix @ [48 * a + 64 * c + e - 0.5, 48 * b + 64 * d + f - 0.5, 1]
    np.testing.assert_allclose(far, [47.5, 63.5], atol=1e-4)


def test_page_asks_for_nothing_from_outside(panel, tmp_path):
    write_attention_page([panel], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    without_data = re.sub(r'<script type="application/json".*?</script>', "", text, flags=re.DOTALL)
    assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttp|WebSocket|import\(", without_data)
    assert re.findall(r'(?:src|href)="([^"]*)"', without_data) == ["data:,"]
    assert "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; style-src 'sha256-" in text
    assert not re.search(r"@(title|policy|people)@", text)
    assert "unsafe" not in text


def test_one_person_at_s_stays_under_5_megabytes(tmp_path):
    torch.manual_seed(0)
    pixels = noise(960, 1280)
    maps = attention_maps(create_model("tokenpose_s_v1.coco_256x192"), pixels, [300, 100, 900, 900])
    write_attention_page([Panel(image=pixels, maps=maps, title="noise, which JPEG hates")], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
    (person,) = read_people(tmp_path / "page.html")
    photograph = read_image_of(person["photograph"], tmp_path)
    assert photograph.shape == (3, 750, 1000)
    assert person["size"] == [1280, 960]


def read_image_of(address: str, folder: Path) -> torch.Tensor:
    (folder / "photograph.jpg").write_bytes(base64.b64decode(address.removeprefix("data:image/jpeg;base64,")))
    return read_image(folder / "photograph.jpg")


def hostile_panel() -> Panel:
    skeleton = Skeleton(name="hostile", keypoints=tuple(HOSTILE), limbs=((0, 1),))
    return look(make(keypoints=skeleton), title="</title><script>alert(3)</script>@people@ \udc80.jpg")


def test_hostile_names_are_data_and_never_markup(tmp_path):
    write_attention_page([hostile_panel()], tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert text.count("</title>") == 1
    assert "<img" not in text
    assert "&lt;/title&gt;&lt;script&gt;alert(3)&lt;/script&gt;@people@ ?.jpg" in text
    (person,) = read_people(tmp_path / "page.html")
    assert person["names"] == HOSTILE


def test_some_keypoints_of_a_skeleton_make_a_page(panel, maps, tmp_path):
    write_attention_page([replace(panel, maps=maps.select(["neck", "left_hip"]))], tmp_path / "page.html")
    (person,) = read_people(tmp_path / "page.html")
    assert person["names"] == ["neck", "left_hip"]
    assert person["toKeypoints"]["shape"] == [4, 7, 2, 14]


def test_wrong_panels_are_refused(panel, tmp_path):
    for count in (0, 5):
        with pytest.raises(ValueError, match=f"a page shows 1 to 4 people side by side; got {count}"):
            write_attention_page([panel] * count, tmp_path / "page.html")
    with pytest.raises(
        ValueError, match=r"photo.jpg, model: the image is \(8, 6\), the maps belong to an image of \(240, 200\)"
    ):
        write_attention_page([replace(panel, image=noise(8, 6))], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_people_are_numbered_where_there_are_several(tmp_path):
    from PIL import Image

    for name in ("a.png", "b.png"):
        Image.fromarray(noise(60, 80)).save(tmp_path / name)
    (tmp_path / "boxes.json").write_text(
        json.dumps({"a.png": [[5, 5, 40, 50], [0, 0, 80, 60]], "b.png": [[1, 1, 9, 9]]})
    )
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    people = choose_people(paths, tmp_path / "boxes.json", [], find_boxes=lambda pixels: pytest.fail("boxes are known"))
    assert [person.title for person in people] == ["a.png, person 1 of 2", "a.png, person 2 of 2", "b.png"]
    assert people[1].box.tolist() == [0, 0, 80, 60]


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield browser
        browser.close()


class Opened:
    """A page in the browser, and all that it said and asked for."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_function("document.querySelectorAll('.evidence:not(:empty)').length > 0")

    def text(self, selector: str, panel: int = 0) -> str:
        return self.page.locator(".panel").nth(panel).locator(selector).first.inner_text()

    def shares(self, panel: int = 0) -> dict[str, float]:
        rows = self.page.locator(".panel").nth(panel).locator("tbody tr").all()
        return {row.locator("th").inner_text(): percent(row.locator(".value").inner_text()) for row in rows}

    def set_range(self, label: str, value: int) -> None:
        self.page.locator(f"#{label}").fill(str(value))

    def click_keypoint(self, maps: AttentionMaps, name: str) -> None:
        canvas = self.page.locator(".photograph").first
        area = canvas.bounding_box()
        x, y = (maps.pose.keypoints[0, maps.skeleton.index(name)] + 0.5) * area["width"] / maps.image_size[1]
        canvas.click(position={"x": float(x), "y": float(y)})

    def cell(self, maps: AttentionMaps, row: str, column: str) -> dict[str, float]:
        """Where a cell lies on the matrix's canvas, as the page's matrixLayout says."""
        label, cell = self.page.evaluate("(({ label, cell }) => [label, cell])(matrixLayout(people[0]))")
        across, down = maps.skeleton.index(column), maps.names.index(row)
        return {"x": label + (across + 0.5) * cell, "y": label + (down + 0.5) * cell}


def percent(text: str) -> float:
    return float(text.removesuffix(" %")) / 100


@pytest.fixture
def opened(browser, panel, tmp_path) -> Iterator[Opened]:
    with open_page(browser, [panel], tmp_path) as opened:
        yield opened


@contextmanager
def open_page(browser: Any, panels: list[Panel], folder: Path, **options: Any) -> Iterator[Opened]:
    """Whatever a test does on the page, it must not complain, nor ask for anything but itself and what it holds."""
    write_attention_page(panels, folder / "page.html")
    opened = Opened(browser, folder / "page.html", **options)
    yield opened
    opened.page.close()
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [(folder / "page.html").as_uri()]


def check_shares(opened: Opened, maps: AttentionMaps, name: str, layer: int, heads: Any, panel: int = 0) -> None:
    """The numbers and the sentence are Python's; 1/510 of the row's range and a digit are lost at most."""
    row = maps.names.index(name)
    reduced = maps.reduce(heads)
    keypoints = reduced.to_keypoints[layer, 0, row]
    shown = opened.shares(panel)
    tolerance = float(np.ptp(keypoints)) / 510 + 0.00051
    assert shown.pop("image") == pytest.approx(reduced.to_image[layer, 0, row].sum(), abs=0.00051)
    assert shown.pop("its own token") == pytest.approx(keypoints[maps.skeleton.index(name)], abs=tolerance)
    del shown["other keypoints"]
    others = dict(maps.select(name).top_constraints(5, layer, heads)[name])
    assert len(shown) == min(5, len(maps.skeleton) - 1)
    for other, share in shown.items():
        assert share == pytest.approx(keypoints[maps.skeleton.index(other)], abs=tolerance)
    assert sorted(shown.values()) == pytest.approx(sorted(others.values()), abs=2 * tolerance)
    assert opened.text(".evidence", panel) == maps.evidence(name, layer, heads)


def test_page_starts_with_the_surest_keypoint_at_the_default_layer(opened, maps):
    surest = maps.names[int(maps.pose.scores[0].argmax())]
    check_shares(opened, maps, surest, maps.default_layer, "mean")
    x, y = maps.pose.keypoints[0, maps.skeleton.index(surest)]
    score = maps.pose.scores[0].max()
    assert opened.text(".place") == f"{surest} at ({x:.1f}, {y:.1f}), score {score:.3f}."


@pytest.mark.parametrize("name", ["right_ankle", "head_top", "left_elbow"])
def test_click_on_a_keypoint_shows_the_values_of_python(opened, maps, name):
    opened.click_keypoint(maps, name)
    check_shares(opened, maps, name, maps.default_layer, "mean")
    assert opened.page.locator("#keypoints :checked").locator("..").inner_text() == name


def test_sliders_show_every_layer_and_head(opened, maps):
    opened.click_keypoint(maps, "neck")
    for layer in range(4):
        opened.set_range("layer", layer + 1)
        check_shares(opened, maps, "neck", layer, "mean")
    opened.page.get_by_text("rollout", exact=True).click()
    check_shares(opened, maps, "neck", 3, "rollout")
    opened.page.get_by_text("max", exact=True).click()
    assert opened.text(".evidence") == maps.evidence("neck", 3, "max")
    for head in range(4):
        opened.set_range("head", head + 1)
        check_shares(opened, maps, "neck", 3, head)
    assert opened.page.locator("#head + output").inner_text() == "4 of 4"


def test_largest_value_of_the_overlay_is_that_of_python(opened, maps):
    opened.click_keypoint(maps, "neck")
    neck = maps.names.index("neck")
    most = maps.reduce("mean").to_image[maps.default_layer, 0, neck].max()
    assert percent(opened.text(".most").removesuffix(" in a patch")) == pytest.approx(most, abs=0.00051)
    opened.page.get_by_text("heatmap", exact=True).click()
    assert float(opened.text(".most")) == pytest.approx(maps.heatmaps[maps.default_layer, neck].max(), rel=0.01)


def test_arrow_keys_go_through_keypoints_and_blocks(opened, maps):
    opened.click_keypoint(maps, "right_ankle")
    opened.page.keyboard.press("ArrowRight")
    check_shares(opened, maps, "right_knee", maps.default_layer, "mean")
    opened.page.keyboard.press("ArrowDown")
    check_shares(opened, maps, "right_knee", maps.default_layer - 1, "mean")
    opened.page.keyboard.press("ArrowLeft")
    opened.page.keyboard.press("ArrowLeft")
    check_shares(opened, maps, "head_top", maps.default_layer - 1, "mean")


def test_keyboard_alone_reaches_and_works_everything(opened, maps):
    page = opened.page
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(({ id, name, className, tagName }) => id || name || className || tagName)(document.activeElement)"
            )
        )
        assert (
            page.evaluate(
                "getComputedStyle(document.activeElement.closest('label') ?? document.activeElement).outlineStyle"
            )
            != "none"
        )
        if reached[-1] == "matrix":
            break
    wanted = ["keypoints", "layer", "SUMMARY", "heads", "head", "overlays", "opacity", "zoom", "photograph"]
    assert reached == [*wanted, *["BUTTON"] * 4, "matrix"]
    page.keyboard.press("ArrowDown")  # puts the cursor there
    row = page.evaluate("people[0].cell[0]")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    check_shares(opened, maps, maps.names[row - 1], maps.default_layer, "mean")
    page.locator("#layer").focus()
    page.keyboard.press("Home")
    check_shares(opened, maps, maps.names[row - 1], 0, "mean")
    page.locator("#keypoints :checked").focus()
    page.keyboard.press("ArrowRight")
    check_shares(opened, maps, maps.names[row], 0, "mean")
    page.locator(".strip button").nth(2).focus()
    page.keyboard.press("Enter")
    check_shares(opened, maps, maps.names[row], 2, "mean")


def test_matrix_answers_hover_and_click(opened, maps):
    matrix = opened.page.locator(".matrix")
    matrix.hover(position=opened.cell(maps, "left_knee", "neck"))
    words = re.fullmatch(r"left_knee gives (.*) of its attention to neck\.", opened.text(".readout"))
    row = maps.reduce("mean").to_keypoints[maps.default_layer, 0, maps.names.index("left_knee")]
    assert percent(words[1]) == pytest.approx(row[maps.skeleton.index("neck")], abs=float(np.ptp(row)) / 510 + 0.00051)
    matrix.click(position=opened.cell(maps, "left_knee", "neck"))
    check_shares(opened, maps, "left_knee", maps.default_layer, "mean")


def test_fingers_choose_keypoints_and_cells(browser, panel, maps, tmp_path):
    phone = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True}
    with open_page(browser, [panel], tmp_path, **phone) as opened:
        opened.page.locator(".matrix").tap(position=opened.cell(maps, "left_hip", "head_top"))
        check_shares(opened, maps, "left_hip", maps.default_layer, "mean")
        assert re.fullmatch(r"left_hip gives .* of its attention to head_top\.", opened.text(".readout"))
        opened.page.locator("#keypoints label").filter(has_text="left_knee").tap()
        check_shares(opened, maps, "left_knee", maps.default_layer, "mean")


def test_heatmap_chooses_its_layer_and_shows_where_it_peaks(opened, maps):
    opened.click_keypoint(maps, "neck")
    opened.page.locator(".strip button").nth(0).click()
    check_shares(opened, maps, "neck", 0, "mean")
    assert opened.page.locator(".strip [aria-pressed=true]").inner_text().strip() == "1"
    brightest = opened.page.evaluate(
        """() => {
            const canvas = document.querySelectorAll(".strip canvas")[0], { width, height } = canvas;
            const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
            let best = 0, at = 0;
            for (let i = 0; i < pixels.length; i += 4) {  // the ramp's bright end is yellow, and the crop is gray
                const yellow = pixels[i] + pixels[i + 1];
                if (yellow > best) [best, at] = [yellow, i / 4];
            }
            return [(at % width + 0.5) / width, (Math.floor(at / width) + 0.5) / height];
        }"""
    )
    heatmap = maps.heatmaps[0, maps.names.index("neck")]
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert brightest == pytest.approx([(column + 0.5) / 12, (row + 0.5) / 16], abs=0.1)


def test_overlay_lies_where_python_puts_it(browser, maps, tmp_path):
    black = Panel(image=np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8), maps=maps, title="black")
    with open_page(browser, [black], tmp_path) as opened:
        opened.click_keypoint(maps, "neck")
        opened.page.evaluate("() => { drawKeypoint = strokePath = () => {}; show({ opacity: 100 }); }")
        width, levels = opened.page.evaluate(
            """() => {
                const canvas = document.querySelector(".photograph"), { width, height } = canvas;
                const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
                return [width, Array.from({ length: width * height }, (_, i) => pixels[4 * i] + pixels[4 * i + 1])];
            }"""
        )
        drawn = np.array(levels).reshape(-1, width)
        scale = width / WIDTH
        sampled = drawn[(scale * (np.arange(HEIGHT) + 0.5)).astype(int)][
            :, (scale * (np.arange(WIDTH) + 0.5)).astype(int)
        ]
        expected = maps.in_image("neck")
        assert sampled[expected == 0].max() <= 10
        ranks = [
            part[expected > 0].argsort().argsort() for part in (sampled, expected)
        ]  # brightness grows with the value
        assert np.corrcoef(*ranks)[0, 1] > 0.99


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_light_and_dark(browser, panel, tmp_path, scheme):
    with open_page(browser, [panel], tmp_path, color_scheme=scheme) as opened:
        read = "(name) => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)"
        ground, text = opened.page.evaluate(read, "backgroundColor"), opened.page.evaluate(read, "color")
        assert (sum(ground) > 600, sum(text) > 600) == ((True, False) if scheme == "light" else (False, True))
        opened.page.emulate_media(color_scheme="light" if scheme == "dark" else "dark")
        assert sum(opened.page.evaluate(read, "color")) != sum(text)


@pytest.mark.parametrize("width", [360, 480, 1280])
def test_nothing_scrolls_sideways(browser, panel, tmp_path, width):
    screen = {"viewport": {"width": width, "height": 740}, "is_mobile": width < 600}
    with open_page(browser, [panel, panel], tmp_path, **screen) as opened:
        opened.page.locator("#more").evaluate("(more) => { more.open = true; }")
        assert opened.page.evaluate("window.innerWidth") == width
        assert opened.page.evaluate("document.scrollingElement.scrollWidth") <= width
        checked = opened.page.locator("#keypoints :checked").locator("..").bounding_box()
        assert 0 <= checked["x"] < width - checked["width"]  # in sight


def test_nothing_moves_where_motion_is_unwanted(browser, panel, tmp_path):
    for motion, duration in (("reduce", "0s"), ("no-preference", "0.15s")):
        with open_page(browser, [panel], tmp_path, reduced_motion=motion) as opened:
            bar = opened.page.locator(".bar").first
            assert bar.evaluate("(bar) => getComputedStyle(bar).transitionDuration") == duration


def test_panels_side_by_side_share_their_controls(browser, panel, maps, tmp_path):
    other = look(make(depth=2, heads=2, keypoints=["neck", "tail"]), "photo.jpg, other model")
    with open_page(browser, [panel, other], tmp_path) as opened:
        first, second = (item.bounding_box() for item in opened.page.locator(".panel").all())
        assert first["y"] == second["y"]
        assert second["x"] >= first["x"] + first["width"]
        opened.click_keypoint(maps, "neck")
        opened.set_range("layer", 1)
        check_shares(opened, maps, "neck", 0, "mean", panel=0)
        check_shares(opened, other.maps, "neck", 0, "mean", panel=1)
        opened.set_range("layer", 4)
        opened.set_range("head", 3)
        check_shares(opened, maps, "neck", 3, 2, panel=0)
        check_shares(opened, other.maps, "neck", 1, "mean", panel=1)
        assert "There are fewer blocks or heads here" in opened.text(".place", 1)
        assert "fewer" not in opened.text(".place", 0)
        opened.click_keypoint(maps, "left_knee")
        assert opened.text(".evidence", 1) == "There is no left_knee here."
        opened.page.get_by_text("tail", exact=True).first.click()
        assert opened.text(".evidence", 0) == "There is no tail here."
        check_shares(opened, other.maps, "tail", 1, "mean", panel=1)


def test_hostile_names_are_shown_as_they_are(browser, tmp_path):
    panel = hostile_panel()
    with open_page(browser, [panel], tmp_path) as opened:
        for name in HOSTILE:
            opened.click_keypoint(panel.maps, name)
            assert opened.page.evaluate("document.querySelector('.evidence').textContent") == panel.maps.evidence(name)
        assert opened.page.locator("script").count() == 2


def test_zoom_shows_the_crop_alone(opened, maps):
    opened.page.get_by_text("zoom", exact=True).click()
    area = opened.page.locator(".photograph").bounding_box()
    assert area["width"] / area["height"] == pytest.approx(48 / 64, abs=0.01)
