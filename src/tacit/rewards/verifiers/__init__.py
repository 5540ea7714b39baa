"""Rewards that check: a rule compares a completion with a reference answer, or with a form that is asked for.

| check | right where | reference |
|---|---|---|
| `number` | the final number equals the reference | a number, or a solution that ends in one |
| `latex` | the mathematics is equal (extra `verify`) | LaTeX |
| `exact` | the answer is the reference, case and punctuation aside | text |
| `regex` | a regular expression is found | the pattern, unless it is an option |
| `json_schema` | the JSON satisfies the schema (extra `verify`) | the schema, unless it is an option |
| `length` | words, characters or tokens-ish within bounds | none |
| `format` | tags, think block, sections, an answer that can be found | none |
| `unit_tests` | the tests pass; off until allowed, and no sandbox | Python asserts |
"""

from tacit.rewards.verifiers.checks import (
    CHECKS,
    Check,
    ExactCheck,
    FormatCheck,
    JsonSchemaCheck,
    LatexCheck,
    LengthCheck,
    NumberCheck,
    RegexCheck,
    make_check,
)
from tacit.rewards.verifiers.code import UnitTests, allow_code
from tacit.rewards.verifiers.verifier import Verifier, fit

__all__ = [
    "CHECKS",
    "Check",
    "ExactCheck",
    "FormatCheck",
    "JsonSchemaCheck",
    "LatexCheck",
    "LengthCheck",
    "NumberCheck",
    "RegexCheck",
    "UnitTests",
    "Verifier",
    "allow_code",
    "fit",
    "make_check",
]
