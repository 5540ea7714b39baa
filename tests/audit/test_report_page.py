"""The report as people see it: in Debian's Chromium, on a phone and on a desk, by day and by night, and on paper."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacit.audit.compare import compare
from tacit.audit.report import audit
from tacit.evidence import Evidence
from tacit.improve.select import Candidates
from tacit.rewards import fit

FLAGS = ["no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking"]
FLAGS += ["disable-component-update", "disable-sync"]
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
ROWS = 10_000
WORDS = ("answer", "bread", "water", "light", "sound", "river", "stone", "green", "never", "always", "often", "maybe")


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of 10,000 comparisons with every section that has a picture, and texts that would like to run."""
    rng = np.random.default_rng(0)
    good = dict(zip(WORDS, rng.normal(size=len(WORDS)), strict=True))

    def text() -> str:
        return " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(3, 12))).capitalize() + "."

    def gold(reply: str) -> float:
        return sum(good[word] for word in reply.lower().rstrip(".").split())

    prompts = [f"<script>alert({i})</script> {text()} " + "&<long>" * (i % 7) for i in range(ROWS // 4)]
    rows: list[dict[str, Any]] = []
    for i in range(ROWS):
        a, b = f"{text()} {text()}", text()
        better = gold(a.split(". ")[0]) - gold(b) + rng.logistic() > 0
        rows.append(
            {"prompt": prompts[i % len(prompts)], "chosen": a if better else b, "rejected": b if better else a}
            | {"annotator": f"p{rng.integers(30)}", "group": f"g{i % 3}", "chosen_first": bool(better)}
            | {"a column with a rather long name": f"and a value of it that is longer still, number {i % 4}"}
        )
    evidence = Evidence.from_records(rows, kind="comparison", source="votes.jsonl")
    reward = fit(
        Evidence.from_records(rows[:1500], kind="comparison", source="votes.jsonl"),
        encoder="hashed",
        members=3,
        name="a reward with quite a long name_of_one_word_that_goes_on_and_on_and_on",
    )
    choices = []
    for i in range(30):
        replies = [text() for _ in range(16)]
        choices.append(Candidates(i, prompts[i], list(replies), [gold(reply) for reply in replies]))
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(audit(reward, evidence, candidates=choices, resamples=50).html(), "utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("there is no chromium here")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=[f"--{flag}" for flag in FLAGS])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a window of some size and scheme, with `said` and `asked`: its console and its requests."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: (page.said.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda asked: page.asked.append(asked.url))
    page.goto(page_file.as_uri())
    yield page
    context.close()


EVERYWHERE = pytest.mark.parametrize(
    "opened", [(size, scheme) for size in SIZES for scheme in ("light", "dark")], indirect=True, ids="-".join
)


def test_the_page_is_small_and_holds_no_script(page_file: Path):
    text = page_file.read_text("utf-8")
    assert len(text.encode()) < 1_000_000
    assert "<script" not in text
    assert "http://" not in text
    assert "https://" not in text
    assert text.count("<svg") > 10


@EVERYWHERE
def test_it_says_nothing_on_the_console_and_asks_nobody(opened: Any, page_file: Path):
    assert opened.said == []
    assert opened.asked == [page_file.as_uri()]


@EVERYWHERE
def test_it_is_never_wider_than_the_window(opened: Any):
    opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    width = opened.evaluate("window.innerWidth")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    # Only tables may be wider, and they scroll in a box of their own.
    outside = """() => [...document.querySelectorAll('body *')]
        .filter(each => !each.closest('.scroll') && each.getBoundingClientRect().right > window.innerWidth + 1)
        .map(each => each.tagName + ' ' + each.textContent.slice(0, 60))"""
    assert opened.evaluate(outside) == []


LETTERS = """() => [...document.querySelectorAll('svg text')].map(each => {
    const svg = each.closest('svg'), box = svg.getBoundingClientRect(), own = each.getBoundingClientRect();
    return {
        text: each.textContent,
        size: parseFloat(getComputedStyle(each).fontSize) * box.width / svg.viewBox.baseVal.width,
        inside: own.left >= box.left - 1 && own.right <= box.right + 1
            && own.top >= box.top - 1 && own.bottom <= box.bottom + 1,
    };
})"""


@EVERYWHERE
def test_letters_in_pictures_are_large_enough_and_inside(opened: Any):
    letters = opened.evaluate(LETTERS)
    assert len(letters) > 100
    assert [each for each in letters if each["size"] < 10] == []
    assert [each["text"] for each in letters if not each["inside"]] == []


CONTRAST = """() => {
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(each => {
            const part = each / 255;
            return part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const paper = getComputedStyle(document.body).backgroundColor;
    const texts = document.querySelectorAll('p, li, h1, h2, th, td, figcaption, summary, b, svg text');
    const pairs = [...texts].map(each => {
        const style = getComputedStyle(each), card = each.closest('ol.verdict li');
        const colour = each.tagName === 'text' ? style.fill : style.color;
        const [a, b] = [light(colour), light(card ? getComputedStyle(card).backgroundColor : paper)];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), each.tagName + ' ' + each.textContent.slice(0, 40)];
    });
    return pairs.sort((a, b) => a[0] - b[0])[0];
}"""


@EVERYWHERE
def test_text_stands_out_from_the_page(opened: Any):
    """4.5 to 1 or more: level AA of the Web Content Accessibility Guidelines."""
    contrast, where = opened.evaluate(CONTRAST)
    assert contrast >= 4.5, where


@pytest.mark.parametrize("opened", [("phone", "light")], indirect=True)
def test_every_link_leads_somewhere_and_pictures_have_names(opened: Any):
    lost = "() => [...document.querySelectorAll('a')].filter(each => !document.querySelector(each.hash)).length"
    assert opened.evaluate("document.querySelectorAll('a').length") > 10
    assert opened.evaluate(lost) == 0
    unnamed = "document.querySelectorAll('svg:not([aria-label]):not([aria-hidden])').length"
    assert opened.evaluate(unnamed) == 0


@pytest.mark.parametrize("opened", [("desk", "dark")], indirect=True)
def test_paper_is_white_and_shows_what_the_screen_folds(opened: Any):
    assert opened.evaluate("document.querySelectorAll('details').length") > 2
    hidden = "() => [...document.querySelectorAll('details td')].filter(each => !each.checkVisibility()).length"
    assert opened.evaluate(hidden) > 0
    opened.emulate_media(media="print")
    assert opened.evaluate(hidden) == 0
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.pdf(format="A4")[:5] == b"%PDF-"


@pytest.fixture(scope="module")
def small_pages(tmp_path_factory: pytest.TempPathFactory, known: Any) -> list[Path]:
    """Three rewards compared, and an audit of a constant reward on 20 rows: most sections say why they are absent."""
    rng = np.random.default_rng(0)
    rows = [
        {"prompt": f"question {i}", "chosen": "yes " * rng.integers(1, 9), "rejected": "no " * rng.integers(1, 9)}
        for i in range(20)
    ]
    evidence = Evidence.from_records(rows, kind="comparison", source="a/folder/with/a/long/name/" * 4 + "votes.jsonl")
    folder = tmp_path_factory.mktemp("small")
    rewards = [
        known(len, "length"),
        known(lambda text: text.count("y"), "a name " * 9),
        known(lambda _: 0.0, "constant"),
    ]
    pages = {"compare": compare(rewards, evidence, resamples=50), "constant": audit(rewards[2], evidence, resamples=50)}
    for name, report in pages.items():
        (folder / f"{name}.html").write_text(report.html(), "utf-8")
    return [folder / f"{name}.html" for name in pages]


def test_small_pages_are_as_tidy(browser: Any, small_pages: list[Path]):
    for path in small_pages:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        said: list[str] = []
        page.on("console", lambda message, said=said: said.append(message.text))
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        assert [each["text"] for each in page.evaluate(LETTERS) if not each["inside"]] == [], path
        assert [each for each in page.evaluate(LETTERS) if each["size"] < 10] == [], path
        assert said == []
        page.close()
    assert small_pages[1].read_text("utf-8").count("Not computed:") >= 3
