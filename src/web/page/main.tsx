import { render } from "preact";
import { App } from "./app.js";
import { connect } from "./connection.js";
import "./page.css";
import "./plan/plan.css";

const root = document.getElementById("app");
if (root !== null) {
  connect((view) => {
    render(<App view={view} />, root);
    document.documentElement.dataset.ready ??= String(Math.round(performance.now()));
  });
}
