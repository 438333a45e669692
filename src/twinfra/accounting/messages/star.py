"""Storage records as a StAR document. Pure.

Source: OGF GFD.201, storage accounting record; namespace of the EMI definition.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from twinfra.accounting.messages.text import ascii_only, user_name
from twinfra.accounting.model import StorageUsage
from twinfra.accounting.settings import AccountingSettings, SiteFacts

NAMESPACE = "http://eu-emi.eu/namespaces/2011/02/storagerecord"
TEXT_LIMIT = 255


def storage_message(
    records: Sequence[StorageUsage], settings: AccountingSettings, now: datetime
) -> str:
    """Return the document of `records`, made at `now`.

    Raises:
        NotSpellable: a value does not fit.
    """
    ET.register_namespace("sr", NAMESPACE)
    root = ET.Element(_name("StorageUsageRecords"))
    for record in records:
        _add_record(root, record, settings, now)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_record(
    root: ET.Element, record: StorageUsage, settings: AccountingSettings, now: datetime
) -> None:
    facts = settings.sites.get(record.site, SiteFacts())
    entry = ET.SubElement(root, _name("StorageUsageRecord"))
    identity = {_name("createTime"): _moment(now), _name("recordId"): record.id}
    ET.SubElement(entry, _name("RecordIdentity"), identity)
    _add(entry, "StorageSystem", record.rse)
    _add(entry, "Site", facts.name or record.site)
    _add(entry, "StorageMedia", record.media)
    _add(entry, "FileCount", record.file_count)
    _add(entry, "DirectoryPath", record.path)
    if record.person is not None or record.group is not None:
        subject = ET.SubElement(entry, _name("SubjectIdentity"))
        _add(subject, "UserIdentity", user_name(record, settings))
        top, _, below = (record.group or "").partition("/")
        _add(subject, "Group", top or None)
        if below:
            attribute = {_name("attributeType"): "subgroup"}
            child = ET.SubElement(subject, _name("GroupAttribute"), attribute)
            child.text = ascii_only("GroupAttribute", below, TEXT_LIMIT)
    _add(entry, "StartTime", _moment(record.started_at))
    _add(entry, "EndTime", _moment(record.ended_at))
    _add(entry, "ResourceCapacityUsed", record.used_bytes)
    _add(entry, "ResourceCapacityAllocated", record.allocated_bytes)


def _add(parent: ET.Element, name: str, value: str | int | None) -> None:
    if value is not None:
        child = ET.SubElement(parent, _name(name))
        child.text = ascii_only(name, str(value), TEXT_LIMIT)


def _name(local: str) -> str:
    return f"{{{NAMESPACE}}}{local}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
