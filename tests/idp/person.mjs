// A person at a real browser: headless Chromium, driven by what a person (or a screen reader) finds on a page, the
// labels of fields and the names of buttons, never by the page's inner structure.
//
//   node person.mjs --home FOLDER --pictures FOLDER [--ca FILE] [--phone] [--no-script] [--limit-ms N]
//
// Reads one step a line from standard input, as JSON, and answers each with one line; ends with its input. Steps:
//   {"open": URL}                     go there
//   {"fill": LABEL, "with": TEXT}     type into the field with this label
//   {"press": NAME}                   the button or link of this name, which must lead to another page
//   {"sign_in": USER, "password": P}  all of a sign-in at provider.mjs: fill, fill, press
//   {"expect": TEXT}                  the page says so, at the latest when the time is up
//   {"reach": PREFIX}                 the address begins so
//   {"back": true}, {"reload": true}  the browser's own buttons
//   {"look": true}                    only say what is there
// The answer: {"step", "ok", "error", "url", "title", "text", "outline" (what a screen reader gets), "headers" (of the
// document), "documents" ([{url, status, headers}] loaded on the way, redirects too), "requests" (all addresses asked
// for), "complaints" (the browser's own: refused by a content security policy, certificate not trusted), "cookies"
// ([{name, secure, httpOnly, sameSite, domain, path}]), "wide" (whether one must scroll sideways), "picture" (file)}.
//
// HOME is the given folder: profile and trusted certificates are there and nowhere else. The certificate authority is
// trusted as an administrator would have it trusted, through the browser's own store; no error is overlooked.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs, stripVTControlCharacters } from 'node:util';
import { chromium } from 'playwright-core';

const { values: given } = parseArgs({
  options: {
    home: { type: 'string' },
    pictures: { type: 'string' },
    ca: { type: 'string' },
    phone: { type: 'boolean', default: false },
    'no-script': { type: 'boolean', default: false },
    'limit-ms': { type: 'string', default: '60000' },
    browser: { type: 'string', default: '/usr/bin/chromium' },
  },
});
for (const need of ['home', 'pictures']) {
  if (given[need] === undefined) throw new Error(`person: --${need} is missing`);
}
const MAX_LOOKS = 5;
const limit = Number(given['limit-ms']);
const store = join(given.home, '.pki/nssdb');
mkdirSync(store, { recursive: true });
mkdirSync(given.pictures, { recursive: true });
execFileSync('certutil', ['-d', `sql:${store}`, '-N', '--empty-password']);
if (given.ca) {
  execFileSync('certutil', ['-d', `sql:${store}`, '-A', '-n', 'company', '-t', 'C,,', '-i', given.ca]);
}

const screen = given.phone
  ? { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }
  : { viewport: { width: 1024, height: 768 } };
const browser = await chromium.launchPersistentContext(join(given.home, 'profile'), {
  ...screen,
  executablePath: given.browser,
  timeout: limit,
  javaScriptEnabled: !given['no-script'],
  env: { ...process.env, HOME: given.home, XDG_CONFIG_HOME: join(given.home, '.config') },
});
browser.setDefaultTimeout(limit);
const page = browser.pages()[0] ?? await browser.newPage();

/** What happened since the last step. */
let seen = { documents: [], requests: [], complaints: [] };
page.on('request', (request) => seen.requests.push(request.url()));
page.on('console', (message) => {
  if (['error', 'warning'].includes(message.type())) seen.complaints.push(message.text());
});
page.on('requestfailed', (request) => {
  seen.complaints.push(`${request.url()}: ${request.failure()?.errorText}`);
});
page.on('response', (response) => {
  const request = response.request();
  if (request.isNavigationRequest() && request.frame() === page.mainFrame()) {
    seen.documents.push({ url: response.url(), status: response.status(), headers: response.headers() });
  }
});

/** Presses the button or link of that name; it must lead to another page. */
async function press(name) {
  const target = page.getByRole('button', { name, exact: true }).or(page.getByRole('link', { name, exact: true }));
  const left = page.waitForEvent('framenavigated', (frame) => frame === page.mainFrame());
  await Promise.all([left, target.click()]);
}

const fill = (label, text) => page.getByLabel(label, { exact: true }).fill(text);

async function act(step) {
  if ('open' in step) return page.goto(step.open);
  if ('fill' in step) return fill(step.fill, step.with);
  if ('press' in step) return press(step.press);
  if ('expect' in step) return page.getByText(step.expect).first().waitFor();
  if ('reach' in step) return page.waitForURL((url) => url.href.startsWith(step.reach));
  if ('back' in step) return page.goBack();
  if ('reload' in step) return page.reload();
  if ('look' in step) return undefined;
  if ('sign_in' in step) {
    await fill('User name', step.sign_in);
    await fill('Password', step.password);
    return press('Sign in');
  }
  throw new Error(`there is no such step: ${JSON.stringify(step)}`);
}

let pictures = 0;
async function look(step, error) {
  await page.waitForLoadState('load');
  pictures += 1;
  const title = await page.title();
  const name = `${String(pictures).padStart(2, '0')} ${title}`.replace(/[^\w]+/g, '-').toLowerCase();
  const picture = join(given.pictures, `${name}.png`);
  await page.screenshot({ path: picture, fullPage: true });
  const cookies = await browser.cookies();
  const last = seen.documents.findLast((one) => one.url === page.url().replace(/#.*/, ''));
  const answer = {
    step,
    ok: error === undefined,
    error,
    url: page.url(),
    title,
    text: await page.locator('body').innerText(),
    outline: await page.locator('body').ariaSnapshot(),
    headers: last?.headers ?? {},
    ...seen,
    cookies: cookies.map(({ value, expires, ...rest }) => rest),
    wide: await page.locator('html').evaluate((root) => root.scrollWidth > root.clientWidth),
    picture,
  };
  seen = { documents: [], requests: [], complaints: [] };
  return answer;
}

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  if (!line.trim()) continue;
  const step = JSON.parse(line);
  let error;
  try {
    await act(step);
  } catch (problem) {
    error = stripVTControlCharacters(problem.message);
  }
  // A page may go on by itself while it is looked at: then the next one is. The picture is worth having after a failure
  // too; a page that cannot even be looked at is the same failure.
  let answer;
  for (let looks = 0; !answer && looks < MAX_LOOKS; looks += 1) {
    answer = await look(step, error).catch((problem) => {
      error ??= looks + 1 === MAX_LOOKS ? problem.message : undefined;
    });
  }
  console.log(JSON.stringify(answer ?? { step, ok: false, error, url: page.url(), ...seen }));
}
await browser.close();
