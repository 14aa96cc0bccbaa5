"use strict";
// The page's script: plots by ECharts, layout of the network by dagre, a table that sorts and filters.
const data = JSON.parse(document.getElementById("data").textContent);
const at = id => document.getElementById(id);
const colour = name => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
const escaped = text => String(text).replace(/[&<>"]/g, c => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const narrow = () => window.innerWidth < 640;
const plots = {};
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;

function draw(id, option) {
  const place = at(id);
  if (!place) return;
  plots[id] = plots[id] || echarts.init(place, null, { renderer: "svg" });
  const ink = colour("ink"), soft = colour("soft"), line = colour("line");
  const axis = a => ({ nameTextStyle: { color: soft }, axisLabel: { color: soft, ...(a.axisLabel || {}) },
    axisLine: { lineStyle: { color: soft } }, splitLine: { lineStyle: { color: line } }, nameLocation: "middle", ...a,
    ...(a.axisLabel ? { axisLabel: { color: soft, ...a.axisLabel } } : {}) });
  plots[id].setOption({ animation: false, aria: { enabled: true, decal: { show: false } }, textStyle: { color: ink, fontFamily: "inherit" },
    grid: { left: narrow() ? 58 : 64, right: narrow() ? 22 : 44, top: 34, bottom: 48 },
    ...option, xAxis: axis(option.xAxis), yAxis: axis(option.yAxis),
    tooltip: { confine: true, backgroundColor: colour("paper"), borderColor: soft, textStyle: { color: ink },
      extraCssText: "max-width:24rem;white-space:normal;overflow-wrap:anywhere", ...option.tooltip } }, true);
  place.dataset.drawn = "1";
}

// Fastest first; on the frontier is what no faster one matches in accuracy.
function frontier(points) {
  let best = -Infinity;
  return [...points].sort((a, b) => a.x - b.x || b.accuracy - a.accuracy).filter(p => p.accuracy > best && ((best = p.accuracy), true));
}

const shapes = { INT8: "circle", FP16: "rect", FP32: "diamond", BF16: "triangle" };

function pareto() {
  const device = at("device") ? at("device").value : "";
  const points = data.points.filter(p => p.latency[device]).map(p => ({ ...p, x: p.latency[device].ms, time: p.latency[device] }));
  const runs = [...new Set(data.points.map(p => p.run))];
  const palette = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7b3fe4"];
  const bars = points.flatMap(p => [[p.x, p.low], [p.x, p.high], [null, null], [p.time.low, p.accuracy], [p.time.high, p.accuracy], [null, null]]);
  const tell = p => `<b>${escaped(p.what)}</b>, ${escaped(p.run)}<br>${escaped(data.measure)} ${p.accuracy.toFixed(2)} ${data.unit} (${p.low.toFixed(2)} to ${p.high.toFixed(2)})` +
    `<br>${p.x.toPrecision(3)} ms ${escaped(p.time.how)}${p.note ? "<br>" + escaped(p.note) : ""}<br><code>${escaped(p.command)}</code>`;
  const sides = ["right", "left", "top", "bottom"]; // points lie close together, FP16 by INT8 above all
  draw("pareto", {
    legend: runs.length > 1 && runs.length < 9 ? { textStyle: { color: colour("ink") }, data: runs, type: "scroll" } : undefined,
    xAxis: { type: "value", scale: true, name: `ms on ${device || "no known device"}`, nameGap: 30 },
    yAxis: { type: "value", scale: true, name: `${data.measure}, ${data.unit}`, nameGap: narrow() ? 43 : 46 },
    tooltip: { trigger: "item", formatter: item => item.data && item.data.point ? tell(item.data.point) : "" },
    series: [
      { type: "line", name: "interval", z: 1, data: bars, showSymbol: false, silent: true, connectNulls: false, lineStyle: { color: colour("soft"), width: 1 } },
      { type: "line", name: "frontier", step: "end", data: frontier(points).map(p => [p.x, p.accuracy]), showSymbol: false, silent: true, lineStyle: { color: colour("focus"), width: 2, type: "dashed" } },
      ...runs.map((run, index) => ({ type: "scatter", name: run, z: 3, symbolSize: 15, itemStyle: { color: palette[index % palette.length], borderColor: colour("paper"), borderWidth: 1 },
        label: { show: points.length < 16, formatter: item => item.data.point.what, color: colour("ink"), backgroundColor: colour("paper"), padding: [1, 3] },
        data: points.filter(p => p.run === run).map(p => ({ value: [p.x, p.accuracy], symbol: shapes[p.what] || "pin", point: p, label: { position: sides[points.indexOf(p) % 4] } })) })),
    ],
  });
  document.querySelectorAll("#layers tbody tr").forEach(row => {
    const cell = row.querySelector(".ms");
    if (!cell) return;
    const value = data.layers[row.dataset.id].ms[device];
    cell.textContent = value === undefined ? "" : value.toPrecision(3);
    cell.dataset.sort = value === undefined ? -1 : value;
  });
}

function regions() {
  const device = at("device") ? at("device").value : "", macs = "share of multiply-adds, %";
  const timed = data.regions.some(r => r.saved[device] !== undefined), key = timed ? device : macs;
  draw("regions", {
    xAxis: { type: "value", name: timed ? `ms saved by INT8 on ${device}` : macs, nameGap: 30 },
    yAxis: { type: "value", name: `lost by INT8, ${data.regions[0].unit}`, nameGap: narrow() ? 43 : 46 },
    tooltip: { trigger: "item", formatter: item => `<b>${escaped(item.data.name)}</b><br>loses ${item.data.value[1].toPrecision(3)} ${data.regions[0].unit}<br>${timed ? "saves" : "holds"} ${item.data.value[0].toPrecision(3)} ${timed ? "ms" : "% of multiply-adds"}` },
    series: [{ type: "scatter", symbolSize: 11, itemStyle: { color: "#0072b2" },
      data: data.regions.map(r => ({ name: r.name, value: [r.saved[key] || 0, r.lost] })) }],
  });
}

function depth() {
  draw("depth", {
    xAxis: { type: "category", data: data.depth.map((d, i) => i + 1), name: "layer, in the order of the graph", nameGap: 30, axisLabel: { interval: Math.ceil(data.depth.length / (narrow() ? 8 : 20)) - 1 } },
    yAxis: { type: "value", name: "SQNR, dB", nameGap: narrow() ? 38 : 40, scale: true },
    tooltip: { trigger: "axis", formatter: items => { const d = data.depth[items[0].dataIndex]; return `<b>${escaped(d.node)}</b><br>${escaped(d.op)}<br>${d.sqnr.toFixed(1)} dB`; } },
    series: [{ type: "line", data: data.depth.map(d => d.sqnr), symbol: "circle", symbolSize: 5, itemStyle: { color: "#0072b2" },
      markLine: { silent: true, symbol: "none", lineStyle: { color: colour("bad"), type: "dashed" }, label: { formatter: "15 dB", color: colour("soft") }, data: [{ yAxis: 15 }] } }],
  });
}

function histogram() {
  const row = data.ranges[+at("tensor").value], step = row.most / row.counts.length;
  draw("histogram", {
    xAxis: { type: "value", min: 0, max: row.most * 1.04, name: "|x|", nameGap: 28, axisLabel: { formatter: v => v.toPrecision(3).replace(/\.?0+$/, "") } },
    yAxis: { type: "log", min: 0.5, name: "values", nameGap: narrow() ? 43 : 46, axisLabel: { formatter: v => v < 1 ? "" : v.toExponential(0).replace("e+", "e") } },
    tooltip: { trigger: "axis", formatter: items => `${(items[0].data[0] - step / 2).toPrecision(3)} to ${(items[0].data[0] + step / 2).toPrecision(3)}: ${items[0].data[1].toLocaleString("en")}` },
    series: [{ type: "bar", barWidth: "98%", itemStyle: { color: "#0072b2" }, data: row.counts.map((c, i) => [(i + 0.5) * step, c || null]),
      markLine: { silent: true, symbol: "none", lineStyle: { color: colour("bad"), width: 2 }, label: { formatter: `threshold ${row.amax.toPrecision(3)} (${row.method})`, color: colour("ink"), position: "end", align: row.amax > row.most / 2 ? "right" : "left" }, data: [{ xAxis: Math.min(row.amax, row.most) }] } }],
  });
}

// The table of layers.
function sortBy(head) {
  const table = head.closest("table"), body = table.tBodies[0], column = [...head.parentNode.children].indexOf(head);
  const up = head.getAttribute("aria-sort") !== "ascending";
  table.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  const key = row => { const cell = row.cells[column]; return cell.dataset.sort !== undefined ? +cell.dataset.sort : cell.textContent.toLowerCase(); };
  [...body.rows].map(row => [key(row), row]).sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0) * (up ? 1 : -1)).forEach(pair => body.append(pair[1]));
}

function filter() {
  const words = at("find").value.toLowerCase(), rows = [...document.querySelectorAll("#layers tbody tr")];
  rows.forEach(row => { row.hidden = !(row.textContent + " " + row.dataset.nodes).toLowerCase().includes(words); });
  at("found").textContent = words ? `${rows.filter(row => !row.hidden).length} of ${rows.length}` : "";
}

// The network: dagre places the boxes, one viewBox moves and zooms them.
const SVG = "http://www.w3.org/2000/svg";
let view = null, whole = null, boxes = {};

function element(name, attributes, parent, space = SVG) {
  const made = document.createElementNS(space, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent.append(made);
  return made;
}

function kindOf(layer) {
  if (layer.reformat) return "reformat";
  if (layer.takes === "INT8") return layer.gives === "INT8" ? "int8" : "mixed";
  return "half";
}

function shown(name, most) {
  return name.length > most ? "…" + name.slice(1 - most) : name;
}

// dagre's time grows with the square of a network's depth, so a deep one is cut where fewest tensors pass.
function pieces() {
  const count = data.layers.length, passing = new Array(count + 1).fill(0), found = [];
  data.edges.forEach(([from, to]) => { passing[from + 1]++; passing[to + 1]--; });
  for (let i = 1; i <= count; i++) passing[i] += passing[i - 1];
  for (let first = 0; first < count;) {
    let last = count;
    if (count - first > 48) {
      last = first + 24;
      for (let i = last; i <= first + 48; i++) if (passing[i] <= passing[last]) last = i;
    }
    found.push([first, last]);
    first = last;
  }
  return found;
}

// As much of a name as boxes have room for, in the font that the page has here.
const pen = document.createElement("canvas").getContext("2d");
function fitting(name, width) {
  let most = 40;
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  while (most > 4 && pen.measureText(shown(name, most)).width > width) most--;
  return shown(name, most);
}

function network() {
  const place = at("network");
  if (!place || place.dataset.drawn) return;
  const spots = {}, width = 230, height = 40;
  let top = 0, left = 0, right = 0;
  const root = document.createElementNS(SVG, "svg"), svg = element("g", { id: "drawn" }, root);
  const path = (points, dtype) => element("path", { d: "M" + points.map(p => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("L"), class: dtype === "INT8" ? "i8" : "",
    "data-top": Math.min(...points.map(p => p.y)), "data-bottom": Math.max(...points.map(p => p.y)) }, svg);
  for (const [first, last] of pieces()) {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 24, ranksep: 30 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (let id = first; id < last; id++) graph.setNode(String(id), { width, height });
    const own = data.edges.filter(([from, to]) => from >= first && to < last);
    own.forEach(([from, to, dtype]) => graph.setEdge(String(from), String(to), { dtype }));
    dagre.layout(graph);
    // Pieces stand one under the other, each about the middle of its first box.
    const shift = { x: -graph.node(String(first)).x, y: top };
    for (let id = first; id < last; id++) {
      const { x, y } = graph.node(String(id));
      spots[id] = { x: x + shift.x, y: y + shift.y };
      left = Math.min(left, spots[id].x - width / 2);
      right = Math.max(right, spots[id].x + width / 2);
    }
    graph.edges().forEach(edge => path(graph.edge(edge).points.map(p => ({ x: p.x + shift.x, y: p.y + shift.y })), graph.edge(edge).dtype));
    data.edges.filter(([from, to]) => from < first && to >= first && to < last).forEach(([from, to, dtype]) =>
      path([{ x: spots[from].x, y: spots[from].y + height / 2 }, { x: spots[to].x, y: spots[to].y - height / 2 }], dtype));
    top += graph.graph().height + 34;
  }
  data.layers.forEach(layer => {
    const { x, y } = spots[layer.id];
    const poor = layer.sqnr !== null && layer.sqnr < 15 ? " poor" : "";
    const box = element("g", { class: kindOf(layer) + poor, transform: `translate(${(x - width / 2).toFixed(1)} ${(y - height / 2).toFixed(1)})`, "data-id": layer.id, "data-top": y - height / 2, "data-bottom": y + height / 2 }, svg);
    element("rect", { width, height }, box);
    element("text", { x: 8, y: 16 }, box).textContent = fitting(layer.label, width - 16);
    element("text", { x: 8, y: 32 }, box).textContent = shown(layer.type.replace(/^(Cask|Cuda)/, ""), 22) + (layer.sqnr === null ? "" : ` · ${layer.sqnr.toFixed(1)} dB`);
    boxes[layer.id] = { x, y, box };
    box.addEventListener("click", () => pick(layer.id, false));
  });
  place.replaceChildren(root);
  whole = { x: left - 20, y: -20, w: right - left + 40, h: top + 40 };
  const first = boxes[0] || { x: 0, y: 0 };
  const w = Math.min(place.clientWidth || 700, 900);
  look({ x: first.x - w / 2, y: first.y - 60, w, h: w * (place.clientHeight / place.clientWidth || 0.7) });
  place.dataset.drawn = "1";
}

function look(wanted) {
  view = wanted;
  at("network").firstChild.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
}

function zoom(factor, cx = view.x + view.w / 2, cy = view.y + view.h / 2) {
  look({ x: cx - (cx - view.x) * factor, y: cy - (cy - view.y) * factor, w: view.w * factor, h: view.h * factor });
}

function pick(id, move) {
  network();
  const { x, y, box } = boxes[id], layer = data.layers[id];
  document.querySelectorAll("#network .chosen").forEach(other => other.classList.remove("chosen"));
  box.classList.add("chosen");
  if (move) look({ x: x - view.w / 2, y: y - view.h / 2, w: view.w, h: view.h });
  at("chosen").innerHTML = `<b>${escaped(layer.label)}</b> ${escaped(layer.type)}, ${escaped(layer.takes)} → ${escaped(layer.gives)}` +
    `${layer.sqnr === null ? "" : `, ${layer.sqnr.toFixed(1)} dB behind it`}<br>${escaped(layer.name)}${layer.why ? "<br>" + escaped(layer.why) : ""}`;
}

function search() {
  const word = at("node").value.toLowerCase();
  if (!word) return;
  const all = [...data.layers];
  const hit = all.find(l => l.label.toLowerCase() === word || l.name.toLowerCase() === word) || all.find(l => (l.name + " " + l.nodes.join(" ")).toLowerCase().includes(word));
  if (hit) pick(hit.id, true);
  else at("chosen").textContent = `Nothing is called ${at("node").value}.`;
}

function drive(place) {
  let from = null;
  place.addEventListener("wheel", event => {
    if (!event.ctrlKey && !event.shiftKey) return; // the page scrolls; with Ctrl or Shift the network zooms
    event.preventDefault();
    const box = place.getBoundingClientRect();
    zoom(event.deltaY > 0 || event.deltaX > 0 ? 1.2 : 1 / 1.2, view.x + (event.clientX - box.left) / box.width * view.w, view.y + (event.clientY - box.top) / box.height * view.h);
  }, { passive: false });
  place.addEventListener("pointerdown", event => { from = { x: event.clientX, y: event.clientY, view }; });
  window.addEventListener("pointerup", () => { from = null; });
  place.addEventListener("pointermove", event => {
    if (!from) return;
    const scale = from.view.w / place.clientWidth;
    look({ ...from.view, x: from.view.x - (event.clientX - from.x) * scale, y: from.view.y - (event.clientY - from.y) * scale });
  });
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  place.addEventListener("keydown", event => {
    if (moves[event.key]) look({ ...view, x: view.x + moves[event.key][0] * view.w / 6, y: view.y + moves[event.key][1] * view.h / 6 });
    else if (event.key === "+") zoom(1 / 1.3);
    else if (event.key === "-") zoom(1.3);
    else return;
    event.preventDefault();
  });
}

function redraw() {
  pareto();
  if (data.regions.length) regions();
  if (data.depth.length) depth();
  if (data.ranges.length) histogram();
}

redraw();
if (at("device")) at("device").addEventListener("change", () => { pareto(); if (data.regions.length) regions(); });
if (at("tensor")) at("tensor").addEventListener("change", histogram);
if (at("layers")) {
  document.querySelectorAll("#layers th").forEach(head => head.querySelector("button").addEventListener("click", () => sortBy(head)));
  document.querySelectorAll("#layers .pick").forEach(button => button.addEventListener("click", () => {
    pick(+button.closest("tr").dataset.id, true);
    at("network-section").scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  }));
  at("find").addEventListener("input", filter);
  at("node").addEventListener("change", search);
  at("node").addEventListener("keydown", event => { if (event.key === "Enter") search(); });
  at("zoom-in").addEventListener("click", () => { network(); zoom(1 / 1.4); });
  at("zoom-out").addEventListener("click", () => { network(); zoom(1.4); });
  at("whole").addEventListener("click", () => { network(); look(whole); });
  at("worst").addEventListener("click", () => {
    const known = data.layers.filter(l => l.sqnr !== null);
    if (known.length) pick(known.reduce((a, b) => (b.sqnr < a.sqnr ? b : a)).id, true);
  });
  drive(at("network"));
  // A giant network is laid out when it comes into view, so that the page opens at once.
  new IntersectionObserver((entries, observer) => {
    if (entries.some(entry => entry.isIntersecting)) { observer.disconnect(); network(); }
  }, { rootMargin: "400px" }).observe(at("network"));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
window.addEventListener("resize", () => Object.values(plots).forEach(plot => plot.resize()));

// On paper: light, plots as wide as a page, tables that a click would open, and the whole network in columns.
const PAPER = { width: 680, height: 830 };
function paper(on) {
  document.documentElement.toggleAttribute("data-print", on);
  document.querySelectorAll("details").forEach(one => { if (on && !one.open) { one.open = true; one.dataset.opened = ""; } else if (!on && "opened" in one.dataset) { one.open = false; delete one.dataset.opened; } });
  Object.values(plots).forEach(plot => plot.resize({ width: on ? PAPER.width : "auto" }));
  redraw();
  if (at("network")) columns(on);
}

function columns(on) {
  at("printed").replaceChildren();
  if (!on) return;
  network();
  // As few columns a page as put the network on three pages, and so as large as that allows.
  let count = 1;
  const tall = () => PAPER.height * count * whole.w / PAPER.width;
  while (whole.h > 3 * count * tall()) count++;
  const middles = Object.values(boxes).map(b => b.y).sort((a, b) => a - b);
  for (let y = whole.y; y < whole.y + whole.h;) {
    const page = element("div", {}, at("printed"), "http://www.w3.org/1999/xhtml");
    for (let column = 0; column < count && y < whole.y + whole.h; column++) {
      // A column ends in the middle between two rows of boxes.
      const last = middles.filter(middle => middle <= y + tall() - 25).pop() ?? y + tall(), next = middles.find(middle => middle > last + 1);
      const end = next === undefined ? whole.y + whole.h : last > y ? Math.min((last + next) / 2, y + tall()) : y + tall();
      const svg = element("svg", { viewBox: `${whole.x} ${y} ${whole.w} ${tall()}`, preserveAspectRatio: "xMidYMin" }, page);
      const id = `column${Math.round(y)}`;
      element("rect", { x: whole.x, y, width: whole.w, height: end - y }, element("clipPath", { id }, svg));
      const own = element("g", { "clip-path": `url(#${id})` }, svg);
      [...at("drawn").children].filter(one => +one.dataset.bottom >= y && +one.dataset.top <= end).forEach(one => own.append(one.cloneNode(true)));
      y = end;
    }
  }
}
window.addEventListener("beforeprint", () => paper(true));
window.addEventListener("afterprint", () => paper(false));
