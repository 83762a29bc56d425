import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index import examples, upload
from index.errors import BadUpload
from index.examples import Catalog, Parsed, parse
from index.types import Candidate, Example, Fault, Label, LabelKind

CATALOG = Catalog(
    (
        Candidate("nano", 1e-5, like="small"),
        Candidate("mini", 1e-4, like="old-mini"),
        Candidate("midi", 1e-4),
        Candidate("maxi", 1e-2, like="large"),
    ),
    others=frozenset({"retired"}),
)
SALUTE_ID = "ex-94497f93095295ba"  # printf 'salute' | sha256sum | cut -c -16


def cheapest(model: str) -> Label:
    return Label(LabelKind.CHEAPEST, model)


def lines(*rows: object) -> bytes:
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


def fault_of(row: object) -> str:
    parsed = parse(lines(row), CATALOG)
    assert parsed.examples == ()
    assert [fault.line for fault in parsed.faults] == [1]
    return parsed.faults[0].reason


def test_names_are_candidates_what_they_are_like_tiers_and_others() -> None:
    assert CATALOG.names == {
        *("nano", "mini", "midi", "maxi"),
        *("small", "medium", "large"),
        *("old-mini", "retired"),
    }


@pytest.mark.parametrize(
    ("model", "scores"),
    [
        ("nano", {"nano": 1, "mini": 1, "midi": 1, "maxi": 1}),
        ("mini", {"nano": 0, "mini": 1, "midi": 1, "maxi": 1}),
        ("maxi", {"nano": 0, "mini": 0, "midi": 0, "maxi": 1}),
        ("medium", {"small": 0, "medium": 1, "large": 1}),
        ("retired", {"retired": 1}),
        ("old-mini", {"old-mini": 1}),
    ],
)
def test_the_cheapest_that_does_it_well_says_that_dearer_ones_do_too(model: str, scores: dict[str, float]) -> None:
    assert CATALOG.expand(cheapest(model)) == scores


def test_a_candidate_named_like_a_tier_is_the_candidate() -> None:
    catalog = Catalog((Candidate("large", 1.0), Candidate("tiny", 0.1)))
    assert catalog.expand(cheapest("large")) == {"large": 1.0, "tiny": 0.0}


def test_an_only_label_is_kept_as_a_label() -> None:
    assert CATALOG.expand(Label(LabelKind.ONLY, "mini")) == {}


def test_json_lines_with_each_kind_of_outcome_are_read() -> None:
    data = lines(
        {"id": "a", "prompt": "Rename x", "model": "medium", "task": "code edit"},
        "",
        {"id": "b", "prompt": "Übersetze\ndas", "only": "retired"},
        {"prompt": "salute", "scores": {"nano": 0, "large": 0.25}},
    )
    assert parse(data, CATALOG) == Parsed(
        (
            Example("a", "Rename x", {"small": 0.0, "medium": 1.0, "large": 1.0}, cheapest("medium"), "code edit"),
            Example("b", "Übersetze\ndas", {}, Label(LabelKind.ONLY, "retired")),
            Example(SALUTE_ID, "salute", {"nano": 0.0, "large": 0.25}),
        ),
        (),
        4,
    )


def test_csv_columns_are_scores_unless_they_have_a_meaning_of_their_own() -> None:
    data = (
        "id,prompt,task,model,only,mini,maxi\r\n"
        'a,"Say ""hi"",\nplease",chat,,,0.5,\r\n'
        "\r\n"
        "b,Plan it,,maxi,,,\r\n"
        ",salute,,,nano,,\r\n"
        "d, two ,,,, 0 ,1"
    )
    assert parse(data.encode(), CATALOG) == Parsed(
        (
            Example("a", 'Say "hi",\nplease', {"mini": 0.5}, task="chat"),
            Example("b", "Plan it", {"nano": 0.0, "mini": 0.0, "midi": 0.0, "maxi": 1.0}, cheapest("maxi")),
            Example(SALUTE_ID, "salute", {}, Label(LabelKind.ONLY, "nano")),
            Example("d", " two ", {"mini": 0.0, "maxi": 1.0}),
        ),
        (),
        7,
    )


@pytest.mark.parametrize("name", ["", "x.csv", "X.CSV.GZ", "x.unknown"])
def test_a_byte_order_mark_and_gzip_change_nothing(name: str) -> None:
    data = b"\xef\xbb\xbfprompt,nano\nsalute,1\n"
    expected = Parsed((Example(SALUTE_ID, "salute", {"nano": 1.0}),), (), 2)
    halves = gzip.compress(data[:9]) + gzip.compress(data[9:])
    assert [parse(d, CATALOG, name=name) for d in (data, gzip.compress(data), halves)] == [expected] * 3


@pytest.mark.parametrize("name", ["", "x.jsonl", "x.ndjson.gz", "x.JSON"])
def test_a_byte_order_mark_before_json_lines_is_skipped(name: str) -> None:
    data = b"\xef\xbb\xbf" + lines("", {"prompt": "salute", "scores": {"nano": 1}})
    assert parse(data, CATALOG, name=name).examples == (Example(SALUTE_ID, "salute", {"nano": 1.0}),)


def test_the_suffix_has_the_first_word() -> None:
    (as_json,) = parse(b"prompt,nano\n", CATALOG, name="x.jsonl").faults
    (as_csv,) = parse(lines({}), CATALOG, name="x.csv").faults
    assert as_json.reason.startswith("not JSON: ")
    assert as_csv.reason.startswith("no CSV header: ")


def test_an_empty_upload_has_nothing_in_it() -> None:
    assert parse(b"", CATALOG) == Parsed((), (), 0)
    assert parse(b"", CATALOG, name="x.csv") == Parsed((), (Fault(1, "no CSV header"),), 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("[1]", "not a JSON object"),
        ({}, "no prompt"),
        ({"prompt": 3}, "prompt has to be a string"),
        ({"prompt": " \n", "model": "nano"}, "empty prompt"),
        ({"prompt": "p"}, "no outcome: give one of model, only, scores"),
        ({"prompt": "p", "scores": {}}, "no outcome: scores is empty"),
        (
            {"prompt": "p", "scores": [1]},
            "scores has to be an object: model → number from 0 to 1",
        ),
        ({"prompt": "p", "model": "nano", "only": "nano"}, "model and only together: give only one of them"),
        ({"prompt": "p", "model": None}, "model has to be a model's name"),
        ({"prompt": "p", "model": "nanno"}, "model names an unknown model 'nanno'; did you mean 'nano'?"),
        ({"prompt": "p", "only": "zzz"}, "only names an unknown model 'zzz'"),
        (
            {"prompt": "p", "scores": {"maxl": 1}},
            "scores names an unknown model 'maxl'; did you mean 'maxi'?",
        ),
        ({"prompt": "p", "scores": {"nano": 1.5}}, "score of nano is outside 0..1: 1.5"),
        ({"prompt": "p", "scores": {"nano": -1}}, "score of nano is outside 0..1: -1"),
        ({"prompt": "p", "scores": {"nano": True}}, "score of nano is not a number: True"),
        ({"prompt": "p", "scores": {"nano": "1"}}, "score of nano is not a number: '1'"),
        ({"prompt": "p", "scores": {"nano": None}}, "score of nano is not a number: NoneType"),
        ({"prompt": "p", "mdel": "nano", "x": 1}, "unknown field 'mdel', 'x'"),
        (
            {"prompt": "p", "model": "nano", "task": "t" * 65},
            f"task '{'t' * 65}' has to be a string of at most 64 printable characters",
        ),
        (
            {"prompt": "p", "model": "nano", "id": "a b"},
            "id 'a b' has to be 1 to 128 characters without spaces, slashes or control characters",
        ),
    ],
)
def test_a_line_that_cannot_be_taken_says_why(row: object, reason: str) -> None:
    assert fault_of(row) == reason


@pytest.mark.parametrize("bad", ["", "a/b", "a\\b", "a\tb", "a\u0085b", "x" * 129, ".", "..", 7, None])
def test_an_id_that_could_not_stand_in_a_path_is_refused(bad: object) -> None:
    assert "has to be 1 to 128 characters" in fault_of({"prompt": "p", "model": "nano", "id": bad})


def test_only_the_first_hundred_unknown_names_get_a_hint() -> None:
    data = lines(*({"prompt": f"p{n}", "model": f"nano{n}"} for n in [*range(101), 0]))
    reasons = [fault.reason for fault in parse(data, CATALOG).faults]
    assert reasons[99] == "model names an unknown model 'nano99'; did you mean 'nano'?"
    assert reasons[100] == "model names an unknown model 'nano100'"
    assert reasons[101] == "model names an unknown model 'nano0'; did you mean 'nano'?"


def test_deeply_nested_json_is_a_fault_not_a_crash() -> None:
    nested = "[" * 900 + "]" * 900
    assert "task list has to be" in fault_of(f'{{"prompt": "p", "model": "nano", "task": {nested}}}')
    assert fault_of("[" * 100_000).startswith("not JSON")
    assert fault_of('{"prompt": "p", "scores": {"nano": NaN}}').startswith("not JSON")


def test_an_id_that_was_there_before_is_named_with_its_first_line() -> None:
    data = lines(
        {"prompt": "salute", "model": "nano"},
        {"prompt": "other", "model": "nano", "id": "in-index"},
        {"prompt": "bad", "model": "none", "id": "b"},
        {"prompt": "salute", "model": "maxi"},
        {"prompt": "good", "scores": {"nano": 1}, "id": "b"},
    )
    parsed = parse(data, CATALOG, taken={"in-index"})
    assert [example.id for example in parsed.examples] == [SALUTE_ID, "b"]
    assert parsed.faults == (
        Fault(2, "id 'in-index' is already in the index"),
        Fault(3, "model names an unknown model 'none'"),
        Fault(4, f"duplicate id '{SALUTE_ID}', first on line 1"),
    )


def test_over_long_lines_and_prompts_are_refused_and_the_rest_is_read() -> None:
    longest, too_long = "x" * 1_000_000, "y" * 1_000_001
    data = lines(
        {"id": "a", "prompt": longest, "only": "nano"},
        {"id": "b", "prompt": too_long, "only": "nano"},
        {"id": "c", "prompt": "z" * upload.MAX_LINE_BYTES, "only": "nano"},
        {"id": "d", "prompt": "short", "only": "nano"},
    )
    parsed = parse(data, CATALOG)
    assert [example.id for example in parsed.examples] == ["a", "d"]
    assert parsed.faults == (
        Fault(2, "over-long prompt: 1,000,001 characters, at most 1,000,000"),
        Fault(3, "over-long: 8,388,650 bytes, at most 8,388,608 a line"),
    )


def test_binary_lines_are_refused_and_the_rest_is_read() -> None:
    data = b'{"prompt": "\xff", "model": "nano"}\n{"prompt": "a\x00"}\n' + lines(
        {"id": "a", "prompt": "tab\tand \x7f", "only": "nano"}
    )
    parsed = parse(data, CATALOG)
    assert parsed == Parsed(
        (Example("a", "tab\tand \x7f", {}, Label(LabelKind.ONLY, "nano")),),
        (Fault(1, "binary: not UTF-8 text"), Fault(2, "binary: control character U+0000")),
        3,
    )


def test_csv_faults_are_named_by_the_line_on_which_their_record_starts() -> None:
    data = (
        b"prompt,model,nano,maxi\n"
        b'"two\nlines",,2,\n'
        b"p,nano,1,\n"
        b"short,nano\n"
        b"none,,,\n"
        b",,1,\n"
        b"p,,true,\n"
        b"p,,nan,\n"
        b'"quoted"badly,,1,\n'
        b'"a quote \x00\n of two lines",,1,\n'
        b"\xff,,1,\n"
        b"fine,,1,\n"
        b'"never closed,,1,\n'
        b"and so on\n"
    )
    parsed = parse(data, CATALOG)
    assert [example.prompt for example in parsed.examples] == ["fine"]
    assert [(fault.line, fault.reason) for fault in parsed.faults] == [
        (2, "score of nano is outside 0..1: 2.0"),
        (4, "model and scores together: give only one of them"),
        (5, "2 cells, but the header names 4 columns"),
        (6, "no outcome: give one of model, only, scores"),
        (7, "no prompt"),
        (8, "score of nano is not a number: 'true'"),
        (9, "score of nano is not a number: nan"),
        (10, "not CSV: ',' expected after '\"'"),
        (11, "binary: control character U+0000"),
        (13, "binary: not UTF-8 text"),
        (15, "not CSV: unexpected end of data"),
    ]
    assert parsed.lines == 16


def test_an_over_long_csv_line_takes_no_other_record_with_it() -> None:
    huge = b"x" * upload.MAX_LINE_BYTES
    data = b'prompt,nano\nbefore,1\n"' + huge + b'\ngoes on",1\n' + huge + b",1\nafter,1\n"
    parsed = parse(data, CATALOG)
    assert [example.prompt for example in parsed.examples] == ["before", "after"]
    assert [fault.line for fault in parsed.faults] == [3, 5]


def test_a_prompt_longer_than_the_csv_modules_own_limit_is_read() -> None:
    assert len(parse(b"prompt,nano\n" + b"x" * 500_000 + b",1\n", CATALOG).examples) == 1


def test_an_unknown_column_is_one_fault_and_the_others_count() -> None:
    data = b"prompt,nano,max1\na,1,1\nb,,1\n"
    parsed = parse(data, CATALOG)
    assert [(example.prompt, example.scores) for example in parsed.examples] == [("a", {"nano": 1.0})]
    assert parsed.faults == (
        Fault(1, "column names an unknown model 'max1'; did you mean 'maxi'?"),
        Fault(3, "no outcome: give one of model, only, scores"),
    )


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"a,nano\n", "no CSV header: the first line has to name a `prompt` column"),
        (b"prompt,nano,nano\n", "column 'nano' is there more than once"),
        (b"\x00\x01\n", "binary: control character U+0000"),
    ],
)
def test_without_a_good_header_no_csv_row_is_read(header: bytes, reason: str) -> None:
    assert parse(header + b"a,1\n", CATALOG) == Parsed((), (Fault(1, reason),), 2)


def test_corrupt_gzip_is_a_bad_upload() -> None:
    whole = gzip.compress(b"prompt,nano\nsalute,1\n")
    for data in (whole[:-9], whole[:12] + b"!!!" + whole[15:], whole + b"rest", b"\x1f\x8b"):
        with pytest.raises(BadUpload, match="line 0: corrupt gzip: "):
            parse(data, CATALOG)


def test_gzip_that_unpacks_to_too_much_is_a_bad_upload() -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(BadUpload) as caught:
        upload.unpack(bomb, limit=9_999_999)
    assert caught.value.faults == (Fault(0, "unpacks to more than 9,999,999 bytes"),)
    assert len(upload.unpack(bomb, limit=10_000_000)) == 10_000_000


def test_an_upload_that_is_too_large_is_a_bad_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "MAX_UPLOAD_BYTES", 5)
    with pytest.raises(BadUpload) as caught:
        parse(b"123456", CATALOG)
    assert caught.value.faults == (Fault(0, "6 bytes; at most 5 can be sent at once"),)


PIECES = st.sampled_from(
    [
        *(b"prompt", b"id", b"task", b"model", b"only", b"scores", b"nano", b"small"),
        *(b",", b'"', b"\n", b"\r", b"{", b"}", b"[", b"]", b":", b"1", b"0.5", b"nan", b" "),
        *(
            b"\x00",
            b"\xff",
            b"\xef\xbb\xbf",
            b"\\ud800",
            b'{"prompt": "p", "model": "nano"}\n',
            b"prompt,nano\n",
        ),
    ]
)
ANY = st.binary() | st.lists(PIECES).map(b"".join)


@given(
    ANY | ANY.map(gzip.compress) | st.binary().map(b"\x1f\x8b\x08".__add__),
    st.sampled_from(["", "a.csv", "a.jsonl"]),
)
def test_any_bytes_give_examples_faults_or_a_bad_upload(data: bytes, name: str) -> None:
    try:
        parsed = parse(data, CATALOG, name=name)
    except BadUpload:
        return
    assert all(1 <= fault.line <= max(parsed.lines, 1) and fault.reason for fault in parsed.faults)
    assert len(parsed.examples) <= parsed.lines
