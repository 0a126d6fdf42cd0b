// A company's OpenID provider for the tests: the certified `oidc-provider`, over TLS, in memory.
//
// Authorization code with PKCE, refresh tokens that rotate (OpenID Connect Core, section 11: `offline_access` together
// with `prompt=consent`), RFC 8628 device flow, RFC 9207 `iss`. There is nothing to administer it by but the file of
// users, read again on each use: a test takes away a group or disables a user by writing the file.
//
//   node provider.mjs --listen ADDRESS:PORT --certificate FILE --key FILE --users FILE --keys FILE --secret FILE
//                     [--name COMPANY] [--redirect URI]...
//
// Its issuer is https://ADDRESS:PORT; port 0 is any, and the first line says which: `issuer URL`. Its clients are
// `bulkhead` (confidential: client_secret_basic, RS256) and `bulkhead-public` (no secret, ES256). A user of the file:
//   "alice": { "subject": "u-1", "password": "..", "name": "Alice", "groups": [".."], "disabled": true,
//              "claims": { "department": "..", "email": "..", "email_verified": true } }
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { parseArgs } from 'node:util';
import Provider from 'oidc-provider';
import { keys } from './keys.mjs';
import * as pages from './pages.mjs';

const MAX_FORM_BYTES = 16 * 1024;

const { values: given } = parseArgs({
  options: {
    listen: { type: 'string' },
    certificate: { type: 'string' },
    key: { type: 'string' },
    users: { type: 'string' },
    keys: { type: 'string' },
    secret: { type: 'string' },
    name: { type: 'string', default: 'Acme' },
    redirect: { type: 'string', multiple: true, default: [] },
  },
});
for (const need of ['listen', 'certificate', 'key', 'users', 'keys', 'secret']) {
  if (given[need] === undefined) throw new Error(`provider: --${need} is missing`);
}

const users = () => JSON.parse(readFileSync(given.users, 'utf8'));

/** The account of a subject, as long as it is there and not disabled: no token is made without it. */
function account(subject) {
  const user = Object.values(users()).find((one) => one.subject === subject && !one.disabled);
  if (!user) return undefined;
  return {
    accountId: subject,
    claims: async () => ({ ...user.claims, sub: subject, name: user.name, groups: user.groups ?? [] }),
  };
}

const GRANTS = ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'];

function clients() {
  const both = { grant_types: GRANTS, redirect_uris: given.redirect, response_types: ['code'] };
  return [
    {
      ...both,
      client_id: 'bulkhead',
      client_name: 'Bulkhead',
      client_secret: readFileSync(given.secret, 'utf8').trim(),
      token_endpoint_auth_method: 'client_secret_basic',
    },
    {
      ...both,
      client_id: 'bulkhead-public',
      client_name: 'Bulkhead without a secret',
      token_endpoint_auth_method: 'none',
      id_token_signed_response_alg: 'ES256',
    },
  ];
}

const configuration = {
  clients: clients(),
  jwks: keys(given.keys),
  cookies: { keys: [randomBytes(32).toString('base64url')] },
  claims: {
    openid: ['sub'],
    profile: ['name', 'department'],
    email: ['email', 'email_verified'],
    groups: ['groups'],
  },
  // Groups in the ID token too, as company providers put them, and not at the userinfo endpoint only.
  conformIdTokenClaims: false,
  responseTypes: ['code'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  findAccount: async (_ctx, subject) => account(subject),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: {
    AccessToken: 300, AuthorizationCode: 60, DeviceCode: 600, Grant: 86400, IdToken: 300, Interaction: 600,
    RefreshToken: 86400, Session: 86400,
  },
  renderError: (ctx, out) => html(ctx, pages.refused(out)),
  features: {
    devInteractions: { enabled: false },
    rpInitiatedLogout: { enabled: false },
    deviceFlow: {
      enabled: true,
      userCodeInputSource: (ctx, form, _out, error) => html(ctx, pages.deviceCode(form, said(error))),
      userCodeConfirmSource: (ctx, form, client, _device, code) => {
        html(ctx, pages.deviceConfirm(form, client.clientName, code));
      },
      successSource: (ctx) => html(ctx, pages.deviceDone()),
    },
  },
};

function html(ctx, text) {
  ctx.type = 'html';
  ctx.body = text;
}

/** What went wrong with a user code, for the person. */
function said(error) {
  if (!error) return undefined;
  return error.name === 'AbortedError' ? 'The sign-in was interrupted.' : 'That code is not valid. Try again.';
}

/** Sign-in and consent: /interaction/UID to look, /interaction/UID/ACT to act. */
async function interaction(provider, request, response, act) {
  const { uid, prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  const client = await provider.Client.find(params.client_id);
  const finish = (result) => provider.interactionFinished(request, response, result);
  const show = (text) => response.setHeader('content-type', 'text/html; charset=utf-8').end(text);

  if (request.method === 'POST' && act === 'refuse') {
    return finish({ error: 'access_denied', error_description: 'the person refused' });
  }
  if (prompt.name === 'login') {
    if (request.method !== 'POST') return show(pages.signIn(given.name, uid));
    const form = await read(request);
    const user = new Map(Object.entries(users())).get(form.get('user'));
    if (!user || user.password !== form.get('password')) {
      return show(pages.signIn(given.name, uid, 'Wrong user name or password.'));
    }
    if (user.disabled) return show(pages.signIn(given.name, uid, 'This account is disabled.'));
    return finish({ login: { accountId: user.subject } });
  }
  if (request.method !== 'POST') {
    return show(pages.consent(given.name, uid, client.clientName, params.scope.split(' ')));
  }
  const grant = grantId ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return finish({ consent: { grantId: await grant.save() } });
}

async function read(request) {
  let text = '';
  for await (const piece of request) {
    text += piece;
    if (text.length > MAX_FORM_BYTES) throw new Error('the form is too large');
  }
  return new URLSearchParams(text);
}

const [, address, port] = /^(.*):(\d+)$/.exec(given.listen);
const server = createServer({ cert: readFileSync(given.certificate), key: readFileSync(given.key) });
server.listen(Number(port), address.replace(/^\[|\]$/g, ''), () => {
  const issuer = `https://${address}:${server.address().port}`;
  const provider = new Provider(issuer, configuration);
  for (const event of ['authorization.error', 'grant.error', 'server_error', 'device_authorization.error']) {
    provider.on(event, (_ctx, error) => console.log(`${event}: ${error.error_detail ?? error.message}`));
  }
  const library = provider.callback();
  server.on('request', (request, response) => {
    // Without the query, which has codes in it. A test counts what the application asks for.
    console.log(`${request.method} ${request.url.split('?')[0]}`);
    const own = /^\/interaction\/[\w-]+(?:\/(sign-in|allow|refuse))?$/.exec(request.url);
    if (!own) return library(request, response);
    return interaction(provider, request, response, own[1]).catch((error) => {
      console.log(`interaction: ${error.message}`);
      response.writeHead(400, { 'content-type': 'text/html; charset=utf-8' });
      response.end(pages.refused({ error: error.message }));
    });
  });
  console.log(`issuer ${issuer}`);
});
