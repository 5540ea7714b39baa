"""Rendering: one rule, the same for strings and messages."""

from tacit.conversation import parse_transcript, render, split_shared_prompt, texts

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


def test_identical_sides_keep_their_last_turn_as_ending():
    same = "\n\nHuman: a\n\nAssistant: yes"
    assert split_shared_prompt(same, same) == ([{"role": "user", "content": "a"}], "yes", "yes")
