"""The tests that the documents name as proof are there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
DOCUMENTS = ["docs/threading.md", "docs/security.md", "README.md"]


@cache
def names_of_tests() -> frozenset[str]:
    """Every test function, of Python and of Rust."""
    found: set[str] = set()
    for folder, pattern, form in (
        ("tests", "test_*.py", r"def (test_\w+)\("),
        ("shard/engine/src", "*.rs", r"#\[test\]\s+fn (\w+)\("),
    ):
        for file in (TOP / folder).rglob(pattern):
            found |= set(re.findall(form, file.read_text()))
    return frozenset(found)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_files_and_tests_exist(document: str) -> None:
    text = (TOP / document).read_text()
    files = re.findall(r"`((?:tests|shard|coordinator)/[\w/]+\.(?:py|rs))`", text)
    assert [file for file in files if not (TOP / file).exists()] == []
    # A test of Rust is named by a sentence, which a metric is not.
    named = re.findall(r"`(test_\w+|(?!shardtls_)\w+(?:_\w+){4,})`", text)
    assert [name for name in named if name not in names_of_tests()] == []


def test_there_is_something_to_look_for() -> None:
    assert "a_forked_child_does_not_repeat_its_parent" in names_of_tests()
