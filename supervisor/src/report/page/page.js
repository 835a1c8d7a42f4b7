"use strict";
(() => {
const D = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const ROW = 22, EXTRA = 8, MOST = 300, FIRST = 40;
const el = (tag, attributes, ...children) => {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attributes || {})) {
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v); else if (v !== false && v != null) e.setAttribute(k, v);
  }
  e.append(...children.filter((c) => c != null));
  return e;
};
const time = (us) => us < 1000 ? us + " µs" : us < 1e6 ? (us / 1000).toFixed(1) + " ms" : (us / 1e6).toFixed(2) + " s";

// Processes in the order of their tree, and what each did with which file.
const processes = new Map();
for (const [number, pid, parent, start, end, status, signal, title] of D.processes) {
  processes.set(number, { number, pid, parent, start, end, status, signal, title, children: [], uses: [], programs: [], depth: 0 });
}
const tops = [];
for (const p of processes.values()) {
  const above = p.parent !== p.number && processes.get(p.parent);
  if (above) above.children.push(p); else tops.push(p);
}
const tree = [];
{
  const open = tops.slice().reverse();
  while (open.length) {
    const p = open.pop();
    tree.push(p);
    for (let i = p.children.length - 1; i >= 0; i--) { p.children[i].depth = p.depth + 1; open.push(p.children[i]); }
  }
}
for (const [number, t, name, argv, cwd] of D.programs) processes.get(number)?.programs.push({ t, name, argv, cwd });
const files = D.names.map((name, number) => ({ number, name, uses: [], count: 0, vain: 0, accesses: new Set() }));
for (const [process, name, access, err, times, t] of D.uses) {
  const use = { process, file: files[name], access: D.access[access], err, times, t };
  processes.get(process)?.uses.push(use);
  use.file.uses.push(use);
  use.file.count += times;
  if (use.access === "probe") use.file.vain += times;
  use.file.accesses.add(use.access);
}
const set = (name) => (D.sets[name] || []).map((i) => files[i]);
const bad = (p) => p.signal != null || (p.status != null && p.status !== 0);

// What is chosen: the address says it, so that a link leads to the same sight.
const state = { tab: "processes", query: "", from: 0, to: D.last || 1, access: "", set: "outputs" };
let chosen = null;
// How far each tab's list is scrolled: choosing something must not move it.
const scrolled = {};
const mine = (f) => f.name.startsWith(D.job.cwd + "/");
const byPlace = (a, b) => mine(b) - mine(a) || (a.name < b.name ? -1 : 1);

// A list of any length: only the rows in sight are made.
function virtual(rows, make) {
  const space = el("div", { class: "space", style: `height:${rows.length * ROW}px` });
  const scroll = el("div", { class: "scroll", tabindex: "0" }, space);
  const draw = () => {
    const first = Math.max(0, Math.floor(scroll.scrollTop / ROW) - EXTRA);
    const height = scroll.clientHeight || 600;
    const last = Math.min(rows.length, Math.ceil((scroll.scrollTop + height) / ROW) + EXTRA);
    space.replaceChildren(...rows.slice(first, last).map((row, i) => {
      const e = make(row);
      e.style.top = (first + i) * ROW + "px";
      return e;
    }));
  };
  scroll.addEventListener("scroll", () => { scrolled[state.tab] = scroll.scrollTop; draw(); }, { passive: true });
  new ResizeObserver(draw).observe(scroll);
  draw();
  scroll.draw = draw;
  scroll.settle = () => {
    scroll.scrollTop = scrolled[state.tab] || 0;
    const top = rows.indexOf(chosen) * ROW, height = scroll.clientHeight || 600;
    if (top >= 0 && (top < scroll.scrollTop || top > scroll.scrollTop + height - ROW)) scroll.scrollTop = top - height / 2;
    draw();
  };
  return scroll;
}

const matches = (text) => !state.query || text.toLowerCase().includes(state.query);
const command = (p) => p.programs.map((x) => x.argv.join(" ")).join("\n") || p.title;

function processRows() {
  if (!state.query) return tree;
  return tree.filter((p) => matches(command(p)) || String(p.pid) === state.query || p.uses.some((u) => !u.err && u.access !== "stat" && matches(u.file.name)));
}
function processRow(p) {
  const span = state.to - state.from;
  const left = (p.start - state.from) / span * 100, width = (p.end - p.start) / span * 100;
  return el("button", { class: "row process" + (chosen === p ? " chosen" : ""), onclick: () => choose("p" + p.number), title: command(p) },
    el("span", { class: "name", style: `padding-left:${Math.min(p.depth, 24) * 12}px` }, p.title),
    el("span", { class: "track" }, el("span", { class: "bar" + (bad(p) ? " bad" : ""), style: `left:${left}%;width:${width}%` })));
}
function ticks() {
  const span = state.to - state.from, raw = span / 6;
  const unit = 10 ** Math.floor(Math.log10(raw)), step = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= raw) || raw;
  const all = [];
  for (let t = Math.ceil(state.from / step) * step; t <= state.to; t += step) {
    all.push(el("span", { style: `left:${(t - state.from) / span * 100}%` }, time(Math.round(t))));
  }
  return all;
}
function zoom(factor, at = 0.5) {
  const span = state.to - state.from, wide = Math.min(Math.max(span * factor, 10), D.last || 1);
  const from = Math.min(Math.max(state.from + (span - wide) * at, 0), Math.max(0, (D.last || 1) - wide));
  state.from = from; state.to = from + wide;
}
function showProcesses() {
  const axis = el("div", { class: "ticks" });
  const scroll = virtual(processRows(), processRow);
  const redraw = () => { axis.replaceChildren(...ticks()); scroll.draw(); };
  const button = (text, act, label) => el("button", { onclick: () => { act(); redraw(); }, "aria-label": label }, text);
  const move = (by) => { const span = state.to - state.from; const from = Math.min(Math.max(state.from + span * by, 0), (D.last || 1) - span); state.from = from; state.to = from + span; };
  scroll.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return;
    e.preventDefault();
    const box = axis.getBoundingClientRect();
    zoom(e.deltaY > 0 ? 1.25 : 0.8, Math.min(Math.max((e.clientX - box.left) / box.width, 0), 1));
    redraw();
  }, { passive: false });
  scroll.addEventListener("keydown", (e) => {
    const act = { "+": () => zoom(0.5), "-": () => zoom(2), "0": () => { state.from = 0; state.to = D.last || 1; }, ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2) }[e.key];
    if (act) { act(); redraw(); e.preventDefault(); }
  });
  redraw();
  $("list").replaceChildren(
    el("div", { class: "tools" }, button("+", () => zoom(0.5), "zoom in"), button("−", () => zoom(2), "zoom out"),
      button("◀", () => move(-0.4), "earlier"), button("▶", () => move(0.4), "later"),
      button("all", () => { state.from = 0; state.to = D.last || 1; }),
      chosen && chosen.pid != null ? button("chosen process", () => { const pad = Math.max((chosen.end - chosen.start) * 0.1, 5); state.from = Math.max(0, chosen.start - pad); state.to = Math.min(D.last || 1, chosen.end + pad); }) : null,
      el("span", { class: "dim" }, "Ctrl and wheel, + − 0, arrows")),
    el("div", { class: "axis" }, el("span", { class: "name" }, "process"), axis), scroll);
}

function fileRow(count) {
  return (f) => el("button", { class: "row file" + (chosen === f ? " chosen" : ""), onclick: () => choose("f" + f.name), title: f.name },
    el("span", { class: "count" }, count(f)), el("span", { class: "path" }, f.name));
}
function showFiles() {
  const all = el("select", { onchange: (e) => { state.access = e.target.value; scrolled[state.tab] = 0; show(); }, "aria-label": "access" },
    el("option", { value: "" }, "any access"), ...D.access.map((a) => el("option", { value: a, selected: a === state.access ? "" : null }, a)));
  const rows = files.filter((f) => matches(f.name) && (!state.access || f.accesses.has(state.access)));
  rows.sort(byPlace);
  $("list").replaceChildren(el("div", { class: "tools" }, all, el("span", { class: "dim" }, rows.length + " paths")),
    virtual(rows, fileRow((f) => f.count + " ×")));
}
function showSets() {
  const names = { outputs: "Outputs", inputs: "Inputs", temporary: "Temporary", removed: "Removed", directories: "New directories", listed: "Listed directories" };
  const radios = Object.entries(names).map(([name, text]) => el("label", {},
    el("input", { type: "radio", name: "set", checked: name === state.set ? "" : null, onchange: () => { state.set = name; scrolled[state.tab] = 0; show(); } }), ` ${text} (${(D.sets[name] || []).length})`));
  const rows = set(state.set).filter((f) => matches(f.name)).sort(byPlace);
  $("list").replaceChildren(el("div", { class: "tools" }, ...radios), virtual(rows, fileRow((f) => f.count + " ×")));
}
function showVain() {
  const rows = files.filter((f) => f.vain > 0 && matches(f.name)).sort((a, b) => b.vain - a.vain);
  $("list").replaceChildren(el("div", { class: "tools dim" }, `${rows.length} paths were looked up and not there, most often first`),
    virtual(rows, fileRow((f) => f.vain + " ×")));
}
function showRefused() {
  const seen = new Map();
  for (const [process, call, path, err, rule, why, allow] of D.refused) {
    if (!matches(path) && !matches(call)) continue;
    const key = [process, call, path, err].join("\0");
    const r = seen.get(key) || { process, call, path, err, rule, why, allow, times: 0 };
    r.times++; seen.set(key, r);
  }
  const cards = [...seen.values()].slice(0, MOST).map((r) => el("div", { class: "card refused" },
    el("b", {}, el("code", {}, r.path)), ` ${r.call}: `, el("span", { class: "err" }, r.err || ""), r.times > 1 ? ` (${r.times} times)` : "",
    el("dl", {}, el("dt", {}, "who"), el("dd", {}, processLink(r.process)), el("dt", {}, "rule"), el("dd", {}, `${r.rule}: ${r.why}`), el("dt", {}, "to allow it"), el("dd", {}, el("code", {}, r.allow)))));
  $("list").replaceChildren(el("div", { class: "scroll" }, ...(cards.length ? cards : [el("p", { class: "card hint" }, "Nothing was refused.")])));
}

const processLink = (number) => {
  const p = processes.get(number);
  return p ? el("a", { onclick: () => choose("p" + number), title: command(p) }, `${p.title} [${p.pid}]`) : `process ${number}`;
};
const fileLink = (f) => el("a", { onclick: () => choose("f" + f.name) }, el("code", {}, f.name));
function group(title, uses, item, first = MOST) {
  if (!uses.length) return [];
  const list = el("ul", {}), more = el("button", { class: "more" }, "");
  let shown = 0;
  const add = () => {
    const next = Math.min(uses.length, shown + (shown ? MOST : first));
    list.append(...uses.slice(shown, next).map(item));
    shown = next;
    more.textContent = `${uses.length - shown} more`;
    more.hidden = shown === uses.length;
  };
  more.addEventListener("click", add);
  add();
  return [el("h3", {}, `${title} (${uses.length})`), list, more];
}
const titles = { write: "Wrote", create: "Made", delete: "Removed", read: "Read", exec: "Ran", list: "Listed", stat: "Looked at", lock: "Locked", probe: "Looked up in vain" };
const passive = { write: "Written by", create: "Made by", delete: "Removed by", read: "Read by", exec: "Run by", list: "Listed by", stat: "Looked at by", lock: "Locked by", probe: "Looked up in vain by" };
const order = ["write", "create", "delete", "exec", "read", "list", "lock", "probe", "stat"];
// EINVAL of a look is readlink's way to say that it is no link.
const note = (u) => (u.err && u.access !== "probe" && !(u.access === "stat" && u.err === "EINVAL") ? [" ", el("span", { class: "err" }, u.err)] : []).concat(u.times > 1 ? [el("span", { class: "dim" }, ` × ${u.times}`)] : []);
// What the job made a file from: what its makers read, and where that was made by the job or had
// another name before, what its makers read.
function sources(file) {
  const made = (f) => f.uses.filter((u) => !u.err && (u.access === "write" || u.access === "create"));
  const found = new Set(), seen = new Set([file]), open = [file], asked = new Set();
  while (open.length) {
    for (const { process } of made(open.pop())) {
      if (asked.has(process)) continue;
      asked.add(process);
      for (const u of processes.get(process)?.uses || []) {
        if (u.err || seen.has(u.file) || (u.access !== "read" && u.access !== "delete")) continue;
        seen.add(u.file);
        if (made(u.file).length) open.push(u.file); else if (u.access === "read") found.add(u.file);
      }
    }
  }
  return [...found].sort(byPlace);
}
function details() {
  const box = $("details");
  if (!chosen) return;
  if (chosen.pid != null) {
    const p = chosen;
    const how = p.signal != null ? `signal ${p.signal}` : p.status != null ? `exit status ${p.status}` : "end unknown";
    box.replaceChildren(el("h2", {}, p.title),
      el("dl", {}, el("dt", {}, "pid"), el("dd", {}, String(p.pid)), el("dt", {}, "time"), el("dd", {}, `${time(p.start)} to ${time(p.end)}: ${time(p.end - p.start)}`),
        el("dt", {}, "end"), el("dd", { class: bad(p) ? "err" : "" }, how), el("dt", {}, "parent"), el("dd", {}, processes.has(p.parent) ? processLink(p.parent) : "none in the job")),
      ...p.programs.flatMap((x) => [el("h3", {}, `Program at ${time(x.t)}`), el("code", { class: "argv" }, x.argv.join(" ")), el("div", { class: "dim" }, "in ", x.cwd || "?", ", file "), fileLink(files[x.name])]),
      ...order.flatMap((a) => group(titles[a], p.uses.filter((u) => u.access === a), (u) => el("li", {}, fileLink(u.file), ...note(u)))),
      ...group("Children", p.children, (c) => el("li", {}, processLink(c.number))));
  } else {
    const f = chosen;
    const sets = Object.entries({ inputs: "input", outputs: "output", temporary: "temporary file", removed: "removed" }).filter(([s]) => D.sets[s].includes(f.number)).map(([, t]) => t);
    box.replaceChildren(el("h2", {}, el("code", {}, f.name)), el("p", { class: "dim" }, sets.join(", ")),
      ...["write", "create"].flatMap((a) => by(f, a)), ...group("Comes from", sources(f), (s) => el("li", {}, fileLink(s)), FIRST),
      ...order.slice(2).flatMap((a) => by(f, a)));
  }
  box.scrollTop = 0;
}

const by = (f, a) => group(passive[a], f.uses.filter((u) => u.access === a), (u) => el("li", {}, processLink(u.process), ...note(u)));

const tabs = {
  processes: ["Processes", () => tree.length, showProcesses], files: ["Files", () => files.length, showFiles],
  sets: ["Inputs and outputs", () => D.sets.inputs.length + D.sets.outputs.length, showSets],
  refused: ["Refused", () => D.refused.length, showRefused], vain: ["Looked up in vain", () => files.filter((f) => f.vain).length, showVain],
};
function show() {
  $("tabs").replaceChildren(...Object.entries(tabs).map(([name, [text, count]]) => el("button", { role: "tab", "aria-selected": String(name === state.tab), onclick: () => { state.tab = name; remember(); show(); } }, `${text} (${count()})`)));
  tabs[state.tab][2]();
  document.querySelector("#list .scroll")?.settle?.();
  details();
}
function remember(choice = location.hash.match(/[#&]at=([^&]*)/)?.[1]) {
  const parts = [["tab", state.tab], ["q", encodeURIComponent(state.query)], ["at", choice || ""]].filter(([, v]) => v);
  history.replaceState(null, "", "#" + parts.map(([k, v]) => k + "=" + v).join("&"));
}
function choose(what) {
  chosen = what[0] === "p" ? processes.get(Number(what.slice(1))) : files.find((f) => f.name === what.slice(1));
  remember(encodeURIComponent(what));
  show();
}
function restore() {
  const given = Object.fromEntries(location.hash.slice(1).split("&").map((part) => part.split("=").map(decodeURIComponent)));
  if (tabs[given.tab]) state.tab = given.tab;
  state.query = (given.q || "").toLowerCase();
  $("search").value = given.q || "";
  if (given.at) choose(given.at); else show();
}
let later;
$("search").addEventListener("input", (e) => {
  clearTimeout(later);
  later = setTimeout(() => { state.query = e.target.value.trim().toLowerCase(); scrolled[state.tab] = 0; remember(); show(); }, 120);
});
const facts = [`${tree.length} processes`, `${D.events} calls with paths`, time(D.last), D.status == null ? "the trace has no end" : `exit status ${D.status}`,
  new Date(D.job.began).toISOString().slice(0, 19) + "Z", "in " + D.job.cwd, `Linux ${D.job.kernel} ${D.job.machine}`,
  ...D.job.mounts.map(([at, what, mode]) => `${at}: ${what}, ${mode}`)];
if (D.job.name) facts.unshift(D.job.name);
if (D.supervision_ms != null) facts.push(`supervision took ${time(D.supervision_ms * 1000)} of processor time`);
$("facts").textContent = facts.join(" · ");
addEventListener("hashchange", restore);
restore();
})();
