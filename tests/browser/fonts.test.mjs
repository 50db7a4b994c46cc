/** Layout of the demo page with each font alone: nothing shifts. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { isCalm, launch, picture, says, saysOnlyNetwork, scene, shiftsLineByLine, WIDE } from "./browser.mjs";

/**
 * Font folders of Debian's packages (`make fonts`): narrow fonts, wide fonts, and those found on
 * every machine.
 */
const FONTS = {
  DejaVu: "/usr/share/fonts/truetype/dejavu",
  Inter: "/usr/share/fonts/opentype/inter",
  Liberation: "/usr/share/fonts/truetype/liberation",
  "Open Sans": "/usr/share/fonts/truetype/open-sans",
};
const WIDTHS = [1180, 360];

describe("layout", { concurrency: 2 }, () => {
  for (const [name, folder] of Object.entries(FONTS)) {
    describe(`with only the font ${name}`, { concurrency: WIDTHS.length }, () => {
      let browser;
      before(async () => {
        assert.ok(readdirSync(folder).length, `no fonts in ${folder}: make fonts`);
        browser = await launch(folder);
      });
      after(() => browser?.close());

      for (const width of WIDTHS) {
        test(`nothing shifts through a loss of the server, ${width} pixels wide`, async (t) => {
          const { url, open, kill, restart } = await scene(t, browser, { recovery: "off" }, { viewport: { ...WIDE, width } });
          assert.deepEqual(await shiftsLineByLine(browser, url, width), [], "layout shifts while loading");
          const one = await open();
          await one.click("#emit");
          await says(one, "#client-outcome", /The server received/);
          await one.click("#publish");
          await says(one, "#server-outcome", /published by this tab/);
          await isCalm(one);
          await kill();
          await says(one, "#detail", /No answer/);
          await one.click("#emit");
          await restart();
          await says(one, "[data-stage=back]", /after \d+ s/);
          await says(one, "#client-outcome", /The server received/);
          await saysOnlyNetwork(one);
          await picture(one, `font-${name}-${width}`);
        });
      }
    });
  }
});
