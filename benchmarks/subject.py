"""Measure one subject and print each figure as a line of JSON once it is known; a child process of timeline.py."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", metavar="SPEC")
    parser.add_argument("--raw", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    scale = 0.02 if options.quick else 1.0
    if options.raw:
        import raw_measures

        for name, figure in raw_measures.measure(scale).items():
            report(name, figure)
    else:
        import backend_measures

        backend_measures.measure(options.backend, scale, report)
    return 0


def report(name: str, figure: Any) -> None:
    """Print one, at once: a subject that crashes or hangs has reported what it got done."""
    print(json.dumps([name, figure]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
