// OpenID providers for tests, each at an address of its own, in one process: `node provider.mjs PORT`. Prints LISTENING when it is
// there. At PORT it is told what to do, by POST with JSON:
//
//   /providers                 makes one: {issuer, port}
//   /providers/N/accounts      {"ada": {claims}}: what is said of people, in place of NAME@example.test, proved
//   /providers/N/client        {metadata}: what the client `weft` is registered with besides, or otherwise
//   /providers/N/rotate        signs with a new key; the old ones are still shown, unless {"forget": true}
//   /providers/N/faults        in place of those before:
//                                claims: {aud: "x", nonce: null}  claims of tokens of identity replaced, or taken out
//                                skew: 90                         seconds that its clock goes wrong
//                                alg: "none" | "HS256"            how it signs
//                                key: "unknown"                   signs by a key that it does not show
//                                status: {"/token": 503}          answers that at a path
//                                delay: {"/token": 500}           milliseconds before an answer
//                                discovery: {issuer: "x"}         of its document replaced
//   /providers/N/down, /up     stops listening, and begins again at the same address
//   /providers/N/logout-token  {claims, header}: signs a token of logout, as good as what it is given
//
// Whoever names a login by `login_hint` is that person, without a password; who names `deny` is refused.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { base64url, decodeJwt, decodeProtectedHeader, importJWK, SignJWT } from 'jose';
import { interactionPolicy, Provider } from 'oidc-provider';

const SECRET = 'a-secret-that-weft-has-at-the-provider';
const LOGOUT = 'http://schemas.openid.net/event/backchannel-logout';

const makeKey = () => ({
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }),
  alg: 'RS256', kid: randomUUID(), use: 'sig',
});

const body = async (request) => {
  const pieces = [];
  for await (const piece of request) pieces.push(piece);
  return JSON.parse(Buffer.concat(pieces).toString() || '{}');
};
const answer = (response, status, value) =>
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));

class House {
  accounts = new Map();
  faults = {};
  registered = {};
  keys = [makeKey()];
  stored = new Map();

  async listen(port = 0) {
    this.server = createServer((request, response) => this.serve(request, response));
    await new Promise((done, failed) => this.server.once('error', failed).listen(port, '127.0.0.1', done));
    this.port = this.server.address().port;
    this.issuer = `http://127.0.0.1:${this.port}`;
    this.provider ??= this.build();
  }

  async down() {
    const closed = new Promise((done) => this.server.close(done));
    this.server.closeAllConnections();
    await closed;
  }

  // What is stored outlives a change of keys or of the client, which needs another provider.
  adapter() {
    const { stored } = this;
    return class {
      constructor(kind) { this.kind = kind; }
      key(id) { return `${this.kind} ${id}`; }
      async upsert(id, value) { stored.set(this.key(id), value); }
      async find(id) { return stored.get(this.key(id)); }
      async findByUid(uid) { return [...stored.values()].find((value) => value.kind === 'Session' && value.uid === uid); }
      async findByUserCode() { return undefined; }
      async consume(id) { stored.get(this.key(id)).consumed = Math.floor(Date.now() / 1000); }
      async destroy(id) { stored.delete(this.key(id)); }
      async revokeByGrantId(grant) {
        for (const [key, value] of stored) if (value.grantId === grant) stored.delete(key);
      }
    };
  }

  build() {
    const policy = interactionPolicy.base();
    policy.remove('consent');
    const claims = (sub) => ({
      sub, name: `${sub} of the mill`, email: `${sub}@example.test`, email_verified: true, ...this.accounts.get(sub),
    });
    const provider = new Provider(this.issuer, {
      adapter: this.adapter(),
      jwks: { keys: this.keys },
      cookies: { keys: ['not a secret'] },
      clients: [{
        client_id: 'weft', client_secret: SECRET, application_type: 'native', grant_types: ['authorization_code'],
        redirect_uris: ['corp', 'other'].map((name) => `http://127.0.0.1/auth/oidc/${name}/callback`),
        ...this.registered,
      }],
      claims: { openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'] },
      conformIdTokenClaims: false,
      pkce: { required: () => true },
      // It would keep itself from this machine's own addresses, where Weft listens here.
      fetch: (url, { dispatcher: _, ...options }) => fetch(url, options),
      findAccount: (_, sub) => ({ accountId: sub, claims: () => claims(sub) }),
      interactions: { policy, url: (_, { uid }) => `/interaction/${uid}` },
      features: {
        devInteractions: { enabled: false },
        backchannelLogout: { enabled: true },
        rpInitiatedLogout: { enabled: true },
      },
      async loadExistingGrant({ oidc }) {
        const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
        grant.addOIDCScope('openid profile email');
        await grant.save();
        return grant;
      },
    });
    provider.use(async (context, next) => {
      await next();
      if (context.body?.id_token) context.body.id_token = await this.spoil(context.body.id_token);
      if (context.path === '/.well-known/openid-configuration') context.body = { ...context.body, ...this.faults.discovery };
    });
    return provider;
  }

  async spoil(token) {
    const { claims = {}, skew = 0, alg, key } = this.faults;
    const payload = { ...decodeJwt(token), ...claims };
    for (const [name, value] of Object.entries(claims)) if (value === null) delete payload[name];
    for (const time of ['iat', 'exp']) payload[time] += skew;
    return this.sign(payload, { ...decodeProtectedHeader(token), ...(alg && { alg }) }, key === 'unknown' ? makeKey() : undefined);
  }

  async sign(payload, header, key = this.keys[0]) {
    if (header.alg === 'none') {
      return `${base64url.encode(JSON.stringify(header))}.${base64url.encode(JSON.stringify(payload))}.`;
    }
    if (header.alg === 'HS256') return new SignJWT(payload).setProtectedHeader(header).sign(new TextEncoder().encode(SECRET));
    return new SignJWT(payload).setProtectedHeader({ ...header, kid: key.kid }).sign(await importJWK(key, 'RS256'));
  }

  async serve(request, response) {
    try {
      const { pathname } = new URL(request.url, this.issuer);
      const { delay = {}, status = {} } = this.faults;
      if (delay[pathname]) await new Promise((done) => setTimeout(done, delay[pathname]));
      if (status[pathname]) return answer(response, status[pathname], { error: 'server_error' });
      if (!pathname.startsWith('/interaction/')) return this.provider.callback()(request, response);
      const { params } = await this.provider.interactionDetails(request, response);
      const result = params.login_hint === 'deny' || !params.login_hint
        ? { error: 'access_denied' }
        : { login: { accountId: params.login_hint } };
      return await this.provider.interactionFinished(request, response, result);
    } catch (error) {
      return answer(response, 400, { error: String(error) });
    }
  }

  async told(what, given) {
    switch (what) {
      case 'accounts': Object.entries(given).forEach(([sub, claims]) => this.accounts.set(sub, claims)); return {};
      case 'faults': this.faults = given; return {};
      case 'client': this.registered = given; this.provider = this.build(); return {};
      case 'rotate':
        this.keys = given.forget ? [makeKey()] : [makeKey(), ...this.keys];
        this.provider = this.build();
        return {};
      case 'down': await this.down(); return {};
      case 'up': await this.listen(this.port); return {};
      case 'logout-token': {
        const now = Math.floor(Date.now() / 1000);
        const claims = { iss: this.issuer, aud: 'weft', iat: now, exp: now + 120, jti: randomUUID(), events: { [LOGOUT]: {} }, ...given.claims };
        for (const [name, value] of Object.entries(claims)) if (value === null) delete claims[name];
        return { token: await this.sign(claims, { alg: 'RS256', typ: 'logout+jwt', ...given.header }) };
      }
      default: throw new Error(`nobody knows ${what}`);
    }
  }
}

const houses = new Map();
createServer(async (request, response) => {
  try {
    const [, root, port, what] = request.url.split('/');
    if (root !== 'providers' || request.method !== 'POST') return answer(response, 404, {});
    const given = await body(request);
    if (port) return answer(response, 200, await houses.get(Number(port)).told(what, given));
    const house = new House();
    await house.listen();
    houses.set(house.port, house);
    return answer(response, 200, { issuer: house.issuer, port: house.port, secret: SECRET });
  } catch (error) {
    return answer(response, 500, { error: String(error) });
  }
}).listen(Number(process.argv[2]), '127.0.0.1', () => console.log('LISTENING'));
