"""Texts of users within a page, and what is said of values."""

import collections
import html.parser
import json

import pytest
from hypothesis import given, strategies as st

from taskflowx.reports import texts

HOSTILE = [
    "</script><script>alert(1)</script>",
    "</pre></style></title></textarea><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)' x=\"",
    "<!--<script>",
    "]]><svg onload=alert(1)>",
    "&lt;b&gt; &#60;i&#62; &amp",
    "\x00\x01\x1b[31m\x7f\x85",
    "\u202egnp.exe\u2066\u200f\ufeff",
    "\ud800 half of a pair \udfff\uffff",
    "{{7*7}} ${x} `y` \\u003c",
    "line\r\nbreak\ttab\u2028\u2029",
]


class Reader(html.parser.HTMLParser):
    """Collects the text of HTML, and whatever else is in it."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.text, self.others = "", []

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attrs):
        self.others.append((tag, attrs))

    def handle_comment(self, data):
        self.others.append(data)

    handle_endtag = handle_decl = unknown_decl = handle_pi = handle_comment


def read(made):
    reader = Reader()
    reader.feed(made)
    reader.close()
    return reader


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_text_is_nothing_but_text(hostile):
    in_text = read(texts.text(hostile))
    assert in_text.others == []
    [(_, attributes)] = read(f'<p title="{texts.text(hostile)}">').others
    assert [name for name, _ in attributes] == ["title"]
    assert attributes[0][1] == in_text.text


@given(st.text(st.characters(codec=None)))
def test_any_text_is_nothing_but_text(given_text):
    made = texts.text(given_text)
    reader = read(made)
    assert reader.others == []
    made.encode()  # no half of a pair is left
    hidden = [sign for sign in given_text if not sign.isprintable() and sign in "\x00\x1b\x7f\u202e\u2066\ufeff\u200f"]
    assert not set(hidden) & set(reader.text)
    assert all(f"⟨U+{ord(sign):04X}⟩" in reader.text for sign in hidden)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_comes_back_from_within_html(value):
    made = texts.as_json(value)
    assert not set("<>&") & set(made)
    assert made.isascii()
    assert made.isprintable()
    assert json.loads(made) == value


def test_a_line_is_bounded_and_one():
    assert texts.line("a\n\n b\t c") == "a b c"
    assert texts.line("x" * 500, 10) == "xxxxxxxxx…"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (-1, "0"),
        (1e-9, "0"),
        (0.000123456, "0.000123"),
        (0.0200361, "0.02"),
        (0.99996, "1"),
        (12345.6789, "12345.679"),
    ],
)
def test_seconds_have_no_more_digits_than_count(value, said):
    assert texts.seconds(value) == said


class Mine(dict):
    def __len__(self):
        raise RuntimeError("nobody asks")

    def __repr__(self):
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "None"),
        ("secret", "str, 6 characters"),
        ("s", "str, 1 character"),
        (b"\0" * 3000, "bytes, 2.93 KB"),
        (b"", "bytes, 0 bytes"),
        ({"password": 1}, "dict, 1 item"),
        ([1, 2], "list, 2 items"),
        (collections.deque(), "deque, 0 items"),
        (5, "int"),
        (Mine(), "Mine"),
    ],
)
def test_of_a_value_its_type_and_its_size_are_told(value, said):
    assert texts.told(value) == said


def test_an_array_is_told_by_its_bytes():
    numpy = pytest.importorskip("numpy")
    assert texts.told(numpy.zeros(1024)) == "ndarray, 8 KB"


def test_a_value_is_shown_in_short_whatever_its_class_does():
    assert texts.shown("x" * 1000) == "'" + "x" * 298 + "…"
    assert texts.shown(Mine()) == "Mine (its repr raised RuntimeError)"
