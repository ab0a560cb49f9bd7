// Authorizer: turns a registry's challenge into an Authorization header, by Basic or by a token server, and remembers it.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "fetch/challenge.hpp"
#include "fetch/http.hpp"
#include "image/fetch_protocol.hpp"

namespace caisson::fetch {

/// For one endpoint and one repository. Thread-safe: transfers side by side share one token.
class Authorizer {
 public:
  /// `credentials` are empty for a mirror. `scopes`: "repository:library/alpine:pull".
  Authorizer(HttpClient& http, HttpSettings settings, image::RegistryCredentials credentials, std::vector<std::string> scopes)
      : http_(http), settings_(std::move(settings)), credentials_(std::move(credentials)), scopes_(std::move(scopes)) {}

  /// "Authorization: …", or "" as long as nobody asked for one.
  std::string header();
  /// After a 401 to a request that carried `used`. When header() has something better then, it succeeds.
  /// Errors: denied (no credentials, wrong ones; in docker's words), invalid (the challenge makes no sense), and those of HTTP.
  Status answer(const HttpReply& unauthorized, const std::string& used, const std::atomic<bool>* cancelled);
  /// The token server's refresh token, when it gave one.
  std::string refresh_token();
  /// Asks for a further repository's rights from the next challenge on (a mount's source).
  void add_scope(const std::string& scope);

 private:
  Status take_token(const Challenge& challenge, const std::string& registry_url, const std::atomic<bool>* cancelled);
  Result<HttpReply> ask_token_server(const Challenge& challenge, const Url& realm, const std::atomic<bool>* cancelled);
  std::vector<std::string> scopes_for(const Challenge& challenge) const;

  HttpClient& http_;
  const HttpSettings settings_;
  const image::RegistryCredentials credentials_;
  std::mutex mutex_;
  std::vector<std::string> scopes_;
  std::string header_;
  std::string refresh_token_;
};

/// {"token"} or {"access_token"}, and {"refresh_token"}. Errors: corrupt.
struct TokenAnswer {
  std::string token;
  std::string refresh_token;
};
Result<TokenAnswer> parse_token_answer(std::string_view body);

}  // namespace caisson::fetch
