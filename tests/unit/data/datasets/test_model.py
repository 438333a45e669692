"""Names, PFNs, versions, accounts, verdicts and lineage: the small rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.data.datasets.errors import InvalidObject, InvalidPath, InvalidRule
from twinfra.data.datasets.model import Did, FileSpec, NewRule, latest, version_did, version_of
from twinfra.data.datasets.model.accounts import (
    account_name,
    identity_parts,
    identity_text,
    scope_of_group,
)
from twinfra.data.datasets.model.lineage import Graph, Record, inputs_of
from twinfra.data.datasets.model.names import ACCOUNT, check_rse_name
from twinfra.data.datasets.model.rses import (
    Protocol,
    Rse,
    check_protocol,
    common_folder,
    token_target,
)
from twinfra.data.datasets.model.states import DidType
from twinfra.data.datasets.model.verdicts import Retries, Verdict, explain, judge

DOORS = {"wan": {"read": 1, "write": 1}}
HTTPS = Protocol("https", "edge.test", 8443, "/dav/datasets/", domains=DOORS)
EDGE = Rse("0", "EDGE-C", protocols=(HTTPS,), attributes={"oidc_base_path": "/dav"})
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,9}){0,2}",
                      fullmatch=True)  # fmt: skip


@given(NAMES)
def test_file_is_found_where_naming_puts_it(name):
    did = Did("climate", name).checked()
    pfn = EDGE.pfn(did)
    assert pfn == f"https://edge.test:8443/dav/datasets/climate/{name}"
    assert EDGE.kept_path(did, pfn) is None


def test_path_is_kept_when_a_file_stands_elsewhere():
    did = Did("climate", "scenarios/A1B.nc")
    pfn = "https://edge.test:8443/dav/incoming/A%201B.nc"
    assert EDGE.kept_path(did, pfn) == "/dav/incoming/A 1B.nc"
    assert EDGE.pfn(did, "/dav/incoming/A 1B.nc") == pfn


def test_davs_is_the_same_door_when_the_storage_speaks_https():
    did = Did("climate", "a")
    assert EDGE.kept_path(did, "davs://edge.test:8443/dav/x") == "/dav/x"


@pytest.mark.parametrize(
    "pfn",
    [
        "https://evil.test:8443/dav/a", "https://edge.test/dav/a", "http://edge.test:8443/dav/a",
        "https://edge.test:8443/dav/../etc/passwd", "https://edge.test:8443/dav//a",
        "https://edge.test:8443/dav/a?x=1", "https://edge.test:99999/dav/a", "file:///etc/passwd",
        "https://user@edge.test:8443@evil.test/dav/a", "https://edge.test:8443/dav/%2e%2e/a",
    ],
)  # fmt: skip
def test_pfn_is_refused_when_it_is_not_at_the_storage(pfn):
    with pytest.raises(InvalidPath):
        EDGE.kept_path(Did("climate", "a"), pfn)


def test_hash_naming_follows_rucio():
    hashed = Rse("0", "R", attributes={"lfn2pfn_algorithm": "hash"})
    assert hashed.relative_path(Did("test", "f1")) == "test/a1/62/f1"
    assert hashed.relative_path(Did("user.jdoe", "f")).startswith("user/jdoe/")


@pytest.mark.parametrize(
    "text", ["climate", "cli mate:x", "climate:", "climate:../x", "climate:a//b", "a" * 26 + ":x",
             "climate:/x", "climate:a/", "climate:é", "climate:" + "n" * 251],
)  # fmt: skip
def test_identifier_is_refused_when_the_schema_forbids_it(text):
    with pytest.raises(InvalidObject):
        Did.parse(text)


@pytest.mark.parametrize("name", ["edge-c", "A--B", "-A", "A B", "A" * 31, ""])
def test_rse_name_is_refused_when_the_schema_forbids_it(name):
    with pytest.raises(InvalidObject):
        check_rse_name(name)


def test_checksums_get_their_one_spelling():
    file = FileSpec(Did("s", "n"), 1, "ABC", "F" * 32).checked()
    assert (file.adler32, file.md5) == ("00000abc", "f" * 32)
    for wrong in ({"adler32": "xyz"}, {"md5": "12"}, {"size_bytes": -1}):
        with pytest.raises(InvalidObject):
            FileSpec(**{"did": Did("s", "n"), "size_bytes": 1, **wrong}).checked()


@pytest.mark.parametrize("wrong", [{"copies": 0}, {"lifetime_s": 0}, {"priority": 6}])
def test_rule_is_refused_when_a_number_is_out_of_bounds(wrong):
    with pytest.raises(InvalidRule):
        NewRule(**{"did": Did("s", "n"), "copies": 1, "rse_expression": "A", **wrong}).checked()


def test_prefix_must_be_a_folder():
    with pytest.raises(InvalidObject):
        check_protocol(Protocol("https", "h", 1, "dav"))
    with pytest.raises(InvalidObject):
        check_protocol(Protocol("https", "h", 1, "/dav/", domains={"moon": {}}))


@given(st.lists(st.integers(1, 10**6), unique=True))
def test_highest_version_is_the_latest(numbers):
    model = Did("climate", "model")
    members = [version_did(model, n) for n in numbers] + [Did("climate", "model.vx"), model]
    found = latest(model, members)
    assert (found.number if found else None) == max(numbers, default=None)


def test_version_counts_only_for_its_own_container():
    assert version_of(Did("a", "m"), Did("b", "m.v1")) is None
    assert version_of(Did("a", "m"), Did("a", "m.v0")) is None
    assert version_of(Did("a", "m"), Did("a", "mm.v1")) is None


@given(st.text(min_size=1, max_size=60), st.text(min_size=1), st.booleans())
def test_account_name_is_one_that_the_schema_allows(sub, issuer, taken):
    name = account_name(sub, issuer, taken=taken)
    assert ACCOUNT.fullmatch(name)
    assert name == account_name(sub, issuer, taken=taken)


def test_second_person_of_a_name_gets_another_account():
    one = account_name("alice", "https://a")
    assert one == "alice"
    assert account_name("alice", "https://b", taken=True) not in {
        one,
        account_name("alice", "https://c", taken=True),
    }
    assert account_name("service:plugin@hpc-b", "i") == "svc-plugin-hpc-b"


def test_identity_is_read_as_it_was_spelt():
    assert identity_parts(identity_text("https://i", "alice")) == ("https://i", "alice")
    assert scope_of_group("/climate/ocean") == "climate.ocean"


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [
        ("SOURCE [5] CHECKSUM Source and user-defined ADLER32 do not match", Verdict.CORRUPT),
        ("TRANSFER [5] checksum mismatch", Verdict.SUSPICIOUS),
        ("DESTINATION [5] CHECKSUM mismatch", Verdict.SUSPICIOUS),
        ("SOURCE [2] STAT No such file or directory", Verdict.GONE),
        ("SOURCE [13] STAT Permission denied", Verdict.DENIED),
        ("DESTINATION [13] Permission denied", Verdict.TRANSIENT),
        ("TRANSFER [110] connection timed out", Verdict.TRANSIENT),
        (None, Verdict.TRANSIENT),
    ],
)
def test_failure_is_judged_by_its_words(reason, verdict):
    assert judge(reason) is verdict


def test_pauses_double_up_to_a_bound():
    retries = Retries(first_s=1, longest_s=5)
    assert [retries.pause_s(n) for n in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]


def test_reasons_are_said_once_and_few():
    assert explain(["a", "b", "a"]) == "a; b"
    assert explain(["a", "b", "c", "d", "e"]) == "a; b; c (and 2 more reasons)"


def test_token_is_for_the_path_below_the_base():
    url = "https://edge.test:8443/dav/datasets/climate/a"
    assert token_target(EDGE, url) == ("https://edge.test:8443", "/datasets/climate/a")
    bare = Rse("0", "R", attributes={"token_audience": "https://x"})
    assert token_target(bare, url) == ("https://x", "/dav/datasets/climate/a")


@pytest.mark.parametrize(
    ("paths", "folder"),
    [(["/a/b/c"], "/a/b"), (["/a/b/c", "/a/x"], "/a"), (["/a/bc/d", "/a/b/d"], "/a"),
     (["/x"], "/"), (["/a/b", "/c/d"], "/")],
)  # fmt: skip
def test_common_folder_holds_all_paths(paths, folder):
    assert common_folder(paths) == folder


def test_lineage_joins_file_dataset_job_model_and_prediction():
    graph = Graph()
    data, model = Did("climate", "scenarios"), Did("climate", "model.v1")
    graph.add_record(Record(data, DidType.DATASET, {}))
    meta = {
        "job": "j1", "inputs": ["climate:scenarios"], "site": "hpc-b", "kind": "model",
        "predictions": [{"id": "p1", "time": "now"}, {"no": "id"}],
    }  # fmt: skip
    graph.add_record(Record(model, DidType.DATASET, meta))
    shown = graph.to_json(data)
    assert [(e["from"], e["to"], e["relation"]) for e in shown["edges"]] == [
        ("climate:model.v1", "prediction:p1", "predicted"),
        ("climate:scenarios", "job:j1", "read by"),
        ("job:j1", "climate:model.v1", "wrote"),
    ]
    assert {n["id"]: n["type"] for n in shown["nodes"]}["job:j1"] == "job"


@pytest.mark.parametrize(
    "named",
    [["a:b", "c:d"], "a:b, c:d", [{"scope": "a", "name": "b"}, "c:d", "rubbish", 7]],
)
def test_inputs_are_read_however_they_are_spelt(named):
    assert inputs_of({"inputs": named}) == [Did("a", "b"), Did("c", "d")]
