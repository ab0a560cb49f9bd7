// Users and bcrypt hashes of an htpasswd file.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/time.hpp"

namespace caisson::registry {

/// Thread-safe.
class Htpasswd {
 public:
  /// Lines "USER:$2y$…", empty ones and comments. Errors: invalid (another kind of hash: it would be quicker to guess), naming the line.
  static Result<Htpasswd> parse(std::string_view text);
  Htpasswd(Htpasswd&& other) noexcept : hashes_(std::move(other.hashes_)) {}

  /// A password that was right is remembered for a while, by a keyed hash: bcrypt is slow on purpose, and a pull makes dozens of requests.
  bool accepts(const std::string& user, const std::string& password);

 private:
  explicit Htpasswd(std::map<std::string, std::string> hashes) : hashes_(std::move(hashes)) {}
  std::map<std::string, std::string> hashes_;
  std::mutex mutex_;
  std::string salt_;
  std::map<std::string, std::int64_t> known_;  ///< hash of salt, user and password → until when
};

}  // namespace caisson::registry
