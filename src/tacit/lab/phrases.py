"""The words of the built-in world: what its prompts ask and what its replies can say.

Every statement fits behind an opener such as "In short," and names its topic in words of its own, as people do.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """Something that people ask about, what is true of it, what is said of it wrongly, and what to try."""

    name: str
    questions: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    examples: tuple[str, ...]


TOPICS = (
    Topic(
        "bread",
        ("How do I get a better sourdough loaf?", "Why is my bread so dense?", "What makes a good crust on bread?"),
        (
            "a starter should double within six hours before you bake with it",
            "a wetter dough gives a more open crumb",
            "steam in the first minutes keeps the crust soft enough to rise",
            "salt slows the yeast and tightens the gluten",
        ),
        (
            "bread rises best near boiling heat",
            "gluten only forms once sugar is added to the dough",
        ),
        (
            "mix the flour and water half an hour before the salt",
            "bake the loaf in a lidded iron pot for the first twenty minutes",
        ),
    ),
    Topic(
        "houseplants",
        ("How do I keep my houseplants alive?", "Why are the leaves of my plant yellow?", "How often should I water?"),
        (
            "most houseplants die of too much water rather than too little",
            "roots need air, so a pot must drain at the bottom",
            "yellow lower leaves often mean soggy soil",
            "a bright window without direct sun suits most foliage",
        ),
        (
            "plants take up most of their water through the leaves",
            "a layer of gravel inside a closed pot replaces drainage",
        ),
        (
            "push a finger into the soil and water only where it feels dry",
            "turn the pot a quarter each week so that it grows evenly",
        ),
    ),
    Topic(
        "sleep",
        ("How can I sleep better?", "Why do I wake up at night?", "What helps against a racing mind in bed?"),
        (
            "a fixed time to get up steadies the body clock",
            "caffeine still works six hours after the cup",
            "a cool dark room makes it easier to fall asleep",
            "alcohol breaks up the second half of the night",
        ),
        (
            "everybody needs exactly eight hours of sleep",
            "lost sleep can be fully banked on one Sunday",
        ),
        (
            "write tomorrow's worries on paper an hour before bed",
            "get up and read somewhere dim when you lie awake",
        ),
    ),
    Topic(
        "bicycles",
        ("How do I look after my bicycle?", "Why does my chain slip?", "How hard should I pump my tyres?"),
        (
            "a worn chain wears out the cassette as well",
            "softer tyres grip better and roll well on rough roads",
            "brake pads with less than a millimetre left must be replaced",
            "a dry squeaking chain wants oil, then a wipe",
        ),
        (
            "tyres should always be pumped to the highest number on the wall",
            "thick grease on the outside of a chain protects it from dirt",
        ),
        (
            "measure the chain with a cheap gauge every thousand kilometres",
            "turn the barrel adjuster half a turn and shift again",
        ),
    ),
)

OPENERS = (
    "",
    "",
    "Hello! ",
    "Hi there. ",
    "Quick question: ",
    "A friend asked me this. ",
    "I have been wondering. ",
    "My neighbour and I disagree. ",
    "Something practical. ",
)
CLOSERS = ("", "", "Thanks!", "Thank you.", "I look forward to your answer.", "It has bothered me for weeks.")
LENGTH_WISHES = {
    "brief": ("Please keep it short.", "One or two sentences will do.", "Be brief, please."),
    "detailed": ("Please go into detail.", "I would like the full picture.", "Take your time and explain thoroughly."),
    "any": ("",),
}
LEVELS = {
    "beginner": ("I am completely new to this.", "I have never done this before.", "Assume that I know nothing."),
    "expert": (
        "I have done this for years.",
        "I know the basics well.",
        "You can skip the introduction for beginners.",
    ),
    "any": ("",),
}

DIRECT = ("In short,", "The short answer is this:")
HEDGED = ("I think", "Perhaps")
EXAMPLE = ("For example,", "For instance,")
PLAIN = ("", "", "Also,")

POLITE = (
    "thank you for asking",
    "that is a good question",
    "I am happy to help",
)
RUDE = (
    "frankly, you should have looked this up yourself",
    "honestly, everybody knows this",
)
PADDING = (
    "there are many things that one could say about a subject like this one",
    "as with so many questions in life, it depends on a number of different factors",
    "it is important to remember that every situation is unique in its own particular way",
)
