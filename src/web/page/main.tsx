import { render } from "preact";
import { App } from "./app.js";
import { connect } from "./connection.js";
import { Moment } from "./page_time.js";
import "./page.css";
import "./views.css";
import "./plan/plan.css";

const root = document.getElementById("app");
if (root !== null) {
  root.replaceChildren();
  connect({
    onView: (view) => {
      render(<App view={view} />, root);
      document.documentElement.dataset.ready ??= String(Math.round(performance.now()));
    },
    onNothing: ({ since, why }) =>
      render(
        <main class="page">
          <h1>linkfence</h1>
          <p role="alert">
            Nothing is known since <Moment at={since} />: {why}.
          </p>
        </main>,
        root,
      ),
  });
}
