"""Exact numbers as people read them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octopus.core.amounts import plain


@pytest.mark.parametrize(
    ("written", "form", "read"),
    [
        ("434.00000000", "", "434"), ("0.00000001", "", "0.00000001"), ("1E+6", "", "1000000"), ("-0.000", "", "0"),
        ("100", "", "100"), ("129.652000", "+", "+129.652"), ("-12.50", "+", "-12.5"),
        ("1234567.50", ",", "1,234,567.5"),
    ],
)  # fmt: skip
def test_a_column_keeps_zeros_that_a_person_is_not_shown(written: str, form: str, read: str) -> None:
    assert plain(Decimal(written), form) == read  # type: ignore[arg-type]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12), st.integers(0, 10))
def test_no_digit_is_lost_and_equal_numbers_are_one_text(number: Decimal, zeros: int) -> None:
    text = plain(number)
    assert Decimal(text) == number
    assert plain(Decimal(f"{number:f}" + "0" * zeros)) == text
    assert not (text.endswith("0") and "." in text)
