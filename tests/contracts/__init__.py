import pytest

# The contracts assert in modules that pytest does not collect itself.
pytest.register_assert_rewrite(
    "tests.contracts.job_claims_contract",
    "tests.contracts.job_queue_contract",
    "tests.contracts.job_store_contract",
    "tests.contracts.queues",
)
