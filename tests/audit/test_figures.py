"""Pictures: everything inside, nothing on top of each other, names where there is room for them."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from tacit.audit.figures import Interval, Line, interval_chart, line_chart, ticks


def texts(svg: str) -> list[tuple[str, float, float]]:
    """(text, x, y) of every text of the first picture."""
    root = ElementTree.fromstring(svg[: svg.index("</svg>") + 6])
    return [(each.text or "", float(each.attrib["x"]), float(each.attrib["y"])) for each in root.iter("text")]


def test_ticks_are_round_numbers_within():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(-0.13, 0.29) == pytest.approx([-0.1, 0, 0.1, 0.2])
    assert ticks(3, 3) == [3]


def test_short_names_stand_beside_their_intervals_and_long_ones_above():
    beside = interval_chart([Interval("short", 0.5, [0.4, 0.6]), Interval("names", 0.7)], title="t", x_label="x")
    above = interval_chart([Interval("a name " * 5, 0.5, [0.4, 0.6]), Interval("short", 0.7)], title="t", x_label="x")
    assert 'text-anchor="end"' in beside
    assert 'class="name"' not in beside
    assert above.count('class="name"') == 2
    (long,) = (y for text, _, y in texts(above) if text.startswith("a name"))
    at = [float(y) for y in re.findall(r'class="dot[^>]*cy="([\d.]+)"', above)]
    assert at[0] - 20 < long < at[0]


def test_a_name_too_long_for_the_picture_is_cut_and_markup_is_escaped():
    svg = interval_chart([Interval("<b>" + "x" * 200, 0.5)], title='"<t>"', x_label="&")
    ((name, _, _),) = [each for each in texts(svg) if each[0].startswith("<b>")]
    assert name.endswith("…")
    assert len(name) < 60
    assert "<b>" not in svg


def test_labels_stay_inside_and_those_above_keep_apart():
    long = "a label of an axis about as long as the picture"
    svg = line_chart(
        [Line("one", [0, 1, 8000], [0.0, 1.0, 2.0])],
        title="t",
        x_label=long,
        y_label="y",
        x_ticks=[0, 8000],
        upper=[(0, "n = 1"), (1, "two"), (2, "four"), (8000, "1024")],
    )
    found = {text: x for text, x, _ in texts(svg)}
    assert found["8,000"] + 7 * 5 / 2 <= 400
    assert 7 * len(long) / 2 - 1 <= found[long] <= 400 - 7 * len(long) / 2 + 1
    assert {"n = 1", "1024"} <= found.keys()
    assert not {"two", "four"} & found.keys()  # it would stand on `n = 1`


def test_a_line_is_broken_where_it_is_unknown_and_nothing_known_is_an_error():
    nan = float("nan")
    svg = line_chart(
        [Line("one", [0, 1, 2], [0.0, nan, 2.0], [nan] * 3, [nan] * 3)], title="t", x_label="x", y_label="y"
    )
    assert "nan" not in svg
    with pytest.raises(ValueError, match="at least one finite"):
        line_chart([Line("one", [0], [nan])], title="t", x_label="x", y_label="y")
