// Chains by OpenSSL's X509_verify_cert, and what it does not look at.
#include "trust/certificate.hpp"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>

#include "base/strings.hpp"
#include "base/openssl.hpp"

namespace caisson::trust {

namespace {

constexpr std::size_t most_certificates = 16;
constexpr int auth_level = 2;  // 112 bits: refuses SHA-1, RSA below 2048 and curves below 224 (SSL_CTX_set_security_level(3))
constexpr std::int64_t second_ns = 1'000'000'000;

using StorePointer = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
using StoreContextPointer = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX_free>>;
using UsagesPointer = std::unique_ptr<EXTENDED_KEY_USAGE, Free<EXTENDED_KEY_USAGE_free>>;

struct FreeStack {
  void operator()(STACK_OF(X509) * stack) const { sk_X509_free(stack); }
};
using StackPointer = std::unique_ptr<STACK_OF(X509), FreeStack>;

std::string name_of(X509* certificate) {
  BioPointer bio(BIO_new(BIO_s_mem()));
  if (!bio || X509_NAME_print_ex(bio.get(), X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) < 0) return "?";
  return text_of(bio.get());
}

Error refused(X509* certificate, std::string_view why) { return {ErrorKind::denied, concat("certificate \"", name_of(certificate), "\": ", why)}; }

Result<CertificatePointer> from_der(std::string_view der) {
  const auto* at = bytes_of(der);
  CertificatePointer certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  if (!certificate || at != bytes_of(der) + der.size()) return Error(ErrorKind::invalid, "the chain holds what is no certificate");
  return certificate;
}

bool is_critical(X509* certificate, int nid) {
  const int at = X509_get_ext_by_NID(certificate, nid, -1);
  return at >= 0 && X509_EXTENSION_get_critical(X509_get_ext(certificate, at)) == 1;
}

Status check_signer(X509* signer) {
  if ((X509_get_extension_flags(signer) & EXFLAG_CA) != 0) return refused(signer, "is an authority's, which must not sign itself");
  if (!is_critical(signer, NID_key_usage) || (X509_get_key_usage(signer) & KU_DIGITAL_SIGNATURE) == 0)
    return refused(signer, "its key usage is not critical, or lacks digitalSignature");
  UsagesPointer usages(static_cast<EXTENDED_KEY_USAGE*>(X509_get_ext_d2i(signer, NID_ext_key_usage, nullptr, nullptr)));
  if (!usages || sk_ASN1_OBJECT_num(usages.get()) != 1 || OBJ_obj2nid(sk_ASN1_OBJECT_value(usages.get(), 0)) != NID_code_sign)
    return refused(signer, "its extended key usage is not code signing alone");
  return {};
}

Result<std::vector<CertificatePointer>> read_pem(std::string_view pem) {
  std::vector<CertificatePointer> out;
  auto bio = bio_of(pem);
  if (!bio) return Error(ErrorKind::unavailable, "certificates: out of memory");
  for (;;) {
    CertificatePointer certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    if (!certificate) break;
    out.push_back(std::move(certificate));
  }
  const bool is_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  ERR_clear_error();
  if (out.empty() || !is_end) return Error(ErrorKind::invalid, "want certificates in PEM");
  return out;
}

TimestampNs end_of(X509* certificate) {
  std::tm time{};
  if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &time) != 1) return 1;  // long ago: an unreadable time is no permission
  return static_cast<TimestampNs>(timegm(&time)) * second_ns;
}

std::map<std::string, std::string> subject_of(X509* certificate) {
  std::map<std::string, std::string> out;
  X509_NAME* name = X509_get_subject_name(certificate);
  for (int i = 0; i < X509_NAME_entry_count(name); ++i) {
    X509_NAME_ENTRY* entry = X509_NAME_get_entry(name, i);
    const char* key = OBJ_nid2sn(OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry)));
    unsigned char* text = nullptr;
    const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
    if (size < 0) continue;
    out.emplace(key, std::string(reinterpret_cast<char*>(text), static_cast<std::size_t>(size)));
    OPENSSL_free(text);
  }
  return out;
}

Status verify_with_openssl(const std::vector<CertificatePointer>& chain, const std::vector<CertificatePointer>& roots, TimestampNs now) {
  StorePointer store(X509_STORE_new());
  StackPointer between(sk_X509_new_null());
  StoreContextPointer context(X509_STORE_CTX_new());
  if (!store || !between || !context) return Error(ErrorKind::unavailable, "certificates: out of memory");
  for (const auto& root : roots)
    if (X509_STORE_add_cert(store.get(), root.get()) != 1) return Error(ErrorKind::unavailable, "certificates: out of memory");
  for (std::size_t i = 1; i < chain.size(); ++i)
    if (sk_X509_push(between.get(), chain[i].get()) == 0) return Error(ErrorKind::unavailable, "certificates: out of memory");
  if (X509_STORE_CTX_init(context.get(), store.get(), chain[0].get(), between.get()) != 1) return Error(ErrorKind::internal, "certificates: OpenSSL refused them");
  auto* rules = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_time(rules, static_cast<std::time_t>(now / second_ns));
  X509_VERIFY_PARAM_set_auth_level(rules, auth_level);
  X509_VERIFY_PARAM_set_flags(rules, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
  X509_VERIFY_PARAM_set_purpose(rules, X509_PURPOSE_ANY);  // check_signer() looks at it: OpenSSL 3.0 knows no code signing
  const int verified = X509_verify_cert(context.get());
  ERR_clear_error();
  if (verified == 1) return {};
  X509* culprit = X509_STORE_CTX_get_current_cert(context.get());
  return refused(culprit != nullptr ? culprit : chain[0].get(), X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get())));
}

}  // namespace

Result<Signer> verify_chain(const std::vector<std::string>& chain, std::string_view roots_pem, TimestampNs now) {
  if (chain.empty()) return Error(ErrorKind::invalid, "the signature carries no certificate");
  if (chain.size() > most_certificates) return Error(ErrorKind::invalid, concat("the signature carries more than ", most_certificates, " certificates"));
  std::vector<CertificatePointer> certificates;
  for (const auto& der : chain) certificates.push_back(TRY_PLAIN(from_der(der)));
  auto roots = TRY(read_pem(roots_pem), "trust store");
  TRY_PLAIN(verify_with_openssl(certificates, roots, now));
  TRY_PLAIN(check_signer(certificates[0].get()));
  Signer out;
  for (const auto& certificate : certificates) {
    const auto end = end_of(certificate.get());
    if (out.valid_until == 0 || end < out.valid_until) out.valid_until = end;
  }
  out.subject = subject_of(certificates[0].get());
  BioPointer pem(BIO_new(BIO_s_mem()));
  if (!pem || PEM_write_bio_X509(pem.get(), certificates[0].get()) != 1) return Error(ErrorKind::unavailable, "certificates: out of memory");
  out.pem = text_of(pem.get());
  return out;
}

Result<std::vector<std::string>> certificates_of_pem(std::string_view pem) {
  std::vector<std::string> out;
  for (const auto& certificate : TRY_PLAIN(read_pem(pem))) {
    const int size = i2d_X509(certificate.get(), nullptr);
    if (size <= 0) return Error(ErrorKind::invalid, "want certificates in PEM");
    std::string der(static_cast<std::size_t>(size), '\0');
    auto* end = reinterpret_cast<unsigned char*>(der.data());
    i2d_X509(certificate.get(), &end);
    out.push_back(std::move(der));
  }
  return out;
}

Result<bool> matches_identity(const std::map<std::string, std::string>& subject, std::string_view identity) {
  if (identity == "*") return true;
  constexpr std::string_view prefix = "x509.subject:";
  if (!identity.starts_with(prefix)) return Error(ErrorKind::invalid, concat("identity \"", identity, "\": want \"*\" or \"x509.subject: C=…, ST=…, O=…\""));
  bool matches = true;
  for (auto part : split(identity.substr(prefix.size()), ',')) {
    auto halves = split_once(trim(part), '=');
    const auto key = std::string(trim(halves.before));
    if (!halves.found || key.empty() || part.find('\\') != std::string_view::npos)
      return Error(ErrorKind::invalid, concat("identity \"", identity, "\": want parts of the form KEY=VALUE, without escapes"));
    auto found = subject.find(key);
    matches = matches && found != subject.end() && found->second == trim(halves.after);
  }
  return matches;
}

}  // namespace caisson::trust
