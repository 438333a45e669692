"""Quantities as others spell them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinfra.core.quantities import format_bytes, parse_bytes, parse_cpu

UNITS = {"": 1, "k": 1000, "M": 10**6, "G": 10**9, "Ki": 1024, "Mi": 1024**2, "Gi": 1024**3}
MOST = 2**63 - 1


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("512Mi", 536870912),
        ("512 MiB", 536870912),
        ("512 mib", 536870912),
        ("512 MB", 512000000),
        ("512 mb", 512000000),
        ("2 GB", 2000000000),
        ("1.5Gi", 1610612736),
        ("1e3", 1000),
        ("12E", 12 * 10**18),
        ("123456789m", 123456),
        (" 7 B ", 7),
        (4096, 4096),
        (0.9, 0),
    ],
)
def test_sizes_are_bytes_when_kubernetes_or_tosca_spells_them(text, size_bytes):
    if size_bytes > MOST:
        with pytest.raises(ValueError, match="more than any machine"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "cores"),
    [("500m", 0.5), ("2", 2.0), (2, 2.0), ("1.5", 1.5), ("2k", 2000.0), (0.1, 0.1)],
)
def test_cores_are_numbers_when_kubernetes_spells_them(text, cores):
    assert parse_cpu(text) == cores


@pytest.mark.parametrize(
    "text", ["", "-1", -1, "1 2", "Mi", "1Xi", "1,5", "NaN", float("nan"), float("inf"), True, None,
             "0x10", "1e9999", "٣", "1e999", "9" * 400, "1MiMi", "1 KBB"],
)  # fmt: skip
def test_a_size_is_refused_when_it_is_none(text):
    with pytest.raises(ValueError, match=r"quantity|size|machine"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["1Gi", "2 cores", "-2", "1M", "", "m"])
def test_cores_are_refused_when_they_are_none(text):
    with pytest.raises(ValueError, match=r"quantity|cores"):
        parse_cpu(text)


@given(st.integers(0, MOST))
@example(2**53 + 1)
def test_a_size_is_exact_when_it_is_a_whole_number(number):
    assert parse_bytes(str(number)) == number
    assert parse_bytes(number) == number


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_units_scale_when_they_are_in_the_table(number, unit):
    assert parse_bytes(f"{number}{unit}") == number * UNITS[unit]
    if unit:
        assert parse_bytes(f"{number} {unit}B") == number * UNITS[unit]


@given(st.integers(0, 10**9))
def test_milli_cores_are_thousandths_when_read(milli):
    assert parse_cpu(f"{milli}m") == pytest.approx(milli / 1000)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused_when_it_comes_from_outside(text):
    for parse in (parse_bytes, parse_cpu):
        try:
            value = parse(text)
        except ValueError:
            continue
        assert 0 <= value <= MOST


@given(st.integers(0, 10**16))
def test_a_size_for_people_is_near_when_read_again(size_bytes):
    shown = format_bytes(size_bytes)
    assert parse_bytes(shown) == pytest.approx(size_bytes, rel=0.06, abs=0.06)
