"""The page of a report: what it holds, and that it holds nothing else."""

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from wattfill.testing import LAWS, LawBrokenError
from wattfill.testing.command import Run
from wattfill.testing.conformance import Report, Verdict
from wattfill.testing.page import as_page
from wattfill.testing.trial import READABLE, Outcome

RUN = Run("share.py:share", "wattfill verify share.py:share --seed 7", {"wattfill": "1.2.3"})
ONE = {"minimum": [1.0, 2.0], "maximum": [10.0, 4.0], "capacity": 10.0, "buffer": 0.2}
TREE = {
    "minimum": [0.0, 0.0, 0.0],
    "maximum": [8.0, 8.0, 8.0],
    "capacity": [10.0, 4.0, 0.0, 5.0],
    "offsets": [0, 1, 2, 2, 3],
    "parent": [-1, 0, -1, 1],
}


def page(*answers, found="too much", expected="less", law="never over", run=RUN, **verdict):
    """Return the page of a report in which one law is broken by these answers."""
    broken = LawBrokenError(found, expected, *answers)
    broken.law = law
    verdicts = [
        Verdict(each, "broken", 3, counterexample=broken, **verdict)
        if each.name == law
        else Verdict(each, "held", 12)
        for each in LAWS.values()
    ]
    return as_page(Report(verdicts, 7, 12, {"somebody paused": 3, "steps": 12, "ranks": 0}), run)


def pictures(text):
    """Return the outermost pictures as trees; they are well-formed XML."""
    found, depth, start = [], 0, 0
    for tag in re.finditer(r"<svg|</svg>", text):
        if tag.group() == "<svg":
            start = start if depth else tag.start()
            depth += 1
        else:
            depth -= 1
            if not depth and 'role="img"' in text[start : tag.start()]:
                found.append(ElementTree.fromstring(text[start : tag.end()]))
    return found


def bars(picture, look):
    """Return where the bars of a kind begin and how wide they are, as parts of the whole."""
    return [
        tuple(round(float(bar.get(at, "0").strip("%")) / 100, 4) for at in ("x", "width"))
        for bar in picture.iter("rect")
        if bar.get("class") == look
    ]


def ticks(picture):
    return [
        round(float(line.get("x1").strip("%")) / 100, 4)
        for line in picture.iter("line")
        if line.get("class") == "reference"
    ]


def said(picture):
    return ["".join(text.itertext()) for text in picture.iter("text")]


class Strict(HTMLParser):
    """Refuses what is not closed in turn, ids that are there twice, and what would be loaded."""

    EMPTY = ("meta", "br", "rect", "line", "path")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        assert tag not in ("script", "img", "link", "iframe", "object", "base", "form")
        assert not any(name.startswith("on") or name in ("src", "data") for name in attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.EMPTY:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def read(text):
    parser = Strict()
    parser.feed(text)
    parser.close()
    return parser


# The whole


def test_a_page_is_well_formed_and_loads_nothing():
    text = page(("", Outcome(TREE, [8.0, 8.0, 8.0])), ("in reverse", Outcome(ONE, [1.0, 2.0])))

    parsed = read(text)

    assert parsed.open == []
    assert len(parsed.ids) == len({*parsed.ids})
    assert {link[1:] for link in parsed.links if link.startswith("#")} <= {*parsed.ids}
    assert all(link.startswith("#") for link in parsed.links)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", text)


def test_a_page_has_each_law_its_status_and_its_number_of_sites():
    parsed = read(page(("", Outcome(ONE, [8.0, 4.0]))))

    for name in LAWS:
        assert name in parsed.text
    assert "1 of 23 laws broken, on 12 sites" in parsed.text.replace(str(len(LAWS)), "23")
    assert parsed.text.count("12 sites") == len(LAWS) - 1 + 2
    assert "steps12\nsomebody paused3\nnone: ranks\n" in parsed.text


def test_a_page_says_how_to_repeat_the_run():
    parsed = read(page(("", Outcome(ONE, [8.0, 4.0]))))

    assert "wattfill verify share.py:share --seed 7" in parsed.text
    assert "With wattfill 1.2.3. Seed 7." in parsed.text


def test_a_page_without_counterexamples_says_that_all_laws_held():
    verdicts = [Verdict(law, "held", 5) for law in LAWS.values()]

    text = as_page(Report(verdicts, 7, 5, {}), RUN)

    assert f"{len(LAWS)} laws held on 5 sites" in read(text).text
    assert pictures(text) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            "expected",
            f"{len(LAWS) - 1} laws held on 5 sites, but for 1 that is expected to be broken",
        ),
        ("does not apply", f"{len(LAWS) - 1} laws held on 5 sites"),
        ("not judged", f"{len(LAWS) - 1} laws held on 5 sites"),
        ("unexpected", "held, though expected to be broken"),
    ],
)
def test_a_status_is_told_in_words(status, words):
    verdicts = [Verdict(law, "held", 5) for law in LAWS.values()]
    verdicts[3] = Verdict(verdicts[3].law, status, why="a reason")

    text = read(as_page(Report(verdicts, 7, 5, {}), RUN)).text

    assert words in text
    assert "a reason" in text


def test_whatever_comes_from_outside_is_escaped():
    evil = "</style></svg><script>alert(1)</script>&\"' \x1b[2J\x00\ud800\u202e"
    run = Run(evil, evil, {"wattfill": evil})

    text = page((evil, Outcome(ONE, [])), ("", Outcome(ONE, [])), found=evil, expected=evil,
                run=run, why=evil)  # fmt: skip

    parsed = read(text)
    assert parsed.open == []
    assert parsed.text.count("<script>alert(1)</script>") > 5
    assert r"\x1b[2J\x00\ud800\u202e" in parsed.text
    assert text.encode()
    assert text.replace("\n", "").isprintable()


# Pictures


def test_a_bar_is_what_a_connector_gets_within_its_range():
    # A full bar is 10 kW. Usable are 10 * (1 - 0.2) = 8 kW, and the reference gives 4 and 4.
    (picture,) = pictures(page(("", Outcome(ONE, [5.0, 3.0]))))

    assert bars(picture, "edge") == [(0.0, 1.0), (0.1, 0.9), (0.2, 0.2)]
    assert bars(picture, "got") == [(0.0, 1.0), (0.0, 0.5), (0.0, 0.3)]
    assert ticks(picture) == [0.4, 0.4]
    assert bars(picture, "excess") == []
    assert said(picture) == [
        "draws 8 kW of 8 kW usable",
        "connector 0 1 to 10 kW",
        "5 kW, reference 4",
        "connector 1 2 to 4 kW",
        "3 kW, reference 4",
    ]


def test_what_is_over_stands_apart():
    # 12 kW of 8 kW usable, and 5 kW of at most 4.
    (picture,) = pictures(page(("", Outcome(ONE, [7.0, 5.0]))))

    assert bars(picture, "got") == [(0.0, 0.6667), (0.0, 0.7), (0.0, 0.4)]
    over = [svg for svg in picture.iter("svg") if svg is not picture]
    assert [(svg.get("x"), svg.get("width")) for svg in over] == [
        ("66.67%", "33.33%"),
        ("40.00%", "10.00%"),
    ]
    assert "4 kW over" in said(picture)


def test_a_picture_can_be_heard():
    (picture,) = pictures(page(("", Outcome(ONE, [5.0, 3.0]))))

    names = {element.get("id"): element.text for element in picture if element.get("id")}
    assert [names[id] for id in picture.get("aria-labelledby").split()] == [
        "Group 0, 8 kW usable: draws 8 kW.",
        "Connector 0, 1 to 10 kW: 5 kW, reference 4. Connector 1, 2 to 4 kW: 3 kW, reference 4.",
    ]


def test_groups_stand_inside_those_that_feed_them():
    text = page(("", Outcome(TREE, [1.0, 2.0, 1.0])))

    figures = re.findall(r"</?figure>|<b>group \d</b>", text)
    assert "".join(figures) == (
        "<figure><b>group 0</b><figure><b>group 1</b><figure><b>group 3</b>"
        "</figure></figure></figure><figure><b>group 2</b></figure>"
    )
    assert [said(picture)[0] for picture in pictures(text)] == [
        "draws 4 kW of 10 kW usable",
        "draws 3 kW of 4 kW usable",
        "draws 1 kW of 5 kW usable",
        "draws 0 kW of 0 kW usable",
    ]
    assert said(pictures(text)[-1])[-1] == "no connectors"


def test_two_answers_stand_side_by_side_at_one_scale():
    one, other = Outcome(ONE, [4.0, 4.0]), Outcome(ONE | {"maximum": [20.0, 4.0]}, [20.0, 4.0])

    text = page(("", one), ("with more", other))

    assert re.findall(r"<h3>(as it is|with more)</h3>", text) == ["as it is", "with more"]
    first, second = pictures(text)
    assert bars(first, "got")[1:] == [(0.0, 0.2), (0.0, 0.2)]
    assert bars(second, "got")[1:] == [(0.0, 1.0), (0.0, 0.2)]


def test_who_is_spoken_of_stands_out():
    (picture,) = pictures(page(("", Outcome(ONE, [5.0, 3.0])), found="connector 1 gets 3 kW"))

    named = [t.text for t in picture.iter("tspan") if "named" in t.get("class")]
    assert named == ["connector 1"]


def test_no_answer_is_drawn_as_none():
    (picture,) = pictures(page(("", Outcome(ONE, []))))

    assert bars(picture, "got") == []
    assert said(picture)[0] == "no answer, 8 kW usable"
    assert said(picture)[2] == "no answer, reference 4"


def test_a_range_beyond_what_could_be_used_has_an_open_end():
    batch = {"minimum": [0.0, 0.0], "maximum": [1e300, 4.0], "capacity": 8.0}

    (picture,) = pictures(page(("", Outcome(batch, [4.0, 4.0]))))

    # A full bar is 8 * 1.25 = 10 kW.
    assert bars(picture, "edge") == [(0.0, 1.0), (0.0, 0.4)]
    assert bars(picture, "range") == [(0.0, 1.0), (0.0, 1.0), (0.0, 0.4)]


def test_features_are_told_where_they_differ():
    batch = ONE | {"weight": [1.0, 1.0], "priority": [0, 1], "active": [True, False]}

    (picture,) = pictures(page(("", Outcome(batch | {"step": 0.5}, [5.0, 3.0]))))

    assert said(picture)[3] == "connector 1 2 to 4 kW, priority 1, idle"


@pytest.mark.parametrize("n", [READABLE, READABLE + 1, 3000])
def test_a_large_site_is_cut_short(n):
    batch = {"minimum": [0.0] * n, "maximum": [1.0] * n, "capacity": 1.0}

    (picture,) = pictures(page(("", Outcome(batch, [0.0] * n))))

    assert len(bars(picture, "edge")) == READABLE + 1
    more = [f"... {n - READABLE} more connectors"] if n > READABLE else []
    assert [words for words in said(picture) if "more" in words] == more


def test_many_groups_are_cut_short():
    n = READABLE + 5
    batch = {"minimum": [], "maximum": [], "capacity": [1.0] * n, "offsets": [0] * (n + 1)}

    text = page(("", Outcome(batch, [])))

    assert len(pictures(text)) == READABLE
    assert "... 5 more groups" in text


def test_no_groups_and_no_capacity_are_drawn_too():
    nothing = Outcome({"minimum": [], "maximum": [], "capacity": [], "offsets": [0]}, [])
    zeros = Outcome({"minimum": [0.0], "maximum": [0.0], "capacity": 0.0}, [0.0])

    text = page(("", nothing), ("zeros", zeros))

    assert '<p class="soft">no groups</p>' in text
    assert bars(pictures(text)[0], "got") == []
