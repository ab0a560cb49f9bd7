#!/usr/bin/env python3
"""Builds from addresses: git repositories by HTTP and git's own protocol, archives, a Dockerfile alone; and ADD of a repository."""

import base64
import glob
import http.server
import io
import os
import signal
import socket
import subprocess
import tarfile
import threading
import time
import urllib.parse

import caisson
import repositories

TOKEN = "Basic " + base64.b64encode(b"x-access-token:opensesame").decode()


class Files(http.server.SimpleHTTPRequestHandler):
    """The folder of a test; what lies below /private needs the token."""

    def do_GET(self):
        if self.path.startswith("/private/") and self.headers.get("Authorization") != TOKEN:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.end_headers()
            return
        super().do_GET()

    def log_message(self, *_):
        pass


class RemoteBuildTest(repositories.GitRepositories, caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.site = os.path.join(cls.engine.folder, "site")
        os.mkdir(cls.site)
        handler = lambda *arguments, **options: Files(*arguments, directory=cls.site, **options)
        host = caisson.HostAddress()
        cls.addClassCleanup(host.close)
        cls.host = host.text
        cls.server = http.server.ThreadingHTTPServer((cls.host, 0), handler)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()
        cls.address = f"http://{cls.host}:{cls.server.server_port}"
        cls.works, cls.bares, cls.git_home = os.path.join(cls.engine.folder, "work"), cls.site, cls.engine.folder
        part = cls.repository("part", {"inner": "of the submodule\n"})
        cls.work = cls.repository("app", {"Dockerfile": "FROM busybox\nCOPY . /all\n", ".dockerignore": "kept\n", "kept": "here\n", "run": ("#!/bin/sh\n", 0o755), "sub/Dockerfile": "FROM busybox\nCOPY f /f\n", "sub/f": "one\n"})
        cls.git(cls.work, "-c", "protocol.file.allow=always", "submodule", "add", "-q", part, "lib")
        # The address others reach it by.
        cls.git(cls.work, "config", "-f", ".gitmodules", "submodule.lib.url", f"{cls.address}/part.git")
        os.symlink("/etc/passwd", os.path.join(cls.work, "outside"))
        cls.commit(cls.work)
        cls.git(cls.work, "tag", "v1")
        cls.first = cls.git(cls.work, "rev-parse", "HEAD")
        with open(os.path.join(cls.work, "sub/f"), "w", encoding="utf-8") as file:
            file.write("two\n")
        cls.commit(cls.work)
        cls.publish("app")
        os.mkdir(os.path.join(cls.site, "private"))
        os.symlink("../app.git", os.path.join(cls.site, "private/app.git"))

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.server.server_close()
        super().tearDownClass()

    def tearDown(self):
        self.assertEqual(glob.glob("/var/tmp/caisson-git-*"), [])
        self.assertEqual(os.listdir(os.path.join(self.engine.root, "builds")), [])

    def build(self, context, *arguments, check=0):
        return self.engine.cli("build", "-t", self._testMethodName, *arguments, context, check=check, timeout=120)

    def shell(self, script):
        return self.engine.ok("run", "--rm", "--entrypoint", "sh", self._testMethodName, "-c", script)

    def test_a_repository_is_a_context(self):
        self.build(f"{self.address}/app.git")
        self.assertEqual(self.shell("cat /all/sub/f /all/kept /all/lib/inner; stat -c '%a %u' /all/run /all/kept; readlink /all/outside; ls -a /all/.git /all/lib/.git 2>&1 | grep -c 'No such'"),
                         "two\nhere\nof the submodule\n755 0\n644 0\n/etc/passwd\n2")

    def test_ref_and_folder_are_in_the_fragment_or_in_the_query(self):
        for context in (f"{self.address}/app.git#v1:sub", f"{self.address}/app.git?tag=v1&subdir=sub", f"{self.address}/app.git#{self.first}:sub"):
            self.build(context)
            self.assertEqual(self.shell("cat /f"), "one", context)

    def test_gits_own_protocol_gives_one_commit(self):
        with socket.socket() as free:
            free.bind((self.host, 0))
            port = free.getsockname()[1]
        daemon = subprocess.Popen(["git", "daemon", "--reuseaddr", "--export-all", f"--listen={self.host}", f"--port={port}", f"--base-path={self.site}", self.site], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(daemon.wait)
        self.addCleanup(os.killpg, daemon.pid, signal.SIGKILL)  # git starts the daemon as its child

        def answers():
            try:
                socket.create_connection((self.host, port), 1).close()
            except OSError:
                return False
            return True
        caisson.wait_until(answers, "git daemon answers")
        self.engine.ok("build", "-t", self._testMethodName, "-", stdin=f"FROM busybox\nADD --keep-git-dir git://{self.host}:{port}/part.git#main /part/\n")
        self.assertEqual(self.shell("cat /part/inner; ls -d /part/.git/shallow"), "of the submodule\n/part/.git/shallow")

    def test_add_takes_a_repository(self):
        head = self.git(self.work, "rev-parse", "HEAD")
        self.engine.ok("build", "-t", self._testMethodName, "-", stdin=f"FROM busybox\nADD --checksum={head[:10]} --chown=7:8 {self.address}/app.git#:sub /there\n")
        self.assertEqual(self.shell("cat /there/f; stat -c '%u:%g' /there/f"), "two\n7:8")

    def test_another_commit_than_the_expected_is_refused(self):
        out = self.engine.cli("build", "-", stdin=f"FROM busybox\nADD --checksum={self.first} {self.address}/app.git /there\n", check=1)
        self.assertIn(f"expected commit {self.first}", out.stderr + out.stdout)

    def test_a_private_repository_takes_a_token(self):
        refused = self.build(f"{self.address}/private/app.git", check=1)
        self.assertIn("/private/app.git", refused.stderr)
        token = os.path.join(self.engine.folder, "token")
        with open(token, "w", encoding="utf-8") as file:
            file.write("opensesame\n")
        # The submodule is public, the same server's, and is fetched with the token too.
        self.build(f"{self.address}/private/app.git#:sub", "--secret", f"id=GIT_AUTH_TOKEN,src={token}")
        self.assertEqual(self.shell("cat /f"), "two")

    def test_what_is_not_there_is_named(self):
        for context, words in ((f"{self.address}/none.git", "/none.git: "), (f"{self.address}/app.git#nonesuch", "app.git at nonesuch"), (f"{self.address}/app.git#:nonesuch", "folder nonesuch"),
                               (f"{self.address}/app.git?what=1", 'unknown word "what"'), ("ssh://git@127.0.0.1/x.git", "ssh needs an agent"), ("ftp://127.0.0.1/x", "neither a git repository nor"),
                               (f"{self.address}/none.tar", "the download failed")):
            self.assertIn(words, self.build(context, check=1).stderr, context)

    def test_an_archive_or_a_dockerfile_behind_an_address_will_do(self):
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w:gz") as tar:
            caisson.add_file(tar, "Other", b"FROM busybox\nCOPY f /f\n")
            caisson.add_file(tar, "f", b"archived")
        with open(os.path.join(self.site, "context"), "wb") as file:
            file.write(archive.getvalue())
        self.build(f"{self.address}/context", "-f", "Other")
        self.assertEqual(self.shell("cat /f"), "archived")
        with open(os.path.join(self.site, "recipe"), "w", encoding="utf-8") as file:
            file.write("FROM busybox\nRUN echo alone >/f\n")
        self.build(f"{self.address}/recipe")
        self.assertEqual(self.shell("cat /f"), "alone")

    def test_the_api_takes_an_address_without_a_body(self):
        query = urllib.parse.urlencode({"t": self._testMethodName, "remote": f"{self.address}/app.git#v1:sub", "q": "1"})
        status, _, body = self.engine.request("POST", f"/v1.41/build?{query}", b"", {})
        self.assertEqual(status, 200, body)
        self.assertEqual(self.shell("cat /f"), "one")

    def test_a_client_that_leaves_ends_git(self):
        held = socket.socket()
        held.bind((self.host, 0))
        held.listen()
        self.addCleanup(held.close)
        client = subprocess.Popen(self.engine.as_user([os.path.join(caisson.BIN, "caisson"), "-H", self.engine.host, "build", f"git://{self.host}:{held.getsockname()[1]}/x"]), env=self.engine.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        connection, _ = held.accept()
        self.addCleanup(connection.close)
        client.kill()
        client.wait()
        connection.settimeout(30)
        while connection.recv(4096):
            time.sleep(0)  # what git had asked before; the end comes with its death
        caisson.wait_until(lambda: not glob.glob("/var/tmp/caisson-git-*") and not os.listdir(os.path.join(self.engine.root, "builds")), "the build's folders are gone")


if __name__ == "__main__":
    caisson.main()
