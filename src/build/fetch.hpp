// Files from the network, for ADD and for contexts that are an address: read by processes that own nothing.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/cancel.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "build/ssh_agents.hpp"
#include "dockerfile/git_url.hpp"

namespace caisson::build {

bool is_url(std::string_view text);
/// Archives that ADD takes apart, and contexts behind an address, are known by their first 512 bytes. Pure.
bool looks_like_archive(std::string_view head);

/// "https://user:token@host/x" is known as "https://host/x". Pure.
std::string without_credentials(const std::string& address);

/// Writes what http:// or https:// `url` gives to target_fd (borrowed). Redirects are followed to these two only.
/// Returns its digest. Errors: io, naming the URL; unavailable (cancelled, or no curl on this host).
Result<Digest> fetch_url(const std::string& url, int target_fd, Cancel cancel);

/// sha256 of all of a file, wherever it is read at.
Result<Digest> digest_of_file(int fd);

struct GitOptions {
  std::string work_prefix;     ///< of the name of the folder below /var/tmp in which git works; leftovers are known by it
  std::uint32_t user_id = 0;   ///< whom git runs as; nobody else's
  std::string authorization;   ///< of the server: "Basic …", "bearer …"; "": none
  BuildAgents* agents = nullptr;  ///< by ssh: the client's agent `default` signs; nullptr: it lends none
  std::string known_hosts;        ///< by ssh: whose keys are believed, beside those of this host's /etc/ssh/ssh_known_hosts
};

/// Fills the empty folder target_fd (borrowed) with the files of a commit, as root's, 0644 or 0755, submodules with them. Returns the commit's hash.
/// By ssh a host whose key is not known is not talked to. Errors: io, with git's reason; not_found (the folder, the agent); invalid (another commit than the source names); unavailable (cancelled, no git).
Result<std::string> fetch_git(const dockerfile::GitSource& source, const GitOptions& options, int target_fd, Cancel cancel);
/// What a secret named GIT_AUTH_TOKEN or GIT_AUTH_HEADER, with ".HOST" or without, says for this repository. Pure.
std::string git_authorization(const dockerfile::GitSource& source, const std::map<std::string, std::string>& secrets);
/// Removes what a killed daemon's git left.
Status remove_git_leftovers(const std::string& work_prefix);

}  // namespace caisson::build
