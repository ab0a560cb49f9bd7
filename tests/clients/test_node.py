#!/usr/bin/env python3
"""Clients that run on Node: dockerode, testcontainers and the devcontainers CLI."""

import json
import os
import shutil

import clients

MODULES = os.path.join(clients.PROGRAMS, "node", "node_modules")
HERE = os.path.dirname(os.path.abspath(__file__))


class NodeClients(clients.ClientTest):
    @classmethod
    def needs(cls):
        if not shutil.which("node"):
            return "needs node"
        if not os.path.isdir(os.path.join(MODULES, "dockerode")):
            return "needs the clients from the npm registry: tools/client-programs"
        return None

    def node(self, script, **environment):
        run = self.command("node", script, timeout=400, environment={"NODE_PATH": MODULES, **environment})
        print(run.stdout, end="")
        failed = [line for line in run.stdout.splitlines() if line.startswith("FAILED")]
        self.assertEqual((failed, run.returncode), ([], 0), run.stderr[-3000:])
        self.assertIn("ok ", run.stdout)

    def test_dockerode(self):
        self.node(os.path.join(HERE, "dockerode.js"))

    def test_testcontainers(self):
        # Ryuk, its reaper, is an image of Docker Hub.
        self.node(os.path.join(HERE, "testcontainers.js"), TESTCONTAINERS_RYUK_DISABLED="true", TESTCONTAINERS_HOST_OVERRIDE="127.0.0.1")

    def test_devcontainers(self):
        project = self.scratch()
        os.makedirs(os.path.join(project, ".devcontainer"))
        with open(os.path.join(project, ".devcontainer", "devcontainer.json"), "w", encoding="utf-8") as file:
            json.dump({"image": "alpine:latest", "remoteUser": "root", "postCreateCommand": "echo made > /made", "containerEnv": {"K": "V"}}, file)
        program = os.path.join(MODULES, ".bin", "devcontainer")
        up = self.command("node", program, "up", "--workspace-folder", project, check=0, timeout=300)
        container = json.loads(up.stdout.strip().splitlines()[-1])["containerId"]
        self.addCleanup(self.docker, "rm", "-f", container)
        run = self.command("node", program, "exec", "--workspace-folder", project, "sh", "-c", "cat /made; echo $K; ls -a", check=0)
        self.assertEqual(run.stdout.split()[:2], ["made", "V"])
        self.assertIn(".devcontainer", run.stdout)


if __name__ == "__main__":
    clients.main()
