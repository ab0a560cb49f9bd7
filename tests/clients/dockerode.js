// dockerode against the engine in DOCKER_HOST: one line "ok NAME" or "FAILED NAME: reason" for each check; the exit code counts the failures.
const { PassThrough } = require('stream');
const Docker = require('dockerode');

const docker = new Docker({ socketPath: process.env.DOCKER_HOST.replace('unix://', '') });

function assert(condition, text) {
  if (!condition) throw new Error(text);
}

function collect(stream) {
  return new Promise((resolve, reject) => {
    const pieces = [];
    stream.on('data', (piece) => pieces.push(piece));
    stream.on('end', () => resolve(Buffer.concat(pieces)));
    stream.on('close', () => resolve(Buffer.concat(pieces)));
    stream.on('error', reject);
  });
}

async function withContainer(options, work) {
  const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sleep', '1000'], ...options });
  try {
    await container.start();
    return await work(container);
  } finally {
    await container.remove({ force: true, v: true });
  }
}

const checks = {
  async 'ping, version and info'() {
    assert((await docker.ping()).toString() === 'OK', 'ping');
    assert((await docker.version()).Os === 'linux', 'version');
    assert((await docker.info()).OSType === 'linux', 'info');
  },
  async 'run gives separate streams and the exit code'() {
    const out = new PassThrough();
    const err = new PassThrough();
    const outText = collect(out);
    const errText = collect(err);
    const [result, container] = await docker.run('busybox', ['sh', '-c', 'echo o; echo e >&2; exit 5'], [out, err], { Tty: false });
    out.end();
    err.end();
    assert(result.StatusCode === 5, `code ${result.StatusCode}`);
    assert((await outText).toString() === 'o\n', 'standard output');
    assert((await errText).toString() === 'e\n', 'standard error');
    await container.remove();
  },
  async 'exec without a terminal is framed'() {
    await withContainer({}, async (container) => {
      const exec = await container.exec({ Cmd: ['sh', '-c', 'echo o; echo e >&2; exit 3'], AttachStdout: true, AttachStderr: true });
      const stream = await exec.start({});
      const out = new PassThrough();
      const text = collect(out);
      docker.modem.demuxStream(stream, out, out);
      await new Promise((resolve) => stream.on('end', resolve));
      out.end();
      const seen = (await text).toString();
      assert(seen.includes('o\n') && seen.includes('e\n'), seen);
      assert((await exec.inspect()).ExitCode === 3, 'code');
    });
  },
  async 'exec with hijacked standard input'() {
    await withContainer({}, async (container) => {
      const exec = await container.exec({ Cmd: ['cat'], AttachStdin: true, AttachStdout: true });
      const stream = await exec.start({ hijack: true, stdin: true });
      const text = collect(stream);
      stream.write('through\n');
      stream.end();
      assert((await text).toString().includes('through\n'), 'echo');
    });
  },
  async 'attach hijacks both ways'() {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['cat'], OpenStdin: true, StdinOnce: true, AttachStdin: true });
    const stream = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const text = collect(stream);
    await container.start();
    stream.write('attached\n');
    stream.end();
    assert((await text).toString().includes('attached\n'), 'echo');
    assert((await container.wait()).StatusCode === 0, 'code');
    await container.remove();
  },
  async 'logs follow to the end'() {
    const container = await docker.createContainer({ Image: 'busybox', Cmd: ['sh', '-c', 'for i in 1 2 3; do echo $i; done'] });
    await container.start();
    const stream = await container.logs({ follow: true, stdout: true, stderr: true });
    const seen = (await collect(stream)).toString();
    assert(['1\n', '2\n', '3\n'].every((line) => seen.includes(line)), seen);
    await container.remove();
  },
  async 'archives go in and out'() {
    await withContainer({}, async (container) => {
      const got = await collect(await container.getArchive({ path: '/etc/passwd' }));
      await container.putArchive(got, { path: '/tmp' });
      const info = await container.infoArchive({ path: '/tmp/passwd' });
      assert(info, 'stat');
    });
  },
  async 'stats and top'() {
    await withContainer({}, async (container) => {
      assert((await container.stats({ stream: false })).memory_stats.usage > 0, 'memory');
      assert((await container.top()).Processes.length >= 1, 'processes');
    });
  },
  async 'networks and volumes'() {
    const network = await docker.createNetwork({ Name: 'node-net' });
    const volume = await docker.createVolume({ Name: 'node-vol' });
    await withContainer({ HostConfig: { NetworkMode: 'node-net', Binds: ['node-vol:/d'] } }, async (container) => {
      const info = await container.inspect();
      assert(info.NetworkSettings.Networks['node-net'].IPAddress, 'address');
      assert(info.Mounts[0].Name === 'node-vol', 'mount');
    });
    await network.remove();
    await (volume.remove ? volume : docker.getVolume('node-vol')).remove();
  },
  async 'build and remove an image'() {
    const fs = require('fs');
    const path = require('path');
    const folder = fs.mkdtempSync(path.join(process.env.HOME, 'context-'));
    fs.writeFileSync(path.join(folder, 'Dockerfile'), 'FROM busybox\nRUN echo node > /made\nCMD cat /made\n');
    const stream = await docker.buildImage({ context: folder, src: ['Dockerfile'] }, { t: 'node-built:1' });
    await new Promise((resolve, reject) => docker.modem.followProgress(stream, (error, lines) => {
      const failed = (lines || []).find((line) => line.error);
      if (error || failed) reject(error || new Error(failed.error));
      else resolve();
    }));
    assert((await docker.getImage('node-built:1').inspect()).RepoTags.includes('node-built:1'), 'tag');
    await docker.getImage('node-built:1').remove();
  },
  async 'events arrive'() {
    const stream = await docker.getEvents({ filters: JSON.stringify({ type: ['container'] }) });
    const seen = new Promise((resolve) => {
      let text = '';
      stream.on('data', (piece) => {
        text += piece;
        if (text.includes('"destroy"')) resolve(text);
      });
    });
    await withContainer({}, async () => {});
    const text = await seen;
    stream.destroy();
    assert(text.includes('"start"') && text.includes('"die"'), text);
  },
  async 'errors carry status and message'() {
    try {
      await docker.getContainer('nosuch').inspect();
    } catch (error) {
      assert(error.statusCode === 404 && /No such container/.test(error.json ? error.json.message : error.message), String(error));
      return;
    }
    throw new Error('no error');
  },
};

(async () => {
  let failures = 0;
  for (const [name, check] of Object.entries(checks)) {
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failures += 1;
      console.log(`FAILED ${name}: ${error.message}`);
    }
  }
  process.exit(failures);
})();
