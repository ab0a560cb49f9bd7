#!/usr/bin/env python3
"""image sbom and image scan: packages by layer from dpkg, apk and rpm, what is known about them, exit codes, and hostile images and data."""

import contextlib
import hashlib
import io
import json
import os
import shutil
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import unittest
import zipfile
import zlib

import caisson
import registries

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
CLIENT_PROGRAMS = os.path.join(os.environ.get("CAISSON_CLIENT_PROGRAMS") or os.path.join(caisson.TREE, "build", "clients"), "artifacts", "usr", "bin")
DEBIAN = b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            caisson.add_file(tar, name, data)
    return out.getvalue()


def deb(name, version, source=None):
    return f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n{'Source: ' + source + chr(10) if source else ''}Version: {version}\n\n".encode()


def rpm_database(names):
    with tempfile.TemporaryDirectory(prefix=caisson.PREFIX) as folder:
        path = os.path.join(folder, "rpmdb.sqlite")
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
            for name in names:
                index, data = b"", b""
                for tag, text in ((1000, name), (1001, "5.2"), (1002, "3.el9"), (1022, "x86_64")):
                    index += struct.pack(">IIII", tag, 6, len(data), 1)
                    data += text.encode() + b"\0"
                database.execute("INSERT INTO Packages(blob) VALUES (?)", (struct.pack(">II", 4, len(data)) + index + data,))
            database.commit()
        with open(path, "rb") as file:
            return file.read()


class InventoryTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        reason = caisson.why_not() or registries.why_not_fetch()
        if reason:
            raise unittest.SkipTest(reason)
        cls.folder = tempfile.mkdtemp(prefix=caisson.PREFIX + "inventory-")
        os.chmod(cls.folder, 0o755)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def layout(self, name, layers):
        """An OCI layout with one image of these tars; "oci:FOLDER"."""
        folder = os.path.join(self.folder, name)
        os.makedirs(os.path.join(folder, "blobs/sha256"))

        def put(data, kind):
            with open(os.path.join(folder, "blobs/sha256", digest_of(data).split(":")[1]), "wb") as file:
                file.write(data)
            return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}
        config = json.dumps({"created": "2024-05-06T07:08:09Z", "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest_of(data) for data in layers]}})
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": put(config.encode(), CONFIG), "layers": [put(data, LAYER) for data in layers]})
        index = json.dumps({"schemaVersion": 2, "manifests": [put(manifest.encode(), MANIFEST)]})
        for file_name, text in (("index.json", index), ("oci-layout", '{"imageLayoutVersion":"1.0.0"}')):
            with open(os.path.join(folder, file_name), "w", encoding="utf-8") as file:
                file.write(text)
        return "oci:" + folder

    def data(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def cli(self, *words, code=0, prefix=(), home=None, programs=caisson.BIN):
        done = subprocess.run([*prefix, os.path.join(programs, "caisson"), "image", *words], capture_output=True, text=True, timeout=120, check=False,
                              env={"PATH": os.environ["PATH"], "HOME": home or self.folder})
        self.assertEqual(done.returncode, code, f"{words}: {done.stderr}{done.stdout}")
        return done

    def packages(self, *words, **options):
        """name → (version, sourceInfo) of what is installed, and the whole document."""
        document = json.loads(self.cli("sbom", *words, **options).stdout)
        found = {item["name"]: (item["versionInfo"], item.get("sourceInfo", "")) for item in document["packages"] if item["SPDXID"].startswith("SPDXRef-Package-")}
        return found, document

    def debian(self, name):
        base = layer({"etc/os-release": DEBIAN, "var/lib/dpkg/status": deb("libssl3", "3.0.11-1", "openssl") + deb("bash", "5.2-1")})
        return self.layout(name, [base, layer({"srv/app": b"app"}), layer({"var/lib/dpkg/status": deb("libssl3", "3.0.11-1", "openssl") + deb("curl", "7.88-1")})]), base


class Sbom(InventoryTest):
    def test_packages_come_with_their_layer_and_the_document_does_not_change(self):
        image, base = self.debian("debian")
        found, document = self.packages(image)
        self.assertEqual(set(found), {"libssl3", "curl"})
        self.assertIn(f"layer 1 of 3, {digest_of(base)}", found["libssl3"][1])
        self.assertIn("layer 3 of 3", found["curl"][1])
        self.assertEqual(document["spdxVersion"], "SPDX-2.3")
        self.assertEqual(document["creationInfo"]["created"], "2024-05-06T07:08:09Z")
        ids = [item["SPDXID"] for item in document["packages"]] + ["SPDXRef-DOCUMENT"]
        self.assertEqual(len(ids), len(set(ids)))
        for relation in document["relationships"]:
            self.assertIn(relation["spdxElementId"], ids)
            self.assertIn(relation["relatedSpdxElement"], ids)
        output = os.path.join(self.folder, "again.json")
        self.cli("sbom", image, "--output", output)
        with open(output, encoding="utf-8") as file:
            self.assertEqual(json.load(file), document)
        self.assertEqual(self.cli("sbom", image).stdout, self.cli("sbom", image).stdout)

    def test_the_hosts_own_database_says_what_dpkg_query_says(self):
        if not shutil.which("dpkg-query"):
            self.skipTest("needs dpkg-query as the judge")
        fields = "${db:Status-Status}|${Package}|${Version}|${source:Package} ${source:Version}\\n"
        told = subprocess.run(["dpkg-query", "-W", "-f", fields], capture_output=True, text=True, check=True).stdout
        with open("/var/lib/dpkg/status", "rb") as file:
            status = file.read()
        expected = sorted(line.split("|", 1)[1] for line in told.splitlines() if line.startswith("installed|"))
        document = json.loads(self.cli("sbom", self.layout("host", [layer({"var/lib/dpkg/status": status, "etc/os-release": DEBIAN})])).stdout)
        listed = sorted(f"{item['name']}|{item['versionInfo']}|{item['sourceInfo'].split('built from ')[1]}" for item in document["packages"] if item["SPDXID"].startswith("SPDXRef-Package-"))
        self.assertEqual(listed, expected)

    def test_apk_and_rpm_are_read_and_old_rpm_is_refused(self):
        alpine = layer({"etc/os-release": b"ID=alpine\nVERSION_ID=3.20.1\n", "lib/apk/db/installed": b"P:musl\nV:1.2.5-r0\nA:x86_64\n\nP:libcrypto3\nV:3.3.1-r0\nA:x86_64\no:openssl\n\n"})
        self.assertEqual({name: version for name, (version, _) in self.packages(self.layout("alpine", [alpine]))[0].items()}, {"musl": "1.2.5-r0", "libcrypto3": "3.3.1-r0"})
        rocky = layer({"etc/os-release": b"ID=rocky\nVERSION_ID=9.4\n", "var/lib/rpm/rpmdb.sqlite": rpm_database(["bash", "gpg-pubkey", "zlib"])})
        self.assertEqual({name: version for name, (version, _) in self.packages(self.layout("rocky", [rocky]))[0].items()}, {"bash": "5.2-3.el9", "zlib": "5.2-3.el9"})
        old = self.cli("sbom", self.layout("centos", [layer({"var/lib/rpm/Packages": b"bdb"})]), code=1)
        self.assertIn("/var/lib/rpm/Packages: it is one of rpm's old databases", old.stderr)

    def test_an_ordinary_user_needs_no_rights(self):
        image, _ = self.debian("ordinary")
        home, programs = os.path.join(self.folder, "home"), os.path.join(self.folder, "bin")
        os.makedirs(home)
        os.makedirs(programs)
        os.chown(home, 65534, 65534)
        for name in ("caisson", "caisson-worker", "caisson-fetch"):  # out of a checkout that only root may enter
            shutil.copy(os.path.join(caisson.BIN, name), programs)
        found, _ = self.packages(image, prefix=("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"), home=home, programs=programs)
        self.assertEqual(set(found), {"libssl3", "curl"})

    def test_a_layer_that_is_something_else_or_no_archive_is_refused(self):
        image = self.layout("hostile", [b"no tar at all" * 100])
        self.assertIn("layer sha256:", self.cli("sbom", image, code=1).stderr)
        blob = layer({"srv/x": b"x"})
        image = self.layout("swapped", [blob])
        with open(os.path.join(image[4:], "blobs/sha256", digest_of(blob).split(":")[1]), "r+b") as file:
            file.write(b"!")
        self.assertIn(f"blob {digest_of(blob)} is something else", self.cli("sbom", image, code=1).stderr)

    def test_the_engines_own_images_are_listed_by_name_and_id(self):
        with caisson.Engine() as engine:
            engine.import_image(caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "var/lib/dpkg/status", deb("hello", "2.10-3"))), "with-dpkg:1")
            for name in ("with-dpkg:1", engine.inspect("with-dpkg:1")["Id"]):
                document = json.loads(engine.ok("image", "sbom", name))
                self.assertIn("hello", [item["name"] for item in document["packages"]])


class Attached(registries.NamespaceTest, InventoryTest):
    """Documents beside images, in registries of both kinds and in layouts; oras and skopeo see them, cosign verifies what is signed."""

    @classmethod
    def why_not(cls):
        return registries.CaissonRegistry.why_not()

    @classmethod
    def open(cls):
        cls.registry = cls.kept(registries.CaissonRegistry(cls.namespace))

    def run_cli(self, *words, **options):
        return self.cli(*words, prefix=self.namespace.command, **options)

    def program(self, name):
        path = os.path.join(CLIENT_PROGRAMS, name)
        if not os.access(path, os.X_OK):
            self.skipTest(f"needs {name}: tools/client-programs")
        return path

    def client(self, *command, code=0, **environment):
        done = subprocess.run([*self.namespace.command, *command], capture_output=True, text=True, timeout=120, check=False, cwd=self.folder,
                              env={"PATH": os.environ["PATH"], "HOME": self.folder, **environment})
        if code is not None:
            self.assertEqual(done.returncode, code, f"{command}: {done.stderr}{done.stdout}")
        return done

    def pushed(self, name, registry=None):
        """The Debian image in the registry; its address."""
        address = f"{(registry or self.registry).address}/{name}"
        self.run_cli("copy", self.debian(name.replace(":", "-").replace("/", "-"))[0], address)
        return address

    def key(self, name):
        with open(os.path.join(self.folder, "empty"), "w", encoding="utf-8"):
            pass
        path = os.path.join(self.folder, name)
        self.cli("generate-key", "--output-prefix", path, "--passphrase-file", os.path.join(self.folder, "empty"))
        return path

    def test_a_document_is_attached_listed_and_shown(self):
        address = self.pushed("sbom/app:1")
        made = self.run_cli("sbom", "--attach", address).stdout.split()
        self.assertEqual(len(made), 1)
        self.assertEqual(self.run_cli("sbom", "--attach", address).stdout.split(), made)  # the same document is the same manifest
        document = self.run_cli("sbom", f"docker://{address}").stdout
        self.assertEqual(self.run_cli("sbom", "--attached", address).stdout, document.replace("docker://", ""))
        listed = [json.loads(line) for line in self.run_cli("attached", "--format", "json", address).stdout.splitlines()]
        self.assertEqual([(entry["Type"], entry["Digest"]) for entry in listed], [("application/spdx+json", made[0].split("@")[1])])
        self.assertIn("application/spdx+json", self.run_cli("attached", address).stdout)
        other = self.pushed("sbom/bare:1")
        self.assertIn("no bill of materials is attached", self.run_cli("sbom", "--attached", other, code=1).stderr)
        self.assertIn("push the image", self.run_cli("sbom", "--attach", "local:busybox", code=1).stderr)
        self.run_cli("sbom", "--attach", "--attached", address, code=1)

    def test_oras_and_skopeo_find_it(self):
        oras = self.program("oras")
        address = self.pushed("oras/app:1")
        made = self.run_cli("sbom", "--attach", address).stdout.strip()
        found = json.loads(self.client(oras, "discover", "--plain-http", "--format", "json", address).stdout)
        self.assertEqual([(entry["artifactType"], entry["digest"]) for entry in found["manifests"]], [("application/spdx+json", made.split("@")[1])])
        self.client(oras, "pull", "--plain-http", "-o", os.path.join(self.folder, "pulled"), made)
        with open(os.path.join(self.folder, "pulled", "sbom.spdx.json"), encoding="utf-8") as file:
            self.assertEqual(file.read(), self.run_cli("sbom", "--attached", address).stdout)
        if shutil.which("skopeo"):
            raw = json.loads(self.client("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{made}").stdout)
            self.assertEqual(raw["subject"]["digest"], json.loads(self.client(oras, "manifest", "fetch", "--plain-http", "--descriptor", address).stdout)["digest"])
        # What oras attaches is shown by us, in a layout too.
        with open(os.path.join(self.folder, "note.txt"), "w", encoding="utf-8") as file:
            file.write("a note")
        self.client(oras, "attach", "--plain-http", "--artifact-type", "application/x.note", address, "note.txt:text/plain")
        self.assertIn("application/x.note", self.run_cli("attached", address).stdout)
        layout = os.path.join(self.folder, "travelled")
        self.run_cli("copy", "--referrers", address, f"oci:{layout}:1")
        found = json.loads(self.client(oras, "discover", "--oci-layout", "--format", "json", f"{layout}:1").stdout)
        self.assertEqual(sorted(entry["artifactType"] for entry in found["manifests"]), ["application/spdx+json", "application/x.note"])
        self.assertEqual(self.cli("sbom", "--attached", f"oci:{layout}").stdout, self.run_cli("sbom", "--attached", address).stdout)

    def test_a_registry_without_lists_of_referrers_has_it_under_the_fallback_tag(self):
        if registries.why_not():
            self.skipTest(registries.why_not())
        old = registries.DockerRegistry(self.namespace, port=5003)
        self.addCleanup(old.close)
        address = self.pushed("old/app:1", old)
        made = self.run_cli("sbom", "--attach", address).stdout.strip()
        self.assertIn(made.split("@")[1], self.run_cli("attached", "--no-trunc", address).stdout)
        self.assertIn("SPDX-2.3", self.run_cli("sbom", "--attached", address).stdout)

    def test_a_signed_document_is_an_attestation_that_its_key_verifies(self):
        address = self.pushed("signed/app:1")
        key, other = self.key("signer"), self.key("other")
        self.assertIn("no attestation", self.run_cli("verify", "--attestation", "spdx", "--key", key + ".pub", address, code=1).stderr)
        made = self.run_cli("sbom", "--attach", "--key", key + ".key", address).stdout.split()
        self.assertEqual(len(made), 2)
        self.assertIn("has an attestation of https://spdx.dev/Document", self.run_cli("verify", "--attestation", "spdx", "--key", key + ".pub", address).stdout)
        self.assertIn("none of the keys made it", self.run_cli("verify", "--attestation", "spdx", "--key", other + ".pub", address, code=1).stderr)
        self.run_cli("verify", "--attestation", "slsaprovenance1", "--key", key + ".pub", address, code=1)
        self.run_cli("verify", "--attestation", "spdx", address, code=1)
        verified = json.loads(self.run_cli("sbom", "--attached", "--key", key + ".pub", address).stdout)
        self.assertEqual(verified, json.loads(self.run_cli("sbom", "--attached", address).stdout))
        self.run_cli("sbom", "--attached", "--key", other + ".pub", address, code=1)
        listed = json.loads(self.run_cli("verify", "--attestation", "spdx", "--format", "json", "--key", key + ".pub", address).stdout)
        self.assertEqual(listed["attestations"][0]["predicate"], verified)

    def test_cosign_verifies_ours_and_we_verify_cosigns(self):
        cosign = self.program("cosign")
        address = self.pushed("cosign/app:1")
        key = self.key("for-cosign")
        self.run_cli("sbom", "--attach", "--key", key + ".key", address)
        digest = json.loads(self.run_cli("attached", "--format", "json", address).stdout.splitlines()[0])["Subject"]
        image = f"{address.rpartition(':')[0]}@{digest}"
        self.client(cosign, "trusted-root", "create", "--out", "root.json")
        verify = [cosign, "verify-attestation", "--insecure-ignore-tlog", "--allow-http-registry", "--type", "https://spdx.dev/Document"]
        self.client(*verify, "--new-bundle-format", "--trusted-root", "root.json", "--key", key + ".pub", image)
        self.assertNotEqual(self.client(*verify, "--new-bundle-format", "--trusted-root", "root.json", "--key", self.key("not-cosign") + ".pub", image, code=None).returncode, 0)
        self.client(cosign, "generate-key-pair", "--output-key-prefix", "theirs", COSIGN_PASSWORD="")
        with open(os.path.join(self.folder, "predicate.json"), "w", encoding="utf-8") as file:
            file.write('{"spdxVersion": "SPDX-2.3", "name": "theirs"}')
        theirs = os.path.join(self.folder, "theirs.pub")
        for name, options in (("tag", []), ("bundle", ["--new-bundle-format"])):
            other = self.pushed(f"cosign/{name}:1")
            self.assertIn("no attestation", self.run_cli("verify", "--attestation", "spdxjson", "--key", theirs, other, code=1).stderr)
            target = json.loads(self.client("skopeo", "inspect", "--tls-verify=false", f"docker://{other}").stdout)["Digest"]
            self.client(cosign, "attest", "--key", "theirs.key", "--tlog-upload=false", "--allow-http-registry", "-y", "--type", "spdxjson", "--predicate", "predicate.json", *options,
                        f"{other.rpartition(':')[0]}@{target}", COSIGN_PASSWORD="")
            found = json.loads(self.run_cli("verify", "--attestation", "spdxjson", "--format", "json", "--key", theirs, other).stdout)
            self.assertEqual(found["attestations"][0]["predicate"]["name"], "theirs", name)
            self.run_cli("verify", "--attestation", "spdxjson", "--key", key + ".pub", other, code=1)


class Scan(InventoryTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.osv = {"id": "DSA-1", "aliases": ["CVE-1"], "summary": "a fault", "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H"}],
                   "affected": [{"package": {"ecosystem": "Debian:12", "name": "openssl"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.0.13-1"}]}]}]}

    def test_findings_name_package_and_layer_and_the_exit_code_is_chosen(self):
        image, base = self.debian("scanned")
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("DSA-1.json", json.dumps(self.osv))
            archive.writestr("other.json", json.dumps({"id": "X", "affected": [{"package": {"ecosystem": "PyPI", "name": "openssl"}, "versions": ["3.0.11-1"]}]}))
        data = self.data("all.zip", out.getvalue())
        report = json.loads(self.cli("scan", "--data", data, "--format", "json", image).stdout)
        self.assertEqual(report["packages"], 2)
        self.assertEqual([(item["id"], item["package"], item["severity"], item["fixed_version"], item["layer"]) for item in report["findings"]],
                         [("DSA-1", "libssl3", "high", "3.0.13-1", digest_of(base))])
        table = self.cli("scan", "--data", data, "--severity", "high", "--exit-code", "7", image, code=7).stdout
        self.assertRegex(table, r"high +DSA-1 +libssl3 +3\.0\.11-1 +3\.0\.13-1 +1 ")
        self.cli("scan", "--data", data, "--severity", "critical", "--exit-code", "7", image, code=0)

    def test_the_tracker_and_debsecan_agree(self):
        image, _ = self.debian("agreed")
        tracker = self.data("tracker.json", {"openssl": {"CVE-1": {"description": "d", "releases": {"bookworm": {"status": "resolved", "fixed_version": "3.0.13-1", "urgency": "medium"}}}}})
        text = b"VERSION 1\nCVE-1,,d\n\nopenssl,0,SM F,3.2.0-1,3.0.13-1\n\nopenssl,libssl3\n"
        for data in (tracker, self.data("debsecan", zlib.compress(text)), self.data("debsecan.txt", text)):
            report = json.loads(self.cli("scan", "--data", data, "--format", "json", image).stdout)
            self.assertEqual([(item["id"], item["package"], item["severity"], item["fixed_version"]) for item in report["findings"]], [("CVE-1", "libssl3", "medium", "3.0.13-1")], data)

    def test_an_image_without_packages_is_told_so(self):
        image = self.layout("scratch", [layer({"app": b"app"})])
        self.assertIn("no database of dpkg, apk or rpm was found", self.cli("sbom", image).stderr)
        self.assertIn("no database of dpkg, apk or rpm was found", self.cli("scan", "--data", self.data("osv.json", self.osv), image).stderr)

    def test_data_may_be_an_artifact(self):
        image, _ = self.debian("artifact")
        data = self.layout("advisories", [json.dumps(self.osv).encode()])
        self.assertIn("DSA-1", self.cli("scan", "--data", data, image).stdout)

    def test_data_that_cannot_be_used_are_refused_with_a_reason(self):
        image, _ = self.debian("refused")
        self.assertIn("--data is missing", self.cli("scan", image, code=1).stderr)
        self.assertIn("there is no such file", self.cli("scan", "--data", "/nonexistent", image, code=1).stderr)
        self.assertIn("of no kind that is known", self.cli("scan", "--data", self.data("words", b"hello"), image, code=1).stderr)
        self.assertIn("zip: ", self.cli("scan", "--data", self.data("cut.zip", b"PK\x03\x04" + b"x" * 100), image, code=1).stderr)
        self.assertIn("is no severity", self.cli("scan", "--data", "x", "--severity", "bad", image, code=1).stderr)


if __name__ == "__main__":
    caisson.main()
