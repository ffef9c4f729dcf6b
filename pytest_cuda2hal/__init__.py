"""Conformance tests for GPU runtimes with timeline semaphores, as a pytest plugin.

PYTEST_DONT_REWRITE (this module alone): a supervised process imports it before pytest begins, which would warn of that.
"""

#: The version of the distribution; the contract has its own (:data:`pytest_cuda2hal.contract.CONTRACT_VERSION`).
__version__ = "0.1.0"
