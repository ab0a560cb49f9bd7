#!/usr/bin/env python3
"""python3-docker, which compose 1.29 and many tools stand on: containers, images, networks, volumes, streams and archives through its objects."""

import io
import os
import sys
import tarfile
import unittest.mock

import clients

# Debian's module is also found by a Python that is not Debian's.
sys.path.append("/usr/lib/python3/dist-packages")
try:
    import docker
    import docker.errors
    import docker.transport.unixconn
except ImportError:
    docker = None


class PythonDocker(clients.ClientTest):
    @classmethod
    def needs(cls):
        if docker is None:
            return "needs python3-docker: tools/dependencies clients"
        return None

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if clients.caisson.ROOTLESS:
            # The engine knows its callers by their processes: connections are made by one of the user's.
            patched = unittest.mock.patch.object(docker.transport.unixconn.UnixHTTPConnection, "connect", lambda connection: setattr(connection, "sock", cls.target.engine.connect(connection.timeout)))
            patched.start()
            cls.addClassCleanup(patched.stop)
        cls.client = docker.DockerClient(base_url=cls.target.host, version="auto", timeout=120)

    @classmethod
    def tearDownClass(cls):
        cls.client.close()
        super().tearDownClass()

    def run_detached(self, *arguments, **options):
        container = self.client.containers.run("busybox", *arguments, detach=True, **options)
        self.addCleanup(container.remove, force=True, v=True)
        return container

    def test_run_returns_output_and_raises_with_the_code(self):
        self.assertEqual(self.client.containers.run("busybox", ["echo", "out"], remove=True), b"out\n")
        with self.assertRaises(docker.errors.ContainerError) as caught:
            self.client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 4"], remove=True)
        self.assertEqual((caught.exception.exit_status, caught.exception.stderr), (4, b"bad\n"))
        with self.assertRaises(docker.errors.ImageNotFound):
            self.client.images.get("nosuch:none")

    def test_life_of_a_container(self):
        container = self.run_detached(["sh", "-c", "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done"], name="life", labels={"a": "b"}, environment={"K": "V"})
        self.assertIn(b"up\n", next(container.logs(stream=True, follow=True)))
        container.reload()
        self.assertEqual(container.status, "running")
        self.assertEqual([found.name for found in self.client.containers.list(filters={"label": "a=b"})], ["life"])
        if not clients.caisson.ROOTLESS:  # without cgroups nothing is paused or limited
            container.pause()
            container.reload()
            self.assertEqual(container.status, "paused")
            container.unpause()
            container.update(mem_limit="64m", memswap_limit="64m")
            container.reload()
            self.assertEqual(container.attrs["HostConfig"]["Memory"], 64 << 20)
        container.rename("renamed")
        self.assertIn("PID", container.top()["Titles"])
        container.stop(timeout=5)
        self.assertEqual(container.wait()["StatusCode"], 3)
        container.restart(timeout=1)
        container.kill()
        self.assertEqual(container.wait()["StatusCode"], 137)
        with self.assertRaises(docker.errors.APIError) as caught:
            container.kill()
        self.assertEqual(caught.exception.status_code, 409)

    def test_exec_gives_streams_and_code(self):
        container = self.run_detached(["sleep", "1000"])
        self.assertEqual(container.exec_run(["sh", "-c", "echo $X; exit 6"], environment={"X": "y"}), (6, b"y\n"))
        code, (out, err) = container.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
        self.assertEqual((code, out, err), (0, b"o\n", b"e\n"))
        handle = self.client.api.exec_create(container.id, ["cat"], stdin=True)
        stream = self.client.api.exec_start(handle["Id"], socket=True)
        raw = getattr(stream, "_sock", stream)
        raw.sendall(b"through\n")
        data = raw.recv(8 + len("through\n"))
        self.assertIn(b"through", data if len(data) > 8 else data + raw.recv(64))
        raw.close()

    def test_archives_go_in_and_out(self):
        container = self.run_detached(["sleep", "1000"])
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w") as tar:
            info = tarfile.TarInfo("put")
            info.size = 4
            tar.addfile(info, io.BytesIO(b"data"))
        self.assertTrue(container.put_archive("/tmp", data.getvalue()))
        pieces, stat = container.get_archive("/tmp/put")
        self.assertEqual((stat["name"], stat["size"]), ("put", 4))
        with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
            self.assertEqual(tar.extractfile("put").read(), b"data")
        changes = {(change["Path"], change["Kind"]) for change in container.diff()}
        self.assertIn(("/tmp/put", 1), changes)
        self.assertGreater(len(b"".join(container.export())), 100_000)

    def test_images_are_built_tagged_saved_loaded_and_removed(self):
        context = io.BytesIO(b"FROM busybox\nLABEL made=python\nRUN echo hi > /hi\nCMD cat /hi\n")
        image, log = self.client.images.build(fileobj=context, tag="py:1", rm=True)
        self.assertTrue(any("Successfully built" in line.get("stream", "") for line in log))
        self.assertEqual(self.client.containers.run("py:1", remove=True), b"hi\n")
        self.assertTrue(image.tag("py", "2"))
        self.assertIn("py:2", self.client.images.get("py:1").tags)
        saved = b"".join(image.save(named=True))
        self.client.images.remove("py:2")
        self.client.images.remove("py:1")
        self.assertEqual(self.client.images.load(saved)[0].labels, {"made": "python"})
        with self.assertRaises(docker.errors.BuildError):
            self.client.images.build(fileobj=io.BytesIO(b"FROM busybox\nRUN exit 2\n"), rm=True, forcerm=True)

    def test_commit_keeps_changes(self):
        container = self.run_detached(["sh", "-c", "echo kept > /kept"])
        container.wait()
        image = container.commit(repository="pycommit", tag="1", changes=["CMD [\"cat\", \"/kept\"]"])
        self.assertEqual(self.client.containers.run(image.id, remove=True), b"kept\n")

    def test_networks_connect_and_resolve(self):
        network = self.client.networks.create("pynet", driver="bridge", labels={"n": "1"})
        self.addCleanup(network.remove)
        server = self.run_detached(["httpd", "-f", "-p", "80", "-h", "/etc"], name="server")
        network.connect(server, aliases=["files"])
        self.assertIn(b"ID=", self.client.containers.run("busybox", ["wget", "-qO-", "http://files/os-release"], network="pynet", remove=True))
        network.reload()
        self.assertEqual([container.name for container in network.containers], ["server"])
        network.disconnect(server)
        self.assertEqual(self.client.networks.list(names=["pynet"])[0].attrs["Labels"], {"n": "1"})

    def test_volumes_hold_data(self):
        volume = self.client.volumes.create("pyvol", labels={"v": "1"})
        self.addCleanup(volume.remove)
        mounts = {"pyvol": {"bind": "/d", "mode": "rw"}}
        self.client.containers.run("busybox", ["sh", "-c", "echo x > /d/f"], volumes=mounts, remove=True)
        self.assertEqual(self.client.containers.run("busybox", ["cat", "/d/f"], volumes=mounts, remove=True), b"x\n")
        self.assertEqual([found.name for found in self.client.volumes.list(filters={"label": "v=1"})], ["pyvol"])

    @clients.caisson.needs_cgroups
    def test_events_and_stats_stream(self):
        events = self.client.events(decode=True, filters={"type": "container"})
        container = self.run_detached(["sleep", "1000"])
        seen = []
        for event in events:
            seen.append(event["Action"])
            if event["Action"] == "start" and event["id"] == container.id:
                break
        events.close()
        self.assertIn("create", seen)
        reading = next(container.stats(stream=True, decode=True))
        self.assertGreater(reading["memory_stats"]["usage"], 0)
        self.assertGreater(container.stats(stream=False)["cpu_stats"]["system_cpu_usage"], 0)

    def test_health_is_reported(self):
        check = {"test": ["CMD-SHELL", "test -e /tmp/ok"], "interval": 200_000_000, "timeout": 30_000_000_000, "retries": 2}
        container = self.run_detached(["sh", "-c", "touch /tmp/ok; exec sleep 1000"], healthcheck=check)

        def status():
            container.reload()
            return container.attrs["State"]["Health"]["Status"]

        clients.caisson.wait_until(lambda: status() == "healthy", "it becomes healthy", 60)
        container.exec_run(["rm", "/tmp/ok"])
        clients.caisson.wait_until(lambda: status() == "unhealthy", "it becomes unhealthy", 60)
        self.assertGreaterEqual(container.attrs["State"]["Health"]["FailingStreak"], 2)

    def test_system_calls_answer(self):
        self.assertTrue(self.client.ping())
        self.assertEqual(self.client.version()["Os"], "linux")
        self.assertIn("Containers", self.client.info())
        self.assertIn("Volumes", self.client.df())
        for prune in (self.client.containers.prune, self.client.images.prune, self.client.networks.prune, self.client.volumes.prune):
            self.assertIsInstance(prune(), dict)


if __name__ == "__main__":
    os.environ.pop("DOCKER_HOST", None)
    clients.main()
