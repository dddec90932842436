"""A contact sheet of suspects: one HTML file that shows what the data doctor found, with nothing from outside."""

import base64
import hashlib
import html
import io
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import Diagnosis
from tokenpose.doctor.findings import CHECKS, SEVERITIES, Finding, Place
from tokenpose.doctor.records import Records
from tokenpose.files import write_text
from tokenpose.poses import Poses
from tokenpose.visualize import crop_picture, draw_poses, scale_to_fit

Picture = UInt8[np.ndarray, "_ _ 3"]

SIDE = 320
"""Pixels on the longer side of a picture."""

RING = (255, 45, 110)
"""Around the keypoints that a finding is about."""

PICTURELESS = ("missing images", "unreadable images")

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #6b6b70; --page: #f4f4f2; --card: #fff; --line: #dcdcd8;
  --error: #c22f2f; --warning: #a76400; --note: #4a6078; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --soft: #a0a0a6; --page: #161617; --card: #222224;
  --line: #3a3a3d; --error: #ff7b72; --warning: #f0b45a; --note: #9db7d5; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1440px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { font-size: 25px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 44px 0 2px; }
p { margin: 0 0 6px; } .soft, .meaning { color: var(--soft); }
table { border-collapse: collapse; margin: 18px 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; border-spacing: 0; overflow: hidden; }
th, td { text-align: left; padding: 5px 14px; border-bottom: 1px solid var(--line); font-weight: normal; }
thead th { color: var(--soft); font-size: 13px; } tr:last-child > * { border-bottom: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
a { color: inherit; } .error { color: var(--error); } .warning { color: var(--warning); } .note { color: var(--note); }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(270px, 1fr)); gap: 14px; margin: 14px 0;
  align-items: start; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; overflow: hidden; }
.card.wide { grid-column: span 2; } .text { padding: 10px 12px 12px; overflow-wrap: anywhere; }
.text p { margin: 0 0 4px; } .record { font-weight: 600; } .badge { font-size: 12px; font-weight: 700; }
.text .advice, .text .also { color: var(--soft); font-size: 13.5px; }
.pictures { display: flex; gap: 2px; background: #2b2b2d; height: 290px; }
figure { margin: 0; flex: 1 1 0; min-width: 0; display: flex; flex-direction: column; }
figure img { flex: 1 1 0; min-height: 0; width: 100%; object-fit: contain; }
figcaption { color: #d8d8dc; font-size: 12px; text-align: center; padding: 2px 6px 4px; overflow: hidden;
  white-space: nowrap; text-overflow: ellipsis; }
.missing { flex: 1; margin: auto; padding: 20px; color: #d8d8dc; text-align: center; font-size: 13.5px;
  overflow-wrap: anywhere; }
.left { color: #409cff; } .right { color: #e08600; } .ring { color: #e5246a; } .legend { font-size: 13.5px; }
@media (max-width: 620px) { .card.wide { grid-column: auto; } .pictures { height: 240px; }
  th, td { padding: 5px 8px; } td.meaning { display: none; } }
"""


def write_suspects(
    diagnosis: Diagnosis, files: Sequence[Records], source: ImageSource | None, path: str | Path, most: int = 24
) -> None:
    """Write one HTML file that shows the findings by check, each with its people drawn into their photograph.

    At most ``most`` of a check, the most suspicious first; the file needs no server, no script, and asks for nothing.
    ``files``: those that the diagnosis is about. Without ``source`` there are no pictures.
    """
    if most < 1:
        raise ValueError(f"a contact sheet shows at least one finding of a check; got {most}")
    album = _Album(files, source, diagnosis.findings)
    sections = "".join(_section(diagnosis, check, album, most) for check in CHECKS if diagnosis.of_check(check))
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = "Suspects in " + ", ".join(Path(summary.file).name for summary in diagnosis.files)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f"{_overview(diagnosis)}{sections}</body></html>\n"
    )
    write_text(path, page)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _anchor(check: str) -> str:
    return check.replace(" ", "-")


def _overview(diagnosis: Diagnosis) -> str:
    lines = "".join(
        f"<p>{_text(one.file)}: {one.people:,} people in {one.images:,} images, {len(one.keypoints)} keypoints</p>\n"
        for one in diagnosis.files
    )
    head = "".join(f"<th>{name}s</th>" for name in SEVERITIES)
    rows = "".join(
        _overview_row(check, counts, check in diagnosis.skipped) for check, counts in diagnosis.counts().items()
    )
    legend = (
        '<p class="soft legend">Drawn: the person\'s own <b class="left">left</b> and <b class="right">right</b>, the '
        'box in white, <b class="ring">rings</b> around the keypoints that a finding is about.</p>\n'
    )
    table = f'<table><thead><tr><th>check</th>{head}<th class="meaning"></th></tr></thead><tbody>{rows}</tbody></table>'
    return f"{lines}{table}\n{legend}"


def _overview_row(check: str, counts: Mapping[str, int], skipped: bool) -> str:
    numbers = "".join(
        f'<td class="number{f" {name}" if number else " soft"}">{"" if skipped else f"{number:,}"}</td>'
        for name, number in counts.items()
    )
    name = f'<a href="#{_anchor(check)}">{check}</a>' if any(counts.values()) else check
    meaning = "not looked at" if skipped else CHECKS[check]
    return f'<tr><th>{name}</th>{numbers}<td class="meaning">{meaning}</td></tr>\n'


def _section(diagnosis: Diagnosis, check: str, album: "_Album", most: int) -> str:
    findings = diagnosis.of_check(check)
    cards = "".join(_card(finding, album) for finding in findings[:most])
    more = len(findings) - most
    rest = f'<p class="soft">and {more:,} more, which the JSON report lists</p>\n' if more > 0 else ""
    return (
        f'<section id="{_anchor(check)}"><h2>{check}: {len(findings):,}</h2><p class="meaning">{CHECKS[check]}</p>\n'
        f'<div class="cards">\n{cards}</div>\n{rest}</section>\n'
    )


def _card(finding: Finding, album: "_Album") -> str:
    pictures = album.pictures(finding)
    shown = f'<div class="pictures">{"".join(pictures)}</div>' if pictures else ""
    also = "".join(
        f'<p class="also">also {_text(other.check)}: {_text(other.message)}</p>' for other in album.others(finding)
    )
    file = f'<span class="soft">{_text(Path(finding.file).name)}</span>' if album.several or not finding.record else ""
    return (
        f'<article class="card{" wide" if len(pictures) > 1 else ""}">{shown}<div class="text">'
        f'<p><span class="badge {finding.severity}">{finding.severity}</span> {file}</p>'
        f'<p class="record">{_text(finding.record)}</p><p>{_text(finding.message)}</p>'
        f'<p class="advice">{_text(finding.advice)}</p>{also}</div></article>\n'
    )


class _Album:
    """The pictures of findings, and what else was found about the same people."""

    def __init__(self, files: Sequence[Records], source: ImageSource | None, findings: Iterable[Finding]) -> None:
        self.files = {records.path: records for records in files}
        self.source = source
        self.several = len(files) > 1
        self._of_person: dict[Place, list[Finding]] = defaultdict(list)
        for finding in findings:
            if finding.places and finding.places[0].person is not None:
                self._of_person[finding.places[0]].append(finding)

    def others(self, finding: Finding) -> list[Finding]:
        """What else was found about the finding's person."""
        place = finding.places[0] if finding.places else None
        return [other for other in self._of_person.get(place, ()) if other is not finding] if place else []

    def pictures(self, finding: Finding) -> list[str]:
        """Figures of the finding's people: with exchanged sides a second one that shows them the other way round."""
        if self.source is None or finding.check in PICTURELESS:
            return []
        if finding.check == "left and right" and finding.places:
            labelled, exchanged = (
                self._figure(finding.places[0], finding.keypoints, title, turned)
                for title, turned in (("as labelled", False), ("exchanged", True))
            )
            return [labelled, exchanged] if labelled.startswith("<figure") else [labelled]
        several = len(finding.places) > 1
        return [
            self._figure(place, finding.keypoints, self._name(place) if several else "") for place in finding.places
        ]

    def _name(self, place: Place) -> str:
        name = self.files[place.file].files[place.image]
        return f"{name}, {Path(place.file).name}" if self.several else str(name)

    def _figure(self, place: Place, marked: Sequence[str], title: str, exchanged: bool = False) -> str:
        records = self.files[place.file]
        name = records.files[place.image]
        try:
            if not name or self.source is None:
                raise FileNotFoundError("the record names no image")
            image = self.source.read(name).permute(1, 2, 0).numpy()
        except OSError as error:
            return f'<div class="missing">no picture: {_text(error)}</div>'
        people = _people_of(records, place)
        picture = _draw(image, _poses(records, people, marked if exchanged else ()), place.person, marked)
        caption = f"<figcaption>{_text(title)}</figcaption>" if title else ""
        return f'<figure><img alt="{_text(name)}" src="{_jpeg(picture)}">{caption}</figure>'


def _people_of(records: Records, place: Place) -> list[int]:
    whole_image: list[int] = np.flatnonzero(records.image_index == place.image).tolist()
    return whole_image if place.person is None else [place.person]


def _poses(records: Records, people: Sequence[int], exchanged: Sequence[str]) -> Poses:
    """The people's labels as poses, in which some pairs change sides; boxes that are no numbers become points."""
    rows = np.array(people, dtype=np.int64)
    order = np.arange(len(records.skeleton))
    for first, second in zip(exchanged[::2], exchanged[1::2], strict=True):
        pair = [records.skeleton.index(first), records.skeleton.index(second)]
        order[pair] = pair[::-1]
    labelled, boxes = records.labelled()[rows][:, order], records.boxes[rows]
    keypoints = np.where(labelled[..., None], records.keypoints[rows][:, order], 0)
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:].clip(0)), axis=1)
    return Poses(
        keypoints=keypoints.astype(np.float32),
        scores=labelled.astype(np.float32),
        boxes=corners.astype(np.float32),
        skeleton=records.skeleton,
    )


def _draw(image: Picture, poses: Poses, person: int | None, marked: Sequence[str]) -> Picture:
    """One person with surroundings, or the whole image with all its people; rings around what is marked."""
    if person is not None:
        image, poses = _surroundings(image, poses)
    scale = scale_to_fit(image, (SIDE, SIDE))
    finite = np.isfinite(poses.boxes).all(axis=1)
    drawn = draw_poses(image, _take(poses, finite), scale=scale, boxes=True)
    boxless = _take(poses, ~finite)
    if len(boxless):
        point = replace(boxless, boxes=np.zeros_like(boxless.boxes))
        drawn = draw_poses(drawn, replace(point, keypoints=(point.keypoints + 0.5) * scale - 0.5))
    return _ring(drawn, poses, scale, marked) if person is not None else drawn


def _take(poses: Poses, rows: np.ndarray) -> Poses:
    return replace(poses, keypoints=poses.keypoints[rows], scores=poses.scores[rows], boxes=poses.boxes[rows])


def _surroundings(image: Picture, poses: Poses) -> tuple[Picture, Poses]:
    """The part of an image that holds a person's box and keypoints; what lies outside the image is grey."""
    points = poses.keypoints[poses.scores > 0].reshape(-1, 2)
    corners = poses.boxes.reshape(-1, 2)
    points = np.concatenate((points, corners[np.isfinite(corners).all(axis=1)]))
    if not len(points):
        return image, poses
    limits = np.array(image.shape[1::-1], dtype=np.float32)
    low = np.clip(points.min(axis=0), -limits / 2, limits - 1)
    high = np.clip(points.max(axis=0), 0, 1.5 * limits)
    before, after = np.ceil(np.maximum(0, -low)).astype(int), np.ceil(np.maximum(0, high + 1 - limits)).astype(int)
    margins = ((before[1], after[1]), (before[0], after[0]), (0, 0))
    padded = np.pad(image, margins, constant_values=150)
    shift = before.astype(np.float32)
    region = np.concatenate((low + shift, high + shift)).astype(np.float32)[None]
    part, moved = crop_picture(padded, replace(poses, keypoints=poses.keypoints + shift, boxes=region), 1.15)
    return part, replace(moved, boxes=poses.boxes + np.tile(shift, 2) + moved.boxes - region)


def _ring(picture: Picture, poses: Poses, scale: float, marked: Sequence[str]) -> Picture:
    drawing = Image.fromarray(picture)
    pen, radius = ImageDraw.Draw(drawing), 9
    for name in marked:
        index = poses.skeleton.index(name)
        for point, score in zip(poses.keypoints[:, index], poses.scores[:, index], strict=True):
            x, y = ((point + 0.5) * scale - 0.5).tolist()
            if score > 0 and math.isfinite(x + y):
                pen.ellipse((x - radius, y - radius, x + radius, y + radius), outline=RING, width=2)
    return np.asarray(drawing).copy()


def _jpeg(picture: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
