// Drives the technician's page in Chromium: node aim.cjs ADDRESS CHROMIUM STEP...
// Prints {violations, passes, requests, overflow, ...} as JSON: what axe-core (axe-core on npm) finds, and what was done.
const puppeteer = require("puppeteer-core");
const { source } = require("axe-core");

(async () => {
  const [address, executablePath] = process.argv.slice(2);
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const result = { violations: [], passes: 0, requests: [], overflow: [], errors: [] };
  try {
    const page = await browser.newPage();
    page.on("request", (request) => result.requests.push(request.url()));
    page.on("pageerror", (error) => result.errors.push(String(error)));
    page.on("console", (message) => { if (message.type() === "error") result.errors.push(message.text()); });
    const base = new URL(address).origin;
    result.without = (await page.goto(base)).status();
    await page.setViewport({ width: 1280, height: 900 });
    result.status = (await page.goto(address)).status();
    result.url = page.url();
    await page.waitForFunction(() => document.querySelectorAll("#markers use").length > 0, { timeout: 60000 });
    result.pictures = await page.evaluate(() => document.querySelectorAll("img, canvas, image, video").length);
    result.lit = await page.waitForFunction(() => document.querySelector(".zone.lit") !== null, { timeout: 60000 }).then(() => true);

    // A polygon, corner by corner, with the mouse; its last corner is moved from the keyboard.
    await page.click("#new");
    const box = await (await page.$("#view")).boundingBox();
    for (const [x, y] of [[0.1, 0.6], [0.3, 0.6], [0.3, 0.9], [0.1, 0.9]]) {
      await page.mouse.click(box.x + x * box.width, box.y + y * box.height);
    }
    await page.click("#finish");
    await page.evaluate(() => { document.querySelector("#name").value = ""; });
    await page.type("#name", "ramp");
    await page.evaluate(() => document.querySelector('[data-handle="corner 3"]').focus());
    await page.keyboard.press("ArrowLeft");
    await page.click("#directed");
    await page.click("#calibrated");
    await page.evaluate(() => document.querySelector("#save").scrollIntoView());
    await page.click("#save");
    await page.waitForFunction(() => document.querySelector("#message").textContent.startsWith("Saved"), { timeout: 15000 });
    result.saved = await page.$eval("#list", (list) => list.textContent);

    // A polygon that cannot be is refused in words, and what was there is there still.
    await page.click("#new");
    await page.click("#finish");
    await page.evaluate(() => { document.querySelector("#name").value = ""; });
    await page.type("#name", "No Name");
    await page.click("#save");
    await page.waitForFunction(() => document.querySelectorAll("#problems li").length > 0, { timeout: 15000 });
    result.problems = await page.$eval("#problems", (list) => list.textContent);
    await page.click("#discard");

    for (const [width, scheme, language] of [[1280, "dark", "fr"], [360, "light", "en"]]) {
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.select("#language", language);
      await page.evaluate(() => { const first = document.querySelector("#list button[aria-pressed=false]"); if (first) first.click(); });
      await page.evaluate(source);
      const found = await page.evaluate(() => globalThis.axe.run());
      result.violations.push(...found.violations.map((v) => `${width} ${scheme} ${v.id}: ${v.nodes[0].html}`));
      result.passes += found.passes.length;
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) result.overflow.push(width);
      if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${width}.png`, fullPage: true });
    }
    const again = await browser.createBrowserContext();
    result.again = (await (await again.newPage()).goto(address)).status();
    if (process.argv[4] === "wait") {
      await page.waitForFunction(() => document.querySelector("#message").textContent.startsWith("This view is over"), { timeout: 90000 });
    } else {
      await page.click("#end");
    }
    result.over = await page.$eval("#message", (message) => message.textContent);
    console.log(JSON.stringify(result));
  } catch (error) {
    console.error(String(error), JSON.stringify(result));
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
})();
