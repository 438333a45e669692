// Follows the federation's events: a row for each, and the parts of the page asked for anew.
"use strict";

const light = document.getElementById("live");
const rows = document.getElementById("events");
const part = document.querySelector("[data-part]");
let due = null;

function refresh() {
  due = null;
  fetch(part.dataset.part)
    .then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
    .then((text) => { part.innerHTML = text; })
    .catch((status) => { if (status === 401) location.reload(); });
}

function show(event) {
  if (rows) {
    const row = document.createElement("tr");
    for (const text of [event.time.slice(11, 23), event.site, event.type, event.subject || ""]) {
      row.appendChild(document.createElement("td")).textContent = text;
    }
    rows.prepend(row);
    while (rows.children.length > Number(rows.dataset.most)) rows.lastChild.remove();
  }
  if (part && due === null) due = setTimeout(refresh, 300);
}

const stream = new EventSource("/live");
stream.onopen = () => { light.textContent = "live"; light.className = "on"; };
stream.onerror = () => { light.textContent = "reconnecting"; light.className = "off"; };
stream.onmessage = (message) => show(JSON.parse(message.data));
