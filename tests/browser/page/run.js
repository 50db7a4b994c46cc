/** Declares and runs the tests of `surface.test.mjs`, and stores the results in the page. */

import "./bytes.js";
import "../../clients/surface.test.mjs";
import { run } from "./test.js";

globalThis.results = run();
