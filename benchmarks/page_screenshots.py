"""Screenshots of the attention page, to look at: desktop and phone, light and dark, one person and two.

Usage: python benchmarks/page_screenshots.py FOLDER [PHOTOGRAPH X1,Y1,X2,Y2]...
Without photographs: the astronaut of scikit-image; FOLDER/page.png is then the picture in docs/pictures. Needs
playwright (pip install playwright) and Debian's chromium.
"""

import sys
from pathlib import Path

import skimage
from PIL import Image
from playwright.sync_api import sync_playwright

import tokenpose
from tokenpose.attention.computation import attention_maps
from tokenpose.attention.page import Panel, write_attention_page

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic", "--no-first-run",
         "--disable-component-update", "--disable-sync")  # fmt: skip
LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "desktop-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2},
    "phone-dark": {"viewport": {"width": 360, "height": 740}, "device_scale_factor": 2, "color_scheme": "dark"},
}


def make_panels(arguments: list[str]) -> list[Panel]:
    model = tokenpose.create_model("tokenpose_s_v1", pretrained=True)
    people = [(skimage.data.astronaut(), [20, 10, 420, 512], "astronaut.png")]
    if arguments:
        pairs = zip(arguments[::2], arguments[1::2], strict=True)
        people = [(path, [float(side) for side in box.split(",")], Path(path).name) for path, box in pairs]
    name = model.card["name"]
    return [
        Panel(image=image, maps=attention_maps(model, image, box), title=f"{title}, {name}")
        for image, box, title in people
    ]


def take(page_file: Path, folder: Path, stem: str) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=list(QUIET))
        for look, options in LOOKS.items():
            page = browser.new_page(**options)
            page.goto(page_file.resolve().as_uri())
            page.wait_for_selector("tbody tr")
            page.wait_for_timeout(300)  # bars grow
            page.screenshot(path=folder / f"{stem}-{look}.png")
            page.screenshot(path=folder / f"{stem}-{look}-whole.png", full_page=True)
            page.close()
        browser.close()


def shrink(screenshot: Path, smaller: Path) -> None:
    """Reduce a screenshot to 256 colors, for the documentation."""
    with Image.open(screenshot) as opened:
        picture = opened.convert("RGB")
    palette = picture.quantize(256, kmeans=2)  # the default uses too few colors, which shows as steps
    picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(smaller, optimize=True)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    panels = make_panels(sys.argv[2:])
    write_attention_page(panels[:1], folder / "one.html")
    take(folder / "one.html", folder, "one")
    shrink(folder / "one-desktop.png", folder / "page.png")
    write_attention_page((panels * 2)[:2], folder / "two.html")
    take(folder / "two.html", folder, "two")
