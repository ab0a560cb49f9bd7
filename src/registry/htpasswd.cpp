// bcrypt by crypt(3).
#include "registry/htpasswd.hpp"

#include <crypt.h>

#include <memory>

#include "base/digest.hpp"
#include "base/ids.hpp"
#include "base/signature.hpp"
#include "base/strings.hpp"

namespace caisson::registry {

namespace {

constexpr std::int64_t remembered_ns = 300'000'000'000;
constexpr std::size_t most_remembered = 4096;
constexpr std::size_t most_password_bytes = 1024;
/// Of nobody: an unknown user costs as much time as a known one.
constexpr const char* nobodys_hash = "$2y$10$abcdefghijklmnopqrstuuKlPVGCqJDM7ZGgVJlzmjrcHbKYWQcJa";

bool is_bcrypt(std::string_view hash) { return hash.size() == 60 && (hash.starts_with("$2y$") || hash.starts_with("$2b$") || hash.starts_with("$2a$")); }

bool matches(const std::string& password, const std::string& hash) {
  auto data = std::make_unique<crypt_data>();  // 32 KiB: too much for a small stack
  const char* found = crypt_r(password.c_str(), hash.c_str(), data.get());
  return found != nullptr && equal_secrets(found, hash);
}

}  // namespace

Result<Htpasswd> Htpasswd::parse(std::string_view text) {
  std::map<std::string, std::string> hashes;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    line = trim(line);
    if (line.empty() || line.starts_with('#')) continue;
    auto halves = split_once(line, ':');
    if (!halves.found || halves.before.empty()) return Error(ErrorKind::invalid, concat("line ", number, ": want USER:HASH"));
    if (!is_bcrypt(halves.after))
      return Error(ErrorKind::invalid, concat("line ", number, ": the password of ", halves.before, " is not hashed by bcrypt")).with_hint("make it with: htpasswd -B");
    hashes[std::string(halves.before)] = halves.after;
  }
  return Htpasswd(std::move(hashes));
}

bool Htpasswd::accepts(const std::string& user, const std::string& password) {
  if (password.size() > most_password_bytes || password.find('\0') != std::string::npos) return false;
  std::string key;
  {
    std::lock_guard lock(mutex_);
    if (salt_.empty()) salt_ = random_id();
    key = sha256_of(concat(salt_, user.size(), ":", user, password)).text();
    auto found = known_.find(key);
    if (found != known_.end() && found->second > monotonic_ns()) return true;
  }
  const auto found = hashes_.find(user);
  const bool good = matches(password, found == hashes_.end() ? nobodys_hash : found->second) && found != hashes_.end();
  if (!good) return false;
  std::lock_guard lock(mutex_);
  if (known_.size() >= most_remembered) known_.clear();
  known_[key] = monotonic_ns() + remembered_ns;
  return true;
}

}  // namespace caisson::registry
