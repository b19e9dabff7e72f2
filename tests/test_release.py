"""What a release is made of: the same bytes twice, one version, and files that people look for."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

import snnc
from benchmarks.release import build as release
from benchmarks.release.interpreters import VERSIONS

ROOT = Path(__file__).parent.parent
EPOCH = "1700000000"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A source distribution and a wheel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", EPOCH)
        return release.build(tmp_path_factory.mktemp("dist"))


def test_a_second_build_has_the_same_bytes(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    again = release.build(tmp_path / "elsewhere")
    assert [path.name for path in again] == [path.name for path in built]
    for one, two in zip(built, again, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.name


def test_times_and_owners_are_nobodys(built: list[Path]) -> None:
    with tarfile.open(built[0]) as archive:
        members = archive.getmembers()
    assert len(members) > 300
    assert {(member.mtime, member.uid, member.uname) for member in members} == {(int(EPOCH), 0, "")}
    assert {member.mode for member in members} <= {0o644, 0o755}


def test_the_names_bear_the_one_version(built: list[Path]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert [path.name for path in built] == [
        f"snnc-{snnc.__version__}.tar.gz",
        f"snnc-{snnc.__version__}-py3-none-any.whl",
    ]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^version: {re.escape(snnc.__version__)}$", citation, re.MULTILINE)


def test_the_sbom_learns_the_version() -> None:
    """Its tool reads pyproject.toml, which leaves the version to the package."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (edit,) = re.findall(r"sed '(.+)' pyproject\.toml", makefile)
    command = ["sed", edit.replace("$(VERSION)", snnc.__version__), "pyproject.toml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert tomllib.loads(done.stdout)["project"]["version"] == snnc.__version__


def test_the_supported_versions_are_told(built: list[Path]) -> None:
    with ZipFile(built[1]) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("dist-info/METADATA")]
        metadata = archive.read(name).decode()
    for version in VERSIONS:
        assert f"Classifier: Programming Language :: Python :: {version}\n" in metadata


def test_twine_has_nothing_to_say(built: list[Path]) -> None:
    if importlib.util.find_spec("twine") is None:
        pytest.skip("twine is the extra `release`")
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["CITATION.cff", "SECURITY.md", "CODE_OF_CONDUCT.md"])
def test_what_people_look_for_is_there(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8")) > 400


def test_the_page_of_dependencies_lists_those_of_the_project() -> None:
    page = (ROOT / "docs" / "reference" / "dependencies.md").read_text(encoding="utf-8")
    listed = {row.split("|")[1].strip() for row in page.splitlines() if row.startswith("| ")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {re.split(r"[<>=\[; ]", text)[0] for text in project["dependencies"]}
    assert named <= listed, "run python -m benchmarks.release.dependencies > docs/reference/dependencies.md"
    assert "not told" not in page


def test_issue_templates_ask_for_what_doctor_prints() -> None:
    templates = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert len(templates) == 2
    assert any("snnc doctor --json" in path.read_text(encoding="utf-8") for path in templates)


def test_an_sbom_names_what_is_installed(tmp_path: Path) -> None:
    if importlib.util.find_spec("cyclonedx_py") is None:
        pytest.skip("cyclonedx-bom is the extra `release`")
    out = tmp_path / "sbom.json"
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "-o", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    names = {part["name"] for part in json.loads(out.read_text(encoding="utf-8"))["components"]}
    assert "numpy" in names
