"""Measure one subject and print its figures as JSON; a child process of timeline.py."""

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
    result: dict[str, Any]
    if options.raw:
        import raw_measures

        result = raw_measures.measure(scale)
    else:
        import backend_measures

        result = backend_measures.measure(options.backend, scale)
    json.dump(result, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
