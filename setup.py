"""Where the packages are; everything else is in pyproject.toml.

``backends/`` and ``cts/`` lie beside the harness in the repository and install inside it. pyproject.toml can map
folders or find packages, not both, and a list there would go stale with the first new folder.
"""

import shutil

from setuptools import find_packages, setup

FOLDERS = {"pytest_cuda2hal.backends": "backends", "pytest_cuda2hal.cts": "cts"}

packages = find_packages(include=["pytest_cuda2hal", "pytest_cuda2hal.*"])
for package, folder in FOLDERS.items():
    packages += [package, *(f"{package}.{name}" for name in find_packages(folder))]

# setuptools keeps what it built here and packs it again, modules that were removed since included.
shutil.rmtree("build/lib", ignore_errors=True)

setup(packages=packages, package_dir=FOLDERS)
