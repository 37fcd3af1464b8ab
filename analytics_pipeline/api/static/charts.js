// Charts: three pictures of numbers that the API gave. A picture that is drawn again keeps its canvas.

const drawn = new Map();

function style(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function colour(index) {
  const colours = style("--series").split(",");
  return colours[index % colours.length].trim();
}

function axes(titles) {
  const axis = (text) => ({
    title: { display: Boolean(text), text, color: style("--faint") },
    ticks: { color: style("--faint"), maxRotation: 0, autoSkipPadding: 16 },
    grid: { color: style("--line") },
  });
  return { x: axis(titles.x), y: { ...axis(titles.y), beginAtZero: true } };
}

function draw(id, isEmpty, configuration) {
  const canvas = document.getElementById(id);
  const card = canvas.closest(".card");
  canvas.parentElement.hidden = isEmpty;
  card.querySelector(".empty").hidden = !isEmpty;
  drawn.get(id)?.destroy();
  drawn.delete(id);
  if (isEmpty) return;
  const options = {
    responsive: true, maintainAspectRatio: false, animation: false,
    interaction: { mode: "index", intersect: false },
    plugins: { legend: { labels: { color: style("--text"), boxWidth: 12 } } },
  };
  drawn.set(id, new Chart(canvas, { ...configuration, options: { ...options, ...configuration.options } }));
}

/** Average scores, one line a metric. */
export function drawTrends({ data, metrics, granularity }) {
  const digits = granularity === "hourly" ? 16 : 10;
  const times = [...new Set(data.map((point) => point.timestamp))];
  const byMetric = new Map(metrics.map((metric) => [metric, new Map()]));
  for (const point of data) byMetric.get(point.metric)?.set(point.timestamp, point.avg);
  draw("trends", data.length === 0, {
    type: "line",
    data: {
      labels: times.map((time) => time.slice(0, digits)),
      datasets: metrics.map((metric, index) => ({
        label: metric, data: times.map((time) => byMetric.get(metric).get(time) ?? null), spanGaps: true,
        borderColor: colour(index), backgroundColor: colour(index), borderWidth: 2, pointRadius: times.length > 60 ? 0 : 2,
      })),
    },
    options: { scales: axes({ y: "average score" }) },
  });
}

/** Pass rates, one bar a metric. */
export function drawBreakdown({ metrics }) {
  draw("breakdown", metrics.length === 0, {
    type: "bar",
    data: {
      labels: metrics.map((metric) => metric.name),
      datasets: [{ label: "pass rate, %", data: metrics.map((metric) => metric.pass_rate), backgroundColor: colour(0) }],
    },
    options: { indexAxis: "y", scales: { ...axes({}), x: { ...axes({ x: "percent" }).x, min: 0, max: 100 } } },
  });
}

/** The histogram of latencies. */
export function drawLatency({ histogram, percentiles }) {
  const { counts, edges } = histogram;
  const isEmpty = counts.every((value) => value === 0);
  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
  draw("latency", isEmpty, {
    type: "bar",
    data: {
      labels: counts.map((_, index) => `${short.format(edges[index])} – ${short.format(edges[index + 1])}`),
      datasets: [{ label: "rows", data: counts, backgroundColor: colour(2), categoryPercentage: 1, barPercentage: 0.95 }],
    },
    options: { scales: axes({ y: "rows" }) },
  });
  document.getElementById("percentiles").textContent = isEmpty
    ? "" : `p50 ${short.format(percentiles.p50)} · p95 ${short.format(percentiles.p95)} · p99 ${short.format(percentiles.p99)}`;
}
