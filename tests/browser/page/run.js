/** Declares the tests of `surface.test.mjs`, runs them, and leaves the results where the test outside finds them. */

import "./bytes.js";
import "../../clients/surface.test.mjs";
import { run } from "./test.js";

globalThis.results = run();
