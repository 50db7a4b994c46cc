/** Writes docs/pictures from the demo page of a server that it starts; see `make pictures`. */

import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import gifenc from "gifenc";
import { PNG } from "pngjs";
import { startHub } from "../clients/harness.mjs";
import { launch, openTab, REPOSITORY } from "./browser.mjs";
import { isStill, STORY, tellStory } from "./story.mjs";

const FOLDER = "docs/pictures";

const FRAME_MS = 1_300;

/** State of the story in the pictures that do not move. */
const STILL = "2 pending";

/** Colour scheme and file of each of them; the moving picture continues in the last scheme. */
const STILLS = [
  ["dark", "demo-dark.png"],
  ["light", "demo.png"],
];

const GIF_BYTES_MAX = 900_000;

/** @param {PNG[]} frames with one palette for all, so that no colour changes between them */
function gifOf(frames) {
  const [{ width, height }] = frames;
  const palette = gifenc.quantize(Buffer.concat(frames.map(({ data }) => data)), 256);
  const gif = gifenc.GIFEncoder();
  for (const [at, { data }] of frames.entries()) {
    gif.writeFrame(gifenc.applyPalette(data, palette), width, height, { palette: at === 0 ? palette : null, delay: FRAME_MS });
  }
  gif.finish();
  return gif.bytes();
}

/**
 * @param {string} name
 * @param {Uint8Array} bytes
 */
function write(name, bytes) {
  writeFileSync(path.join(REPOSITORY, FOLDER, name), bytes);
  console.log(`pictures: ${FOLDER}/${name}, ${Math.ceil(bytes.length / 1_000)} kB`);
}

mkdirSync(path.join(REPOSITORY, FOLDER), { recursive: true });
const hub = await startHub({ recovery: "disk" });
const browser = await launch();
try {
  const context = await browser.newContext({ ...STORY, colorScheme: "light", deviceScaleFactor: 2 });
  const [tab, other] = [await openTab(context, hub.url), await openTab(context, hub.url)];
  const frames = [];
  await tellStory(tab, other, async (state) => {
    frames.push(PNG.sync.read(await tab.screenshot({ scale: "css" })));
    if (state !== STILL) return;
    for (const [colorScheme, name] of STILLS) {
      await tab.emulateMedia({ colorScheme });
      await tab.waitForFunction(isStill);
      write(name, await tab.screenshot());
    }
  });
  const gif = gifOf(frames);
  if (gif.length > GIF_BYTES_MAX) throw new Error(`the moving picture has ${gif.length} bytes, more than ${GIF_BYTES_MAX}`);
  write("demo.gif", gif);
} finally {
  await browser.close();
  await hub.stop();
}
