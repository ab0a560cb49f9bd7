#!/usr/bin/env python3
"""Signatures and policies: signing, verifying, what a pull and a create refuse, and cosign, skopeo and gpg as signers and judges."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tempfile
import unittest

import caisson
import registries

CLIENT_PROGRAMS = os.path.join(os.environ.get("CAISSON_CLIENT_PROGRAMS") or os.path.join(caisson.TREE, "build", "clients"), "artifacts", "usr", "bin")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
ACCEPT = [{"type": "insecureAcceptAnything"}]
REJECT = [{"type": "reject"}]


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class TrustTest(registries.CaissonRegistryTest):
    """An engine whose policy is a file of the test's, and a registry of ours, alone in a network namespace."""

    @classmethod
    def open(cls):
        cls.home = caisson.own(tempfile.mkdtemp(prefix=caisson.PREFIX + "trust-"))
        cls.cleanups.callback(shutil.rmtree, cls.home)
        cls.registry = cls.kept(cls.make_registry())
        cls.policy_path = os.path.join(cls.home, "policy.json")
        cls.registries_d = os.path.join(cls.home, "registries.d")
        os.mkdir(cls.registries_d)
        cls.set_policy({"default": ACCEPT})
        cls.engine = cls.new_engine()
        cls.engine.import_busybox()
        cls.key = cls.new_key("signer")
        cls.other_key = cls.new_key("other")

    @classmethod
    def make_registry(cls):
        return registries.CaissonRegistry(cls.namespace)

    @classmethod
    def new_engine(cls):
        return super().new_engine("--signature-policy", cls.policy_path, "--signature-places", cls.registries_d)

    @classmethod
    def new_key(cls, name, *options):
        empty = os.path.join(cls.home, "empty")
        with open(empty, "w", encoding="utf-8"):
            pass
        cls.engine.ok("image", "generate-key", "--output-prefix", os.path.join(cls.home, name), "--passphrase-file", empty, *options)
        return os.path.join(cls.home, name)

    def setUp(self):
        self.set_policy({"default": ACCEPT})

    @classmethod
    def set_policy(cls, policy):
        with open(cls.policy_path, "w", encoding="utf-8") as file:
            file.write(policy if isinstance(policy, str) else json.dumps(policy))

    def need_signature(self, key=None, identity=None, **more):
        """The policy: everything from the registry has to be signed by `key`; what is loaded or imported passes."""
        requirement = {"type": "sigstoreSigned", "keyPath": (key or self.key) + ".pub", **more}
        if identity:
            requirement["signedIdentity"] = {"type": identity}
        self.set_policy({"default": ACCEPT, "transports": {"docker": {self.registry.address: [requirement]}}})
        return requirement

    def push(self, name, image="busybox"):
        """Pushes an image of its own under the name; its digest."""
        address = f"{self.registry.address}/{name}"
        self.engine.ok("tag", image, address)
        self.engine.ok("push", address)
        self.engine.ok("rmi", address)
        return self.digest_at(name)

    def push_own(self, name):
        """The same with an image that nothing else here is: it comes back from the registry alone. Its digest."""
        address = f"{self.registry.address}/{name}"
        self.engine.ok("build", "--no-cache", "-t", address, "-", stdin=f"FROM busybox\nLABEL own={name}\n")
        self.engine.ok("push", address)
        self.engine.ok("rmi", address)
        return self.digest_at(name)

    def digest_at(self, name):
        repository, _, tag = name.rpartition(":")
        status, headers, _ = self.registry.request("HEAD", f"/v2/{repository}/manifests/{tag}", headers={"Accept": f"{MANIFEST}, {INDEX}"})
        self.assertEqual(status, 200)
        return headers["docker-content-digest"]

    def sign(self, name, *options, key=None):
        return self.engine.ok("image", "sign", "--key", (key or self.key) + ".key", *options, f"{self.registry.address}/{name}")

    def address(self, name):
        return f"{self.registry.address}/{name}"

    def refused(self, *command, words=(), **options):
        run = self.engine.cli(*command, **options)
        self.assertNotEqual(run.returncode, 0, run.stdout)
        for word in words:
            self.assertIn(word, run.stderr)
        return run.stderr

    def need(self, program, folder=None):
        path = shutil.which(program, path=folder)
        if not path:
            self.skipTest(f"needs {program}: " + ("tools/client-programs" if folder else "tools/dependencies peers"))
        return path

    def run_client(self, *command, check=0, **environment):
        done = subprocess.run([*self.namespace.command, *command], capture_output=True, text=True, timeout=120, check=False, cwd=self.home, stdin=subprocess.DEVNULL,
                              env={**os.environ, "HOME": self.home, "TMPDIR": self.home, **environment})
        if check is not None:
            self.assertEqual(done.returncode, check, f"{command}: {done.stderr}{done.stdout}")
        return done


class Keys(TrustTest):
    def test_pairs_are_made_and_never_overwritten(self):
        for kind in ("ecdsa-p256", "ecdsa-p384", "ed25519", "rsa"):
            prefix = self.new_key("kind-" + kind, "--type", kind)
            self.assertEqual(os.stat(prefix + ".key").st_mode & 0o777, 0o600)
        again = self.engine.cli("image", "generate-key", "--output-prefix", prefix, "--passphrase-file", os.path.join(self.home, "empty"))
        self.assertEqual(again.returncode, 1)
        self.assertIn("not overwritten", again.stderr)

    def test_a_passphrase_is_needed_to_sign(self):
        for name, text in (("right", "open sesame\n"), ("wrong", "open\n")):
            with open(os.path.join(self.home, name), "w", encoding="utf-8") as file:
                file.write(text)
        prefix = os.path.join(self.home, "locked")
        self.engine.ok("image", "generate-key", "--output-prefix", prefix, "--passphrase-file", os.path.join(self.home, "right"))
        with open(prefix + ".key", encoding="utf-8") as file:
            self.assertIn("BEGIN ENCRYPTED PRIVATE KEY", file.read())
        self.push("keys/locked:1")
        self.refused("image", "sign", "--key", prefix + ".key", self.address("keys/locked:1"), words=["passphrase"])
        self.refused("image", "sign", "--key", prefix + ".key", "--passphrase-file", os.path.join(self.home, "wrong"), self.address("keys/locked:1"), words=["does not open"])
        self.sign("keys/locked:1", "--passphrase-file", os.path.join(self.home, "right"), key=prefix)
        self.engine.ok("image", "verify", "--key", prefix + ".pub", self.address("keys/locked:1"))


class Signing(TrustTest):
    def test_every_format_and_kind_of_key_is_verified_and_no_other_key_is(self):
        kinds = {"p384": "ecdsa-p384", "ed": "ed25519", "rsa": "rsa"}
        keys = {"p256": self.key, **{name: self.new_key("every-" + name, "--type", kind) for name, kind in kinds.items()}}
        for name, key in keys.items():
            for form in ("cosign", "bundle"):
                image = f"every/{name}-{form}:1"
                digest = self.push(image)
                self.refused("image", "verify", "--key", key + ".pub", self.address(image), words=["no signature of this kind was found", digest])
                self.assertEqual(self.sign(image, "--format", form, key=key), f"{self.address(image)[:-2]}@{digest}")
                out = self.engine.ok("image", "verify", "--key", key + ".pub", self.address(image))
                self.assertIn("sigstoreSigned: " + ("cosign signature of " if form == "cosign" else "bundle about ") + self.address(image), out)
                self.refused("image", "verify", "--key", self.other_key + ".pub", self.address(image), words=["none of the policy's keys made it"])

    def test_a_second_signature_stands_beside_the_first(self):
        self.push("two/signers:1")
        self.sign("two/signers:1")
        self.sign("two/signers:1", key=self.other_key)
        for key in (self.key, self.other_key):
            self.engine.ok("image", "verify", "--key", key + ".pub", self.address("two/signers:1"))

    def test_notation_follows_the_certificates(self):
        openssl = self.need("openssl")
        folder = os.path.join(self.home, "pki")
        os.mkdir(folder)

        def run(*arguments):
            subprocess.run([openssl, *arguments], check=True, capture_output=True, cwd=folder)

        with open(os.path.join(folder, "leaf.ext"), "w", encoding="utf-8") as file:
            file.write("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n")
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-days", "2", "-subj", "/C=XX/ST=Y/O=root",
            "-addext", "keyUsage=critical,keyCertSign")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/C=XX/ST=Y/O=example/CN=signer")
        run("x509", "-req", "-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-out", "leaf.pem", "-days", "1", "-extfile", "leaf.ext")
        caisson.own(os.path.join(folder, "leaf.key"))
        with open(os.path.join(folder, "chain.pem"), "w", encoding="utf-8") as chain:
            for name in ("leaf.pem", "root.pem"):
                with open(os.path.join(folder, name), encoding="utf-8") as file:
                    chain.write(file.read())
        digest = self.push("notation/app:1")
        self.sign("notation/app:1", "--format", "notation", "--certificate-chain", f"{folder}/chain.pem", "--expiry", "1h", key=f"{folder}/leaf")
        out = self.engine.ok("image", "verify", "--ca", f"{folder}/root.pem", "--signer", "x509.subject: C=XX, ST=Y, O=example", self.address("notation/app:1"))
        self.assertIn('notationSigned: notation signature by "signer"', out)
        self.refused("image", "verify", "--ca", f"{folder}/root.pem", "--signer", "x509.subject: O=somebody", self.address("notation/app:1"), words=["trusted identities"])
        self.refused("image", "verify", "--key", self.key + ".pub", self.address("notation/app:1"), words=["no signature of this kind"])
        # It is a referrer of the notary project's type, with the chain's digests beside it.
        status, _, body = self.registry.request("GET", f"/v2/notation/app/referrers/{digest}")
        entry = json.loads(body)["manifests"][0]
        self.assertEqual((status, entry["artifactType"]), (200, "application/vnd.cncf.notary.signature"))
        self.assertEqual(len(json.loads(entry["annotations"]["io.cncf.notary.x509chain.thumbprint#S256"])), 2)
        # And a policy of ours can ask for it.
        self.set_policy({"default": REJECT, "transports": {"docker": {self.registry.address: [
            {"type": "notationSigned", "caPath": f"{folder}/root.pem", "trustedIdentities": ["x509.subject: C=XX, O=example"]}]}}})
        self.engine.ok("pull", self.address("notation/app:1"))
        self.engine.ok("create", "--name", "notation", self.address("notation/app:1"))
        self.engine.ok("rm", "notation")
        self.engine.ok("rmi", self.address("notation/app:1"))


class Enforcement(TrustTest):
    def test_an_unsigned_image_is_not_pulled_and_not_a_layer_of_it(self):
        digest = self.push("plain/app:1")
        self.need_signature()
        before = len(self.registry.log_text())
        text = self.refused("pull", self.address("plain/app:1"), words=[self.address("plain/app:1"), digest, f"scope docker {self.registry.address}", "sigstoreSigned", "no signature of this kind was found"])
        self.assertIn(self.policy_path, text)
        self.assertNotIn("/blobs/", self.registry.log_text()[before:])
        self.assertNotIn(self.address("plain/app"), self.engine.ok("images", "--format", "{{.Repository}}"))
        self.refused("run", "--rm", self.address("plain/app:1"), "true", words=["sigstoreSigned"])

    def test_a_signed_image_is_pulled_and_runs(self):
        for form in ("cosign", "bundle"):
            image = f"signed/{form}:1"
            digest = self.push(image)
            self.sign(image, "--format", form)
            self.need_signature()
            self.engine.ok("pull", self.address(image))
            self.assertEqual(self.engine.ok("run", "--rm", "--network", "none", self.address(image), "echo", "hello"), "hello")
            self.engine.ok("rmi", self.address(image))
            # By digest, the tag under which it was signed does not count.
            by_digest = f"{self.address(image)[:-2]}@{digest}"
            self.engine.ok("pull", by_digest)
            self.engine.ok("rmi", by_digest)

    def test_another_name_another_key_and_another_image_do_not_pass(self):
        self.push("moved/app:1")
        self.sign("moved/app:1")
        self.push("moved/app:2")  # the same digest under another tag
        self.need_signature()
        self.refused("pull", self.address("moved/app:2"), words=["signed as"])
        self.need_signature(identity="matchRepository")
        self.engine.ok("pull", self.address("moved/app:2"))
        self.engine.ok("rmi", self.address("moved/app:2"))
        self.need_signature(key=self.other_key)
        self.refused("pull", self.address("moved/app:1"), words=["none of the policy's keys made it"])
        # The signature of one image under the tag of another one's.
        self.engine.ok("build", "-t", "changed", "-", stdin="FROM busybox\nLABEL changed=1\n")
        self.set_policy({"default": ACCEPT})
        signed = self.digest_at("moved/app:1")
        other = self.push("moved/app:3", image="changed")
        _, _, signature = self.registry.request("GET", f"/v2/moved/app/manifests/{signed.replace(':', '-')}.sig")
        status, _, _ = self.registry.request("PUT", f"/v2/moved/app/manifests/{other.replace(':', '-')}.sig", signature, {"Content-Type": MANIFEST})
        self.assertEqual(status, 201)
        self.need_signature(identity="matchRepository")
        self.refused("pull", self.address("moved/app:3"), words=["of another image", signed])

    def test_a_bent_signature_is_refused(self):
        digest = self.push("bent/app:1")
        self.sign("bent/app:1")
        tag = digest.replace(":", "-") + ".sig"
        _, _, body = self.registry.request("GET", f"/v2/bent/app/manifests/{tag}")
        manifest = json.loads(body)
        annotations = manifest["layers"][0]["annotations"]
        signature = bytearray(base64.b64decode(annotations["dev.cosignproject.cosign/signature"]))
        signature[-1] ^= 1
        annotations["dev.cosignproject.cosign/signature"] = base64.b64encode(signature).decode()
        status, _, _ = self.registry.request("PUT", f"/v2/bent/app/manifests/{tag}", json.dumps(manifest).encode(), {"Content-Type": MANIFEST})
        self.assertEqual(status, 201)
        self.need_signature()
        self.refused("pull", self.address("bent/app:1"), words=["none of the policy's keys made it"])

    def test_a_changed_policy_is_asked_again_at_create(self):
        self.push_own("later/app:1")
        self.sign("later/app:1")
        self.need_signature()
        self.engine.ok("pull", self.address("later/app:1"))
        self.engine.ok("create", "--name", "later", self.address("later/app:1"))
        # Stricter, and the signature that was kept does not do: no network is needed to know.
        self.need_signature(key=self.other_key)
        self.refused("create", self.address("later/app:1"), words=["none of the policy's keys made it", f"scope docker {self.registry.address}"])
        image = self.engine.inspect(self.address("later/app:1"))["Id"]
        self.refused("create", image, words=["none of the policy's keys made it"])
        self.refused("build", "-", stdin=f"FROM {self.address('later/app:1')}\nLABEL a=b\n", words=["none of the policy's keys made it"])
        self.refused("build", "-", stdin=f"FROM busybox\nCOPY --from={self.address('later/app:1')} /etc /etc\n", words=["none of the policy's keys made it"])
        self.set_policy({"default": REJECT})
        self.refused("create", self.address("later/app:1"), words=["scope default", "reject"])
        # Both keys are asked for: the second signature comes with a new pull.
        both = [{"type": "sigstoreSigned", "keyPath": key + ".pub"} for key in (self.key, self.other_key)]
        self.set_policy({"default": ACCEPT, "transports": {"docker": {self.registry.address: both}}})
        self.refused("create", self.address("later/app:1"))
        self.sign("later/app:1", key=self.other_key)
        self.engine.ok("pull", self.address("later/app:1"))
        self.engine.ok("create", "--name", "later2", self.address("later/app:1"))
        self.engine.ok("rm", "later", "later2")
        self.engine.ok("rmi", self.address("later/app:1"))

    def test_an_image_from_before_the_policy_has_to_be_pulled_again(self):
        self.push_own("before/app:1")
        self.sign("before/app:1")
        self.engine.ok("pull", self.address("before/app:1"))
        self.need_signature()
        self.refused("create", self.address("before/app:1"), words=["no signature of this kind was found", "pull it again"])
        self.engine.ok("pull", self.address("before/app:1"))
        self.engine.ok("create", "--name", "before", self.address("before/app:1"))
        self.engine.ok("rm", "before")
        # What was judged outlives the daemon.
        self.engine.kill9()
        self.engine.start()
        self.engine.ok("create", "--name", "before", self.address("before/app:1"))
        self.engine.ok("rm", "before")
        self.engine.ok("rmi", self.address("before/app:1"))

    def test_a_signed_index_covers_the_image_it_leads_to(self):
        self.push_own("multi/app:amd64")
        _, _, manifest = self.registry.request("GET", "/v2/multi/app/manifests/amd64")
        index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": digest_of(manifest), "size": len(manifest), "platform": {"os": "linux", "architecture": "amd64"}}]}).encode()
        status, _, _ = self.registry.request("PUT", "/v2/multi/app/manifests/1", index, {"Content-Type": INDEX})
        self.assertEqual(status, 201)
        self.sign("multi/app:1")
        self.need_signature()
        self.engine.ok("pull", self.address("multi/app:1"))
        self.engine.ok("create", "--name", "multi", self.address("multi/app:1"))
        self.engine.ok("rm", "multi")
        self.engine.ok("rmi", self.address("multi/app:1"))
        self.refused("pull", self.address("multi/app:amd64"), words=["no signature"])  # asked for by itself, it is not signed

    def test_archives_and_builds_follow_their_transports(self):
        self.engine.ok("build", "-t", "made", "-", stdin="FROM busybox\nLABEL made=here\n")
        archive = os.path.join(self.home, "made.tar")
        self.engine.ok("save", "-o", archive, "made")
        self.engine.ok("import", "-", "imported:0", stdin=caisson.busybox_rootfs(lambda tar: caisson.add_file(tar, "only-here", b"x")), text=False)
        self.set_policy({"default": REJECT, "transports": {"docker": {"": ACCEPT}}})
        self.refused("load", "-i", archive, words=["oci-archive", "scope default"])
        with open(os.path.join(self.home, "docker.tar"), "wb") as file:
            file.write(caisson.docker_archive([caisson.busybox_rootfs()], tags=("archived:1",)))
        self.refused("load", "-i", os.path.join(self.home, "docker.tar"), words=["docker-archive"])
        imported = self.engine.cli("import", "-", "imported:1", stdin=caisson.busybox_rootfs(), text=False)
        self.assertNotEqual(imported.returncode, 0)
        self.assertIn(b"tarball", imported.stderr)
        self.refused("create", "imported:0", words=["tarball"])  # imported before the policy was
        self.engine.ok("create", "--name", "made", "made")  # made here, of what was let in then
        self.engine.ok("rm", "made")
        self.set_policy({"default": ACCEPT, "transports": {"containers-storage": {"": REJECT}}})
        self.refused("create", "made", words=["containers-storage"])
        self.set_policy({"default": REJECT, "transports": {"oci-archive": {"": ACCEPT}, "docker-archive": {"": ACCEPT}}})
        self.engine.ok("load", "-i", archive)
        self.engine.ok("load", "-i", os.path.join(self.home, "docker.tar"))
        self.engine.ok("create", "--name", "archived", "archived:1")
        self.engine.ok("rm", "archived")

    def test_a_policy_that_cannot_be_read_stops_everything(self):
        self.push("strict/app:1")
        for text, words in (("{", "JSON"), ('{"default":[{"type":"insecureAcceptAnything"}],"more":1}', "more"),
                            ('{"default":[{"type":"sigstoreSigned","fulcio":{"caPath":"/x","oidcIssuer":"i","subjectEmail":"e"},"rekorPublicKeyPath":"/y"}]}', "keyless")):
            self.set_policy(text)
            self.refused("pull", self.address("strict/app:1"), words=[self.policy_path, words])
            self.refused("create", "busybox", words=[self.policy_path, words])
        self.set_policy({"default": [{"type": "sigstoreSigned", "keyPath": "/nonexistent/key.pub"}]})
        self.refused("pull", self.address("strict/app:1"), words=["/nonexistent/key.pub"])


class Policies(TrustTest):
    def test_trust_is_set_and_shown(self):
        path = os.path.join(self.home, "own", "policy.json")

        def trust(*words):
            return self.engine.ok("image", "trust", words[0], "--policy", path, *words[1:])

        trust("set", "-t", "reject", "default")
        trust("set", "-t", "sigstoreSigned", "-f", self.key + ".pub", "r.example/team")
        trust("set", "-t", "accept", "docker.io/library/alpine")
        with open(path, encoding="utf-8") as file:
            policy = json.load(file)
        self.assertEqual(policy["default"], REJECT)
        self.assertEqual(policy["transports"]["docker"], {"docker.io/library/alpine": ACCEPT, "r.example/team": [{"type": "sigstoreSigned", "keyPath": self.key + ".pub"}]})
        table = trust("show").splitlines()
        self.assertEqual(table[0].split(), ["TRANSPORT", "NAME", "TYPE", "KEYS", "IDENTITY"])
        self.assertEqual(table[1].split()[:3], ["all", "default", "reject"])
        self.assertEqual(json.loads(trust("show", "--json", "r.example/team/app:1"))[0]["Name"], "r.example/team")
        self.assertEqual(json.loads(trust("show", "--json", "elsewhere/app"))[0]["Type"], "reject")
        for words in (("set", "-t", "sigstoreSigned", "default"), ("set", "-t", "accept", "-f", self.key + ".pub", "default"), ("set", "-t", "nonsense", "default"),
                      ("set", "-t", "sigstoreSigned", "-f", "relative.pub", "default"), ("set", "-t", "sigstoreSigned", "-f", self.policy_path, "default"), ("set", "-t", "reject", "alpine")):
            run = self.engine.cli("image", "trust", words[0], "--policy", path, *words[1:])
            self.assertEqual(run.returncode, 1, words)
        self.assertEqual(json.loads(trust("show", "--raw")), policy)

    def test_verify_without_a_key_asks_the_daemons_policy(self):
        self.push("asked/app:1")
        self.assertIn("insecureAcceptAnything", self.engine.ok("image", "verify", self.address("asked/app:1")))
        self.need_signature()
        self.refused("image", "verify", self.address("asked/app:1"), words=["no signature"])
        self.sign("asked/app:1")
        report = json.loads(self.engine.ok("image", "verify", "--format", "json", self.address("asked/app:1")))
        self.assertEqual((report["scope"], report["policy"], report["signatures"]), (f"docker {self.registry.address}", self.policy_path, 1))


class Peers(TrustTest):
    """The tools whose formats these are."""

    def test_cosign_verifies_ours(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        for kind in ("ecdsa-p256", "ed25519", "rsa"):
            key = self.new_key("cosign-" + kind, "--type", kind)
            digest = self.push(f"cosign/{kind}:1")
            self.sign(f"cosign/{kind}:1", key=key)
            image = f"{self.registry.address}/cosign/{kind}@{digest}"
            command = [cosign, "verify", "--insecure-ignore-tlog", "--allow-http-registry", "--key"]
            self.run_client(*command, key + ".pub", image)
            self.assertNotEqual(self.run_client(*command, self.other_key + ".pub", image, check=None).returncode, 0)

    def test_cosign_verifies_our_bundles(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        digest = self.push("cosign/bundle:1")
        self.sign("cosign/bundle:1", "--format", "bundle")
        root = os.path.join(self.home, "trusted-root.json")
        self.run_client(cosign, "trusted-root", "create", "--out", root)
        self.run_client(cosign, "verify-attestation", "--key", self.key + ".pub", "--insecure-ignore-tlog", "--allow-http-registry", "--new-bundle-format", "--trusted-root", root,
                        "--type", "https://sigstore.dev/cosign/sign/v1", f"{self.registry.address}/cosign/bundle@{digest}")

    def test_we_verify_cosigns(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        digest = self.push("cosign/theirs:1")
        image = f"{self.registry.address}/cosign/theirs@{digest}"
        self.run_client(cosign, "generate-key-pair", "--output-key-prefix", "theirs", COSIGN_PASSWORD="")
        self.run_client(cosign, "sign", "--key", "theirs.key", "--tlog-upload=false", "--allow-http-registry", "-y", image, COSIGN_PASSWORD="")
        public = os.path.join(self.home, "theirs")
        caisson.own(public + ".key")
        self.engine.ok("image", "verify", "--key", public + ".pub", self.address("cosign/theirs:1"))
        self.refused("image", "verify", "--key", self.key + ".pub", self.address("cosign/theirs:1"))
        # cosign signs a name without a tag: the default identity does not take that, matchRepository does.
        self.need_signature(key=public)
        self.refused("pull", self.address("cosign/theirs:1"), words=["signed as"])
        self.need_signature(key=public, identity="matchRepository")
        self.engine.ok("pull", self.address("cosign/theirs:1"))
        self.engine.ok("rmi", self.address("cosign/theirs:1"))
        # Its own encrypted form of a private key is refused by name.
        self.refused("image", "sign", "--key", public + ".key", self.address("cosign/theirs:1"), words=["cosign"])

    def test_cosign_takes_our_private_key_over(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        digest = self.push("cosign/imported:1")
        key = self.new_key("taken", "--type", "ed25519")  # Debian 13's cosign 2.5.0 refuses every EC and RSA key that it is to import, OpenSSL's too
        self.run_client(cosign, "import-key-pair", "--key", key + ".key", "--output-key-prefix", "imported", COSIGN_PASSWORD="")
        self.run_client(cosign, "sign", "--key", "imported.key", "--tlog-upload=false", "--allow-http-registry", "-y", f"{self.registry.address}/cosign/imported@{digest}", COSIGN_PASSWORD="")
        self.engine.ok("image", "verify", "--key", key + ".pub", self.address("cosign/imported:1"))

    def test_an_attestation_is_no_signature(self):
        cosign = self.need("cosign", CLIENT_PROGRAMS)
        digest = self.push("cosign/attested:1")
        with open(os.path.join(self.home, "predicate.json"), "w", encoding="utf-8") as file:
            file.write('{"findings": 400}')
        self.run_client(cosign, "generate-key-pair", "--output-key-prefix", "attesting", COSIGN_PASSWORD="")
        self.run_client(cosign, "attest", "--key", "attesting.key", "--tlog-upload=false", "--allow-http-registry", "--new-bundle-format", "-y", "--predicate", "predicate.json",
                        "--type", "https://example.com/scan/v1", f"{self.registry.address}/cosign/attested@{digest}", COSIGN_PASSWORD="")
        self.need_signature(key=os.path.join(self.home, "attesting"), identity="matchRepository")
        self.refused("pull", self.address("cosign/attested:1"), words=["sigstoreSigned"])

    def test_skopeo_judges_ours_by_the_same_policy(self):
        skopeo = self.need("skopeo")
        self.push("skopeo/app:1")
        with open(os.path.join(self.registries_d, "attachments.yaml"), "w", encoding="utf-8") as file:
            file.write(f"docker:\n  {self.registry.address}/skopeo:\n    use-sigstore-attachments: true\n")
        self.need_signature()
        command = [skopeo, "--policy", self.policy_path, "--registries.d", self.registries_d, "copy", "--src-tls-verify=false", f"docker://{self.address('skopeo/app:1')}", f"dir:{self.home}/copied"]
        refused = self.run_client(*command, check=1).stderr
        self.sign("skopeo/app:1")
        accepted = self.run_client(*command, check=None)
        if "sigstore disabled" in refused + accepted.stderr:
            self.skipTest("this skopeo was built without sigstore, as Debian 12's is")
        self.assertEqual(accepted.returncode, 0, accepted.stderr)
        self.need_signature(key=self.other_key)
        self.run_client(*command, check=1)

    def test_gpg_signs_and_the_lookaside_is_read(self):
        gpg = self.need("gpg")
        self.need("gpgv")
        lookaside = os.path.join(self.home, "lookaside")
        with open(os.path.join(self.registries_d, "gpg.yaml"), "w", encoding="utf-8") as file:
            file.write(f"docker:\n  {self.registry.address}/gpg:\n    lookaside: file://{lookaside}\n")
        gpg_home = tempfile.mkdtemp(prefix="cg", dir="/tmp")  # short: sockets lie in it
        self.addCleanup(shutil.rmtree, gpg_home)
        environment = {"GNUPGHOME": gpg_home}
        self.run_client(gpg, "--batch", "--passphrase", "", "--quick-generate-key", "tester", "ed25519", "sign", "never", **environment)
        self.addCleanup(lambda: subprocess.run(["gpgconf", "--kill", "gpg-agent"], env={**os.environ, **environment}, check=False, capture_output=True))
        key = os.path.join(self.home, "tester.asc")
        self.run_client(gpg, "--batch", "--armor", "--output", key, "--export", "tester", **environment)
        digest = self.push("gpg/app:1")
        payload = {"critical": {"identity": {"docker-reference": self.address("gpg/app:1")}, "image": {"docker-manifest-digest": digest}, "type": "atomic container signature"}, "optional": {}}
        with open(os.path.join(self.home, "payload"), "w", encoding="utf-8") as file:
            json.dump(payload, file)
        self.set_policy({"default": ACCEPT, "transports": {"docker": {self.registry.address: [{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}]}}})
        self.refused("pull", self.address("gpg/app:1"), words=["signedBy", "no signature"])
        place = f"{lookaside}/gpg/app@{digest.replace(':', '=')}"
        os.makedirs(place)
        self.run_client(gpg, "--batch", "--local-user", "tester", "--output", place + "/signature-1", "--sign", "payload", **environment)
        self.engine.ok("pull", self.address("gpg/app:1"))
        self.engine.ok("create", "--name", "gpg", self.address("gpg/app:1"))
        self.engine.ok("rm", "gpg")
        self.engine.ok("rmi", self.address("gpg/app:1"))


class OldRegistry(TrustTest):
    """Debian's docker-registry lists no referrers: the fallback tag does."""

    @classmethod
    def make_registry(cls):
        reason = registries.why_not()
        if reason:
            raise unittest.SkipTest(reason)
        return registries.DockerRegistry(cls.namespace)

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.registry.port)
        connection.sock = self.namespace.connect(self.registry.port)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept": f"{MANIFEST}, {INDEX}"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def digest_at(self, name):
        repository, _, tag = name.rpartition(":")
        return self.ask(f"/v2/{repository}/manifests/{tag}")[1]["docker-content-digest"]

    def test_bundles_are_found_by_the_fallback_tag(self):
        digest = self.push("old/app:1")
        self.need_signature()
        self.refused("pull", self.address("old/app:1"), words=["no signature"])
        self.sign("old/app:1", "--format", "bundle", key=self.other_key)
        self.sign("old/app:1", "--format", "bundle")
        status, _, body = self.ask(f"/v2/old/app/manifests/{digest.replace(':', '-')}")
        self.assertEqual(status, 200)
        self.assertEqual([entry["artifactType"] for entry in json.loads(body)["manifests"]], ["application/vnd.dev.sigstore.bundle.v0.3+json"] * 2)
        self.engine.ok("pull", self.address("old/app:1"))
        self.engine.ok("rmi", self.address("old/app:1"))


if __name__ == "__main__":
    caisson.main()
