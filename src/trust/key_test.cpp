// Keys and what they sign.
#include "trust/key.hpp"

#include <gtest/gtest.h>

#include "trust/test_support.hpp"

namespace caisson::trust {
namespace {

PrivateKey made(KeyKind kind) {
  auto key = PrivateKey::generate(kind);
  EXPECT_TRUE(key.ok()) << key.error().text();
  return std::move(*key);
}

PublicKey public_of(const PrivateKey& key) { return std::move(*PublicKey::parse(*key.public_pem())); }

constexpr KeyKind all_kinds[] = {KeyKind::rsa, KeyKind::p256, KeyKind::p384, KeyKind::p521, KeyKind::ed25519};

TEST(keys, of_every_kind_sign_and_verify_as_cosign_does) {
  for (auto kind : all_kinds) {
    auto key = made(kind);
    EXPECT_EQ(key.kind(), kind);
    auto signature = key.sign(sigstore_algorithm(kind), "message");
    ASSERT_TRUE(signature.ok()) << to_string(kind) << signature.error().text();
    auto verifier = public_of(key);
    EXPECT_TRUE(verifies_sigstore(verifier, "message", *signature)) << to_string(kind);
    EXPECT_FALSE(verifies_sigstore(verifier, "Message", *signature));
    auto bent = *signature;
    bent[bent.size() / 2] = static_cast<char>(bent[bent.size() / 2] ^ 1);
    EXPECT_FALSE(verifies_sigstore(verifier, "message", bent));
    EXPECT_FALSE(verifies_sigstore(verifier, "message", ""));
    EXPECT_FALSE(verifies_sigstore(public_of(made(kind)), "message", *signature));
  }
}

TEST(keys, of_larger_curves_are_also_known_by_their_own_hash) {
  auto key = made(KeyKind::p384);
  EXPECT_TRUE(verifies_sigstore(public_of(key), "m", *key.sign(SignatureAlgorithm::ecdsa_sha384, "m")));
  auto larger = made(KeyKind::p521);
  EXPECT_TRUE(verifies_sigstore(public_of(larger), "m", *larger.sign(SignatureAlgorithm::ecdsa_sha512, "m")));
  // A smaller curve has one hash only.
  auto small = made(KeyKind::p256);
  EXPECT_FALSE(verifies_sigstore(public_of(small), "m", *small.sign(SignatureAlgorithm::ecdsa_sha384, "m")));
}

TEST(keys, make_no_signature_of_another_kind) {
  for (auto algorithm : {SignatureAlgorithm::rs256, SignatureAlgorithm::ps256, SignatureAlgorithm::es384, SignatureAlgorithm::ed25519})
    EXPECT_FALSE(made(KeyKind::p256).sign(algorithm, "m").ok());
  EXPECT_FALSE(made(KeyKind::ed25519).sign(SignatureAlgorithm::ecdsa_sha256, "m").ok());
  EXPECT_FALSE(made(KeyKind::rsa).sign(SignatureAlgorithm::es256, "m").ok());
}

TEST(keys, verify_nothing_under_another_algorithm_than_theirs) {
  auto key = made(KeyKind::rsa);
  auto verifier = public_of(key);
  auto signature = key.sign(SignatureAlgorithm::ps256, "m");
  ASSERT_TRUE(signature.ok());
  EXPECT_TRUE(verifier.verifies(SignatureAlgorithm::ps256, "m", *signature));
  for (auto other : {SignatureAlgorithm::rs256, SignatureAlgorithm::ps384, SignatureAlgorithm::es256, SignatureAlgorithm::ecdsa_sha256, SignatureAlgorithm::ed25519})
    EXPECT_FALSE(verifier.verifies(other, "m", *signature));
}

TEST(private_keys, come_back_from_their_text) {
  for (auto kind : all_kinds) {
    auto key = made(kind);
    for (const char* passphrase : {"", "open sesame"}) {
      auto pem = key.pem(passphrase);
      ASSERT_TRUE(pem.ok()) << pem.error().text();
      EXPECT_EQ(is_encrypted_key(*pem), *passphrase != '\0');
      auto again = PrivateKey::parse(*pem, passphrase);
      ASSERT_TRUE(again.ok()) << again.error().text();
      EXPECT_EQ(*again->public_pem(), *key.public_pem());
    }
  }
}

TEST(private_keys, do_not_open_without_their_passphrase) {
  auto pem = made(KeyKind::p256).pem("right");
  ASSERT_TRUE(pem.ok());
  for (const char* passphrase : {"", "wrong", "right "}) {
    auto key = PrivateKey::parse(*pem, passphrase);
    ASSERT_FALSE(key.ok());
    EXPECT_EQ(key.error().kind(), ErrorKind::denied) << key.error().text();
  }
}

TEST(private_keys, that_are_none_are_refused) {
  for (const char* text : {"", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----"}) EXPECT_FALSE(PrivateKey::parse(text, "").ok()) << text;
  EXPECT_FALSE(PrivateKey::parse(*made(KeyKind::p256).public_pem(), "").ok());
  auto cosigns = PrivateKey::parse("-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n", "x");
  ASSERT_FALSE(cosigns.ok());
  EXPECT_EQ(cosigns.error().kind(), ErrorKind::unsupported);
}

TEST(public_keys, that_are_weak_or_of_another_kind_are_refused) {
  // openssl genrsa 1024 | openssl rsa -pubout; openssl ecparam -name secp256k1 -genkey | openssl ec -pubout
  for (const char* pem : {"-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC7V2QOjZmb0bFv1nVYvI0Yq4mF\n-----END PUBLIC KEY-----\n", "",
                          "-----BEGIN PUBLIC KEY-----\nMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAE\n-----END PUBLIC KEY-----\n", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
    EXPECT_FALSE(PublicKey::parse(pem).ok());
  KeyPointer weak(EVP_RSA_gen(1024));
  KeyPointer koblitz(EVP_EC_gen("secp256k1"));
  for (EVP_PKEY* key : {weak.get(), koblitz.get()}) {
    BioPointer bio(BIO_new(BIO_s_mem()));
    ASSERT_EQ(PEM_write_bio_PUBKEY(bio.get(), key), 1);
    EXPECT_FALSE(PublicKey::parse(text_of(bio.get())).ok());
  }
}

TEST(key_hints, are_digests_of_the_key_alone) {
  // RFC 8410, 10.1: the example of an Ed25519 public key; the digest by openssl dgst -sha256 -binary | base64.
  auto key = PublicKey::parse("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n");
  ASSERT_TRUE(key.ok()) << key.error().text();
  EXPECT_EQ(key_hint(*key), "oekVYFTgT6yJmunydRMs3Ael28TqLCrTof/G4NJTaB8=");
}

}  // namespace
}  // namespace caisson::trust
