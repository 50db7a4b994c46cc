/** Layout of the demo page with each font alone: nothing shifts. */

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { after, afterEach, before, describe, test } from "node:test";
import { startHub } from "../clients/harness.mjs";
import { isCalm, launch, openTab, picture, says, saysOnlyNetwork, shiftsLineByLine, WIDE } from "./browser.mjs";

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

for (const [name, folder] of Object.entries(FONTS)) {
  describe(`with only the font ${name}`, () => {
    let browser;
    let hub;
    let context;
    before(async () => {
      assert.ok(readdirSync(folder).length, `no fonts in ${folder}: make fonts`);
      browser = await launch(folder);
    });
    afterEach(async () => {
      await context?.close();
      await hub?.stop();
    });
    after(() => browser?.close());

    for (const width of WIDTHS) {
      test(`nothing shifts through a loss of the server, ${width} pixels wide`, async () => {
        hub = await startHub({ recovery: "off" });
        assert.deepEqual(await shiftsLineByLine(browser, hub, width), [], "layout shifts while loading");
        context = await browser.newContext({ viewport: { ...WIDE, width } });
        const one = await openTab(context, hub.url);
        await one.click("#emit");
        await says(one, "#client-outcome", /The server received/);
        await one.click("#publish");
        await says(one, "#server-outcome", /published by this tab/);
        await isCalm(one);
        await hub.kill();
        await says(one, "#detail", /No answer/);
        await one.click("#emit");
        hub = await startHub({ recovery: "off", port: hub.port });
        await says(one, "[data-stage=back]", /after \d+ s/);
        await says(one, "#client-outcome", /The server received/);
        await saysOnlyNetwork(one);
        await picture(one, `font-${name}-${width}`);
      });
    }
  });
}
