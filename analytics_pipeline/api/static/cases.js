// Cases: the table of human-signal cases, its search and pages, and one case in full.

import { element, fillTable, moment } from "./format.js";
import { get } from "./request.js";

const PAGE_SIZE = 15;
const SHOWN = ["Case_ID", "Timestamp", "Business", "Agent_Name", "Message_Count"];
const APART = new Set(["Full_Conversation", ...SHOWN]);

const state = { page: 1, search: "", latest: 0 };

/** Load the current page, if there are any cases; an answer that comes after a later question is dropped. */
export async function showCases(areThere = true) {
  const question = ++state.latest;
  const parameters = { page: state.page, page_size: PAGE_SIZE, search: state.search, sort_by: "Timestamp" };
  const answer = areThere ? await get("api/store/data/human_signals", parameters) : { data: [], total: 0 };
  if (question !== state.latest) return;
  const table = document.getElementById("cases");
  const columns = SHOWN.filter((name) => answer.data.length && name in answer.data[0]);
  fillTable(table, columns.map((name) => name.replaceAll("_", " ")), answer.data.map((row) => columns.map((name) => cell(name, row))));
  const pages = Math.max(1, Math.ceil(answer.total / PAGE_SIZE));
  table.closest(".card").querySelector(".empty").hidden = answer.total > 0;
  document.getElementById("page").textContent = `Page ${state.page} of ${pages}, ${answer.total.toLocaleString("en")} cases`;
  document.getElementById("search").disabled = !areThere;
  document.getElementById("previous").disabled = state.page <= 1;
  document.getElementById("next").disabled = state.page >= pages;
}

function cell(name, row) {
  if (name === "Case_ID") {
    const button = element("button", String(row[name]), { type: "button" });
    button.addEventListener("click", () => openCase(row));
    return button;
  }
  return name === "Timestamp" ? moment(row[name]) : String(row[name] ?? "–");
}

function openCase(row) {
  document.getElementById("case-title").textContent = `Case ${row.Case_ID}`;
  const facts = element("dl");
  for (const [name, value] of Object.entries(row)) {
    if (APART.has(name) || value == null) continue;
    facts.append(element("dt", name), element("dd", typeof value === "object" ? JSON.stringify(value) : String(value)));
  }
  const talk = messagesOf(row.Full_Conversation).map((message) => {
    const shown = element("div", "", { class: "message" });
    shown.append(element("b", message.role ?? ""), String(message.content ?? JSON.stringify(message)));
    return shown;
  });
  document.getElementById("case-body").replaceChildren(facts, ...talk);
  document.getElementById("case").showModal();
}

function messagesOf(conversation) {
  if (Array.isArray(conversation)) return conversation;
  try {
    const parsed = JSON.parse(conversation ?? "[]");
    return Array.isArray(parsed) ? parsed : [];
  } catch {
    return [];
  }
}

/** Wire the search field and the two buttons; failures go to `report`. */
export function connectCases(report) {
  let timer = 0;
  document.getElementById("search").addEventListener("input", (event) => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      Object.assign(state, { page: 1, search: event.target.value.trim() });
      showCases().catch(report);
    }, 200);
  });
  for (const [id, step] of [["previous", -1], ["next", 1]]) {
    document.getElementById(id).addEventListener("click", () => {
      state.page = Math.max(1, state.page + step);
      showCases().catch(report);
    });
  }
}
