// What the address of a git repository says: which repository, which commit, which folder of it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"

namespace caisson::dockerfile {

struct GitSource {
  std::string repository;     ///< as git takes it
  std::string ref;            ///< a branch, a tag, "refs/…" or a commit's whole hash; "": the repository's own choice
  std::string subfolder;      ///< relative, clean; "": all of it
  std::string commit;         ///< checksum: how the commit's hash begins, in lower case; "": whatever it is
  bool keeps_git_dir = false;
  bool has_submodules = true;
  bool is_ssh = false;
  /// Errors: invalid (not the beginning of a hash, or another one than the address names).
  Status expect_commit(std::string_view hash);
};

/// http(s) addresses that end in ".git" before "?" and "#", "git://…", "ssh://…", "user@host:path", and "github.com/…" as docker takes it.
bool is_git_url(std::string_view text);
/// Of these "ssh://…" and "user@host:path".
bool is_ssh_git_url(std::string_view text);
/// Where a repository by ssh is: "host" or "[host]:port", as known_hosts has it. Precondition: GitSource::is_ssh.
std::string ssh_host(const GitSource& source);
/// The rest of such an address: "#REF:FOLDER", or "?ref=…&subdir=…" with branch, tag, checksum (commit), keep-git-dir and submodules.
/// Errors: invalid (an unknown or contradictory word, an address without host).
Result<GitSource> parse_git_url(std::string_view text);

}  // namespace caisson::dockerfile
