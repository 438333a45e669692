"""A reader of APEL job messages, written from the published field table alone.

It knows nothing of our writer: framing, mandatory fields, types and limits are those of the table
in EGI's documentation, with the loader's own further demands (benchmark, order of times).
"""

from decimal import Decimal

import pytest

TEXT, INTEGER, DECIMAL = "text", "integer", "decimal"
# field: (kind, longest, mandatory)
FIELDS = {
    "Site": (TEXT, 255, True),
    "SubmitHost": (TEXT, 255, True),
    "MachineName": (TEXT, 255, False),
    "Queue": (TEXT, 100, False),
    "LocalJobId": (TEXT, 255, True),
    "LocalUserId": (TEXT, 255, False),
    "GlobalUserName": (TEXT, 255, False),
    "FQAN": (TEXT, 255, False),
    "WallDuration": (INTEGER, 2**32 - 1, True),
    "CpuDuration": (INTEGER, 2**32 - 1, True),
    "Processors": (INTEGER, 2**32 - 1, False),
    "NodeCount": (INTEGER, 2**32 - 1, False),
    "StartTime": (INTEGER, 2**32 - 1, True),
    "EndTime": (INTEGER, 2**32 - 1, True),
    "InfrastructureDescription": (TEXT, 100, False),
    "InfrastructureType": (TEXT, 20, False),
    "MemoryReal": (INTEGER, 2**31 - 1, False),
    "MemoryVirtual": (INTEGER, 2**31 - 1, False),
    "ServiceLevelType": (TEXT, 50, True),
    "ServiceLevel": (DECIMAL, Decimal("9999999.999"), True),
}
NULLS = {"none", "null", ""}


def parse(message):
    """Return the records of a message; raise ValueError where APEL would refuse it."""
    message.encode("ascii")
    header, _, body = message.lstrip("\n").partition("\n")
    if header.strip() != "APEL-individual-job-message: v0.3":
        raise ValueError("header")
    blocks = [block.strip() for block in body.split("%%")]
    records = [_record(block) for block in blocks if block]
    if not records:
        raise ValueError("no record")
    return records


def _record(block):
    found = {}
    for line in block.splitlines():
        key, colon, text = line.partition(":")
        if not colon:
            raise ValueError(f"no colon: {line}")
        key, text = key.strip(), text.strip()
        if key not in FIELDS:
            raise ValueError(f"unknown field {key}")
        found[key] = _value(key, text)
    for key, (_, _, mandatory) in FIELDS.items():
        if mandatory and found.get(key) is None:
            raise ValueError(f"{key} is missing")
    if found["ServiceLevelType"].lower() not in {"si2k", "hepspec", "hepscore23"}:
        raise ValueError("benchmark")
    if found["EndTime"] < found["StartTime"]:
        raise ValueError("times")
    return found


def _value(key, text):
    kind, limit, mandatory = FIELDS[key]
    if text.lower() in NULLS:
        if mandatory:
            raise ValueError(f"{key} is null")
        return None
    if kind == TEXT:
        if len(text) > limit:
            raise ValueError(f"{key} is too long")
        return text
    if kind == INTEGER:
        if not text.isdecimal():
            raise ValueError(f"{key} is no integer")
        number = int(text)
    else:
        number = Decimal(text)
        if -number.as_tuple().exponent > 3:
            raise ValueError(f"{key} has too many decimals")
    if not 0 <= number <= limit:
        raise ValueError(f"{key} is out of range")
    return number


@pytest.fixture
def parse_apel():
    return parse
