// What this module's tests share: certificates made in code, right or bent.
#pragma once

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <string>

#include "base/digest.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "trust/key.hpp"
#include "base/openssl.hpp"

namespace caisson::trust::testing_support {

inline constexpr TimestampNs test_now = std::int64_t{1'800'000'000} * 1'000'000'000;  // January 2027
inline constexpr TimestampNs hour_ns = std::int64_t{3600} * 1'000'000'000;

inline KeyPointer openssl_key(const PrivateKey& key) {
  auto pem = key.pem("");
  EXPECT_TRUE(pem.ok());
  auto bio = bio_of(*pem);
  return KeyPointer(PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr));
}

struct CertificateWish {
  std::string name = "signer";
  std::string organisation = "example";
  bool is_authority = false;
  std::string key_usage = "critical,digitalSignature";  ///< "": none
  std::string extended_key_usage = "codeSigning";       ///< "": none
  std::time_t begins_s = 1'700'000'000;
  std::time_t ends_s = 1'900'000'000;
  bool uses_sha1 = false;
};

inline CertificateWish authority(const std::string& name) {
  CertificateWish wish;
  wish.name = name;
  wish.is_authority = true;
  wish.key_usage = "critical,keyCertSign";
  wish.extended_key_usage = "";
  return wish;
}

inline void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  ASSERT_NE(extension, nullptr) << value;
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

/// PEM of a certificate for `key`, signed by `issuer_key`; `issuer_pem` "": by itself.
inline std::string make_certificate(const CertificateWish& wish, const PrivateKey& key, const PrivateKey& issuer_key, const std::string& issuer_pem) {
  CertificatePointer certificate(X509_new());
  auto own = openssl_key(key);
  auto signer = openssl_key(issuer_key);
  CertificatePointer issuer;
  if (!issuer_pem.empty()) {
    auto bio = bio_of(issuer_pem);
    issuer.reset(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
  }
  X509* above = issuer ? issuer.get() : certificate.get();
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 7);
  ASN1_TIME_set(X509_getm_notBefore(certificate.get()), wish.begins_s);
  ASN1_TIME_set(X509_getm_notAfter(certificate.get()), wish.ends_s);
  X509_set_pubkey(certificate.get(), own.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  for (const auto& [field, text] : {std::pair<const char*, std::string>{"C", "XX"}, {"ST", "Y"}, {"O", wish.organisation}, {"CN", wish.name}})
    X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(above));
  add_extension(certificate.get(), above, NID_basic_constraints, wish.is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  add_extension(certificate.get(), above, NID_subject_key_identifier, "hash");
  if (issuer) add_extension(certificate.get(), above, NID_authority_key_identifier, "keyid");
  if (!wish.key_usage.empty()) add_extension(certificate.get(), above, NID_key_usage, wish.key_usage);
  if (!wish.extended_key_usage.empty()) add_extension(certificate.get(), above, NID_ext_key_usage, wish.extended_key_usage);
  EXPECT_GT(X509_sign(certificate.get(), signer.get(), wish.uses_sha1 ? EVP_sha1() : EVP_sha256()), 0);
  BioPointer out(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(out.get(), certificate.get());
  return text_of(out.get());
}

/// A root and a signer below it.
struct Pki {
  PrivateKey root_key;
  PrivateKey key;
  std::string root;
  std::string signer;
  [[nodiscard]] std::string chain() const { return signer + root; }
};
inline Pki make_pki(KeyKind kind = KeyKind::p256, const CertificateWish& wish = {}) {
  auto root_key = PrivateKey::generate(KeyKind::p256);
  auto key = PrivateKey::generate(kind);
  EXPECT_TRUE(root_key.ok() && key.ok());
  auto root = make_certificate(authority("root"), *root_key, *root_key, "");
  auto signer = make_certificate(wish, *key, *root_key, root);
  return {std::move(*root_key), std::move(*key), std::move(root), std::move(signer)};
}

inline Digest digest_of_digit(char digit) { return *Digest::parse("sha256:" + std::string(64, digit)); }

}  // namespace caisson::trust::testing_support
