// The provider's pages: plain HTML without script or anything from elsewhere, every control with a label, so that a
// test finds it as a screen reader would.

const ESCAPES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Text as it may stand in HTML, between tags and in quoted attributes. */
export const escaped = (text) => String(text).replace(/[&<>"']/g, (sign) => ESCAPES[sign]);

/** A whole page; `body` is HTML. */
export const page = (title, body) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<link rel="icon" href="data:,">
<title>${escaped(title)}</title>
<style>
body { font: 1.1rem/1.5 system-ui, sans-serif; max-width: 26rem; margin: 2rem auto; padding: 0 1rem; }
label, input, button { display: block; box-sizing: border-box; width: 100%; font: inherit; margin: .4rem 0; }
input, button { padding: .5rem; }
.wrong { border-left: .3rem solid #b00020; padding-left: .6rem; }
</style>
</head>
<body>
<main>
<h1>${escaped(title)}</h1>
${body}
</main>
</body>
</html>
`;

const wrong = (text) => (text ? `<p class="wrong" role="alert">${escaped(text)}</p>` : '');

/** Name and password; `problem` says what was wrong with the last try. */
export const signIn = (company, uid, problem) => page(`Sign in at ${company}`, `${wrong(problem)}
<form method="post" action="/interaction/${escaped(uid)}/sign-in">
<label for="user">User name</label>
<input id="user" name="user" autocomplete="username" required>
<label for="password">Password</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">Sign in</button>
</form>
<form method="post" action="/interaction/${escaped(uid)}/refuse"><button type="submit">Cancel</button></form>`);

/** What the application would learn. */
export const consent = (company, uid, client, scopes) => page(`Allow ${client}?`, `
<p>${escaped(client)} asks ${escaped(company)} for:</p>
<ul>${scopes.map((scope) => `<li>${escaped(scope)}</li>`).join('')}</ul>
<form method="post" action="/interaction/${escaped(uid)}/allow"><button type="submit">Allow</button></form>
<form method="post" action="/interaction/${escaped(uid)}/refuse"><button type="submit">Refuse</button></form>`);

/** RFC 8628, section 3.3: where the person types the user code. `form` is the library's, hidden fields and all. */
export const deviceCode = (form, problem) => page('Connect a device', `${wrong(problem)}
<p id="what">Type the code that the device shows.</p>
${form.replace('<input\n', '<input aria-label="Code"\n')}
<button type="submit" form="op.deviceInputForm">Continue</button>`);

/** RFC 8628, section 3.3.1: the code again, for the person to compare. */
export const deviceConfirm = (form, client, code) => page('Confirm the device', `
<p>${escaped(client)} wants to sign in as you. The device shows this code:</p>
<p><strong>${escaped(code)}</strong></p>
${form}
<button type="submit" form="op.deviceConfirmForm">Confirm</button>
<button type="submit" form="op.deviceConfirmForm" name="abort" value="yes">Abort</button>`);

/** The end of a device's way. */
export const deviceDone = () => page('Signed in', '<p>Go back to the device.</p>');

/** An error that has no application to return to. */
export const refused = (fields) => page('Not possible', `<dl>${Object.entries(fields)
  .map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>`);
