"""Write everything below ``docs/generated/``: at every build, and only what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contract_pages import case_pages, contract_pages, driver_capabilities
from option_tables import backend_options, backend_variants, commands, environment, ini_values, pytest_options
from suite_cases import read_cases

from pytest_cuda2hal.backends.iree.device import CAPABILITIES
from pytest_cuda2hal.identity import suite_folder


def generated() -> dict[str, str]:
    """Return all generated files: path below ``docs/generated/`` -> text. Pages end in .md, parts of pages in .txt."""
    cases = read_cases(suite_folder())
    files = {f"contract/{name}.md": text for name, text in contract_pages(cases).items()}
    files |= {f"cases/{name}.md": text for name, text in case_pages(cases).items()}
    files["options.txt"] = pytest_options()
    files["ini.txt"] = ini_values()
    files["environment.txt"] = environment()
    files["commands.txt"] = commands()
    files["reference-options.txt"] = backend_options("reference")
    files["iree-options.txt"] = backend_options("iree")
    files["iree-variants.txt"] = backend_variants("iree")
    files["iree-capabilities.txt"] = driver_capabilities(CAPABILITIES)
    return files


def write(folder: Path) -> None:
    """Write the files; remove what an earlier build left and this one does not write."""
    files = generated()
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # An unchanged file keeps its time, so that Sphinx does not read it again.
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    app.connect("builder-inited", lambda built: write(Path(built.srcdir) / "generated"))
    return {"parallel_read_safe": True}
