// The page: filters on top, figures and charts below, drawn again every half minute and at each change of a filter.

import { connectCases, showCases } from "./cases.js";
import { drawBreakdown, drawLatency, drawTrends } from "./charts.js";
import { count, element, fillTable, fixed, latency, moment, percent } from "./format.js";
import { get } from "./request.js";

const EVERY = 30_000;
const ANALYTICS = "api/monitoring/analytics";
const form = document.getElementById("filters");
const problem = document.getElementById("problem");
let latest = 0;
let known = {};

function filters() {
  const values = Object.fromEntries(new FormData(form));
  if (values.time_start) values.time_start = `${values.time_start}T00:00:00`;
  if (values.time_end) values.time_end = `${values.time_end}T23:59:59.999999`;
  return values;
}

function report(error) {
  problem.textContent = error.message;
  problem.hidden = false;
}

/** What a question gives; where the dataset has no rows yet it is not asked, for a browser logs a 404 as an error. */
async function orEmpty(path, parameters, empty) {
  return rowsOf("monitoring_data") ? get(path, parameters) : empty;
}

const rowsOf = (dataset) => known[dataset]?.rows ?? 0;

async function showFigures() {
  const question = ++latest;
  const { granularity, ...common } = filters();
  const [summary, trends, breakdown, distribution] = await Promise.all([
    orEmpty(`${ANALYTICS}/summary`, common, { kpis: {} }),
    orEmpty(`${ANALYTICS}/trends`, { ...common, granularity }, { data: [], metrics: [], granularity }),
    orEmpty(`${ANALYTICS}/metric-breakdown`, common, { metrics: [] }),
    orEmpty(`${ANALYTICS}/latency-distribution`, common, { histogram: { counts: [], edges: [] }, percentiles: {} }),
  ]);
  if (question !== latest) return;
  showKpis(summary.kpis);
  drawTrends(trends);
  drawBreakdown(breakdown);
  drawLatency(distribution);
}

function showKpis(kpis) {
  const cards = [
    ["Scored rows", count(kpis.total_records)], ["Average score", fixed(kpis.avg_score, 3)],
    ["Pass rate", percent(kpis.pass_rate)], ["Latency p50", latency(kpis.p50_latency)],
    ["Latency p95", latency(kpis.p95_latency)], ["Latency p99", latency(kpis.p99_latency)],
  ];
  document.getElementById("kpis").replaceChildren(...cards.map(([name, value]) => {
    const card = element("div");
    card.append(element("dt", name), element("dd", value));
    return card;
  }));
}

async function showStatus() {
  known = (await get("api/store/status")).datasets;
  const entries = Object.entries(known);
  document.getElementById("chips").replaceChildren(
    ...entries.map(([name, status]) => element("li", `${name} ${status.state}`, { "data-state": status.state })));
  fillTable(document.getElementById("status"), ["Dataset", "State", "Rows", "Last sync (UTC)", "Kind", "Message"], entries.map(
    ([name, status]) => [name, element("span", status.state, { class: "state", "data-state": status.state }), count(status.rows),
      moment(status.last_sync), status.sync_type ?? "–", status.error ?? (status.truncated ? "truncated by max_sync_rows" : "")]));
}

async function showChoices() {
  const { metadata } = await orEmpty("api/store/metadata/monitoring", {}, { metadata: { filter_values: {} } });
  for (const select of form.querySelectorAll("select:not([name=granularity])")) {
    const values = metadata.filter_values[select.name] ?? [];
    const chosen = select.value;
    select.replaceChildren(element("option", "all", { value: "" }), ...values.map((value) => element("option", value, { value })));
    select.value = values.includes(chosen) ? chosen : "";
    select.closest("label").hidden = values.length === 0;
  }
}

async function show() {
  try {
    await showStatus();
    await Promise.all([showChoices(), showFigures(), showCases(rowsOf("human_signals_cases") > 0)]);
    problem.hidden = true;
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn ?? 0) + 1);
  } catch (error) {
    report(error);
  }
}

function connectTheme() {
  const root = document.documentElement;
  const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  root.dataset.theme = localStorage.getItem("theme") ?? preferred;
  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    showFigures().catch(report);
  });
}

connectTheme();
connectCases(report);
form.addEventListener("change", () => showFigures().catch(report));
form.addEventListener("reset", () => setTimeout(() => showFigures().catch(report)));
await show();
setInterval(() => document.hidden || show(), EVERY);
