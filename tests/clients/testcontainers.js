// testcontainers-node against the engine in DOCKER_HOST: one line "ok NAME" or "FAILED NAME: reason" for each check.
const fs = require('fs');
const path = require('path');
const { GenericContainer, Network, Wait } = require('testcontainers');

function assert(condition, text) {
  if (!condition) throw new Error(text);
}

async function withContainer(container, work) {
  const started = await container.start();
  try {
    return await work(started);
  } finally {
    await started.stop();
  }
}

const server = () => new GenericContainer('busybox:latest').withCommand(['sh', '-c', 'echo listening; exec httpd -f -p 80 -h /etc']);

const checks = {
  async 'waits for a log line and for a port'() {
    await withContainer(server().withExposedPorts(80).withWaitStrategy(Wait.forLogMessage('listening')), async (container) => {
      const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(80)}/os-release`);
      assert((await answer.text()).includes('ID='), 'page');
    });
  },
  async 'waits for a health check'() {
    const container = server().withHealthCheck({ test: ['CMD-SHELL', 'true'], interval: 200, timeout: 30000, retries: 3, startPeriod: 0 })
      .withWaitStrategy(Wait.forHealthCheck());
    await withContainer(container, async () => {});
  },
  async 'exec gives output and code'() {
    await withContainer(server(), async (container) => {
      const result = await container.exec(['sh', '-c', 'echo out; exit 3']);
      assert(result.exitCode === 3 && result.output.includes('out'), JSON.stringify(result));
    });
  },
  async 'files are copied in before the start'() {
    const container = server().withCopyContentToContainer([{ content: 'copied', target: '/tmp/c' }]);
    await withContainer(container, async (started) => {
      assert((await started.exec(['cat', '/tmp/c'])).output === 'copied', 'content');
    });
  },
  async 'logs stream'() {
    await withContainer(server(), async (container) => {
      const stream = await container.logs();
      const awake = setInterval(() => {}, 1000);  // the library unrefs the stream's socket: with nothing else to wait for, node would end here
      await new Promise((resolve) => stream.on('data', (line) => String(line).includes('listening') && resolve()));
      clearInterval(awake);
      stream.destroy();
    });
  },
  async 'aliases resolve on a network'() {
    const network = await new Network().start();
    try {
      await withContainer(server().withNetwork(network).withNetworkAliases('files'), async () => {
        await withContainer(new GenericContainer('busybox:latest').withCommand(['sleep', '1000']).withNetwork(network), async (client) => {
          const result = await client.exec(['wget', '-qO-', 'http://files/os-release']);
          assert(result.exitCode === 0 && result.output.includes('ID='), JSON.stringify(result));
        });
      });
    } finally {
      await network.stop();
    }
  },
  async 'an image is built from a Dockerfile'() {
    const folder = fs.mkdtempSync(path.join(process.env.HOME, 'context-'));
    fs.writeFileSync(path.join(folder, 'Dockerfile'), 'FROM busybox\nRUN echo built > /made\nCMD sleep 1000\n');
    const container = await GenericContainer.fromDockerfile(folder).build('tc-built:1', { deleteOnExit: false });
    await withContainer(container, async (started) => {
      assert((await started.exec(['cat', '/made'])).output === 'built\n', 'content');
    });
  },
  async 'a container is committed'() {
    await withContainer(server(), async (container) => {
      await container.exec(['sh', '-c', 'echo kept > /kept']);
      const image = await container.commit({ repo: 'tc-commit', tag: '1', deleteOnExit: false });
      await withContainer(new GenericContainer(image).withCommand(['sleep', '1000']), async (started) => {
        assert((await started.exec(['cat', '/kept'])).output === 'kept\n', 'content');
      });
    });
  },
  async 'restart keeps the container'() {
    await withContainer(server(), async (container) => {
      const id = container.getId();
      await container.restart();
      assert(container.getId() === id, 'id');
    });
  },
};

(async () => {
  let failures = 0;
  let begun = '';
  process.on('exit', () => {
    if (begun === '') return;
    console.log(`FAILED ${begun}: node ended in the middle of it`);
    process.exitCode = 1;
  });
  for (const [name, check] of Object.entries(checks)) {
    begun = name;
    try {
      await check();
      console.log(`ok ${name}`);
    } catch (error) {
      failures += 1;
      console.log(`FAILED ${name}: ${error.stack.split('\n').slice(0, 3).join(' | ')}`);
    }
  }
  begun = '';
  process.exit(failures);
})();
