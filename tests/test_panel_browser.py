"""The panel in a real browser: every button, by mouse, by keyboard alone and on a phone.

WATTFILL_SCREENSHOTS names a folder that pictures of the pages are put into.
"""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Serving, new_database, new_key

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed: pip install -e '.[browser]'"
)
expect = sync_api.expect
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
DESK = {"viewport": {"width": 1100, "height": 800}, "color_scheme": "light"}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "color_scheme": "dark",
    "has_touch": True,
    "is_mobile": True,
}
NAME = "<img src=x onerror=alert(1)>{{7*7}}"


@pytest.fixture(scope="module")
def server(request, tmp_path_factory) -> Iterator[Serving]:
    serving = Serving(new_database(request, tmp_path_factory.mktemp("browser"), "browser"))
    yield serving
    serving.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        # As root Chromium starts without its sandbox only; it visits nothing but this server.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


class Visit:
    """A page that complains of what a page of ours must not do."""

    def __init__(self, chromium, server: Serving, organisation: str, **options: object) -> None:
        self.server = server
        self.key = new_key(server.database, organisation)
        self.context = chromium.new_context(base_url=server.url, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(15_000)
        self.faults: list[str] = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("dialog", lambda dialog: self.faults.append(dialog.message))
        self.page.on("request", self._look_at)
        self.page.on(
            "console",
            lambda message: message.type == "error" and self.faults.append(message.text),
        )
        self.n_pictures = 0
        self.name = organisation

    def _look_at(self, request) -> None:
        if not request.url.startswith(f"{self.server.url}/admin"):
            self.faults.append(request.url)

    def api(self, method: str, path: str, **body: object) -> None:
        with self.server.client(self.key) as client:
            answer = client.request(method, f"/v1.1/load_management{path}", json=body or None)
        assert answer.status_code == 200, answer.text

    def fill(self, name: str = "Park3-E1") -> None:
        """Have a group of two connectors, of which one charges."""
        self.api("POST", "/groups", id="g1", name=name, maximum_capacity=40, location="park")
        plugs = [{"id": id, "maximum_capacity": 22, "minimum_capacity": 4.2} for id in "12"]
        self.api("POST", "/groups/g1/chargestations", chargestation="CS-1", connectors=plugs)
        self.api("POST", "/sessions", chargestation="CS-1", connector="1")

    def ask(self, name: str) -> None:
        """Have another person ask for more to be commissioned."""
        with self.server.client(new_key(self.server.database, self.name, name=name)) as client:
            body = {"commissioned_capacity": 63, "note": "New fuse"}
            answer = client.post("/v1.1/groups/g1/raises", json=body)
        assert answer.json()["result"]["state"] == "pending"

    def log_in(self) -> None:
        self.page.goto("/admin")
        self.page.get_by_label("API key").fill(self.key)
        self.click("Log in")

    def click(self, name: str, exact: bool = True) -> None:
        """Click the one button or link of a name."""
        page = self.page
        button = page.get_by_role("button", name=name, exact=exact)
        button.or_(page.get_by_role("link", name=name, exact=exact)).click()

    def picture(self, name: str) -> None:
        folder = os.environ.get("WATTFILL_SCREENSHOTS")
        if folder:
            self.n_pictures += 1
            file = Path(folder) / f"{self.name}-{self.n_pictures:02}-{name}.png"
            self.page.screenshot(path=file, full_page=True)


@pytest.mark.parametrize("server", ["sqlite", "postgresql"], indirect=True)
def test_every_button_does_what_it_says(chromium, server):
    visit = Visit(chromium, server, "mouse", **DESK)
    page = visit.page
    visit.log_in()
    visit.picture("nothing-yet")
    visit.click("Create the first group")
    visit.click("Cancel")
    page.goto("/admin/locations")
    visit.click("Create")
    page.get_by_label("Name").fill("Yard")
    page.get_by_label("Location").fill("park")
    page.get_by_label("Maximum capacity").fill("forty")
    visit.click("Create")
    expect(page.get_by_text("Must be a number, at least 0")).to_be_visible()
    visit.picture("wrong-field")
    expect(page.get_by_label("Name")).to_have_value("Yard")
    page.get_by_label("Maximum capacity").fill("40")
    page.get_by_text("More", exact=True).click()
    page.get_by_label("Notes").fill("by the gate")
    visit.click("Create")
    expect(page.get_by_role("heading", name="Yard")).to_be_visible()
    expect(page.get_by_text("No charge station shares this capacity yet.")).to_be_visible()

    page.locator(".actions").get_by_role("link", name="+ Add Chargestation").click()
    page.get_by_label("Charge station").fill("CS-1")
    for i in (0, 1):
        page.locator(f"[name='connectors[{i}].id']").fill(str(i + 1))
        page.locator(f"[name='connectors[{i}].maximum_capacity']").fill("22")
    visit.click("Another connector")
    page.locator("[name='connectors[2].id']").fill("3")
    page.locator("[name='connectors[2].maximum_capacity']").fill("11")
    visit.picture("add-station")
    visit.click("Add")
    expect(page.get_by_role("heading", name="CS-1")).to_be_visible()

    page.locator("#act-CS-1-2 input[name=maximum]").fill("much")
    visit.click("Start a session at CS-1/2")
    expect(page.locator("#error-CS-1-2")).to_have_text(re.compile("Must be a number"))
    # The browser tells its console of a page with status 422, which is what this one is.
    assert [fault for fault in visit.faults if "422" not in fault] == []
    visit.faults.clear()
    page.locator("#act-CS-1-2 input[name=maximum]").fill("7.4")
    visit.click("Start a session at CS-1/2")
    visit.click("Start a session at CS-1/1")
    expect(page.locator("#state-CS-1-2")).to_contain_text("7.4 kW")
    expect(page.locator("#state-CS-1-1")).to_contain_text("22 kW")
    visit.click("Start a session at CS-1/3")
    # 40 kW: the second takes 7.4, the third its 11, and the first what is left of its 22.
    expect(page.locator("#state-CS-1-1")).to_contain_text("21.6 kW")
    expect(page.locator("#state-CS-1-1")).to_contain_text("shares the level of Yard")
    visit.picture("group")
    visit.click("Stop the session at CS-1/3")
    expect(page.locator("#state-CS-1-3")).to_contain_text("idle")

    slider = page.get_by_label("Capacity, as a slider")
    slider.fill("20")
    shares = page.locator("#shares")
    # 20 kW: 7.4 and 12.6.
    expect(shares).to_contain_text("12.6 kW")
    page.get_by_label("Buffer, as a slider").fill("0.5")
    expect(shares).to_contain_text("5 kW")
    visit.picture("what-if")
    visit.click("Reset")
    expect(shares).to_be_empty()
    page.get_by_label("Capacity", exact=True).fill("30")
    expect(shares).to_contain_text("Save 30 kW")
    visit.click("Show new shares")
    visit.click("Save 30 kW and a buffer of 0 %")
    expect(page.locator("#facts-" + page.url.rpartition("/")[2])).to_contain_text("30 kW")

    visit.click("Last day")
    expect(page.get_by_role("img", name=re.compile("kW are given out now"))).to_be_visible()
    visit.picture("last-day")
    visit.click("Now")
    visit.click("Update group Yard")
    page.get_by_label("Name").fill("Yard 2")
    visit.click("Update")
    visit.click("park")
    visit.picture("location")
    visit.click("Update charge station CS-1")
    page.locator("[name='connectors[0].maximum_capacity']").fill("11")
    visit.click("Update")
    expect(page.locator("#state-CS-1-1")).to_contain_text("11 kW")
    visit.click("park")
    visit.click("Changes")
    expect(page.get_by_text("change chargestation")).to_be_visible()
    visit.picture("changes")
    visit.click("Load Management")
    summary = page.get_by_text("1 charge station", exact=True)
    summary.click()
    expect(page.locator("#state-CS-1-1")).to_be_hidden()
    summary.click()
    visit.click("Remove charge station CS-1")
    visit.picture("confirm")
    visit.click("Keep it")
    expect(page.get_by_role("heading", name="CS-1")).to_be_visible()
    visit.click("Remove charge station CS-1")
    visit.click("Remove")
    visit.click("Remove group Yard 2")
    visit.click("Remove")
    expect(page.get_by_text("No group stands here.")).to_be_visible()
    page.get_by_role("link", name="Create").click()
    visit.click("Cancel")
    visit.click("Locations")
    visit.click("Log out")
    expect(page.get_by_label("API key")).to_be_visible()
    visit.context.close()
    assert visit.faults == []


def test_all_of_it_goes_by_keyboard_alone(chromium, server):
    visit = Visit(chromium, server, "keyboard", **DESK)
    page, keys = visit.page, visit.page.keyboard
    named = """() => {
      const e = document.activeElement;
      if (!e.matches("a, button, input, select, summary, textarea")) return "";
      const label = e.labels?.[0]?.innerText;
      return e.getAttribute("aria-label") || label || e.innerText || e.name || "";
    }"""

    def reach(name: str) -> None:
        """Go on by Tab until something that begins with a name has the focus, and it shows."""
        for _ in range(80):
            if page.evaluate(named).strip().startswith(name):
                break
            keys.press("Tab")
        else:
            raise AssertionError(f"Tab never came to {name}")
        style = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(style) == "solid"

    def press(name: str, key: str = "Enter") -> None:
        reach(name)
        with page.expect_navigation():
            keys.press(key)

    def write(name: str, text: str) -> None:
        reach(name)
        keys.press("Control+A")
        keys.type(text)

    page.goto("/admin")
    write("API key", visit.key)
    press("API key")
    press("Create the first group")
    write("Name", "Yard")
    write("Maximum capacity", "40")
    reach("who came first")
    keys.press("ArrowDown")
    press("Create")
    expect(page.get_by_role("heading", name="Yard")).to_be_visible()
    press("Skip to the content")
    press("+ Add Chargestation")
    write("Charge station", "CS-1")
    write("Id", "1")
    write("Maximum", "22")
    press("Add")
    expect(page.get_by_role("heading", name="CS-1")).to_be_visible()
    write("Vehicle takes", "11")
    press("Start a session at CS-1/1", "Space")
    expect(page.locator("#state-CS-1-1")).to_contain_text("11 kW")
    reach("Capacity, as a slider")
    keys.press("Home")
    expect(page.locator("#shares")).to_contain_text("0 kW")
    for _ in range(12):
        keys.press("ArrowRight")
    # Twelve steps of 0.5 kW.
    expect(page.locator("#shares")).to_contain_text("-5 kW")
    press("Save 6 kW")
    expect(page.locator("#state-CS-1-1")).to_contain_text("6 kW")
    press("Stop the session at CS-1/1")
    expect(page.locator("#state-CS-1-1")).to_contain_text("idle")
    press("Remove charge station CS-1")
    expect(page.get_by_text("This cannot be undone")).to_be_visible()
    keys.press("Shift+Tab")
    press("Remove")
    press("Last day")
    press("wattfill")
    press("Log out")
    expect(page.get_by_label("API key")).to_be_visible()
    visit.context.close()
    assert visit.faults == []


def test_a_phone_shows_all_of_it_and_fingers_hit_it(chromium, server):
    visit = Visit(chromium, server, "phone", **PHONE)
    visit.fill()
    visit.ask("ben")
    page = visit.page
    visit.log_in()
    for name, path in {
        "locations": "/admin/locations",
        "location": "/admin/locations/park",
        "group": "/admin/groups/g1?maximum_capacity=30&buffer=0.1",
        "last-day": "/admin/groups/g1/last-day",
        "create": "/admin/create",
        "update": "/admin/groups/g1/update",
        "add-station": "/admin/groups/g1/add-chargestation",
        "update-station": "/admin/chargestations/CS-1/update",
        "confirm": "/admin/groups/g1/remove",
        "commission": "/admin/groups/g1/commission",
        "raises": "/admin/raises",
        "changes": "/admin/locations/park/changes",
    }.items():
        page.goto(path)
        visit.picture(name)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path
        for button in page.locator("button:visible, .button:visible").all():
            assert button.bounding_box()["height"] >= 44, (path, button.inner_text())
    page.goto("/admin/locations/park")
    page.get_by_role("button", name="Start a session at CS-1/2").tap()
    expect(page.locator("#state-CS-1-2")).to_contain_text("20 kW")
    page.get_by_role("button", name="Stop the session at CS-1/2").tap()
    expect(page.locator("#state-CS-1-2")).to_contain_text("idle")
    visit.context.close()
    assert visit.faults == []


def test_what_others_change_appears_by_itself_and_takes_nothing_that_was_typed(chromium, server):
    visit = Visit(chromium, server, "live", **DESK)
    visit.fill()
    page = visit.page
    visit.log_in()
    page.goto("/admin/groups/g1")
    field = page.locator("#act-CS-1-2 input[name=maximum]")
    field.fill("5")
    visit.api("PATCH", "/groups/g1", maximum_capacity=20)
    expect(page.locator("#state-CS-1-1")).to_contain_text("20 kW")
    expect(page.locator("#facts-g1")).to_contain_text("Water level")
    expect(field).to_have_value("5")
    # A station that somebody adds appears once nothing typed stands in the list.
    field.fill("")
    plugs = [{"id": "1", "maximum_capacity": 22}]
    visit.api("POST", "/groups/g1/chargestations", chargestation="CS-2", connectors=plugs)
    expect(page.get_by_role("heading", name="CS-2")).to_be_visible()
    visit.ask("ben")
    visit.click("Decline 63 kW for g1")
    expect(page.locator("#commissioned")).not_to_contain_text("asks for")
    visit.context.close()
    assert visit.faults == []


def test_hostile_names_do_nothing(chromium, server):
    visit = Visit(chromium, server, "hostile", **DESK)
    visit.fill(NAME)
    visit.log_in()
    for path in (
        "/admin/locations/park",
        "/admin/groups/g1?maximum_capacity=10&buffer=0",
        "/admin/groups/g1/update",
        "/admin/groups/g1/remove",
        "/admin/groups/g1/last-day",
        "/admin/create",
        "/admin/locations/park/changes",
    ):
        visit.page.goto(path)
        assert visit.page.locator("img").count() == 0
        assert NAME in visit.page.content().replace("&lt;", "<").replace("&gt;", ">")
    visit.context.close()
    assert visit.faults == []


def test_it_works_without_script(chromium, server):
    visit = Visit(chromium, server, "plain", **DESK, java_script_enabled=False)
    visit.fill()
    page = visit.page
    visit.log_in()
    page.goto("/admin/groups/g1")
    visit.click("Start a session at CS-1/2")
    expect(page.locator("#state-CS-1-2")).to_contain_text("20 kW")
    page.get_by_label("Capacity", exact=True).fill("30")
    visit.click("Show new shares")
    expect(page.locator("#shares")).to_contain_text("15 kW")
    visit.click("Save 30 kW and a buffer of 0 %")
    expect(page.locator("#state-CS-1-2")).to_contain_text("15 kW")
    visit.ask("ben")
    page.goto("/admin/locations")
    visit.click("Raises (1 waits)")
    visit.click("Approve 63 kW for g1")
    expect(page.locator("#commissioned")).to_contain_text("at most 63 kW")
    visit.click("Change what is commissioned")
    page.get_by_label("Commissioned capacity").fill("70")
    page.get_by_label("Note").fill("More")
    visit.click("Commission")
    expect(page.locator("#commissioned")).to_contain_text("asks for 70 kW instead of 63 kW")
    visit.click("Withdraw 70 kW for g1")
    expect(page.locator("#commissioned")).not_to_contain_text("asks for")
    visit.context.close()
    assert visit.faults == []
