// roles.toml: who has which role. What it does not say is answered by rules that are built in, so that no file is needed. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "policy/role.hpp"

namespace caisson::policy {

/// Who is at the other end of a connection.
struct Peer {
  bool is_unix = true;
  std::uint32_t uid = 0;                ///< of a unix socket, in the engine's own user namespace
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> groups;    ///< supplementary
  bool is_elsewhere = false;            ///< a process of a container that is not ours, as far as can be seen
  std::string address;                  ///< of TCP
  bool is_verified = false;             ///< has shown a certificate that our CA has signed
  std::string certificate;              ///< its common name
  std::string token;                    ///< "Authorization: Bearer …"
};

struct Identity {
  std::string who;  ///< "uid:1000", "certificate:ci.example.org", "token:ci", "tcp:10.0.0.7:4711"
  RolePointer role;
};

/// The creator of a container, as its record keeps him: what its socket may do is what he may, and no more than its project.
struct Creator {
  std::string who;
  std::string role;
  Labels labels;    ///< of the role's scope then
};

/// What a policy was read from. Names become numbers by the text of /etc/passwd and /etc/group; no NSS, which a static binary has not.
struct Accounts {
  std::string passwd;
  std::string group;
};

struct Who {
  std::optional<std::uint32_t> uid;
  std::optional<std::uint32_t> gid;
  std::string certificate;     ///< pattern of a common name
  std::string token_sha256;    ///< lower-case hex
  std::string token_name;      ///< how the audit log calls it
  bool is_plain_tcp = false;
  bool is_anywhere = false;    ///< also from containers of other engines
  RolePointer role;
};

class Policy {
 public:
  /// Without a file. `owner`: the user the engine runs as, who is admin. `tcp`: of TCP without a certificate.
  explicit Policy(std::uint32_t owner = 0, RolePointer tcp = built_in("none"));

  /// `path` is for messages. Errors: invalid, "PATH, line 3: what is wrong".
  static Result<Policy> parse(std::string_view text, const std::string& path, const Accounts& accounts, std::uint32_t owner, RolePointer tcp);

  /// The first rule of the file that fits; then root (or the engine's own user) is admin, a certificate of our CA is admin, whoever else may
  /// open the unix socket has the role "user", and TCP has the role it was given.
  [[nodiscard]] Identity judge(const Peer& peer) const;
  /// Of a container whose process connects: its creator's verbs that a user has, on the creator's objects of its own project.
  [[nodiscard]] Identity judge_container(const std::string& id, const std::string& project, const Creator& creator) const;
  [[nodiscard]] RolePointer find(std::string_view role) const;  ///< the file's own first; null when there is none
  [[nodiscard]] const std::string& path() const { return path_; }  ///< "" without a file
  [[nodiscard]] const std::vector<std::string>& warnings() const { return warnings_; }  ///< rules that fit nobody

 private:
  friend class PolicyReader;
  std::string path_;
  std::uint32_t owner_ = 0;
  RolePointer tcp_;
  bool containers_may_ask_ = true;
  std::vector<Who> rules_;
  std::map<std::string, RolePointer, std::less<>> roles_;
  std::vector<std::string> warnings_;
};

}  // namespace caisson::policy
