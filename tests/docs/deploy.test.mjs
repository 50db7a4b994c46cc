/** Files of `deploy/` for Kubernetes and Compose: their syntax, their names, and the settings in them. */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { files, read, ROOT } from "./markdown.mjs";
import { BINARY, checkNames } from "./not-run.mjs";

const YAML = files().filter((file) => /^deploy\/.*\.ya?ml$/.test(file));

/** The documents of a file. Duplicate keys and wrong indentation are errors. */
function documents(file) {
  const parsed = parseAllDocuments(read(file), { prettyErrors: true });
  return parsed.map((document) => {
    assert.deepEqual(document.errors, [], file);
    return document.toJS();
  });
}

const manifests = YAML.filter((file) => file.startsWith("deploy/kubernetes/")).flatMap(documents);
const manifest = (kind, name = "stentor") => manifests.find((each) => each.kind === kind && each.metadata.name === name);

/** Checks a configuration with these variables, as `stentor serve` would read it. */
function check(toml, variables) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stentor-deploy-"));
  try {
    const file = path.join(folder, "stentor.toml");
    writeFileSync(file, toml);
    const env = { PATH: process.env.PATH, ...variables };
    const checked = spawnSync(BINARY, ["config", "check", "--config", file], { encoding: "utf8", env });
    assert.equal(checked.status, 0, checked.stderr);
    assert.equal(checked.stderr, "", "no variable is unknown");
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const SECRETS = { STENTOR_TOKEN_HMAC_KEY: "0123456789abcdef0123456789abcdef", STENTOR_API_KEY: "0123456789abcdef", STENTOR_SUBSCRIBER_KEY: "fedcba9876543210" };

test("files of deploy/ are YAML and JSON, and name settings that exist", () => {
  assert.ok(YAML.length >= 8, YAML.join(" "));
  for (const file of YAML) {
    assert.ok(documents(file).length > 0, file);
    checkNames(read(file));
  }
  for (const file of files().filter((file) => /^deploy\/.*\.json$/.test(file))) JSON.parse(read(file));
});

test("manifests refer to each other by names that exist", () => {
  const set = manifest("StatefulSet");
  const labels = set.spec.template.metadata.labels;
  assert.deepEqual(set.spec.selector.matchLabels, labels);
  const [container] = set.spec.template.spec.containers;
  const ports = container.ports.map((port) => port.name);
  for (const service of manifests.filter((each) => each.kind === "Service")) {
    assert.deepEqual(service.spec.selector, labels);
    for (const port of service.spec.ports) assert.ok(ports.includes(port.targetPort), port.targetPort);
  }
  assert.ok(manifest("Service", set.spec.serviceName), "the service of the set exists");
  const policy = manifest("NetworkPolicy").spec;
  assert.deepEqual(policy.podSelector.matchLabels, labels);
  for (const rule of policy.ingress) for (const { port } of rule.ports) assert.ok(ports.includes(port), port);
  for (const probe of ["startupProbe", "livenessProbe", "readinessProbe"]) assert.ok(ports.includes(container[probe].httpGet.port), probe);
  const backends = manifest("Ingress").spec.rules.flatMap((rule) => rule.http.paths.map((each) => each.backend.service));
  for (const { name, port } of backends) assert.ok(manifest("Service", name).spec.ports.some((known) => known.name === port.name), name);
  const volumes = [...set.spec.template.spec.volumes, ...set.spec.volumeClaimTemplates.map((claim) => claim.metadata)].map((volume) => volume.name);
  for (const mount of container.volumeMounts) assert.ok(volumes.includes(mount.name), mount.name);
  assert.equal(set.spec.replicas, 1);
});

test("the manifests have a valid configuration and the ports in it", () => {
  const toml = manifest("ConfigMap").data["stentor.toml"];
  check(toml, SECRETS);
  const [container] = manifest("StatefulSet").spec.template.spec.containers;
  const ports = Object.fromEntries(container.ports.map((port) => [port.name, port.containerPort]));
  assert.match(toml, new RegExp(`^port = ${ports.http}$`, "m"));
  assert.match(toml, new RegExp(`^internal_listen = "0.0.0.0:${ports.internal}"$`, "m"));
  const [folder] = container.volumeMounts.filter((mount) => mount.name === "data");
  assert.match(toml, new RegExp(`^data_dir = "${folder.mountPath}/`, "m"));
});

test("the Compose file has a valid configuration and mounts files that exist", () => {
  const [{ services, volumes }] = documents("deploy/compose/compose.yaml");
  check("", { STENTOR_HOST: "0.0.0.0", ...services.stentor.environment, ...SECRETS });
  for (const [name, service] of Object.entries(services)) {
    for (const volume of service.volumes) {
      const [source] = volume.split(":");
      const exists = source.startsWith(".") ? existsSync(path.join(ROOT, "deploy/compose", source)) : source in volumes;
      assert.ok(exists, `${name}: ${source}`);
    }
  }
  const [scraped] = documents("deploy/compose/prometheus.yaml");
  const [, port] = services.stentor.environment.STENTOR_INTERNAL_LISTEN.split(":");
  assert.deepEqual(scraped.scrape_configs[0].static_configs[0].targets, [`stentor:${port}`]);
});

test("every grace period covers the stop of the server", () => {
  const seconds = [
    manifest("StatefulSet").spec.template.spec.terminationGracePeriodSeconds,
    parseInt(documents("deploy/compose/compose.yaml")[0].services.stentor.stop_grace_period, 10),
    parseInt(/^TimeoutStopSec=(\d+)s/m.exec(read("deploy/stentor.service"))[1], 10),
  ];
  for (const period of seconds) assert.ok(period > 61, `${period} s`);
});
