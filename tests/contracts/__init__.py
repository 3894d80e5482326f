import pytest

# The contracts assert in modules that pytest does not collect itself.
pytest.register_assert_rewrite("tests.contracts.job_store_contract")
