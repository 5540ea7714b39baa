"""Rendering: one rule, the same for strings and messages."""

from datetime import date

import pytest

from tacit.conversation import parse_transcript, render, split_shared_prompt, texts, unread_parts

USER, ASSISTANT = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}


def test_strings_and_single_messages_render_the_same():
    assert texts("Hi", "Hello.") == texts([USER], [ASSISTANT]) == ("Hi", "Hello.")
    assert render([USER], "Hello.") == "Hi\n\nHello."
    assert render("", "Hello.") == "Hello."
    assert render("Hi", "") == "Hi"


def test_longer_conversations_name_their_roles():
    again = {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]}
    assert texts([USER, ASSISTANT, again], "Well.")[0] == "User: Hi\n\nAssistant: Hello.\n\nUser: And now?"


def test_an_empty_tool_message_is_empty_text():
    assert texts([{"role": "assistant", "content": None}], "")[0] == "Assistant: "


def test_parts_may_be_texts_and_nothing():
    assert (
        texts([{"role": "user", "content": ["a", None, {"text": "b"}, {"type": "text", "text": None}]}], "")[0] == "ab"
    )


def test_parts_without_a_type_are_texts():
    assert unread_parts([{"role": "user", "content": [{"text": "a"}, {"type": "audio"}]}]) == ["audio"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ({"function": {"name": "f"}}, "f()"),
        (
            {"name": "f", "arguments": {"day": date(2024, 1, 2), "in": "Zürich"}},
            'f({"day": "2024-01-02", "in": "Zürich"})',
        ),
        ({"function": {"name": "f", "arguments": "x = 1"}}, "f(x = 1)"),
    ],
)
def test_tool_calls_are_rendered_however_they_are_written(call, text):
    assert texts("", [{"role": "assistant", "content": None, "tool_calls": [None, call]}])[1] == text
    both = {"role": "assistant", "tool_calls": [call], "function_call": {"name": "older"}}
    assert texts("", [both])[1] == text


def test_transcripts_are_parsed():
    assert parse_transcript("\n\nHuman: a\nb\n\nAssistant: c\n\nHuman:d") == [
        {"role": "user", "content": "a\nb"},
        {"role": "assistant", "content": "c"},
        {"role": "user", "content": "d"},
    ]
    assert parse_transcript("Human nature, no turns") == []
    assert parse_transcript("Be kind.\n\nHuman: a")[0] == {"role": "system", "content": "Be kind."}


def test_the_shared_prompt_is_split_off():
    left, right = "\n\nHuman: a\n\nAssistant: yes", "\n\nHuman: a\n\nAssistant: no"
    assert split_shared_prompt(left, right) == ([{"role": "user", "content": "a"}], "yes", "no")
    assert split_shared_prompt([USER, ASSISTANT], [USER, {"role": "assistant", "content": "Go."}]) == (
        [USER],
        [ASSISTANT],
        [{"role": "assistant", "content": "Go."}],
    )
    assert split_shared_prompt("no turns", "here") is None
    assert split_shared_prompt(left, "\n\nHuman: b\n\nAssistant: no") is None


def test_endings_of_transcripts_that_are_more_than_an_answer_stay_messages():
    short, long = "\n\nHuman: a\n\nAssistant: yes", "\n\nHuman: a\n\nAssistant: no\n\nHuman: b\n\nAssistant: c"
    assert split_shared_prompt(short, long) == (
        parse_transcript(short)[:1],
        *(parse_transcript(t)[1:] for t in (short, long)),
    )
    asked = "\n\nHuman: a\n\nHuman: b"
    assert split_shared_prompt(short, asked)[2] == [{"role": "user", "content": "b"}]


def test_an_ending_is_left_on_the_shorter_side():
    longer = [USER, ASSISTANT, USER, ASSISTANT]
    assert split_shared_prompt(longer, longer[:2]) == ([USER], longer[1:], [ASSISTANT])


def test_a_transcript_beside_a_plain_text_and_other_roles_share_nothing():
    assert split_shared_prompt("\n\nAssistant: yes", "no") is None
    assert split_shared_prompt([USER, ASSISTANT], [{**USER, "role": "system"}, ASSISTANT]) is None


def test_identical_sides_keep_their_last_turn_as_ending():
    same = "\n\nHuman: a\n\nAssistant: yes"
    assert split_shared_prompt(same, same) == ([{"role": "user", "content": "a"}], "yes", "yes")
