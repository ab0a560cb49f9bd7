// curl and git, without rights, in namespaces of their own but for the network.
#include "build/fetch.hpp"

#include <array>
#include <cerrno>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "base/ids.hpp"
#include "base/strings.hpp"
#include "build/tree.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"
#include "linux/tree.hpp"

namespace caisson::build {

using dockerfile::GitSource;

namespace {

constexpr std::uint32_t nobody = 65534;
constexpr std::string_view search_path = "/usr/local/bin:/usr/bin:/bin";
constexpr const char* work_parent = "/var/tmp";  // git takes paths, and of the build's own folders nobody else may use one

Result<std::string> find_tool(const char* name, std::string_view purpose) {
  auto program = linux::find_program(name, search_path);
  if (!program.ok())
    return Error(ErrorKind::unavailable, concat(purpose, ": there is no ", name, " on this host")).with_hint(concat("install it: apt-get install ", name));
  return program;
}

Result<linux::ExitStatus> run_to_end(const linux::SpawnRequest& request, std::string_view what, Cancel cancel) {
  auto child = TRY(linux::spawn_sandboxed(request), what);
  std::array<linux::PollEntry, 2> entries{{{child.pidfd.get(), POLLIN, 0}, {cancel.fd, POLLIN, 0}}};
  auto ready = linux::poll(entries, -1);
  if (!ready.ok() || entries[0].revents == 0) {
    linux::kill_and_reap(child.pidfd.get());
    return ready.ok() ? Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED) : std::move(ready).error();
  }
  return linux::wait_pidfd(child.pidfd.get());
}

/// A folder for git, gone with this object.
class WorkFolder {
 public:
  /// Git's own, where it works.
  static Result<WorkFolder> create(const GitOptions& options) {
    auto out = TRY_PLAIN(create_ours(options, 0700));
    TRY(linux::fchownat(AT_FDCWD, out.path_, options.user_id, options.user_id, AT_SYMLINK_NOFOLLOW), out.path_);
    return out;
  }
  /// Where it changes nothing.
  static Result<WorkFolder> create_ours(const GitOptions& options, std::uint32_t mode) {
    WorkFolder out(concat(work_parent, "/", options.work_prefix, random_id().substr(0, 16)));
    TRY(linux::mkdirat(AT_FDCWD, out.path_, mode), out.path_);
    return out;
  }
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  WorkFolder(const WorkFolder&) = delete;
  WorkFolder& operator=(const WorkFolder&) = delete;
  WorkFolder& operator=(WorkFolder&&) = delete;
  ~WorkFolder() {
    if (!path_.empty()) ignore(linux::remove_tree(path_));  // what stays is found by its name at the next start
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// What a repository by ssh takes: the client's agent, behind a socket that only git's user may use, and the keys of hosts.
class SshAccess {
 public:
  static Result<SshAccess> open(const GitSource& source, const GitOptions& options) {
    if (options.agents == nullptr)
      return Error(ErrorKind::not_found, concat("git repository ", source.repository, ": ssh needs an agent, and the client lends none by the id \"default\"")).with_hint("say --ssh default, or --ssh default=KEY");
    TRY_PLAIN(find_tool("ssh", source.repository));
    SshAccess out(TRY_PLAIN(WorkFolder::create_ours(options, 0711)));
    TRY(linux::write_file_atomic(out.known_hosts(), options.known_hosts, 0644, linux::Durability::none), "known_hosts");
    AgentSocket::Place place{out.socket(), 0600, options.user_id, options.user_id};
    out.agent_ = TRY(AgentSocket::open(place, "default", *options.agents, [said = out.said_](std::string text) {
      std::lock_guard lock(said->mutex);
      said->text = std::move(text);
    }), "ssh agent default");
    return out;
  }
  [[nodiscard]] const std::string& folder() const { return folder_.path(); }
  /// For git, which hands it to a shell: nothing of the user's or the repository's is in it.
  [[nodiscard]] std::string command() const {
    return concat("ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o UserKnownHostsFile=", known_hosts(), " -o GlobalKnownHostsFile=/etc/ssh/ssh_known_hosts",
                  " -o IdentityFile=none -o IdentityAgent=", socket(), " -o PreferredAuthentications=publickey -o ClearAllForwardings=yes -o ForwardAgent=no -o PermitLocalCommand=no -o ConnectTimeout=30");
  }
  /// What went wrong with the agent.
  [[nodiscard]] std::string problem() const {
    std::lock_guard lock(said_->mutex);
    return said_->text;
  }

 private:
  struct Said {
    std::mutex mutex;
    std::string text;
  };
  explicit SshAccess(WorkFolder folder) : folder_(std::move(folder)) {}
  [[nodiscard]] std::string known_hosts() const { return folder_.path() + "/known_hosts"; }
  [[nodiscard]] std::string socket() const { return folder_.path() + "/agent"; }
  WorkFolder folder_;
  std::shared_ptr<Said> said_ = std::make_shared<Said>();
  std::unique_ptr<AgentSocket> agent_;  // ends before its folder goes
};

/// $1 repository, $2 ref, $3 "submodules". A server that hands out no single commits (plain HTTP, or a hash that is no tip) gives all of them.
constexpr const char* git_script = R"(
git init -q --template= .
if ! git fetch -q --depth 1 --no-tags -- "$1" "${2:-HEAD}" 2>/dev/null; then
  case $2 in
    '') git fetch -q --no-tags -- "$1" HEAD ;;
    *) git fetch -q --no-tags -- "$1" "$2" 2>/dev/null || { git fetch -q -- "$1" '+refs/*:refs/fetched/*' && git rev-parse -q --verify "$2^{commit}" >.git/FETCH_HEAD; } ;;
  esac
fi
git -c advice.detachedHead=false checkout -q --detach FETCH_HEAD
if [ -n "$3" ]; then
  git config remote.origin.url "$1"  # what submodules with a relative address start from
  git submodule -q update --init --recursive --depth 1 2>/dev/null || git submodule -q update --init --recursive
  git config --remove-section remote.origin
fi
git rev-parse HEAD >.git/commit
)";

linux::LandlockPolicy git_landlock(const std::string& work, const SshAccess* ssh) {
  linux::LandlockPolicy out;
  out.deny_tcp = false;
  using linux::LandlockAccess;
  // What a system without merged /usr keeps outside of it; resolv.conf is a link into /run under systemd-resolved.
  for (const auto& [path, access] : {std::pair{"/usr", LandlockAccess::execute}, {"/bin", LandlockAccess::execute}, {"/lib", LandlockAccess::execute}, {"/lib64", LandlockAccess::execute},
                                     {"/etc", LandlockAccess::read}, {"/run/systemd/resolve", LandlockAccess::read},
                                     {"/dev/null", LandlockAccess::read_write}, {"/dev/urandom", LandlockAccess::read}})
    if (linux::exists(path).value_or(false)) out.rules.push_back({path, access});
  out.rules.push_back({work, LandlockAccess::read_write});
  if (ssh != nullptr) out.rules.push_back({ssh->folder(), LandlockAccess::read});
  return out;
}

linux::SpawnRequest git_request(const GitSource& source, const GitOptions& options, const std::string& work, const SshAccess* ssh, int errors_fd) {
  linux::SpawnRequest request;
  request.process.path = "/bin/sh";
  request.process.argv = {"sh", "-ec", git_script, "git", source.repository, source.ref, source.has_submodules ? "submodules" : ""};
  request.process.env = {concat("PATH=", search_path), concat("HOME=", work), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null",
                         ssh != nullptr ? "GIT_ALLOW_PROTOCOL=http:https:git:ssh" : "GIT_ALLOW_PROTOCOL=http:https:git"};
  if (ssh != nullptr) {
    request.process.env.push_back(concat("GIT_SSH_COMMAND=", ssh->command()));
    request.process.env.emplace_back("GIT_SSH_VARIANT=ssh");
  }
  if (!options.authorization.empty()) {
    const std::size_t host_end = source.repository.find('/', source.repository.find("://") + 3);
    request.process.env.emplace_back("GIT_CONFIG_COUNT=1");
    request.process.env.push_back(concat("GIT_CONFIG_KEY_0=http.", source.repository.substr(0, host_end), "/.extraHeader"));
    request.process.env.push_back(concat("GIT_CONFIG_VALUE_0=Authorization: ", options.authorization));
  }
  request.process.cwd = work;
  request.process.fds = {{errors_fd, 2}};
  request.process.parent_death_signal = SIGKILL;
  request.uid = request.gid = options.user_id;
  // With the first of its pid namespace everything that git started goes.
  request.namespaces = {.pid = true, .mount = true, .network = false, .ipc = true, .uts = true, .cgroup = false};
  request.mount_proc = true;
  request.landlock = git_landlock(work, ssh);
  // ssh wants to find its user in the host's list of users, where git's is not.
  if (ssh != nullptr && options.user_id != nobody) {
    request.id_map.uids = request.id_map.gids = {{nobody, options.user_id, 1}};
    request.uid = request.gid = nobody;
  }
  return request;
}

/// The last thing git said, on one line. What ssh said before git's advice is the reason.
std::string last_words(const std::string& text) {
  std::string_view out = trim(text);
  if (const auto advice = out.rfind("fatal: Could not read from remote repository."); advice != std::string_view::npos && advice > 0) out = trim(out.substr(0, advice));
  out = trim(out.substr(out.find_last_of('\n') + 1));
  return std::string(out.substr(0, 300));
}

Error git_failure(const GitSource& source, const std::string& said, const std::string& agent_problem) {
  const auto place = concat("git repository ", source.repository, source.ref.empty() ? "" : concat(" at ", source.ref));
  Error error(ErrorKind::io, concat(place, ": ", last_words(said), agent_problem.empty() ? "" : concat(" (", agent_problem, ")")));
  if (said.find("Host key verification failed") == std::string::npos) return error;
  return std::move(error).with_hint(concat("the key of ", dockerfile::ssh_host(source), " is not among the known ones, or is another: check it, and put it into ~/.ssh/known_hosts, the secret GIT_KNOWN_HOSTS, or the daemon's /etc/ssh/ssh_known_hosts"));
}

Result<std::string> checked_out_commit(int work_fd, const GitSource& source) {
  auto file = TRY(linux::open_in_root(work_fd, ".git/commit", O_RDONLY | O_NONBLOCK), "git");
  std::string commit(trim(TRY(linux::read_all(file.get(), 1024), "git")));
  if (commit.size() < 40 || commit.find_first_not_of("0123456789abcdef") != std::string::npos)
    return Error(ErrorKind::io, concat("git repository ", source.repository, ": no commit was checked out"));
  if (!commit.starts_with(source.commit))
    return Error(ErrorKind::invalid, concat("git repository ", source.repository, ": expected commit ", source.commit, ", got ", commit));
  return commit;
}

}  // namespace

bool is_url(std::string_view text) { return text.starts_with("http://") || text.starts_with("https://"); }

bool looks_like_archive(std::string_view head) {
  constexpr std::string_view xz("\xfd" "7zXZ\0", 6);
  return head.starts_with("\x1f\x8b") || head.starts_with("BZh") || head.starts_with(xz) || head.starts_with("\x28\xb5\x2f\xfd") ||
         head.substr(std::min<std::size_t>(257, head.size())).starts_with("ustar");
}

std::string without_credentials(const std::string& address) {
  const auto scheme = address.find("://");
  if (scheme == std::string::npos) return address;
  const auto host = scheme + 3;
  const auto at = address.substr(0, address.find('/', host)).rfind('@');
  return at == std::string::npos || at < host ? address : address.substr(0, host) + address.substr(at + 1);
}

Result<Digest> fetch_url(const std::string& url, int target_fd, Cancel cancel) {
  linux::SpawnRequest request;
  request.process.path = TRY_PLAIN(find_tool("curl", url));
  request.process.argv = {"curl", "--fail", "--silent", "--show-error", "--location", "--proto", "=http,https", "--max-redirs", "10", "--connect-timeout", "30", "--", url};
  request.process.env = {"PATH=/usr/bin:/bin", "HOME=/"};
  request.process.cwd = "/";
  request.process.fds = {{target_fd, 1}};
  request.process.parent_death_signal = SIGKILL;
  request.uid = request.gid = nobody;
  request.namespaces = {.pid = false, .mount = false, .network = false, .ipc = true, .uts = true, .cgroup = false};
  auto status = TRY_PLAIN(run_to_end(request, concat("fetch ", url), cancel));
  if (status.signaled || status.code != 0) return Error(ErrorKind::io, concat(url, ": the download failed (curl ended with ", status.code, ")"));
  return TRY(digest_of_file(target_fd), url);
}

Result<Digest> digest_of_file(int fd) {
  Hasher hasher;
  std::string buffer(256U << 10U, '\0');
  for (std::uint64_t offset = 0;;) {
    const auto got = TRY_PLAIN(linux::pread(fd, buffer, offset));
    if (got == 0) return hasher.finish();
    hasher.update(std::string_view(buffer).substr(0, got));
    offset += got;
  }
}

Result<std::string> fetch_git(const GitSource& source, const GitOptions& options, int target_fd, Cancel cancel) {
  TRY_PLAIN(find_tool("git", source.repository));
  auto work = TRY_PLAIN(WorkFolder::create(options));
  std::optional<SshAccess> ssh;
  if (source.is_ssh) ssh.emplace(TRY_PLAIN(SshAccess::open(source, options)));
  auto errors = TRY(linux::memfd_create("git-errors", 0), "git");
  auto status = TRY_PLAIN(run_to_end(git_request(source, options, work.path(), ssh ? &*ssh : nullptr, errors.get()), concat("fetch ", source.repository), cancel));
  if (status.signaled || status.code != 0) {
    TRY(linux::lseek(errors.get(), 0, SEEK_SET), "git");
    auto said = TRY(linux::read_all(errors.get(), 1 << 20), "git");
    return git_failure(source, said, ssh ? ssh->problem() : std::string());
  }
  auto root = TRY(linux::open(work.path(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), "git");
  auto commit = TRY_PLAIN(checked_out_commit(root.get(), source));
  auto from = linux::open_in_root(root.get(), source.subfolder.empty() ? "." : source.subfolder, O_RDONLY | O_DIRECTORY);
  if (!from.ok()) return std::move(from).error().in(concat("git repository ", source.repository, ": folder ", source.subfolder));
  TRY(linux::unlinkat(root.get(), ".git/commit"), "git");
  CopyOptions copy;
  copy.owner = std::pair{0U, 0U};
  const auto without = TRY(dockerfile::IgnoreList::of_patterns({"**/.git"}), "git");
  if (!source.keeps_git_dir) copy.exclude = &without;
  TRY(TreeCopier(copy).copy_children(from->get(), target_fd), concat("git repository ", source.repository));
  return commit;
}

std::string git_authorization(const GitSource& source, const std::map<std::string, std::string>& secrets) {
  if (source.is_ssh) return {};  // an agent signs
  std::string_view host = std::string_view(source.repository).substr(source.repository.find("://") + 3);
  host = host.substr(0, host.find('/'));
  for (const auto& suffix : {concat(".", host), std::string()}) {
    if (auto header = secrets.find("GIT_AUTH_HEADER" + suffix); header != secrets.end()) return std::string(trim(header->second));
    if (auto token = secrets.find("GIT_AUTH_TOKEN" + suffix); token != secrets.end())
      return concat("Basic ", base64_encode(concat("x-access-token:", trim(token->second))));
  }
  return {};
}

Status remove_git_leftovers(const std::string& work_prefix) {
  auto entries = linux::list_dir(work_parent);
  if (!entries.ok()) return entries.error().kind() == ErrorKind::not_found ? Status{} : Status(std::move(entries).error());
  for (const auto& entry : *entries)
    if (entry.name.starts_with(work_prefix)) TRY(linux::remove_tree(concat(work_parent, "/", entry.name)), "remove the folder of an interrupted build");
  return {};
}

}  // namespace caisson::build
