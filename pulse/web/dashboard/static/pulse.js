// The dashboard's script: counts down, polls for changes, and takes keys. Every page works without.
"use strict";
(() => {
  const SECOND = 1000, FAST = 3 * SECOND, SLOW = 60 * SECOND, FAST_POLLS = 20;
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  document.documentElement.classList.add("scripted");

  // Times ------------------------------------------------------------------------------------

  // The server's clock counts, as far as the page states it: that of the browser may be wrong.
  let offset = 0;

  function setClock() {
    const clock = $("#clock time");
    const ahead = clock ? Date.now() - Date.parse(clock.dateTime) : 0;
    offset = Math.abs(ahead) > 5 * SECOND ? ahead : 0;
  }

  function advanceClock() {
    const clock = $("#clock time");
    if (!clock) return;
    const words = { timeZone: clock.dataset.zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" };
    const part = {};
    for (const { type, value } of new Intl.DateTimeFormat("en", words).formatToParts(Date.now() - offset)) part[type] = value;
    const name = clock.textContent.trim().split(" ").pop();
    const text = `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}:${part.second} ${name}`;
    if (clock.textContent !== text) clock.textContent = text;
  }

  function relative(at) {
    const distance = Date.now() - offset - at;
    const seconds = Math.round(Math.abs(distance) / SECOND);
    for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
      if (seconds >= length) {
        const text = `${Math.floor(seconds / length)} ${unit}`;
        return distance < 0 ? `in ${text}` : `${text} ago`;
      }
    }
    return "now";
  }

  function count() {
    for (const node of all("[data-at]")) {
      const at = Date.parse(node.dataset.at);
      const isDue = node.classList.contains("next") && at <= Date.now() - offset;
      const text = isDue ? "now" : relative(at);
      if (node.textContent !== text) node.textContent = text;
    }
    advanceClock();
  }

  // Polling ----------------------------------------------------------------------------------

  const button = $("#live");
  let etag = null, left = FAST_POLLS, timer = null, busy = false;

  function stored(name) { try { return localStorage.getItem(name); } catch { return null; } }
  function store(name, value) { try { localStorage.setItem(name, value); } catch { /* not kept */ } }
  let live = stored("pulse.live") !== "off";

  // What somebody is using is left alone: a field with the focus, an open detail, a selection.
  function inUse(region) {
    const active = document.activeElement;
    if (active && region.contains(active) && active.matches("input, select, textarea")) return true;
    if ($("details[open]", region)) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && selection.rangeCount
      && selection.getRangeAt(0).intersectsNode(region));
  }

  function replace(region, fresh) {
    if (region.isEqualNode(fresh)) return;
    const focused = region.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const chosen = all("tr[data-task]", region).findIndex((row) => row.classList.contains("selected"));
    const task = chosen < 0 ? null : all("tr[data-task]", region)[chosen].dataset.task;
    region.className = fresh.className;
    region.replaceChildren(...Array.from(fresh.childNodes, (node) => document.importNode(node, true)));
    if (task !== null) {
      const rows = all("tr[data-task]", region);
      const again = rows[chosen] && rows[chosen].dataset.task === task ? rows[chosen] : rows.find((row) => row.dataset.task === task);
      if (again) again.classList.add("selected");
    }
    prepare(region);
    if (focused) for (const link of all("a[href]", region)) if (link.getAttribute("href") === focused) { link.focus({ preventScroll: true }); break; }
  }

  async function poll() {
    if (busy || !live || $("dialog[open]")) return;
    busy = true;
    try {
      const headers = { Accept: "text/html" };
      if (etag) headers["If-None-Match"] = etag;
      const answer = await fetch(location.href, { headers, credentials: "same-origin", redirect: "error", cache: "no-store" });
      if (answer.status === 304) { say("Live"); return; }
      if (!answer.ok) { say(answer.status === 401 || answer.status === 403 ? "Signed out" : "Not reached"); return; }
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const page = $("meta[name=pulse]", fresh);
      if (!page || page.content !== $("meta[name=pulse]").content) { say("Signed out"); return; }
      if (!live || $("dialog[open]")) return;
      let complete = true;
      for (const region of all("[data-live]")) {
        const other = fresh.getElementById(region.id);
        if (!other) continue;
        if (inUse(region)) complete = false;
        else replace(region, other);
      }
      etag = complete ? answer.headers.get("ETag") : null;
      document.title = fresh.title;
      const icon = $("#icon"), wanted = $("#icon", fresh);
      if (icon && wanted && icon.getAttribute("href") !== wanted.getAttribute("href")) icon.setAttribute("href", wanted.getAttribute("href"));
      say("Live");
      setClock();
      count();
    } catch {
      say("Not reached");
    } finally {
      busy = false;
    }
  }

  function say(text) { if (button) button.textContent = live ? text : "Paused"; }

  function plan() {
    clearTimeout(timer);
    if (!live) return;
    const fast = left > 0 && !document.hidden;
    timer = setTimeout(async () => {
      if (fast) left -= 1;
      await poll();
      plan();
    }, fast ? FAST : SLOW);
  }

  function attend() {
    const slow = left <= 0;
    left = FAST_POLLS;
    if (slow) plan();
  }

  if (button && $("[data-live]:not(#clock):not(#banners)")) {
    button.hidden = false;
    const show = () => { button.setAttribute("aria-pressed", String(live)); say("Live"); };
    button.addEventListener("click", () => {
      live = !live;
      store("pulse.live", live ? "on" : "off");
      left = FAST_POLLS;
      show();
      if (live) poll();
      plan();
    });
    for (const event of ["mousemove", "keydown", "touchstart"]) addEventListener(event, attend, { passive: true });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) { attend(); if (live) poll(); } plan(); });
    show();
    plan();
  }

  // Keys -------------------------------------------------------------------------------------

  // Single keys can be turned off, for those whose speech or switches type them by accident.
  const keys = $("#keys"), hint = $("#keys-hint"), keysOn = $("#keys-on");
  if (hint) hint.hidden = false;
  if (keysOn) {
    keysOn.checked = stored("pulse.keys") !== "off";
    keysOn.addEventListener("change", () => store("pulse.keys", keysOn.checked ? "on" : "off"));
  }

  function go(path) {
    const url = new URL(path, location.href), zone = new URL(location.href).searchParams.get("zone");
    if (zone && !url.searchParams.has("zone")) url.searchParams.set("zone", zone);
    location.assign(url);
  }

  function move(step) {
    const rows = all("main tr[data-task]");
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.classList.contains("selected"));
    const next = at < 0 ? (step > 0 ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1);
    rows.forEach((row, number) => row.classList.toggle("selected", number === next));
    const link = $("a[href]", rows[next]);
    if (link) link.focus({ preventScroll: true });
    rows[next].scrollIntoView({ block: "nearest" });
  }

  function ask(verb) {
    const row = $("tr.selected[data-task]") || $("main p.actions[data-task]");
    if (!row || document.body.dataset.act !== "yes") return;
    const wanted = verb === "pause" && row.dataset.paused === "yes" ? "resume" : verb;
    go(`confirm?verb=${wanted}&name=${encodeURIComponent(row.dataset.task)}`);
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select, textarea");
    // A dialog that was just closed may have the focus for a moment still.
    if ((field && !field.closest("dialog:not([open])")) || $("dialog[open]")) return;
    if (event.key !== "?" && keysOn && !keysOn.checked) return;
    switch (event.key) {
      case "/": { const field = $("#q"); if (field) field.focus(); else go("./"); break; }
      case "j": move(1); break;
      case "k": move(-1); break;
      case "r": ask("run"); break;
      case "p": ask("pause"); break;
      case "t": go("timeline"); break;
      case "?": if (keys) keys.showModal(); break;
      default: return;
    }
    event.preventDefault();
  });

  // Fields and buttons -------------------------------------------------------------------------

  const zone = $("#zone");
  if (zone) {
    const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
    if (own && !Array.from(zone.options).some((option) => option.value === own)) zone.add(new Option(`${own} (browser)`, own));
  }

  function prepare(root) {
    for (const copy of all("[data-copy]", root)) copy.hidden = false;
  }

  document.addEventListener("click", async (event) => {
    const copy = event.target.closest("[data-copy]");
    if (!copy) return;
    const source = document.getElementById(copy.dataset.copy);
    const before = copy.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent); // not there over plain http
    } catch {
      document.getSelection().selectAllChildren(source);
      document.execCommand("copy");
    }
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = before; }, 2 * SECOND);
  });

  // What was done is said once: a page that is loaded again is not about it.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    here.searchParams.delete("count");
    history.replaceState(null, "", here);
  }

  prepare(document);
  setClock();
  count();
  setInterval(count, SECOND);
})();
