// The JSON API, as docs/serving.md describes it.

export class Refused extends Error {}

async function ask(method, path, body) {
  const options = { method };
  if (body) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const answer = await fetch(path, options);
  const found = await answer.json();
  if (!answer.ok) throw new Refused(found.error);
  return found;
}

export const models = () => ask("GET", "/api/models");
export const submit = (body) => ask("POST", "/api/requests", body);
export const cancel = (id) => ask("DELETE", `/api/requests/${id}`);
export const state = (id) => ask("GET", `/api/requests/${id}`);

export function imageUrl(found, index) {
  return `/api/requests/${found.id}/images/${index}.png?v=${found.version}`;
}

// Calls `told` after every change; `lost` if the server no longer knows the request.
export function watch(id, told, lost) {
  const events = new EventSource(`/api/requests/${id}/events`);
  events.onmessage = (event) => {
    const found = JSON.parse(event.data);
    if (["done", "failed", "cancelled"].includes(found.state)) events.close();
    told(found);
  };
  events.onerror = () => {
    if (events.readyState === EventSource.CLOSED) lost();
  };
  return () => events.close();
}
