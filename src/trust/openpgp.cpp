// gpgv(1): started, fed through descriptors, and believed by its status lines.
#include "trust/openpgp.hpp"

#include "base/strings.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"

namespace caisson::trust {

namespace {

constexpr std::uint32_t nobody = 65534;
constexpr int keyring_fd = 3;
constexpr int status_fd = 4;
constexpr int patience_ms = 10'000;
constexpr std::size_t most_output_bytes = 1 << 20;
constexpr std::string_view search_path = "/usr/bin:/bin:/usr/local/bin";

struct Files {
  UniqueFd keyring;
  UniqueFd message;
  UniqueFd text;
  UniqueFd status;
};

linux::SpawnRequest gpgv_spawn(const std::string& program, const Files& files) {
  linux::SpawnRequest spawn;
  spawn.process.path = program;
  spawn.process.argv = {"gpgv", "--homedir", "/", "--keyring", concat("/dev/fd/", keyring_fd), "--status-fd", concat(status_fd), "--output", "-"};
  spawn.process.env = {"LC_ALL=C"};
  spawn.process.cwd = "/";
  spawn.process.fds = {{files.message.get(), 0}, {files.text.get(), 1}, {files.keyring.get(), keyring_fd}, {files.status.get(), status_fd}};
  spawn.process.new_session = true;
  spawn.process.parent_death_signal = SIGKILL;
  spawn.uid = spawn.gid = nobody;
  spawn.limits = {{RLIMIT_CORE, 0}, {RLIMIT_NOFILE, 64}, {RLIMIT_FSIZE, most_output_bytes}, {RLIMIT_AS, 256 << 20}, {RLIMIT_CPU, 5}};
  linux::LandlockPolicy landlock;
  for (const char* folder : {"/usr", "/lib", "/lib64"})
    if (linux::exists(folder).value_or(false)) landlock.rules.push_back({folder, linux::LandlockAccess::execute});
  for (const char* folder : {"/etc", "/proc", "/dev"})
    if (linux::exists(folder).value_or(false)) landlock.rules.push_back({folder, linux::LandlockAccess::read});
  spawn.landlock = std::move(landlock);
  return spawn;
}

Result<std::string> read_from_start(int fd) {
  TRY_PLAIN(linux::lseek(fd, 0, SEEK_SET));
  return linux::read_all(fd, most_output_bytes);
}

}  // namespace

Result<std::string> take_armor_off(std::string_view text) {
  constexpr std::string_view begin = "-----BEGIN PGP ";
  const auto at = text.find(begin);
  if (at == std::string_view::npos) return std::string(text);
  std::string body;
  bool is_armor = false;  // between BEGIN and END
  bool is_body = false;   // behind the headers
  std::string out;
  for (auto line : split(text.substr(at), '\n')) {
    line = trim(line);
    if (line.starts_with("-----END PGP ")) {
      auto bytes = base64_decode(body);
      if (!bytes.ok()) return Error(ErrorKind::invalid, "the armor of an OpenPGP key holds no base64");
      out += *bytes;
      is_armor = is_body = false;
    } else if (line.starts_with(begin)) {
      body.clear();
      is_armor = true;
      is_body = false;
    } else if (!is_body) {
      is_body = is_armor && line.empty();  // an empty line ends the headers
    } else if (!line.starts_with("=")) {  // the checksum: RFC 9580 makes it optional, and tells readers not to mind it
      body += line;
    }
  }
  if (is_armor || out.empty()) return Error(ErrorKind::invalid, "the armor of an OpenPGP key is cut off");
  return out;
}

bool is_good_status(std::string_view lines) {
  constexpr std::string_view prefix = "[GNUPG:] ";
  int good = 0;
  int valid = 0;
  int made = 0;
  for (auto line : split(lines, '\n')) {
    if (!line.starts_with(prefix)) continue;
    const auto word = split_once(line.substr(prefix.size()), ' ').before;
    if (word == "GOODSIG") ++good;
    if (word == "VALIDSIG") ++valid;
    if (word == "NEWSIG") ++made;
    for (std::string_view bad : {"BADSIG", "ERRSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "NODATA", "UNEXPECTED", "FAILURE"})
      if (word == bad) return false;
  }
  return good == 1 && valid == 1 && made <= 1;
}

Result<std::string> verify_openpgp(const std::vector<std::string>& keyrings, std::string_view message) {
  auto program = linux::find_program("gpgv", search_path);
  if (!program.ok()) return Error(ErrorKind::unavailable, "OpenPGP signatures need gpgv").with_hint("install it: apt-get install gpgv");
  std::string keys;
  for (const auto& keyring : keyrings) keys += TRY_PLAIN(take_armor_off(keyring));
  Files files;
  files.keyring = TRY(linux::sealed_memfd("caisson-keyring", keys), "gpgv");
  files.message = TRY(linux::sealed_memfd("caisson-message", message), "gpgv");
  files.text = TRY(linux::memfd_create("caisson-text"), "gpgv");
  files.status = TRY(linux::memfd_create("caisson-status"), "gpgv");
  auto child = TRY(linux::spawn_sandboxed(gpgv_spawn(*program, files)), "start gpgv");
  if (!TRY_PLAIN(linux::wait_readable(child.pidfd.get(), patience_ms))) {
    linux::kill_and_reap(child.pidfd.get());
    return Error(ErrorKind::timeout, "gpgv does not end");
  }
  const auto status = TRY(linux::wait_pidfd(child.pidfd.get()), "gpgv");
  auto said = TRY(read_from_start(files.status.get()), "gpgv");
  if (status.exit_code() != 0 || !is_good_status(said)) return Error(ErrorKind::denied, "gpgv finds no good signature by the policy's keys");
  return read_from_start(files.text.get());
}

}  // namespace caisson::trust
