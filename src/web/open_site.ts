import type { DrawnPicture } from "./answers.js";
import type { LiveView } from "./live_view.js";
import type { Looks } from "./looks.js";
import type { Watched } from "./watched.js";

/** What is there to show, once everything is fenced. */
export interface OpenSite {
  watched: Watched;
  looks: Looks;
  live: LiveView;
  picture: DrawnPicture;
}
