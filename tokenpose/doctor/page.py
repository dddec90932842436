"""A page of findings: one HTML file that shows them in their photographs and needs nothing else."""

import base64
import hashlib
import html
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenpose.data.sources import ImageSource
from tokenpose.doctor.check import CheckResult
from tokenpose.doctor.drawings import draw_people, people_of, to_data_url, to_poses
from tokenpose.doctor.findings import CHECKS, SEVERITIES, Finding, Place
from tokenpose.doctor.records import Records
from tokenpose.files import write_text

WITHOUT_PICTURES = ("missing images", "unreadable images")

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


def write_findings_page(
    result: CheckResult, files: Sequence[Records], source: ImageSource | None, path: str | Path, most: int = 24
) -> None:
    """Write one HTML file that shows the findings by check, each with its people drawn into their photograph.

    It shows at most ``most`` findings of a check, those of the highest priority, needs no server, has no script and
    loads nothing. ``files``: the records that were checked. Without ``source`` there are no pictures.
    """
    if most < 1:
        raise ValueError(f"a page shows at least one finding of a check; got {most}")
    album = _Album(files, source, result.findings)
    sections = "".join(_section(result, check, album, most) for check in CHECKS if result.of_check(check))
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    title = "Findings in " + ", ".join(Path(summary.file).name for summary in result.files)
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{_text(title)}</title><style>{STYLE}</style></head>\n<body>\n<h1>{_text(title)}</h1>\n"
        f"{_overview(result)}{sections}</body></html>\n"
    )
    write_text(path, page)


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)


def _anchor(check: str) -> str:
    return check.replace(" ", "-")


def _overview(result: CheckResult) -> str:
    lines = "".join(
        f"<p>{_text(one.file)}: {one.people:,} people in {one.images:,} images, {len(one.keypoints)} keypoints</p>\n"
        for one in result.files
    )
    head = "".join(f"<th>{name}s</th>" for name in SEVERITIES)
    rows = "".join(_overview_row(check, counts, check in result.skipped) for check, counts in result.counts().items())
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
    meaning = "not checked" if skipped else CHECKS[check]
    return f'<tr><th>{name}</th>{numbers}<td class="meaning">{meaning}</td></tr>\n'


def _section(result: CheckResult, check: str, album: "_Album", most: int) -> str:
    findings = result.of_check(check)
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
    """The pictures of findings, and the other findings about the same people."""

    def __init__(self, files: Sequence[Records], source: ImageSource | None, findings: Iterable[Finding]) -> None:
        self.files = {records.path: records for records in files}
        self.source = source
        self.several = len(files) > 1
        self._of_person: dict[Place, list[Finding]] = defaultdict(list)
        for finding in findings:
            if finding.places and finding.places[0].person is not None:
                self._of_person[finding.places[0]].append(finding)

    def others(self, finding: Finding) -> list[Finding]:
        """The other findings about the finding's person."""
        place = finding.places[0] if finding.places else None
        return [other for other in self._of_person.get(place, ()) if other is not finding] if place else []

    def pictures(self, finding: Finding) -> list[str]:
        """Figures of the finding's people; with swapped sides a second one that shows them the other way round."""
        if self.source is None or finding.check in WITHOUT_PICTURES:
            return []
        if finding.check == "left and right" and finding.places:
            labeled, swapped = (
                self._figure(finding.places[0], finding.keypoints, title, turned)
                for title, turned in (("as labeled", False), ("swapped", True))
            )
            return [labeled, swapped] if labeled.startswith("<figure") else [labeled]
        several = len(finding.places) > 1
        return [
            self._figure(place, finding.keypoints, self._name(place) if several else "") for place in finding.places
        ]

    def _name(self, place: Place) -> str:
        name = self.files[place.file].files[place.image]
        return f"{name}, {Path(place.file).name}" if self.several else str(name)

    def _figure(self, place: Place, marked: Sequence[str], title: str, swapped: bool = False) -> str:
        records = self.files[place.file]
        name = records.files[place.image]
        try:
            if not name or self.source is None:
                raise FileNotFoundError("the record has no file_name")
            image = self.source.read(name).permute(1, 2, 0).numpy()
        except OSError as error:
            return f'<div class="missing">no picture: {_text(error)}</div>'
        people = people_of(records, place)
        picture = draw_people(image, to_poses(records, people, marked if swapped else ()), place.person, marked)
        caption = f"<figcaption>{_text(title)}</figcaption>" if title else ""
        return f'<figure><img alt="{_text(name)}" src="{to_data_url(picture)}">{caption}</figure>'
