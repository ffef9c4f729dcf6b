"""What is in the wheel: the harness, the folders that install inside it, and nothing else."""

import configparser
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import pytest_cuda2hal

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {"pytest_cuda2hal": "pytest_cuda2hal", "backends": "pytest_cuda2hal/backends", "cts": "pytest_cuda2hal/cts"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of this checkout in which an earlier build left a module that is gone."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*FOLDERS, "tests", "docs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    left_over = source / "build" / "lib" / "pytest_cuda2hal" / "gone.py"
    left_over.parent.mkdir(parents=True)
    left_over.touch()
    command = [sys.executable, "-P", "-m", "build", "--wheel", "--no-isolation", f"--outdir={built}", str(source)]
    build = subprocess.run(command, cwd=built, capture_output=True, text=True, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


@pytest.fixture(scope="module")
def dist_info(wheel):
    """Read a file of the wheel's metadata."""
    (folder,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    return lambda name: wheel.read(f"{folder}/{name}").decode()


def test_every_module_of_the_three_folders_is_in_it_and_no_other(wheel):
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in FOLDERS.items()
        for path in (ROOT / folder).rglob("*.py")
    }
    assert {name for name in wheel.namelist() if name.endswith(".py")} == expected


def test_nothing_installs_outside_the_package(wheel):
    assert {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name} == {"pytest_cuda2hal"}


def test_it_says_that_it_is_typed(wheel):
    assert "pytest_cuda2hal/py.typed" in wheel.namelist()


def test_pytest_and_the_registry_find_it(wheel, dist_info):
    entry_points = configparser.ConfigParser(delimiters="=")
    entry_points.read_string(dist_info("entry_points.txt"))
    assert dict(entry_points["pytest11"]) == {"cuda2hal": "pytest_cuda2hal.plugin"}
    for name, value in entry_points["pytest_cuda2hal.backends"].items():
        module, attribute = value.split(":")
        family = name.partition("-")[0]  # cuda-sim is the same package as cuda
        assert (module, attribute.partition("_")[0]) in (
            (f"pytest_cuda2hal.backends.{family}", "BACKEND"),
            (f"pytest_cuda2hal.backends.{family}", family.upper()),
        )
        path = module.replace(".", "/")
        assert {f"{path}.py", f"{path}/__init__.py"} & set(wheel.namelist())


def test_its_metadata(dist_info):
    metadata = Parser().parsestr(dist_info("METADATA"))
    assert metadata["Name"] == "pytest-cuda2hal"
    assert metadata["Version"] == pytest_cuda2hal.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"Framework :: Pytest", "Typing :: Typed"} <= set(metadata.get_all("Classifier", []))
    needed = {requirement for requirement in metadata.get_all("Requires-Dist", []) if "extra ==" not in requirement}
    assert needed == {"pluggy>=1.5", "pytest>=8.4"}
