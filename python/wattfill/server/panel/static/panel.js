// Every page works without this. With it, what is shown of a group stays fresh, and the shares of a
// what-if follow its sliders. It asks for the same pages again, and takes parts of them.
"use strict";

const page = document.querySelector("[data-page]");

function later(run, milliseconds) {
  let waiting = 0;
  return () => {
    clearTimeout(waiting);
    waiting = setTimeout(run, milliseconds);
  };
}

async function load(url) {
  const answer = await fetch(url);
  if (answer.redirected) {
    // The session is over. What was typed stays until it is sent; the login keeps it then.
    return null;
  }
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

function holdsTyped(element) {
  return [...element.querySelectorAll("input:not([type=hidden])")].some(
    (input) => input.value !== input.defaultValue,
  );
}

function exchange(old, fresh) {
  if (!fresh || old.isEqualNode(fresh) || holdsTyped(old)) {
    return;
  }
  const hadFocus = old.contains(document.activeElement);
  const next = document.importNode(fresh, true);
  old.replaceWith(next);
  if (hadFocus) {
    next.querySelector("button, input:not([type=hidden]), a")?.focus();
  }
}

async function refresh() {
  const fresh = await load(page.dataset.page).catch(() => null);
  if (!fresh) {
    return;
  }
  for (const old of page.querySelectorAll("[data-shape]")) {
    const next = fresh.getElementById(old.id);
    if (next && next.dataset.shape !== old.dataset.shape) {
      exchange(old, next);
    }
  }
  for (const old of page.querySelectorAll("[data-live]")) {
    exchange(old, fresh.getElementById(old.id));
  }
  if (document.querySelector("#shares > *")) {
    await tryOut();
  }
}

function follow() {
  const groups = page.dataset.groups.split(" ").filter(Boolean);
  if (!groups.length) {
    return;
  }
  const refreshSoon = later(refresh, 100);
  let source = null;
  const open = () => {
    source = new EventSource(`/admin/events?${groups.map((id) => `group=${id}`).join("&")}`);
    source.onmessage = refreshSoon;
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED && !document.hidden) {
        setTimeout(open, 5000);
      }
    };
  };
  // A browser has few connections to a host: pages that nobody looks at leave theirs.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (!document.hidden) {
      open();
    }
  });
  open();
}

let tries = 0;

async function tryOut() {
  const trial = document.getElementById("trial");
  const number = ++tries;
  const query = new URLSearchParams(new FormData(trial));
  const fresh = await load(`${page.dataset.page}?${query}`).catch(() => null);
  if (!fresh || number !== tries) {
    return;
  }
  for (const old of document.querySelectorAll("[data-tried]")) {
    const next = fresh.getElementById(old.id);
    if (next && !old.isEqualNode(next)) {
      old.replaceChildren(...document.importNode(next, true).childNodes);
    }
  }
}

function slide(trial) {
  const tryOutSoon = later(tryOut, 120);
  for (const slider of trial.querySelectorAll("[data-for]")) {
    const field = document.getElementById(slider.dataset.for);
    slider.hidden = false;
    slider.addEventListener("input", () => {
      field.value = slider.value;
      tryOutSoon();
    });
    field.addEventListener("input", () => {
      slider.value = field.value.replace(",", ".");
      tryOutSoon();
    });
  }
  trial.querySelector("[data-reset]").addEventListener("click", (event) => {
    if (location.search) {
      return; // The page was asked for with other values: it is loaded again without them.
    }
    event.preventDefault();
    tries += 1;
    trial.reset();
    for (const old of document.querySelectorAll("[data-tried]")) {
      old.replaceChildren();
    }
  });
  trial.addEventListener("submit", (event) => {
    event.preventDefault();
    tryOut();
  });
}

// Which groups were opened stays so when a form of the page comes back to it.
for (const details of document.querySelectorAll("details.stations")) {
  const key = `open:${details.id}`;
  if (sessionStorage.getItem(key)) {
    details.open = true;
  }
  details.addEventListener("toggle", () => {
    if (details.open) {
      sessionStorage.setItem(key, "1");
    } else {
      sessionStorage.removeItem(key);
    }
  });
}

const trial = document.getElementById("trial");
if (trial) {
  slide(trial);
}
if (page) {
  follow();
}
