// Bearer tokens (JWT) of a token server, as Docker's token specification has them: verified against configured keys.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/signature.hpp"
#include "base/time.hpp"

namespace caisson::registry {

/// One entry of the claim "access".
struct Grant {
  std::string type;  ///< "repository", "registry"
  std::string name;
  std::vector<std::string> actions;  ///< "pull", "push", "delete", "*"
};
struct Token {
  std::string subject;
  std::vector<Grant> grants;
};

struct TokenRules {
  std::string realm;    ///< where clients get tokens
  std::string service;  ///< this registry, as tokens name it (aud)
  std::string issuer;   ///< iss
  std::vector<PublicKey> keys;
};

/// Errors: denied, with the reason: no key verifies it, another issuer or audience, expired, not yet valid, malformed.
Result<Token> verify_token(std::string_view text, const TokenRules& rules, TimestampNs now);

}  // namespace caisson::registry
