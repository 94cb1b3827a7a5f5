// The GraphQL-over-HTTP specification as `graphql-http` audits it: every one of its audits, the recommendations as well.
import assert from "node:assert/strict";
import { after, before } from "node:test";
import { serverAudits } from "graphql-http";
import { Weft, test } from "./weft.mjs";

let weft;
before(async () => (weft = await Weft.start()));
after(() => weft?.stop());

const audits = serverAudits({ url: () => weft.graphql });

test("there are as many audits as when they were counted", () => assert.equal(audits.length, 61));

for (const audit of audits) {
  test(`${audit.id} ${audit.name}`, async () => {
    const result = await audit.fn();
    if (result.status === "ok") return;
    const { response, status, reason } = result;
    assert.fail(`${status}: ${reason}; answered ${response?.status} ${response?.headers.get("content-type")}: ${await response?.clone().text()}`);
  });
}
