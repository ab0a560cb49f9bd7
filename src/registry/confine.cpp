// Ids first, capabilities with them, then Landlock, then seccomp.
#include "registry/confine.hpp"

#include "base/strings.hpp"
#include "linux/capabilities.hpp"
#include "linux/file.hpp"
#include "linux/landlock.hpp"
#include "linux/process.hpp"
#include "linux/seccomp.hpp"
#include "linux/seccomp_registry.hpp"
#include "linux/tree.hpp"

namespace caisson::registry {

namespace {

/// Of the range that the engine keeps for its own helpers and gives to no container (app/caissond.cpp); its fetch process has the one behind it.
constexpr std::uint32_t own_id = 0x70000000 + 65533;

Result<Identity> find_user(const std::string& name) {
  auto halves = split_once(name, ':');
  if (auto uid = parse_integer<std::uint32_t>(halves.before); uid.ok()) {
    const auto gid = halves.found ? TRY(parse_integer<std::uint32_t>(halves.after), "user") : *uid;
    return Identity{*uid, gid};
  }
  const auto text = TRY(linux::read_file("/etc/passwd"), concat("user ", name));
  for (auto line : split(text, '\n')) {
    const auto columns = split(line, ':');
    if (columns.size() < 4 || columns[0] != name) continue;
    const auto uid = TRY(parse_integer<std::uint32_t>(columns[2]), concat("/etc/passwd: ", name));
    const auto gid = TRY(parse_integer<std::uint32_t>(columns[3]), concat("/etc/passwd: ", name));
    return Identity{uid, gid};
  }
  return Error(ErrorKind::not_found, concat("user ", name, ": not in /etc/passwd"));
}

}  // namespace

Result<Identity> choose_identity(const std::string& user, const std::string& root) {
  Identity identity{linux::geteuid(), linux::getegid()};
  if (identity.uid == 0) {
    identity = {own_id, own_id};
    if (!user.empty()) {
      identity = TRY_PLAIN(find_user(user));
    } else if (auto status = linux::stat(root); status.ok() && status->st_uid != 0) {
      identity = {status->st_uid, status->st_gid};
    }
  }
  if (identity.uid == 0) return Error(ErrorKind::denied, "the registry does not run as the superuser").with_hint("name another user, or none");
  return identity;
}

Status prepare_root(const std::string& root, const Identity& identity) {
  const bool was_there = TRY_PLAIN(linux::exists(root));
  if (!was_there) TRY(linux::make_dirs(root, 0711), concat("folder ", root));  // those above must be passable
  auto folder = TRY(linux::open(root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), concat("folder ", root));
  // In this order: a server and a command may both be the first one here.
  const bool is_empty = TRY(linux::list_dir(folder.get()), concat("folder ", root)).empty();
  const auto status = TRY(linux::fstat(folder.get()), concat("folder ", root));
  if (status.st_uid != identity.uid) {
    if (status.st_uid != linux::geteuid() || !is_empty)
      return Error(ErrorKind::denied, concat("folder ", root, " belongs to user ", status.st_uid, ", the registry runs as ", identity.uid)).with_hint(concat("chown -R ", identity.uid, " ", root));
    TRY(linux::fchown(folder.get(), identity.uid, identity.gid), concat("folder ", root));
  }
  return linux::fchmod(folder.get(), 0700);
}

Status become(const Identity& identity) {
  if (linux::geteuid() == 0) {
    TRY(linux::drop_bounding(TRY_PLAIN(linux::all_capabilities())), "drop capabilities");
    TRY(linux::setgroups({}), "drop groups");
    TRY_PLAIN(linux::setresgid(identity.gid, identity.gid, identity.gid));
    TRY_PLAIN(linux::setresuid(identity.uid, identity.uid, identity.uid));
  }
  TRY_PLAIN(linux::set_no_new_privileges());
  // An ordinary user may have been given some, too.
  TRY(linux::capset({}), "drop capabilities");
  if (linux::geteuid() == 0 || linux::getuid() == 0) return Error(ErrorKind::denied, "the superuser's rights could not be given up");
  return {};
}

Status confine(const std::string& root) {
  if (linux::landlock_abi() > 0) {
    linux::LandlockPolicy policy;
    policy.rules.push_back({root, linux::LandlockAccess::read_write});
    policy.scope_ipc = false;  // seccomp allows signals through pidfds alone, which only our own helpers' are
    auto ruleset = TRY(linux::create_landlock_ruleset(policy), "Landlock");
    TRY(linux::landlock_restrict_self(ruleset.get()), "Landlock");
  }
  auto filter = TRY(linux::registry_seccomp(), "seccomp");
  TRY(linux::load_seccomp(filter), "seccomp");
  return {};
}

}  // namespace caisson::registry
