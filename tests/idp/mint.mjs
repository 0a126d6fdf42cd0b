// Signs one workload token, as Kubernetes or a CI service would, with the provider's keys. Prints it.
//   node mint.mjs --keys FILE --issuer URL --audience NAME --subject NAME
//                 [--claims JSON] [--seconds N (of validity; negative: ended already)] [--alg RS256|ES256]
import { createPrivateKey, sign } from 'node:crypto';
import { parseArgs } from 'node:util';
import { keys } from './keys.mjs';

const { values: given } = parseArgs({
  options: {
    keys: { type: 'string' },
    issuer: { type: 'string' },
    audience: { type: 'string' },
    subject: { type: 'string' },
    claims: { type: 'string', default: '{}' },
    seconds: { type: 'string', default: '600' },
    alg: { type: 'string', default: 'RS256' },
  },
});
for (const need of ['keys', 'issuer', 'audience', 'subject']) {
  if (given[need] === undefined) throw new Error(`mint: --${need} is missing`);
}

const jwk = keys(given.keys).keys.find((key) => key.alg === given.alg);
if (!jwk) throw new Error(`mint: no key for ${given.alg}`);
const now = Math.floor(Date.now() / 1000);
const ends = now + Number(given.seconds);
const claims = {
  iss: given.issuer,
  aud: given.audience,
  sub: given.subject,
  iat: Math.min(now, ends - 1),
  exp: ends,
  ...JSON.parse(given.claims),
};
const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const signed = `${encode({ alg: jwk.alg, kid: jwk.kid, typ: 'JWT' })}.${encode(claims)}`;
// RFC 7518, section 3.4: an ECDSA signature in a JWS is the two numbers, not their DER.
const key = { key: createPrivateKey({ key: jwk, format: 'jwk' }), dsaEncoding: 'ieee-p1363' };
console.log(`${signed}.${sign('sha256', Buffer.from(signed), key).toString('base64url')}`);
