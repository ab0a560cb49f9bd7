#!/usr/bin/env python3
"""Builds from the Debian archive: a classic nginx image that serves, and what builds this project. Minutes, and it needs the archive: with CAISSON_TEST_FULL=1."""

import os
import shutil
import subprocess
import unittest
import urllib.request

import caisson

ARCHIVE = "http://deb.debian.org/debian/dists/bookworm/Release"
NGINX = """FROM debian:bookworm
LABEL maintainer="somebody"
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends nginx-light && rm -rf /var/lib/apt/lists/* && \\
    echo "daemon off;" >> /etc/nginx/nginx.conf
COPY site.conf /etc/nginx/conf.d/site.conf
RUN rm /etc/nginx/sites-enabled/default && ln -sf /dev/stderr /var/log/nginx/error.log
COPY page /srv/page/
VOLUME ["/var/cache/nginx", "/var/log/nginx"]
WORKDIR /etc/nginx
EXPOSE 80
CMD ["nginx"]
"""


def why_not():
    if not caisson.FULL:
        return "takes minutes and the Debian archive: CAISSON_TEST_FULL=1"
    if not shutil.which("mmdebstrap"):
        return "needs mmdebstrap: tools/dependencies demo"
    try:
        urllib.request.urlopen(ARCHIVE, timeout=20).close()
    except OSError as error:
        return f"the Debian archive does not answer: {error}"
    return None


class FromDebian(caisson.EngineTest):
    @classmethod
    def setUpClass(cls):
        if reason := why_not():
            raise unittest.SkipTest(reason)
        super().setUpClass()
        cls.engine.ok("image", "bootstrap", "debian:bookworm", timeout=600)

    def test_a_classic_nginx_image_is_built_and_serves(self):
        files = {"Dockerfile": NGINX, "site.conf": "server { listen 80 default_server; root /srv/page; }\n", "page/index.html": "built and served\n"}
        folder = caisson.write_files(os.path.join(self.engine.folder, "nginx"), files)
        self.engine.cli("build", "-t", "web", folder, check=0, timeout=900)
        container = self.engine.ok("run", "-d", "-p", "127.0.0.1::80", "web")
        address = self.engine.ok("port", container, "80/tcp")

        def served():
            try:
                return urllib.request.urlopen(f"http://{address}/", timeout=5).read() == b"built and served\n"
            except OSError:
                return False
        caisson.wait_until(served, lambda: self.engine.cli("logs", container).stderr, 30)
        inspected = self.engine.inspect(container)
        self.assertEqual(sorted(mount["Destination"] for mount in inspected["Mounts"]), ["/var/cache/nginx", "/var/log/nginx"])
        self.engine.ok("rm", "-fv", container)

    def test_this_projects_build_environment_builds_it(self):
        build = ("build", "-f", os.path.join(caisson.TREE, "packaging/Dockerfile"), "--build-arg", "JOBS=2")
        self.engine.cli(*build, "--target", "environment", "-t", "environment", caisson.TREE, check=0, timeout=1800)
        self.engine.cli(*build, "--build-arg", "TARGETS=caisson-runtime", "-o", f"type=local,dest={self.engine.folder}/out", caisson.TREE, check=0, timeout=1800)
        # Static, so that it runs here, too.
        said = subprocess.run([os.path.join(self.engine.folder, "out/caisson-runtime"), "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
        self.assertIn("caisson-runtime", said)


if __name__ == "__main__":
    caisson.main()
