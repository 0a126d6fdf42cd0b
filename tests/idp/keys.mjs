// The provider's signing keys: one RSA, one P-256, made once and kept in a file, so that another program can sign as
// the provider would (mint.mjs), and a provider that is started again is still itself.
import { createHash, generateKeyPairSync } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';

/** The private JSON Web Key Set in `file`; makes it when there is none. */
export function keys(file) {
  if (!existsSync(file)) {
    const made = [
      madeKey('RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })),
      madeKey('ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })),
    ];
    writeFileSync(file, JSON.stringify({ keys: made }), { mode: 0o600 });
  }
  return JSON.parse(readFileSync(file, 'utf8'));
}

function madeKey(alg, { privateKey, publicKey }) {
  const shown = publicKey.export({ format: 'der', type: 'spki' });
  const kid = createHash('sha256').update(shown).digest('base64url').slice(0, 16);
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}
