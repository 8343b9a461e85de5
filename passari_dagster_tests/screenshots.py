"""The UI in a browser, as an administrator uses it; and the README's pictures of it.

    python -m passari_dagster_tests.screenshots docs/images

starts a system of its own, works in it by clicks, and photographs the pages.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

from passari_dagster.workflow.dossier import dossier
from passari_dagster.workflow.dossier_html import html
from passari_dagster_tests.running import Running, running_system
from passari_dagster_tests.trouble import freshness, make_trouble

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
PATIENCE = 60
"""Seconds that a page may take."""
LARGEST = 200 * 1024
"""Bytes of a picture in the README."""
TROUBLE = ("An unexpected error", "An error occurred", "Unexpected GraphQL error", "can't be displayed", "Python error")
"""What Dagster's pages say when something went wrong."""
WORKBENCH = {"overview.png", "checks.png", "frozen.png", "late.png"}
"""Pictures that need a system in trouble."""
PARTITIONS = "/locations/passari_dagster/jobs/preserve_object/partitions"
DIALOG = "//*[@role='dialog' and contains(., 'Launch preserve_object backfill')]"


class Browser:
    """A browser at a running system's UI.

    Arguments:
        url: of the webserver.
        driver: Chromium's.
    """

    def __init__(self, url: str, driver: webdriver.Chrome) -> None:
        self._url, self._driver = url, driver
        self._wait = WebDriverWait(driver, PATIENCE, poll_frequency=0.1)

    @property
    def text(self) -> str:
        """What the page says."""
        return str(self._driver.execute_script("return document.body.innerText"))

    def open(self, path: str, *texts: str) -> None:
        """Open a page, and wait until it says all of the texts."""
        self._driver.get(self._url + path)
        self.see(*texts)

    def open_file(self, path: Path, *texts: str) -> None:
        """Open a page that lies on the disk, and wait until it says all of the texts."""
        self._driver.get(path.as_uri())
        self.see(*texts)

    def in_frame(self, number: int) -> str:
        """What a frame of the page says."""
        self._driver.switch_to.frame(number)
        try:
            return self._driver.find_element(By.TAG_NAME, "body").text
        finally:
            self._driver.switch_to.default_content()

    @property
    def title(self) -> str:
        """The page's title."""
        return self._driver.title

    def see(self, *texts: str) -> None:
        """Wait until the page says all of the texts, and nothing of trouble."""
        deadline = time.monotonic() + PATIENCE
        while missing := [text for text in texts if text not in self.text]:
            assert time.monotonic() < deadline, f"{self._driver.current_url} does not say {missing}:\n{self.text}"
            time.sleep(0.1)
        self.assert_no_trouble()

    def element(self, xpath: str) -> WebElement:
        """Something that can be clicked, as soon as it can."""
        element = self._wait.until(expected_conditions.element_to_be_clickable((By.XPATH, xpath)))
        assert isinstance(element, WebElement)
        return element

    def click(self, label: str, within: str = "") -> None:
        """Click the button that says so."""
        self.element(f"{within}//button[contains(normalize-space(), '{label}')]").click()

    def type_into_the_editor(self, text: str) -> None:
        """Replace what the page's editor holds by key strokes."""
        self.element("//*[contains(@class, 'CodeMirror-lines')]").click()
        keys = ActionChains(self._driver)
        keys.key_down(Keys.CONTROL).send_keys("a").key_up(Keys.CONTROL).send_keys(Keys.DELETE)
        for line in text.splitlines():
            # The editor indents a new line by itself: the line begins where the person wants it.
            keys.key_down(Keys.SHIFT).send_keys(Keys.HOME).key_up(Keys.SHIFT).send_keys(line, Keys.ENTER)
        keys.perform()

    def wait_for_run(self) -> str:
        """Wait until the page of a run is shown; the run's id."""
        self._wait.until(expected_conditions.url_matches(r"/runs/[0-9a-f-]{36}"))
        found = re.search(r"/runs/([0-9a-f-]{36})", self._driver.current_url)
        assert found
        return found[1]

    def scroll_to(self, heading: str) -> None:
        """Have a heading at the top."""
        element = self.element(f"//*[normalize-space(text())='{heading}']")
        self._driver.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)

    def assert_no_trouble(self) -> None:
        """The page shows no error, and the browser's console holds none."""
        text = self.text
        assert not [words for words in TROUBLE if words in text], text
        console = [
            entry["message"]
            for entry in self._driver.get_log("browser")  # type: ignore[no-untyped-call]
            if entry["level"] == "SEVERE" and "favicon" not in entry["message"]
        ]
        assert not console, console

    def decline_newsletter(self) -> None:
        """Answer the dialog that Dagster shows to the first visitor of an instance, a second after the page."""
        self.click("Skip")
        self._wait.until(expected_conditions.invisibility_of_element_located((By.XPATH, "//button[.='Skip']")))

    def resize(self, width: int, height: int) -> None:
        """Have a window of this size, in CSS pixels; pictures have a quarter more, for sharp letters."""
        self._driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1.25, "mobile": False},
        )

    def photograph(self, path: Path) -> None:
        """Save a picture of the page when nothing moves on it any more."""
        deadline = time.monotonic() + PATIENCE
        picture, previous = self._driver.get_screenshot_as_png(), b""
        while picture != previous:
            assert time.monotonic() < deadline, f"{self._driver.current_url} does not come to rest"
            time.sleep(0.4)
            picture, previous = self._driver.get_screenshot_as_png(), picture
        self.assert_no_trouble()
        colours = Image.open(io.BytesIO(picture)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(path, optimize=True)


@contextlib.contextmanager
def chromium() -> Iterator[webdriver.Chrome]:
    """A fresh Chromium."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(CHROMIUM)
        for flag in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            "no-proxy-server",
            "window-size=1600,1000",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # Both programs are named, so that Selenium looks for none.
        driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
        try:
            yield driver
        finally:
            driver.quit()


@contextlib.contextmanager
def browser_at(running: Running) -> Iterator[Browser]:
    """A fresh Chromium at the UI of a running system."""
    with chromium() as driver:
        browser = Browser(running.webserver.url, driver)
        greets = running.webserver.ask("{shouldShowNux}")["shouldShowNux"]
        browser.open("/jobs", "preserve_object")
        if greets:
            browser.decline_newsletter()
        yield browser


def launch_by_clicks(browser: Browser, object_ids: Sequence[int], picture: Path) -> str:
    """Pick objects in the backfill dialog of `preserve_object`, and launch them.

    Arguments:
        picture: where the dialog is saved, as it is before the last click.

    Returns:
        the backfill's id.
    """
    browser.resize(1280, 800)
    browser.open(PARTITIONS, "Total partitions", "Backfill history")
    browser.click("Launch backfill")
    browser.see("Launch preserve_object backfill", "Select partitions to submit")
    browser.element("//*[starts-with(text(), 'Select a partition')]").click()
    for object_id in object_ids:
        search = browser.element("//input[@placeholder='Filter partitions']")
        search.send_keys(Keys.CONTROL, "a")
        search.send_keys(str(object_id))
        browser.element(f"//*[@role='menuitem'][.//*[@title='{object_id}']]").click()
    # The list is closed by a click beside it. The escape key would close the whole dialog.
    browser.element("//*[starts-with(text(), 'Select partitions to materialize')]").click()
    browser.see(f"Missing ({len(object_ids)})")
    browser.photograph(picture)
    browser.click(f"Submit {len(object_ids)} runs", DIALOG)
    browser.see("Created backfill")
    created = re.search(r"Created backfill\s+(\w+)", browser.text)
    assert created, browser.text
    return created[1]


ENQUEUE = """ops:
  enqueue:
    config:
      object_count: 3
      object_ids: {}
      reason: a first look
"""
FREEZE = """ops:
  freeze:
    config:
      object_ids: {}
      reason: Rights are not cleared
"""


def launch_in_the_launchpad(browser: Browser, job: str, config: str, picture: Path) -> str:
    """Type the config of a job into its Launchpad, and launch it.

    Arguments:
        config: YAML, as a person would type it.
        picture: where the Launchpad is saved, as it is before the last click.

    Returns:
        the run's id.
    """
    browser.resize(1280, 640)
    browser.open(f"/locations/passari_dagster/jobs/{job}/playground", "Launch Run")
    browser.type_into_the_editor(config)
    browser.see("No errors")
    browser.photograph(picture)
    browser.click("Launch Run")
    return browser.wait_for_run()


def photograph_pages(running: Running, browser: Browser, object_id: int, directory: Path) -> None:
    """Visit the pages that the README tells of, see that each shows what it should, and save its picture.

    Arguments:
        object_id: one that was sent in a backfill and is preserved.
    """
    first = running.details(running.runs_of(object_id)[0]["runId"])
    backfill = next(tag["value"] for tag in first["tags"] if tag["key"] == "dagster/backfill")

    browser.resize(1280, 800)
    browser.open(PARTITIONS, "Total partitions", "Failed partitions", "Run duration", backfill)
    browser.photograph(directory / "partitions.png")

    browser.resize(1280, 580)
    browser.open("/runs?view=backfills", backfill, "Success")
    browser.photograph(directory / "backfills.png")

    browser.open(f"/runs/b/{backfill}?tab=runs", backfill, "Success", str(object_id))
    browser.photograph(directory / "backfill.png")

    browser.resize(1280, 800)
    browser.open(
        f"/runs/{first['runId']}",
        *(f"partition: {object_id}", "download_object", "create_sip", "submit_sip", "Re-executions (1)"),
        *("waits for its verdict", "RUN_SUCCESS"),
    )
    browser.photograph(directory / "run.png")

    browser.resize(1280, 640)
    browser.open(
        "/locations/passari_dagster/asset-groups/museumplus/lineage",
        *("museum_objects", "museum_attachments", "metadata_hashes", "Materialized"),
    )
    browser.photograph(directory / "asset-graph.png")

    browser.resize(1280, 1010)
    browser.open("/assets/museum_objects", "Latest materialization", "Metadata", "new_objects")
    browser.click("Plots")
    browser.element("(//canvas)[5]")
    browser.scroll_to("Metadata")
    browser.see("candidates", "duration_s", "items", "items_per_second", "new_objects")
    browser.photograph(directory / "plots.png")

    photograph_dossier(running, browser, object_id, directory)


def photograph_dossier(running: Running, browser: Browser, object_id: int, directory: Path) -> None:
    """See the dossier of an object on Dagster's pages and as a file, and save a picture of each.

    Arguments:
        object_id: one that is preserved.
    """
    run = running.run("object_dossier", {"ops": {"make_dossier": {"config": {"object_id": object_id}}}})
    browser.resize(1280, 1000)
    browser.open(f"/runs/{run['runId']}", "make_dossier", "RUN_SUCCESS")
    browser.element("//*[normalize-space(text())='[Show Markdown]']").click()
    browser.see(f"Object {object_id}", "Runs of this object", "confirm_sip", "transfer at the DPS")
    browser.photograph(directory / "dossier-markdown.png")
    link = browser.element("//a[normalize-space()='Runs of this object']")
    assert str(link.get_attribute("href")).startswith(running.webserver.url), "it leads to our own pages"
    browser.open(str(link.get_attribute("href")).removeprefix(running.webserver.url), "preserve_object", "Success")

    page = directory / "dossier.html"
    with running.environment() as env:
        page.write_text(html(dossier(env, object_id), running.webserver.url), encoding="utf-8")
    browser.resize(1100, 1750)
    browser.open_file(page, f"Object {object_id}", "Ingest report", "Packages, the newest first")
    assert "accepted" in browser.in_frame(0)
    browser.photograph(directory / "dossier.png")


def photograph_workbench(browser: Browser, directory: Path) -> None:
    """Visit the pages of the overview, of frozen objects and of checks after `overview` ran, and save pictures."""
    browser.resize(1280, 760)
    browser.open("/assets/workflow_overview", "Latest materialization", "eligible")
    browser.element("(//*[contains(text(), 'Show Markdown')])[1]").click()
    browser.element("//img[starts-with(@src, 'data:image/png')]")
    browser.see("their last run failed")
    browser.photograph(directory / "overview.png")

    browser.resize(1280, 800)
    browser.open("/assets/workflow_overview?view=checks", "no_objects_left_failed", "no_rejections_unhandled")
    browser.see("objects are left failed", "detector_candidates")
    browser.photograph(directory / "checks.png")

    browser.resize(1280, 940)
    browser.open("/assets/frozen_objects", "Latest materialization", "by_reason", "Asked by the museum")
    browser.photograph(directory / "frozen.png")

    browser.resize(1280, 640)
    browser.open("/assets/metadata_hashes", "Latest check results", "Fails if more than 2 days")
    browser.photograph(directory / "late.png")

    browser.open("/assets/audit_log", "Latest materialization", "last_events")
    if "Show Markdown" in browser.text:  # a long table is folded
        browser.element("//*[contains(text(), 'Show Markdown')]").click()
    browser.see("unknown (ui)")


def main(directory: Path) -> None:
    """Take all pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="screenshots-") as folder, running_system(Path(folder)) as running:
        museum = running.house.museum
        for changes in (9, 4, 14, 6):
            for object_id in museum.object_ids[-changes:]:
                museum.edit_object(object_id, title=f"{museum.object(object_id).title}, tarkistettu")
            running.run("sync_objects")
        running.run("sync_hashes")
        object_ids = [id_ for id_ in running.good_objects()[10:] if museum.object(id_).multimedia_ids][:3]
        with browser_at(running) as browser:
            launch_by_clicks(browser, object_ids, directory / "backfill-dialog.png")
            running.wait_until("preserved", *object_ids)
            photograph_pages(running, browser, object_ids[0], directory)
            for job, config in (("enqueue", ENQUEUE), ("freeze", FREEZE)):
                picture = directory / f"launchpad-{job}.png"
                launch_in_the_launchpad(
                    browser, f"{job}_objects", config.format(running.good_objects()[15:17]), picture
                )
            make_trouble(running)
            running.run("overview")
            running.wait(lambda: freshness(running, "metadata_hashes") == "DEGRADED", "Dagster to see what is late")
            photograph_workbench(browser, directory)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
