// Opens a page in Chromium and prints what axe-core (axe-core on npm) finds: node axe.cjs PAGE CHROMIUM
// Prints {violations, passes, requests, languages, overflow} as JSON.
const puppeteer = require("puppeteer-core");
const { source } = require("axe-core");

(async () => {
  const [page_url, executablePath] = process.argv.slice(2);
  const browser = await puppeteer.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  try {
    const result = { violations: [], passes: 0, requests: [], overflow: [] };
    for (const [width, scheme] of [[1280, "dark"], [360, "light"]]) {
      const page = await browser.newPage();
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      page.on("request", (request) => result.requests.push(request.url()));
      await page.goto(page_url);
      await page.evaluate(source);
      const found = await page.evaluate(() => globalThis.axe.run());
      result.violations.push(...found.violations.map((v) => `${width} ${scheme} ${v.id}: ${v.nodes[0].html}`));
      result.passes += found.passes.length;
      if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) result.overflow.push(width);
      await page.close();
    }
    console.log(JSON.stringify(result));
  } finally {
    await browser.close();
  }
})();
