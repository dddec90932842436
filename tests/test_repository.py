"""What surrounds the package and breaks without a sound: workflows, templates, citation, version, links, rooms."""

import importlib.metadata
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import tokenpose

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
YAML_FILES = sorted(
    str(path.relative_to(ROOT))
    for path in (*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff")
)
PAGES = ["CONTRIBUTING.md", "README.md", "CHANGELOG.md"]
LINK = re.compile(r"\]\((?P<target>[^)\s]+)\)")
DEFINITION = re.compile(r"^\[(?P<label>[^\]]+)\]: (?P<target>\S+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
REPOSITORY_PATH = re.compile(r"`((?:\.ci|\.github|benchmarks|docs|tests|tokenpose)/[\w./-]*)`")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def steps(workflow: Any) -> list[dict[str, Any]]:
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("name", YAML_FILES)
def test_yaml_file_is_a_mapping(name):
    assert isinstance(read_yaml(name), dict)


def test_all_yaml_files_are_found():
    assert {".github/workflows/ci.yml", ".github/workflows/release.yml", ".github/ISSUE_TEMPLATE/bug.yml"} <= {
        *YAML_FILES
    }


# Workflows. YAML reads the key "on" as True.


def test_ci_runs_the_checks_that_developers_run():
    workflow = read_yaml(".github/workflows/ci.yml")
    assert {"push", "pull_request", "workflow_call"} == set(workflow[True])
    assert [step["run"] for step in steps(workflow) if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()


def test_ci_runs_the_oldest_and_the_newest_python_of_the_project():
    prefix = "Programming Language :: Python :: 3."
    minors = sorted(int(name.removeprefix(prefix)) for name in PROJECT["project"]["classifiers"] if prefix in name)
    assert PROJECT["project"]["requires-python"] == f">=3.{minors[0]}"
    matrix = read_yaml(".github/workflows/ci.yml")["jobs"]["checks"]["strategy"]["matrix"]
    assert matrix["python"] == [f"3.{minors[0]}", f"3.{minors[-1]}"]


def test_a_tag_publishes_only_what_passed_the_checks():
    workflow = read_yaml(".github/workflows/release.yml")
    jobs = workflow["jobs"]
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    assert jobs["checks"]["uses"] == "./.github/workflows/ci.yml"
    assert set(jobs["publish"]["needs"]) == {"checks", "build", "docs"}
    assert jobs["pages"]["needs"] == "publish"


def test_only_the_jobs_that_publish_may_write():
    for name in ("ci", "release"):
        workflow = read_yaml(f".github/workflows/{name}.yml")
        assert workflow["permissions"] == {"contents": "read"}
        allowed = {
            job: set(values["permissions"]) for job, values in workflow["jobs"].items() if "permissions" in values
        }
        assert allowed == ({} if name == "ci" else {"publish": {"id-token"}, "pages": {"pages", "id-token"}})


def test_pre_commit_runs_ruff_and_mypy_of_the_environment():
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"].split()[0] for hook in repository["hooks"]] == ["ruff", "ruff", "mypy"]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}


# Version and citation


def test_the_package_takes_its_version_from_one_place():
    assert "version" not in PROJECT["project"]
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "tokenpose/__init__.py"
    assert importlib.metadata.version("tokenpose") == tokenpose.__version__


def test_citation_is_of_this_version_and_license():
    citation = read_yaml("CITATION.cff")
    assert citation["version"] == tokenpose.__version__
    assert citation["license"] == PROJECT["project"]["license"]
    assert citation["title"] == PROJECT["project"]["name"]


def test_citation_names_the_paper():
    (paper,) = read_yaml("CITATION.cff")["references"]
    assert paper["title"] == "TokenPose: Learning Keypoint Tokens for Human Pose Estimation"
    assert [author["family-names"] for author in paper["authors"]] == [
        "Li",
        "Zhang",
        "Wang",
        "Yang",
        "Yang",
        "Xia",
        "Zhou",
    ]


# Pages


def relative_links(page: str) -> list[str]:
    """Targets of the page's links, inline and defined below, without addresses, anchors and what stands in code."""
    text = CODE.sub("", page)
    targets = [match["target"] for pattern in (LINK, DEFINITION) for match in pattern.finditer(text)]
    return [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]


def test_relative_links_are_those_outside_code():
    page = "[a](docs/a.md#b) [c](https://c.org) [d](#d) `[e](e.md)`\n```text\n[f](f.md)\n```\n[g][]\n\n[g]: docs/g.md\n"
    assert relative_links(page) == ["docs/a.md", "docs/g.md"]


@pytest.mark.parametrize("name", PAGES)
def test_relative_links_of_the_page_lead_to_files(name):
    missing = [target for target in relative_links((ROOT / name).read_text()) if not (ROOT / target).is_file()]
    assert missing == []


def test_contributing_names_files_that_exist():
    names = REPOSITORY_PATH.findall((ROOT / "CONTRIBUTING.md").read_text())
    assert len(names) >= 10
    assert [name for name in names if "NAME" not in name and not (ROOT / name).exists()] == []


def test_the_documentation_shows_contributing_with_links_of_its_own():
    shown = (ROOT / "docs" / "contributing.md").read_text()
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert '--8<-- "CONTRIBUTING.md:page"' in shown
    here, there = ({match["label"]: match["target"] for match in DEFINITION.finditer(text)} for text in (page, shown))
    assert here == {label: f"docs/{target}" for label, target in there.items()}
    body = page.partition("[start:page]")[2].partition("[end:page]")[0]
    assert set(re.findall(r"\]\[([^\]]+)\]", body)) == set(here)
    assert [link for link in LINK.findall(CODE.sub("", body)) if not link.startswith("https:")] == []


def test_contributing_explains_every_room():
    rooms = {
        f"{path.name}/" if path.is_dir() else path.stem
        for path in (ROOT / "tokenpose").iterdir()
        if not path.name.startswith("__") and path.name != "py.typed"
    }
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("| room |")[2].partition("\n\n")[0]
    assert sorted(room for room in rooms if f"`{room}`" not in table) == []


WITHOUT_TEST_FILE = {
    "__main__.py",  # a line: the command as a module
    "cli.py",  # imports the commands, which have their own
    "shapes.py",  # names of axes; the type checker of every test reads them
}
ACROSS_MODULES = {
    "data/test_odd_names.py", "data/test_page.py", "doctor/test_check_real.py", "geometry/test_precision.py",
    "models/test_compile.py", "models/test_exactness.py", "models/test_pretrained.py", "models/test_refusals.py",
    "models/test_trust.py", "test_benchmarks.py", "test_docs.py", "test_package.py", "test_repository.py",
    "training/test_processes.py", "training/test_survival.py",
}  # fmt: skip


def test_every_module_has_a_test_file_of_its_name_in_the_mirrored_place():
    package, tests = ROOT / "tokenpose", ROOT / "tests"
    modules = {path.relative_to(package) for path in package.rglob("*.py") if path.name != "__init__.py"}
    expected = {
        path.with_name(f"test_{path.name}").as_posix() for path in modules if path.as_posix() not in WITHOUT_TEST_FILE
    }
    found = {path.relative_to(tests).as_posix() for path in tests.rglob("test_*.py")}
    assert sorted(expected - found) == []
    assert sorted(found - expected - ACROSS_MODULES) == []
