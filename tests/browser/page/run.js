/** Declares and runs the tests of a file of `tests/clients`, and stores the results in the page. */

import "./bytes.js";
import { run } from "./test.js";

const file = new URLSearchParams(location.search).get("file");

globalThis.results = import(`../../clients/${file}`).then(run);
