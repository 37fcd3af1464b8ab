// The page of a lakehouse: its leaderboard as a table that sorts, and a chart for each metric of the best runs.

const { columns, big, runs, total, trends, exported_at: exportedAt } = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const charts = [];
let sorted = { column: null, descending: false };

function style(name) {
  return getComputedStyle(root).getPropertyValue(name).trim();
}

/** Whole numbers beyond 2^53 come as texts, in columns that have nothing else: as numbers of JavaScript they would be others. */
for (const run of runs) {
  for (const column of big) if (run[column] !== null) run[column] = BigInt(run[column]);
}

function text(value) {
  if (value === null) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(6)));
  return String(value);
}

function compare(left, right) {
  if (isNumber(left) && isNumber(right)) return Number(left > right) - Number(left < right);
  return String(left).localeCompare(String(right), "en", { numeric: true });
}

/** Rows without a value stay at the end, whichever way the others are sorted; equal ones keep the order of the ranking. */
function ordered() {
  const { column, descending } = sorted;
  if (column === null) return runs;
  const known = runs.filter((run) => run[column] !== null);
  known.sort((left, right) => (descending ? -1 : 1) * compare(left[column], right[column]));
  return [...known, ...runs.filter((run) => run[column] === null)];
}

function isNumber(value) {
  return typeof value === "number" || typeof value === "bigint";
}

function isNumeric(column) {
  return runs.some((run) => isNumber(run[column]));
}

function drawHead() {
  const head = document.querySelector("#board thead tr");
  for (const column of columns) {
    const cell = document.createElement("th");
    const button = document.createElement("button");
    cell.scope = "col";
    cell.dataset.column = column;
    cell.classList.toggle("number", isNumeric(column));
    button.type = "button";
    button.textContent = column;
    button.addEventListener("click", () => sortBy(column));
    cell.append(button);
    head.append(cell);
  }
}

function drawRows() {
  const rows = ordered().map((run) => {
    const row = document.createElement("tr");
    for (const column of columns) {
      const cell = document.createElement("td");
      cell.textContent = text(run[column]);
      cell.title = cell.textContent;
      cell.classList.toggle("number", isNumeric(column));
      row.append(cell);
    }
    return row;
  });
  document.querySelector("#board tbody").replaceChildren(...rows);
}

function sortBy(column) {
  sorted = { column, descending: sorted.column === column && !sorted.descending };
  for (const cell of document.querySelectorAll("#board th")) {
    if (cell.dataset.column !== column) cell.removeAttribute("aria-sort");
    else cell.setAttribute("aria-sort", sorted.descending ? "descending" : "ascending");
  }
  drawRows();
}

function configuration(rows) {
  const colours = style("--series").split(",");
  const names = [...new Set(runs.map((run) => run.run_id))].filter((name) => rows.some((row) => row.run_id === name));
  const axis = (title) => ({
    title: { display: Boolean(title), text: title, color: style("--faint") },
    ticks: { color: style("--faint"), maxRotation: 0 },
    grid: { color: style("--line") },
  });
  const datasets = names.map((name, index) => ({
    label: name,
    data: rows.filter((row) => row.run_id === name).map((row) => ({ x: row.epoch, y: row.value })),
    borderColor: colours[index % colours.length].trim(),
    backgroundColor: colours[index % colours.length].trim(),
    borderWidth: 2,
    pointRadius: 2,
  }));
  return {
    type: "line",
    data: { datasets },
    options: {
      responsive: true, maintainAspectRatio: false, animation: false, parsing: false,
      interaction: { mode: "nearest", axis: "x", intersect: false },
      scales: { x: { type: "linear", ...axis("epoch") }, y: axis("") },
      plugins: { legend: { labels: { color: style("--text"), boxWidth: 12 } } },
    },
  };
}

function addCard(metric) {
  const card = document.createElement("section");
  const title = document.createElement("h2");
  const frame = document.createElement("div");
  const canvas = document.createElement("canvas");
  card.className = "card";
  frame.className = "chart";
  title.textContent = metric;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${metric} by epoch, the best runs; the numbers are in metric_trends.json`);
  frame.append(canvas);
  card.append(title, frame);
  document.getElementById("charts").append(card);
  return canvas;
}

function drawCharts() {
  while (charts.length) charts.pop().destroy();
  document.getElementById("charts").replaceChildren();
  for (const metric of new Set(trends.map((row) => row.metric))) {
    charts.push(new Chart(addCard(metric), configuration(trends.filter((row) => row.metric === metric))));
  }
}

function setTheme(dark) {
  root.dataset.theme = dark ? "dark" : "light";
  document.getElementById("theme").setAttribute("aria-pressed", String(dark));
  drawCharts();
}

document.getElementById("about").textContent = `${total} runs, exported ${exportedAt}`;
document.getElementById("note").textContent = `The first ${runs.length} of ${total} runs; all of them are in leaderboard.json.`;
document.getElementById("note").hidden = runs.length === total;
document.getElementById("no-runs").hidden = total > 0;
document.getElementById("theme").addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
drawHead();
drawRows();
setTheme(matchMedia("(prefers-color-scheme: dark)").matches);
