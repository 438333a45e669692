// A certified OpenID Connect provider as an outside issuer: node server.mjs <config.json>
// config: {modules, issuer, port, certfile, keyfile, scopes, claims: {person: {claim: value}}}
import { readFileSync } from "node:fs";
import https from "node:https";
import { pathToFileURL } from "node:url";

const config = JSON.parse(readFileSync(process.argv[2], "utf8"));
const { Provider } = await import(
  pathToFileURL(`${config.modules}/node_modules/oidc-provider/lib/index.js`)
);

const provider = new Provider(config.issuer, {
  clients: [
    {
      client_id: "device",
      token_endpoint_auth_method: "none",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
      redirect_uris: [],
      response_types: [],
    },
  ],
  scopes: ["openid", "offline_access", ...config.scopes],
  findAccount: (_context, sub) => ({ accountId: sub, claims: async () => ({ sub }) }),
  extraTokenClaims: (_context, token) => config.claims[token.accountId] ?? {},
  features: {
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        scope: config.scopes.join(" "),
        audience: resource,
        accessTokenTTL: 3600,
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "RS256" } },
      }),
    },
  },
  ttl: { DeviceCode: 600, Grant: 3600, Interaction: 600, Session: 3600, IdToken: 3600 },
});

const files = { cert: readFileSync(config.certfile), key: readFileSync(config.keyfile) };
https.createServer(files, provider.callback()).listen(config.port, "127.0.0.1", () => {
  console.log(`listening at ${config.issuer}`);
});
