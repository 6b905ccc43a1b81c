// The unmodified JavaScript client against a cluster: `node main.js KUBECONFIG [STEP…]`. Ends with 0 when everything held.

import assert from 'node:assert/strict';
import { PassThrough, Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';

import * as k8s from '@kubernetes/client-node';

const TOOL = 'fairlead.dev/tool:latest';
const namespace = 'javascript';

const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const extensions = config.makeApiClient(k8s.ApiextensionsV1Api);
const customObjects = config.makeApiClient(k8s.CustomObjectsApi);
const generic = k8s.KubernetesObjectApi.makeApiClient(config);

async function until(what, probe, seconds = 60) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found) return found;
    assert.ok(Date.now() < end, `never: ${what}`);
    await sleep(100);
  }
}

async function refused(code, work) {
  try {
    await work();
  } catch (error) {
    assert.equal(error.code, code, `${error}`);
    return error;
  }
  return assert.fail(`was not refused with ${code}`);
}

// What a command or port says, as text.
class Text extends Writable {
  text = '';
  _write(chunk, _encoding, done) {
    this.text += chunk.toString();
    done();
  }
}

async function objects() {
  for (const number of [0, 1, 2, 3, 4]) {
    const body = { metadata: { name: `m${number}` }, data: { n: `${number}` } };
    await core.createNamespacedConfigMap({ namespace, body });
  }
  const first = await core.listNamespacedConfigMap({ namespace, limit: 3 });
  const rest = await core.listNamespacedConfigMap({ namespace, limit: 3, _continue: first.metadata._continue });
  assert.equal(first.items.length, 3);
  assert.ok(!rest.metadata._continue);
  const body = [{ op: 'replace', path: '/data/n', value: 'patched' }];
  const patched = await core.patchNamespacedConfigMap({ name: 'm0', namespace, body });
  assert.deepEqual(patched.data, { n: 'patched' });
  const merge = k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch);
  const merged = await core.patchNamespacedConfigMap({ name: 'm0', namespace, body: { data: { n: null, o: '1' } } }, merge);
  assert.deepEqual(merged.data, { o: '1' });
  await core.replaceNamespacedConfigMap({ name: 'm0', namespace, body: merged });
  merged.data = { o: '2' };
  await core.replaceNamespacedConfigMap({ name: 'm0', namespace, body: merged });
  await refused(409, () => core.replaceNamespacedConfigMap({ name: 'm0', namespace, body: { ...merged, data: {} } }));
  await refused(404, () => core.readNamespacedConfigMap({ name: 'none', namespace }));
  await refused(422, () => core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'Bad_Name' } } }));
}

async function apply() {
  const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied', namespace }, data: { a: '1' } };
  const as = (fieldManager, force) =>
    generic.patch(body, undefined, undefined, fieldManager, force, k8s.PatchStrategy.ServerSideApply);
  const created = await as('one');
  assert.equal(created.metadata.managedFields[0].operation, 'Apply');
  body.data.a = '2';
  const error = await refused(409, () => as('two'));
  assert.match(JSON.stringify(error.body), /conflict with/);
  assert.deepEqual((await as('two', true)).data, { a: '2' });
}

async function watching() {
  const { metadata } = await core.listNamespacedConfigMap({ namespace });
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'watched', labels: { w: '1' } } } });
  await core.deleteNamespacedConfigMap({ name: 'watched', namespace });
  const seen = [];
  const query = { labelSelector: 'w=1', resourceVersion: metadata.resourceVersion };
  const watch = new k8s.Watch(config);
  const path = `/api/v1/namespaces/${namespace}/configmaps`;
  const running = await watch.watch(path, query, (type) => seen.push(type), () => {});
  await until('both events', () => seen.length === 2);
  assert.deepEqual(seen, ['ADDED', 'DELETED']);
  running.abort();
}

async function informers() {
  const list = () => core.listNamespacedConfigMap({ namespace });
  const informer = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list);
  const added = [];
  informer.on('add', (object) => added.push(object.metadata.name));
  await informer.start();
  await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'informed' } } });
  await until('the informer knows', () => added.includes('informed') && added.includes('m1'));
  await informer.stop();
}

async function workloads() {
  const labels = { app: 'web' };
  const template = { metadata: { labels }, spec: { containers: [{ name: 'web', image: TOOL }] } };
  const body = { metadata: { name: 'web' }, spec: { replicas: 2, selector: { matchLabels: labels }, template } };
  await apps.createNamespacedDeployment({ namespace, body });
  const available = async () => {
    const own = await apps.readNamespacedDeployment({ name: 'web', namespace });
    return own.status.availableReplicas === 2 && own;
  };
  await until('the deployment is available', available);
  await apps.deleteNamespacedDeployment({ name: 'web', namespace });
}

async function custom() {
  const group = 'javascript.example.com';
  const name = `things.${group}`;
  const openAPIV3Schema = {
    type: 'object',
    properties: { spec: { type: 'object', properties: { size: { type: 'integer', _default: 1, maximum: 5 } } } },
  };
  const versions = [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema } }];
  const names = { plural: 'things', singular: 'thing', kind: 'Thing' };
  const definition = { metadata: { name }, spec: { group, scope: 'Namespaced', names, versions } };
  await extensions.createCustomResourceDefinition({ body: definition });
  await until('the definition is established', async () => {
    const { status } = await extensions.readCustomResourceDefinition({ name });
    return status?.conditions?.some((own) => own.type === 'Established' && own.status === 'True');
  });
  const at = { group, version: 'v1', namespace, plural: 'things' };
  const body = { apiVersion: `${group}/v1`, kind: 'Thing', metadata: { name: 'a' }, spec: {} };
  const made = await customObjects.createNamespacedCustomObject({ ...at, body });
  assert.equal(made.spec.size, 1);
  const large = { ...body, metadata: { name: 'b' }, spec: { size: 9 } };
  await refused(422, () => customObjects.createNamespacedCustomObject({ ...at, body: large }));
  const patch = [{ op: 'replace', path: '/spec/size', value: 2 }];
  const patched = await customObjects.patchNamespacedCustomObject({ ...at, name: 'a', body: patch });
  assert.equal(patched.spec.size, 2);
  assert.equal((await customObjects.listNamespacedCustomObject(at)).items.length, 1);
  await customObjects.deleteNamespacedCustomObject({ ...at, name: 'a' });
  await extensions.deleteCustomResourceDefinition({ name });
}

async function pod(name, args) {
  const spec = { restartPolicy: 'Never', containers: [{ name: 'main', image: TOOL, args }] };
  await core.createNamespacedPod({ namespace, body: { metadata: { name }, spec } });
  await until(`pod ${name} has started`, async () => {
    const { status } = await core.readNamespacedPod({ name, namespace });
    return ['Running', 'Succeeded'].includes(status.phase);
  });
}

async function logs() {
  await pod('talks', ['do', 'print one', 'sleep 1', 'print two']);
  const said = new Text();
  await new k8s.Log(config).log(namespace, 'talks', 'main', said, { follow: true });
  await until('the log has ended', () => said.writableFinished);
  assert.equal(said.text, 'one\ntwo\n');
  assert.equal(await core.readNamespacedPodLog({ name: 'talks', namespace, tailLines: 1 }), 'two\n');
}

async function run(command, input = null, tty = false) {
  const [out, err] = [new Text(), new Text()];
  const exec = new k8s.Exec(config);
  const status = await new Promise((resolve, reject) => {
    exec.exec(namespace, 'serves', 'main', command, out, tty ? null : err, input, tty, resolve).catch(reject);
  });
  const cause = status.details?.causes?.find((own) => own.reason === 'ExitCode');
  return { code: status.status === 'Success' ? 0 : Number(cause?.message), out: out.text, err: err.text };
}

async function commands() {
  await pod('serves', ['serve', '--port', '8080', '--text', 'hello']);
  assert.deepEqual(await run(['/fairlead', 'tool', 'print', 'hi']), { code: 0, out: 'hi\n', err: '' });
  assert.deepEqual(await run(['/fairlead', 'tool', 'exit', '3']), { code: 3, out: '', err: '' });
  const missing = { code: 1, out: '', err: 'NOT_THERE is not set\n' };
  assert.deepEqual(await run(['/fairlead', 'tool', 'env', 'NOT_THERE']), missing);
}

async function interactive() {
  const input = new PassThrough();
  input.end('to and fro\n');
  assert.deepEqual(await run(['cat'], input), { code: 0, out: 'to and fro\n', err: '' });
}

async function ports() {
  const forward = new k8s.PortForward(config);
  const [out, err, input] = [new Text(), new Text(), new PassThrough()];
  const socket = await forward.portForward(namespace, 'serves', [8080], out, err, input);
  input.write('GET / HTTP/1.1\r\nHost: serves\r\nConnection: close\r\n\r\n');
  await until('the answer', () => out.text.endsWith('hello\n'));
  assert.match(out.text, /^HTTP\/1.1 200/);
  assert.equal(err.text, '');
  socket.close();
  const [silent, told] = [new Text(), new Text()];
  await forward.portForward(namespace, 'serves', [9], silent, told, new PassThrough());
  await until('the error is told', () => /refused/.test(told.text));
}

async function proxies() {
  const answer = await core.connectGetNamespacedPodProxyWithPath({ name: 'serves:8080', namespace, path: 'a' });
  assert.equal(answer, 'hello\n');
}

const steps = {
  objects,
  apply,
  watch: watching,
  informer: informers,
  workloads,
  custom,
  logs,
  exec: commands,
  'exec-input': interactive,
  portforward: ports,
  proxy: proxies,
};

// A hanging connection must not hang the tests.
setTimeout(() => process.exit(3), 240_000).unref();
await core.createNamespace({ body: { metadata: { name: namespace } } });
let failed = false;
const wanted = process.argv.length > 3 ? process.argv.slice(3) : Object.keys(steps);
for (const [name, step] of Object.entries(steps).filter(([name]) => wanted.includes(name))) {
  try {
    await step();
    console.log(`ok ${name}`);
  } catch (error) {
    failed = true;
    console.log(`FAILED ${name}: ${error.stack}`);
  }
}
await core.deleteNamespace({ name: namespace });
process.exit(failed ? 1 : 0);
