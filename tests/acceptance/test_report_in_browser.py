"""Reports in Chromium: what is seen, sorted, found, printed and heard of them; and that nothing of them is run."""

import contextlib
import itertools
import json
import re

import pytest

from taskflowx import states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence.figures import Links
from taskflowx.reports import facts, writing
from taskflowx.types.failure import Failure
from tests.support import browser
from tests.support.reports import (
    START,
    Step,
    called,
    engine_of,
    facts_of,
    failing,
    history_of_calls,
    layered,
)

SIZES = {"phone": (390, 844), "desk": (1280, 800)}
#: what a name, a message or a reason may try
HOSTILE = [
    "</script><script>hit()</script>",
    "</pre></title></style></textarea></svg><img src=x onerror=hit()><iframe srcdoc='<script>parent.hit()</script>'>",
    "\"'><a autofocus onfocus=hit() href=javascript:hit()>x</a>",
    "<!--<script>",
    "<base href=//example.org><meta http-equiv=refresh content='0;url=//example.org'><form action=//example.org>",
    "<svg><animate onbegin=hit() attributeName=x dur=1s></svg>",
    "\u202egpj.exe\u2066 \x00\x1b[2J \ud800 \u2028",
]

CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length < 4 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const seen = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("svg, script, style")) continue;
    if (!element.checkVisibility()) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))];
    seen.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
  }
  return seen;
}"""


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as started:
        yield started


@pytest.fixture
def visit(chromium, tmp_path):
    """Return a function that opens a report, and sees that it asks for nothing and complains of nothing."""
    with contextlib.ExitStack() as pages:

        def opened(path, size="desk", **options):
            wide, high = SIZES[size]
            context = chromium.new_context(viewport={"width": wide, "height": high}, **options)
            pages.callback(context.close)
            page = context.new_page()
            page.faults, page.asked = [], []
            page.on("console", lambda message: page.faults.append(message.text))
            page.on("pageerror", lambda error: page.faults.append(str(error)))
            page.on("dialog", lambda dialog: page.faults.append(dialog.message))
            page.on("request", lambda request: page.asked.append(request.url))
            page.goto(path.as_uri())
            assert page.faults == []
            assert page.asked == [path.as_uri()]
            return page

        yield opened


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Return the report of a run that failed, and was undone in part, with a history whose times are known."""
    engine = failing(ValueError("the parcel is <lost>"))
    engine.skip("read", by="ann", reason="closed by hand")
    path = tmp_path_factory.mktemp("failed") / "run.html"
    engine.report(path)
    return path


@pytest.fixture(scope="module")
def timed(tmp_path_factory):
    """Return the report of ten calls of two workers, of which the names and the times are in different orders."""
    names = [f"step {i}" for i in range(12)]
    rows = [called(name, i, i + 0.5, i + 1 + (i * 7) % 10, f"w{i % 2}") for i, name in enumerate(names[:10])]
    rows.append(called("step 3", 20, 20, 21, "w0", failure="OSError", attempt=2))
    atoms = [
        facts.Atom(name, "task", "flow", states.PENDING if i > 9 else states.FAILURE if i == 3 else states.SUCCESS)
        for i, name in enumerate(names)
    ]
    path = tmp_path_factory.mktemp("timed") / "run.html"
    return writing.write(path, facts_of(history_of_calls(*rows), names=names, atoms=atoms, state=states.SUSPENDED))


def column(page, place):
    return page.locator(f"#atoms tbody tr:not([hidden]) > :nth-child({place})").all_inner_texts()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("report", ["failed", "timed"])
def test_it_can_be_read_on_any_screen(visit, request, size, scheme, report):
    page = visit(request.getfixturevalue(report), size, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES[size][0]  # no part is wider than the screen
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 50
    assert min(contrasts)[0] >= 4.5, min(contrasts)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('body *:not(svg *, script, style)')]"
        ".filter((e) => e.innerText).map((e) => parseFloat(getComputedStyle(e).fontSize)))"
    )
    assert smallest >= 12


def test_without_javascript_all_text_is_there_and_nothing_that_does_nothing(visit, failed):
    said = {}
    for on in (True, False):
        page = visit(failed, java_script_enabled=on)
        said[on] = page.locator("main > section, header, footer").all_text_contents()
        assert page.locator("button:visible").count() == (0 if not on else page.locator("button").count())
        assert page.locator(".tools").is_visible() == on
        assert page.locator("#atoms tbody tr").count() == 7
        page.locator("summary", has_text="Traceback").first.click()
        assert "the parcel is <lost>" in page.locator("details[open] pre").inner_text()
    assert said[True] == said[False]


def test_it_is_sorted_with_the_keyboard(visit, timed):
    page = visit(timed)
    headings = page.locator("#atoms th[scope=col]")
    ran = headings.all_inner_texts().index("ran, s") + 1
    page.locator("#in-state").focus()
    for _ in range(2):  # the region of the table, which can be scrolled, and the first heading
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "name"
    page.keyboard.press("Enter")
    assert headings.first.get_attribute("aria-sort") == "ascending"
    assert column(page, 1) == [f"step {i}" for i in range(12)]  # 10 comes after 9
    page.keyboard.press("Space")
    assert headings.first.get_attribute("aria-sort") == "descending"
    assert column(page, 1) == [f"step {i}" for i in reversed(range(12))]
    for _ in range(ran - 1):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert headings.first.get_attribute("aria-sort") is None
    assert headings.nth(ran - 1).get_attribute("aria-sort") == "ascending"
    for order in (1, -1):
        cells = column(page, ran)
        numbers = [float(cell) for cell in cells if cell]
        assert numbers == sorted(numbers, reverse=order < 0)
        assert len(numbers) == 10
        assert cells[10:] == ["", ""]  # what is not known is last, either way
        page.keyboard.press("Enter")


def test_what_is_focused_is_seen(visit, timed):
    page = visit(timed)
    for selector in ("#atoms th button", "nav a", "#find", "#save", "summary"):
        page.locator(selector).first.focus()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Tab")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline not in ("none", ""), selector


def test_atoms_are_found_by_text_and_by_state(visit, timed):
    page = visit(timed)
    page.locator("#find").press_sequentially("STEP 1")
    assert column(page, 1) == ["step 1", "step 10", "step 11"]
    assert page.locator("#count").inner_text() == "3 of 12"
    page.locator("#in-state").select_option("PENDING")
    assert column(page, 1) == ["step 10", "step 11"]
    page.locator("#find").fill("")
    page.locator("#find").press("Enter")  # which would send a form
    page.locator("#in-state").select_option("FAILURE")
    assert column(page, 1) == ["step 3"]
    page.locator("#in-state").select_option("")
    assert page.locator("#count").inner_text() == "12 of 12"
    assert page.url == timed.as_uri()


def test_the_history_is_saved_in_full(visit, timed, tmp_path):
    page = visit(timed)
    with page.expect_download() as saving:
        page.locator("#save").click()
    saving.value.save_as(tmp_path / "history.json")
    saved = json.loads((tmp_path / "history.json").read_text())
    assert saved["flow"] == "flow"
    assert [list(entry.values()) for entry in saved["entries"]] == [list(one) for one in writing.history_of(timed)]
    assert list(saved["entries"][0]) == list(writing.history_of(timed)[0]._fields)


def test_it_is_heard_in_order(visit, failed):
    page = visit(failed)
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map((e) => +e.tagName[1])")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(landmark).count() == 1
    regions = page.locator("[role=region]")
    assert all(regions.nth(i).get_attribute("aria-label") for i in range(regions.count()))
    assert page.get_by_role("rowheader", name="ship").count() == 1
    assert page.get_by_role("table").count() == 4
    assert page.get_by_label("Find").count() == page.get_by_label("State").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    targets = page.evaluate("[...document.querySelectorAll('nav a')].map((e) => e.hash.slice(1))")
    assert set(targets) <= set(ids)


def test_it_is_printed_whole(visit, timed):
    page = visit(timed)
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".tools").is_visible()
    overflow = "[...document.querySelectorAll('.scroll')].map((e) => getComputedStyle(e).overflowX)"
    assert set(page.evaluate(overflow)) == {"visible"}
    printed = page.pdf()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type /Page\b", printed)) >= 1


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("on", [True, False])
def test_no_text_of_users_is_more_than_text(visit, tmp_path, hostile, on):
    kind = type("Error" + re.sub(r"\W", "", hostile), (ValueError,), {"__qualname__": hostile})
    try:
        raise kind(hostile) from OSError(hostile)
    except ValueError:
        failure = Failure()
    odd = hostile + "2"
    made = facts_of(
        history_of_calls(called(hostile, 0, 1, 2, hostile, failure=hostile), called(odd, 2, 2, 3, reverts=True)),
        names=(hostile, odd),
        atoms=[
            facts.Atom(hostile, "task", hostile, states.FAILURE, 1, 1.0, hostile, failure, note=hostile),
            facts.Atom(odd, "retry", "f", hostile, earlier=[(1, hostile, failure)]),
        ],
        links=Links.of_pairs([hostile, odd], [(odd, hostile)]),
        run_id=hostile,
        flow=hostile,
        state=states.FAILURE,
        not_undone=[hostile],
        by_hand=[facts.Deed(hostile, hostile, hostile, START, hostile)],
        cancelled=hostile,
        owner=hostile,
        picture=unordered_flow.Flow(hostile).add(Step(hostile)).picture(),
    )
    path = writing.write(tmp_path / "run.html", made)
    page = visit(path, java_script_enabled=on)
    kinds = "img, iframe, base, meta[http-equiv=refresh], animate, script ~ script, a:not(nav a), form:not(.tools)"
    assert page.locator(kinds).count() == 0
    assert page.locator("script").count() == 1
    for element in ("bdi", "h1", "#atoms tbody th", "#atoms tbody td", ".who", ".why", "td.name"):
        first = page.locator(element).first
        assert first.count() == 1, element
        assert first.locator(":scope > :not(small)").count() == 0, element
    shown = page.locator("h1").inner_text()
    visible = re.sub("[\x00\x1b\ud800\u202e\u2066]", lambda found: f"⟨U+{ord(found[0]):04X}⟩", hostile)
    assert shown.split() == visible.split()
    kept = json.loads(page.locator("#history").text_content())
    assert (kept["run"], kept["names"], kept["workers"]) == (hostile, [hostile, odd], [hostile, "w"])
    if on:
        page.locator("#atoms th button").first.click()
        page.locator("#find").fill(hostile[:5].replace("\x00", ""))
        assert page.evaluate("typeof hit") == "undefined"
    assert page.faults == []
    assert page.asked == [path.as_uri()]


def test_a_script_that_came_into_the_page_would_not_run(visit, tmp_path, failed):
    path = tmp_path / "run.html"
    path.write_text(failed.read_text().replace("<main>", "<main><script>document.title = 'hit'</script>"))
    with pytest.raises(AssertionError, match="Content Security Policy"):
        visit(path)


def test_tips_tell_of_calls(visit, timed):
    page = visit(timed)
    tips = page.locator(".lane rect title").all_text_contents()
    assert len(tips) == 11
    assert "step 3: FAILURE\nbegan after 20 s, ran 1 s\nattempt 2\nOSError" in tips
    assert "step 9: SUCCESS\nbegan after 9.5 s, ran 3.5 s\nwaited 0.5 s" in tips


def test_ten_thousand_atoms_are_sorted_and_found(visit, tmp_path):
    engine = engine_of(layered(10_000))
    engine.report(tmp_path / "run.html")
    page = visit(tmp_path / "run.html")
    page.locator("#atoms th button").first.click()
    page.locator("#atoms th button").first.click()
    assert page.locator("#atoms tbody tr").first.locator("th").inner_text() == "resize image 9999"
    page.locator("#find").fill("image 123")
    assert page.locator("#count").inner_text() == "11 of 10,000"
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES["desk"][0]


def test_a_real_run_in_threads_has_lanes_of_its_workers(visit, tmp_path):
    flow = linear_flow.Flow("f").add(
        Step("first"), unordered_flow.Flow("wide").add(*(task.FunctorTask(int, name=f"t{i}") for i in range(8)))
    )
    engine = engine_of(flow, executor="threads", max_workers=2)
    engine.report(tmp_path / "run.html")
    page = visit(tmp_path / "run.html")
    lanes = page.locator(".who").all_inner_texts()
    assert 1 <= len(lanes) <= 3
    assert sum(int(re.search(r"(\d+) calls?", lane)[1]) for lane in lanes) == 9
