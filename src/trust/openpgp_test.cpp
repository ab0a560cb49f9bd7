// OpenPGP by gpgv, and where its signatures lie. The keys and the message were made by GnuPG 2.2: gpg --quick-generate-key … ed25519 sign never.
#include "trust/openpgp.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/strings.hpp"
#include "linux/spawn.hpp"
#include "trust/lookaside.hpp"
#include "trust/simple_signing.hpp"

namespace caisson::trust {
namespace {

constexpr std::string_view key_one =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEawec3hYJKwYBBAHaRw8BAQdAsGikYvH0CuFOJjbW/LNeQcjyot+BV6heSxnX\n"
    "35+KQJS0EW9uZSA8b25lQGV4YW1wbGU+iJAEExYIADgWIQTUqUGleeDfuq7ptaK1\n"
    "9eQTEQJbGAUCawec3gIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRC19eQT\n"
    "EQJbGN1bAQDG8uB1WjiDffcvnCtcdw3lzngWmkRSplLSgpCsdxpcmgD/VAqbSsn8\n"
    "xTXxzj4xQdtJ3oh/yXqmoto/AkOyDQ7M7gs=\n"
    "=yqpO\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";
constexpr std::string_view key_two =
    "-----BEGIN PGP PUBLIC KEY BLOCK-----\n"
    "\n"
    "mDMEawec3xYJKwYBBAHaRw8BAQdA7TTHHrkLHNpxgfAhXBYbmcoqnsgof623epMj\n"
    "L1niraS0EXR3byA8dHdvQGV4YW1wbGU+iJAEExYIADgWIQSdqVv2h6DwCVhBzbLl\n"
    "6OKm4nXjcAUCawec3wIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRDl6OKm\n"
    "4nXjcM/KAP9R/EKWtNXJGYjTjHvtW/jd0cKYNfHzgZn6aP7QSf5wtQEAlLWA6+x9\n"
    "BsGArmmGFHbYWozr3MnsEBJDYScaxOHj9gY=\n"
    "=sZu2\n"
    "-----END PGP PUBLIC KEY BLOCK-----\n";
// A simple signing document of r.example/x:1, signed by the first key: gpg --local-user one --sign.
constexpr std::string_view signed_message =
    "owGbwMvMwCG29esTYUGmaAnGNc+SmFPyk7PZ5zyoVkouyizJTE7MUbKqVspMSc0rySypBLFBClKLdItS01KLUvOSU5WslIr0UisScwtyUvUrrAyVanWUMnMT"
    "01ORFOcm5mWmpRaX6KZkpgMpoJbijEQjUzOrRAoByLKSygKQIxJL8nMzkxWS8/NKEjPzUosUijPT8xJLSotSQYryC0oy8/PAvqmt7WhiYRDjYNASU2S5stJx"
    "aeWD+7vWvdy6CBYOrEygEOCRyc9LdYB6jIGLUwAm7SvLyHBHrMfCaIKheeRUyViH+HWtnOqvL/51UYr8PuWRUe+mjrcM/5Se3dqdXrnZ0HXOMt0q30Wz25/+"
    "vX1AbOPKr6K7Am9ZuDICAA==";

TEST(armor, comes_off_and_binary_stays) {
  EXPECT_EQ(*take_armor_off("\x99\x01\x02"), "\x99\x01\x02");
  auto key = take_armor_off(key_one);
  ASSERT_TRUE(key.ok()) << key.error().text();
  EXPECT_EQ(static_cast<unsigned char>((*key)[0]), 0x98);  // an old-format public key packet with a length of one byte
  auto both = take_armor_off(concat(key_one, key_two));
  ASSERT_TRUE(both.ok());
  EXPECT_EQ(*both, *key + *take_armor_off(key_two));
}

TEST(armor, that_is_bent_is_refused) {
  for (const char* text : {"-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n****\n-----END PGP PUBLIC KEY BLOCK-----\n",
                           "-----BEGIN PGP PUBLIC KEY BLOCK-----\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"})
    EXPECT_FALSE(take_armor_off(text).ok()) << text;
}

TEST(gpgv_status, is_good_only_with_one_good_signature) {
  const std::string good = "[GNUPG:] NEWSIG\n[GNUPG:] KEY_CONSIDERED X 0\n[GNUPG:] GOODSIG A one\n[GNUPG:] VALIDSIG B 2026\n";
  EXPECT_TRUE(is_good_status(good));
  for (const auto& lines : {std::string(), std::string("[GNUPG:] GOODSIG A one\n"), std::string("[GNUPG:] VALIDSIG B\n"), good + good, good + "[GNUPG:] EXPKEYSIG A one\n",
                            good + "[GNUPG:] BADSIG A one\n", good + "[GNUPG:] REVKEYSIG A one\n", std::string("GOODSIG A one\nVALIDSIG B\n")})
    EXPECT_FALSE(is_good_status(lines)) << lines;
}

std::string why_not_gpgv() {
  if (::geteuid() != 0) return "needs root: gpgv runs as nobody in namespaces of its own";
  if (!linux::find_program("gpgv", "/usr/bin:/bin").ok()) return "needs gpgv: tools/dependencies";
  return {};
}

TEST(openpgp, gives_the_text_that_a_known_key_signed) {
  if (auto reason = why_not_gpgv(); !reason.empty()) GTEST_SKIP() << reason;
  const auto message = *base64_decode(signed_message);
  auto text = verify_openpgp({std::string(key_two), std::string(key_one)}, message);
  ASSERT_TRUE(text.ok()) << text.error().text();
  auto document = parse_simple_signing(*text, gpg_type);
  ASSERT_TRUE(document.ok()) << document.error().text();
  EXPECT_EQ(document->docker_reference, "r.example/x:1");
}

TEST(openpgp, refuses_other_keys_bent_messages_and_no_messages) {
  if (auto reason = why_not_gpgv(); !reason.empty()) GTEST_SKIP() << reason;
  const auto message = *base64_decode(signed_message);
  EXPECT_FALSE(verify_openpgp({std::string(key_two)}, message).ok());
  auto bent = message;
  bent[bent.size() - 5] = static_cast<char>(bent[bent.size() - 5] ^ 1);
  EXPECT_FALSE(verify_openpgp({std::string(key_one)}, bent).ok());
  EXPECT_FALSE(verify_openpgp({std::string(key_one)}, "plain text").ok());
  EXPECT_FALSE(verify_openpgp({std::string(key_one)}, "").ok());
  EXPECT_FALSE(verify_openpgp({"no keyring"}, message).ok());
}

TEST(lookaside, is_found_by_the_narrowest_scope) {
  const std::vector<LookasideFile> files = {
      {"a.yaml", "default-docker:\n  lookaside: file:///all\ndocker:\n  r.example:\n    lookaside: https://r.example/signatures\n  r.example/team:\n    sigstore: file:///team\n    use-sigstore-attachments: true\n"},
      {"b.yaml", "docker:\n  r.example/team/app:\n    use-sigstore-attachments: true\n"}};
  auto of = [&](const char* name) { return find_lookaside(files, *parse_reference(name)).value_or(std::optional<std::string>("error")).value_or("none"); };
  EXPECT_EQ(of("r.example/x"), "https://r.example/signatures");
  EXPECT_EQ(of("r.example/team/app"), "file:///team");
  EXPECT_EQ(of("alpine"), "file:///all");
  EXPECT_EQ(find_lookaside({}, *parse_reference("alpine"))->value_or("none"), "none");
}

TEST(lookaside, files_that_contradict_each_other_are_refused) {
  const auto reference = *parse_reference("r.example/x");
  EXPECT_FALSE(find_lookaside({{"a", "docker:\n  r.example:\n    lookaside: x\n"}, {"b", "docker:\n  r.example:\n    lookaside: y\n"}}, reference).ok());
  EXPECT_FALSE(find_lookaside({{"a", "default-docker:\n  lookaside: x\n"}, {"b", "default-docker:\n  lookaside: y\n"}}, reference).ok());
  EXPECT_FALSE(find_lookaside({{"a", "docker: [\n"}}, reference).ok());
  EXPECT_FALSE(find_lookaside({{"a", "docker: 5\n"}}, reference).ok());
}

TEST(lookaside, urls_are_those_of_containers) {
  const auto digest = *Digest::parse("sha256:" + std::string(64, 'a'));
  EXPECT_EQ(lookaside_url("https://s.example/base/", *parse_reference("alpine:3"), digest, 2), concat("https://s.example/base/library/alpine@sha256=", digest.hex(), "/signature-2"));
}

}  // namespace
}  // namespace caisson::trust
