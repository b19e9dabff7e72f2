"""What reaches a user: from the checkout, from a wheel and from an editable installation."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path
from typing import Any, Literal
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"snnc": "snnc", "passes": "snnc.passes", "backends": "snnc.backends", "models": "snnc.models"}
MAPPED = {folder: package for folder, package in FOLDERS.items() if folder != package}
LEFTOVERS = shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc")
HEAVY = ("matplotlib", "numba", "numpy", "onnx", "onnxruntime", "rich")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def files(folder: Path) -> set[str]:
    """Return the files below ``folder``, without following links, as POSIX paths relative to it."""
    found = set()
    for directory, names, leaves in os.walk(folder):
        names[:] = [name for name in names if name != "__pycache__"]
        paths = (Path(directory, leaf) for leaf in leaves)
        found |= {
            path.relative_to(folder).as_posix() for path in paths if path.suffix not in {".nbi", ".nbc"}
        }
    return found


def python(interpreter: Path | str, code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code``; ``-W error`` holds for it as for the tests, and nothing is added to its path."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(interpreter), "-W", "error", "-c", code]
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture(scope="module")
def plain_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without the links, as on a file system that has none: building must not need them."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=LEFTOVERS)
    for folder in MAPPED:
        (copy / "snnc" / folder).unlink()
    return copy


def build(kind: Literal["wheel", "editable"], source: Path, target: Path) -> Path:
    """Build as pip does, in the environment at hand, and return the one wheel."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    command = [sys.executable, "-c", code, str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    (found,) = target.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(plain_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("wheel", plain_copy, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(
    request: pytest.FixtureRequest, wheel: Path, plain_copy: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The interpreter of a fresh environment that holds snnc and sees the packages that snnc needs."""
    folder = tmp_path_factory.mktemp(request.param)
    chosen = wheel if request.param == "wheel" else build("editable", plain_copy, folder)
    environment = folder / "venv"
    venv.create(environment, symlinks=os.name != "nt")
    scheme = {"base": str(environment), "platbase": str(environment)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    with ZipFile(chosen) as archive:
        archive.extractall(site)
    # A path file in another environment is not read: this snnc hides no other that is installed beside it.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Path(sysconfig.get_path("scripts", "venv", scheme)) / Path(sys.executable).name


def test_the_package_list_equals_the_folders() -> None:
    folders = set()
    for folder, package in FOLDERS.items():
        sources = (Path(name) for name in files(ROOT / folder) if name.endswith(".py"))
        folders |= {".".join((package, *source.parent.parts)) for source in sources}
    assert sorted(project()["tool"]["setuptools"]["packages"]) == sorted(folders)


def test_every_package_says_that_it_is_one() -> None:
    """A folder without ``__init__.py`` works in the checkout and is missing from the wheel."""
    mapping = project()["tool"]["setuptools"]["package-dir"]
    for package in project()["tool"]["setuptools"]["packages"]:
        room = max((known for known in mapping if f"{package}.".startswith(f"{known}.")), key=len)
        inside = package.removeprefix(room).strip(".").split(".")
        assert ROOT.joinpath(mapping[room], *inside, "__init__.py").is_file(), package


@pytest.mark.parametrize("folder", MAPPED)
def test_the_links_are_relative(folder: str) -> None:
    link = ROOT / "snnc" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..", folder)


def test_the_wheel_holds_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {
        f"{package.replace('.', '/')}/{name}"
        for folder, package in FOLDERS.items()
        for name in files(ROOT / folder)
    }
    assert packed == expected - {f"snnc/{folder}" for folder in MAPPED}


def test_the_wheel_brings_the_command_and_the_licence(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "snnc = snnc.cli:main" in archive.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.parametrize("package", ["snnc", *MAPPED.values()])
def test_an_installation_brings_the_package(installed: Path, package: str, tmp_path: Path) -> None:
    result = python(installed, f"import {package} as p; print(p.__name__, p.__file__)", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    name, file = result.stdout.rstrip("\n").split(maxsplit=1)  # the folder may have blanks in its name
    assert name == package
    assert ROOT not in Path(file).parents


@pytest.mark.parametrize("folder", MAPPED)
def test_an_installation_brings_no_other_name(installed: Path, folder: str, tmp_path: Path) -> None:
    result = python(installed, f"import {folder}", cwd=tmp_path)
    assert f"ModuleNotFoundError: No module named '{folder}'" in result.stderr


@pytest.mark.parametrize("package", ["snnc", *MAPPED.values()])
def test_the_checkout_needs_no_installation(package: str) -> None:
    result = python(sys.executable, f"import {package} as p; print(p.__file__)", cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip()) == ROOT.joinpath(*package.split("."), "__init__.py")


@pytest.mark.parametrize(("folder", "package"), MAPPED.items())
def test_the_checkout_refuses_the_bare_name(folder: str, package: str) -> None:
    result = python(sys.executable, f"import {folder}", cwd=ROOT)
    assert result.stderr.splitlines()[-1] == (
        f"ImportError: this folder is the package {package}; import it by that name"
    )


@pytest.mark.parametrize(
    "statement", ["import snnc", "import snnc, snnc.cli", "import snnc.errors, snnc.diagnostics"]
)
def test_importing_is_cheap(statement: str) -> None:
    code = f"{statement}\nimport sys\nprint(*sorted(set({HEAVY}) & set(sys.modules)))"
    result = python(sys.executable, code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_the_public_names_are_there() -> None:
    code = "import snnc\nfor name in snnc.__all__: print(name, getattr(snnc, name) and name in dir(snnc))"
    result = python(sys.executable, code, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    names = ("__version__", "compile_model", "convert", "load", "simulate", "to_torch", "train", "tune")
    assert sorted(result.stdout.splitlines()) == [f"{name} True" for name in names]


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    result = python(sys.executable, "import snnc\nsnnc.compile", cwd=ROOT)
    assert result.stderr.splitlines()[-1].startswith(
        "AttributeError: module 'snnc' has no attribute 'compile'"
    )
