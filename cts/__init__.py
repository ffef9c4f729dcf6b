"""The conformance suite: one folder per part of the contract. Run it with ``pytest --pyargs pytest_cuda2hal.cts``."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.support")
