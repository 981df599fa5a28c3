// Bindings: puts the values of a status document where the page says that they belong.
//
//   data-v="traffic.requests_per_s" data-as="rate"   text of that value; "" is the whole item
//   data-as="link"                                   the value is an address: href, hidden without one
//   data-rows="workers"                              one row of the template #row-workers an item
//   data-if="fills"                                  hidden while that value is null
//
// Text is set as text and never as markup: names come from the files that are served.

import { STATES, spoken } from "/pages/formats.js";

export function look(item, path) {
  return path === "" ? item : path.split(".").reduce((at, key) => (at === null || at === undefined ? null : at[key]), item);
}

function show(element, item) {
  const { v: path, as: format } = element.dataset;
  const value = look(item, path);
  if (format === "link") {
    element.hidden = !value;
    if (value) element.setAttribute("href", value);
    return;
  }
  const text = spoken(format, value);
  if (element.textContent !== text) element.textContent = text; // an unchanged live region stays silent
  if (STATES[format] && value !== null && value !== undefined) element.dataset.state = STATES[format](value);
}

function items(value) {
  if (!value) return [];
  return Array.isArray(value) ? value : Object.entries(value).map(([key, each]) => ({ key, value: each }));
}

function fill(body, status) {
  const found = items(look(status, body.dataset.rows));
  const template = document.getElementById(body.dataset.template).content.firstElementChild;
  while (body.rows.length > found.length) body.deleteRow(-1);
  while (body.rows.length < found.length) body.append(template.cloneNode(true));
  found.forEach((item, index) => {
    for (const element of body.rows[index].querySelectorAll("[data-v]")) show(element, item);
  });
}

export function bind(root, status) {
  for (const element of root.querySelectorAll("[data-if]")) element.hidden = !look(status, element.dataset.if);
  for (const body of root.querySelectorAll("[data-rows]")) fill(body, status);
  for (const element of root.querySelectorAll("[data-v]")) {
    if (!element.closest("[data-rows]")) show(element, status);
  }
}
