"""A text file is read as UTF-8 or as it is said to be, and what is no text is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundation.errors import BadInput
from foundation.files.text_file import check_encoding, read_text

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))


def write(folder: Path, raw: bytes) -> Path:
    file = folder / "d.txt"
    file.write_bytes(raw)
    return file


@given(
    TEXT,
    st.sampled_from(
        ["utf-8", "utf-8-sig", "UTF-16", "utf-16-le", "utf_32", "cp1252", "latin-1", "shift_jis"]
    ),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(tmp_path: Path, text: str, encoding: str) -> None:
    text = f"~{text}".encode(encoding, "ignore").decode(encoding)
    raw = text.encode(encoding)
    declared = None if encoding.startswith("utf-8") else encoding
    try:
        text_read = read_text(write(tmp_path, raw), declared)
    except BadInput as error:
        # A text of one byte a character that is UTF-8 as well: said, not guessed.
        assert "leave it out" in str(error) and raw.decode("utf-8") != text
    else:
        assert text_read == text


@pytest.mark.parametrize(
    ("raw", "encoding", "says"),
    [
        (
            "a\nb".encode("utf-16"),
            None,
            r"d.txt:1: UTF-16 text, by its first bytes; .*data.encoding: utf-16\)",
        ),
        ("a\nb".encode("utf-32"), None, r"d.txt:1: UTF-32 text"),
        ("a\nb".encode("utf-16-le"), None, r"d.txt:1: a zero byte.*data.encoding: utf-16-le"),
        (
            "a\nb".encode("utf-16"),
            "latin-1",
            "d.txt:1: UTF-16 text, by its first bytes; data.encoding says latin-1",
        ),
        (
            b"\xef\xbb\xbfa",
            "utf-16",
            "d.txt:1: UTF-8 text, by its first bytes; data.encoding says utf-16",
        ),
        (
            "a\nCafé".encode("latin-1"),
            None,
            r"d.txt:2: byte 0xE9 is not UTF-8; .*data.encoding: latin-1\)",
        ),
        (
            "a\nCafé".encode(),
            "latin-1",
            "d.txt: UTF-8 text, and data.encoding says latin-1; leave it out",
        ),
        (
            b"ab\n\xff\xff\xff",
            "shift_jis",
            "d.txt:2: byte 0xFF is not shift_jis; write the encoding of the file",
        ),
        (gzip.compress(b"a", mtime=0), None, "d.txt: compressed with gzip; unpack it"),
        (b"PK\x03\x04rest", None, "d.txt: a ZIP archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", None, "d.txt: .* git lfs pull"),
        (b"PAR1rest", None, "d.txt: a Parquet file; give it the ending .parquet"),
    ],
)
def test_what_is_no_such_text_is_named(
    tmp_path: Path, raw: bytes, encoding: str | None, says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        read_text(write(tmp_path, raw), encoding)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="none: no such file"):
        read_text(tmp_path / "none")
    with pytest.raises(BadInput, match="a folder; name a file in it"):
        read_text(tmp_path)


@pytest.mark.parametrize("name", ["utf8", "UTF-16", "cp1252", "gbk"])
def test_text_encodings_are_known(name: str) -> None:
    assert check_encoding(name) == name


@pytest.mark.parametrize("name", ["utf-99", "hex", "zlib", "", "a\0b"])
def test_what_is_no_text_encoding_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no text encoding; write such as utf-16"):
        check_encoding(name)
