// The registry's commands: checked and completed here, done by caisson-registry, which this process becomes.
#include "base/environment.hpp"
#include "cli/commands.hpp"
#include "cli/daemon.hpp"
#include "linux/process.hpp"

namespace caisson::cli {

namespace {

/// The flags as they were given. A program's own defaults stay its own: only what has() goes along.
Result<int> become_registry(std::string_view command, std::span<const Flag> flags, const Invocation& invocation) {
  const auto binary = TRY_PLAIN(find_own_binary("caisson-registry"));
  std::vector<std::string> words{binary, std::string(command)};
  for (const auto& flag : flags) {
    if (!invocation.has(flag.name)) continue;
    if (flag.type == FlagType::boolean) {
      if (invocation.flag(flag.name)) words.push_back("--" + std::string(flag.name));
      continue;
    }
    for (const auto& value : invocation.list(flag.name)) {
      words.push_back("--" + std::string(flag.name));
      words.push_back(value);
    }
  }
  words.insert(words.end(), invocation.words().begin(), invocation.words().end());
  return linux::execve(binary, words, whole_environment());
}

Result<int> become_registry(std::string_view command, const Invocation& invocation) {
  return become_registry(command, find_command(std::string("registry ").append(command))->flags, invocation);
}

}  // namespace

Result<int> serve_registry(Session& /*session*/, const Invocation& invocation) { return become_registry("serve", invocation); }
Result<int> list_registry(Session& /*session*/, const Invocation& invocation) { return become_registry("ls", invocation); }
Result<int> remove_from_registry(Session& /*session*/, const Invocation& invocation) { return become_registry("rm", invocation); }
Result<int> clean_registry(Session& /*session*/, const Invocation& invocation) { return become_registry("gc", invocation); }
Result<int> show_registry_usage(Session& /*session*/, const Invocation& invocation) { return become_registry("du", invocation); }

}  // namespace caisson::cli
