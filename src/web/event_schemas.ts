const status = { $ref: "#/components/schemas/status" };
const time = { $ref: "#/components/schemas/common.time" };

const state = {
  description: "What is at one moment.",
  type: "object",
  properties: {
    status,
    gpus: {
      description: "The GPUs with what their registers say, numbers as numbers.",
      type: "array",
      items: { type: "object", properties: { name: { type: "string" }, links: { type: "array" } } },
    },
    drivers: {
      description: "Drivers of this host that have GPUs, by the GPU's address.",
      type: "object",
      additionalProperties: { type: "string" },
    },
    snippets: {
      description: "What to paste for each assignment.",
      type: "array",
      items: {
        type: "object",
        properties: { name: { type: "string" }, qemu: { type: "string" }, libvirt: { type: "string" } },
        required: ["name", "qemu", "libvirt"],
        additionalProperties: false,
      },
    },
  },
  required: ["status", "gpus", "drivers", "snippets"],
  additionalProperties: false,
};

const events = {
  description: "What has happened, the oldest first; besides these fields as `linkfence serve --json` tells it.",
  type: "array",
  items: {
    type: "object",
    properties: {
      number: { description: "Ascending from 1.", type: "integer", minimum: 1 },
      time,
      event: { type: "string" },
    },
    required: ["number", "time", "event"],
  },
};

const snapshot = {
  description: "All of this moment.",
  type: "object",
  properties: {
    machine: {
      description: "The text of a capture file: the machine as it was described.",
      type: "string",
      contentMediaType: "application/json",
      contentSchema: { $ref: "#/components/schemas/capture-file" },
    },
    planning: {
      description: "How the server plans.",
      type: "object",
      properties: { includeHost: { type: "boolean" }, isolateNvlink: { type: "boolean" } },
      required: ["includeHost"],
      additionalProperties: false,
    },
    state: { $ref: "#/components/schemas/event-stream.state" },
    history: { $ref: "#/components/schemas/event-stream.events" },
  },
  required: ["machine", "planning", "state", "history"],
  additionalProperties: false,
};

const blind = {
  description: "Why it is not known what is now.",
  type: "object",
  properties: { why: { type: "string" } },
  required: ["why"],
  additionalProperties: false,
};

const beat = { type: "object", properties: { time }, required: ["time"], additionalProperties: false };

const messages = { snapshot, state, events, blind, beat };

/** The data of each message of /api/events, as components of an OpenAPI description. */
export const EVENT_STREAM_SCHEMAS: Record<string, object> = {
  "event-stream": {
    description: "The data of one message; which of these it is says its `event`.",
    oneOf: Object.keys(messages).map((name) => ({ $ref: `#/components/schemas/event-stream.${name}` })),
  },
  ...Object.fromEntries(Object.entries(messages).map(([name, schema]) => [`event-stream.${name}`, schema])),
};
