import pytest

pytest.register_assert_rewrite("tests.real_engine")  # its asserts say what they compared
