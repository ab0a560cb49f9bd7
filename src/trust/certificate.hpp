// X.509: the chain behind a signature, judged by the notary project's rules for certificates.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/signature.hpp"
#include "base/time.hpp"

namespace caisson::trust {

/// A certificate that may sign, and what is known of it after its chain was verified.
struct Signer {
  std::string pem;
  std::map<std::string, std::string> subject;  ///< "C", "ST", "O", "OU", "CN", …: the first of each
  TimestampNs valid_until = 0;                 ///< the earliest end in the chain
};

/// `chain`: DER, the signer's first, its root last. `roots_pem`: certificates of the trust store. Signature specification of the notary project,
/// "Certificate Requirements": all valid at `now`, each signed by the next, no SHA-1, keys of 2048 (RSA) or 256 bits at least; the signer's key
/// usage is critical and has digitalSignature, its extended one is code signing and nothing else; the last is in the trust store.
/// Errors: denied, naming the certificate and the rule; invalid (no certificate, too many).
Result<Signer> verify_chain(const std::vector<std::string>& chain, std::string_view roots_pem, TimestampNs now);

/// The certificates of a PEM text, in its order, as DER. Errors: invalid.
Result<std::vector<std::string>> certificates_of_pem(std::string_view pem);

/// "x509.subject: C=US, ST=WA, O=example" → whether every part of it is in the subject; "*" is anybody. Errors: invalid.
Result<bool> matches_identity(const std::map<std::string, std::string>& subject, std::string_view identity);

}  // namespace caisson::trust
