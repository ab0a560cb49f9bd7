// getenv and unsetenv, and why they are safe here.
#include "base/environment.hpp"

#include <cstdlib>

extern "C" char** environ;  // NOLINT: POSIX's own name (environ(7))

namespace caisson {

const char* environment(const char* name) noexcept {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): unsafe beside a change only, see environment.hpp
}

std::string environment_text(const char* name) {
  const char* value = environment(name);
  return value == nullptr ? "" : value;
}

std::vector<std::string> whole_environment() {
  std::vector<std::string> out;
  for (char** entry = environ; *entry != nullptr; ++entry) out.emplace_back(*entry);
  return out;
}

void forget_environment(const char* name) noexcept {
  ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe): one thread, by its precondition
}

}  // namespace caisson
