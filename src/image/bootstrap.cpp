// bootstrap: a Debian base image straight from the Debian archive, made by mmdebstrap, reproducible, with its package list.
#include <algorithm>
#include <array>
#include <thread>

#include "base/strings.hpp"
#include "base/environment.hpp"
#include "image/local_image_store.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/spawn.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

namespace {

constexpr std::array suites{"bookworm", "trixie"};
constexpr std::string_view default_mirror = "http://deb.debian.org/debian";
constexpr std::string_view search_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
constexpr std::size_t kept_error_lines = 5;

bool is_package_char(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'; }

/// Debian policy 5.6.1; "?…" patterns and "name/release" of apt are not offered.
Status check_package(const std::string& name) {
  bool is_good = name.size() >= 2 && std::all_of(name.begin(), name.end(), is_package_char) && name[0] != '-' && name[0] != '.' && name[0] != '+';
  if (!is_good) return Error(ErrorKind::invalid, concat("package \"", name, "\": not a valid package name"));
  return {};
}

Status check_mirror(const std::string& mirror) {
  bool is_url = mirror.starts_with("http://") || mirror.starts_with("https://") || mirror.starts_with("file:/");
  if (!is_url || mirror.find_first_of(" \t\n\"'[]|") != std::string::npos) return Error(ErrorKind::invalid, concat("mirror \"", mirror, "\": not an http, https or file URL"));
  return {};
}

/// "20260101T000000Z" → seconds since 1970.
Result<std::int64_t> snapshot_epoch(const std::string& text) {
  auto bad = [&] { return Error(ErrorKind::invalid, concat("snapshot \"", text, "\": want a time such as 20260101T000000Z")); };
  if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') return bad();
  auto time = parse_rfc3339(concat(text.substr(0, 4), "-", text.substr(4, 2), "-", text.substr(6, 2), "T", text.substr(9, 2), ":", text.substr(11, 2), ":", text.substr(13, 2), "Z"));
  if (!time.ok()) return bad();
  return *time / 1'000'000'000;
}

struct Suite {
  std::string name;       ///< "bookworm"
  std::string reference;  ///< canonical
};

Result<Suite> parse_suite(const BootstrapRequest& request) {
  auto halves = split_once(request.suite, ':');
  std::string name(halves.found ? halves.after : std::string_view(request.suite));
  bool is_debian = !halves.found || halves.before == "debian";
  if (!is_debian || std::find(suites.begin(), suites.end(), name) == suites.end())
    return Error(ErrorKind::invalid, concat("cannot bootstrap \"", request.suite, "\": want debian:bookworm or debian:trixie"));
  auto reference = TRY_PLAIN(parse_reference(request.reference.empty() ? "debian:" + name : request.reference));
  if (reference.digest) return Error(ErrorKind::invalid, "cannot bootstrap a digest reference");
  return Suite{name, reference.canonical()};
}

/// What programs of ours may inherit: proxies, and where to put large temporary files.
std::vector<std::string> child_environment() {
  std::vector<std::string> env{concat("PATH=", search_path), "LC_ALL=C", "HOME=/root", "DEBIAN_FRONTEND=noninteractive"};
  for (const char* name : {"http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "TMPDIR"})
    if (const char* value = environment(name); value != nullptr) env.push_back(concat(name, "=", value));
  return env;
}

/// "Date: Sat, 08 Nov 2025 09:12:00 UTC" of an InRelease file → seconds since 1970.
Result<std::int64_t> release_date(std::string_view text) {
  constexpr std::array months{"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  for (auto line : split(text, '\n')) {
    if (!line.starts_with("Date: ")) continue;
    auto words = split(trim(line.substr(6)), ' ');
    auto month = words.size() < 5 ? months.end() : std::find(months.begin(), months.end(), words[2]);
    if (month == months.end()) break;
    std::string number = concat(month - months.begin() + 1);
    std::string day(words[1]);
    auto two = [](std::string digits) { return digits.size() < 2 ? "0" + digits : digits; };
    return TRY_PLAIN(parse_rfc3339(concat(words[3], "-", two(number), "-", two(day), "T", words[4], "Z"))) / 1'000'000'000;
  }
  return Error(ErrorKind::corrupt, "InRelease has no readable Date");
}

/// The suite's own date is the image's: the same archive gives the same bytes on every machine and day.
Result<std::int64_t> fetch_suite_date(const std::string& mirror, const std::string& suite, const std::string& folder, Cancel cancel) {
  // apt's own fetcher: the host's proxies, certificates and authentication apply as they do to apt-get.
  std::string target = folder + "/InRelease";
  std::string url = concat(mirror, "/dists/", suite, "/InRelease");
  linux::RunOptions options;
  options.env = child_environment();
  options.cancel = cancel;
  options.timeout_ms = 120'000;
  auto output = TRY(linux::run_program({"/usr/lib/apt/apt-helper", "download-file", url, target}, options), "fetch the suite's date");
  if (output.status.exit_code() != 0) return Error(ErrorKind::unavailable, concat("fetch ", url, ": ", trim(output.standard_error)));
  return release_date(TRY_PLAIN(linux::read_file(target)));
}

/// Reads mmdebstrap's messages: each line is progress, the last ones are kept for the error.
class MessageReader {
 public:
  MessageReader(UniqueFd fd, const ProgressSink& progress) : fd_(std::move(fd)), progress_(progress), thread_([this] { run(); }) {}
  MessageReader(const MessageReader&) = delete;
  MessageReader& operator=(const MessageReader&) = delete;
  ~MessageReader() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  /// After join(): errors if there were any, else the last lines.
  [[nodiscard]] std::string summary() const {
    std::vector<std::string> errors;
    for (const auto& line : lines_)
      if (line.starts_with("E:")) errors.push_back(line);
    return caisson::join(errors.empty() ? lines_ : errors, "; ");
  }

 private:
  void run() {
    std::array<char, 4096> buffer{};
    for (;;) {
      auto got = linux::read(fd_.get(), buffer);
      if (!got.ok() || *got == 0) break;
      for (char c : std::string_view(buffer.data(), *got)) {
        if (c == '\n' || c == '\r') end_line();
        else if (line_.size() < 500) line_ += c;
      }
    }
    end_line();
  }
  void end_line() {
    auto text = std::string(trim(line_));
    line_.clear();
    if (text.empty()) return;
    if (lines_.size() == kept_error_lines) lines_.erase(lines_.begin());
    lines_.push_back(text);
    Progress line;
    line.status = text;
    if (progress_) progress_(line);
  }

  UniqueFd fd_;
  const ProgressSink& progress_;
  std::string line_;
  std::vector<std::string> lines_;
  std::thread thread_;  // last: it uses the members above
};

struct Recipe {
  std::string suite;
  std::vector<std::string> include;
  std::vector<std::string> mirrors;  ///< URL, or whole sources.list lines for snapshots
  std::int64_t epoch = 0;
};

std::vector<std::string> command_of(const std::string& program, const Recipe& recipe) {
  std::vector<std::string> argv{program, "--variant=minbase", "--format=tar", "--aptopt=Acquire::Retries \"3\""};
  if (!recipe.include.empty()) argv.push_back("--include=" + join(recipe.include, ","));
  argv.push_back(recipe.suite);
  argv.emplace_back("-");
  argv.insert(argv.end(), recipe.mirrors.begin(), recipe.mirrors.end());
  return argv;
}

std::vector<std::string> snapshot_sources(const std::string& suite, const std::string& snapshot) {
  std::vector<std::string> lines;
  auto add = [&](std::string_view archive, const std::string& distribution) {
    lines.push_back(concat("deb [check-valid-until=no] http://snapshot.debian.org/archive/", archive, "/", snapshot, "/ ", distribution, " main"));
  };
  add("debian", suite);
  add("debian", suite + "-updates");
  add("debian-security", suite + "-security");
  return lines;
}

/// "name version architecture" per installed package, sorted, from dpkg's status file.
std::string packages_of(std::string_view status) {
  std::vector<std::string> lines;
  std::string name;
  std::string version;
  std::string architecture;
  bool is_installed = false;
  auto end_paragraph = [&] {
    if (is_installed && !name.empty()) lines.push_back(concat(name, " ", version, " ", architecture));
    name.clear();
    is_installed = false;
  };
  for (auto line : split(status, '\n')) {
    auto field = split_once(line, ':');
    if (line.empty()) end_paragraph();
    else if (field.before == "Package") name = trim(field.after);
    else if (field.before == "Version") version = trim(field.after);
    else if (field.before == "Architecture") architecture = trim(field.after);
    else if (field.before == "Status") is_installed = trim(field.after).ends_with(" installed");
  }
  end_paragraph();
  std::sort(lines.begin(), lines.end());
  return lines.empty() ? std::string() : join(lines, "\n") + "\n";
}

}  // namespace

Result<std::string> LocalImageStore::list_packages(const UnpackedArchive& archive) {
  auto root = TRY_PLAIN(open_unpacked(archive));
  auto file = TRY_PLAIN(linux::open_in_root(root.get(), "var/lib/dpkg/status", O_RDONLY));
  return packages_of(TRY_PLAIN(linux::read_all(file.get(), 64U << 20U)));
}

Result<Image> LocalImageStore::bootstrap(const BootstrapRequest& request, const ProgressSink& progress, Cancel cancel) {
  auto suite = TRY_PLAIN(parse_suite(request));
  for (const auto& package : request.include) TRY_PLAIN(check_package(package));
  if (!request.mirror.empty() && !request.snapshot.empty()) return Error(ErrorKind::invalid, "bootstrap: a mirror and a snapshot exclude each other");
  if (!request.mirror.empty()) TRY_PLAIN(check_mirror(request.mirror));
  auto program = linux::find_program("mmdebstrap", search_path);
  if (!program.ok())
    return Error(ErrorKind::unavailable, "bootstrap: mmdebstrap is not installed").with_hint("Install it with: apt-get install mmdebstrap");

  Recipe recipe;
  recipe.suite = suite.name;
  recipe.include = request.include;
  if (!request.snapshot.empty()) {
    recipe.epoch = TRY_PLAIN(snapshot_epoch(request.snapshot));
    recipe.mirrors = snapshot_sources(suite.name, request.snapshot);
  } else {
    auto scratch = TRY(content_->new_staging("bootstrap"), "bootstrap");
    std::string mirror = request.mirror.empty() ? std::string(default_mirror) : request.mirror;
    recipe.epoch = TRY(fetch_suite_date(mirror, suite.name, scratch.path(), cancel), "bootstrap");
    if (!request.mirror.empty()) recipe.mirrors = {request.mirror};
  }

  auto tar = TRY(linux::pipe2(), "bootstrap");
  auto messages = TRY(linux::pipe2(), "bootstrap");
  linux::ProcessRequest process;
  process.path = *program;
  process.argv = command_of(*program, recipe);
  process.env = child_environment();
  process.env.push_back(concat("SOURCE_DATE_EPOCH=", recipe.epoch));
  process.cwd = "/";
  process.fds = {{tar.write_end.get(), 1}, {messages.write_end.get(), 2}};
  process.new_session = true;
  auto child = TRY(linux::spawn_process(process), "bootstrap: start mmdebstrap");
  tar.write_end.reset();
  messages.write_end.reset();
  MessageReader reader(std::move(messages.read_end), progress);

  UnpackSource source;
  source.fd = tar.read_end.get();
  source.keep_blob = true;
  auto archive = unpack(source, {}, cancel);
  // SIGTERM, not SIGKILL, lets mmdebstrap unmount and remove its chroot. Without a reader it would also end by SIGPIPE.
  tar.read_end.reset();
  if (!archive.ok()) ignore(linux::pidfd_send_signal(child.pidfd.get(), SIGTERM));
  auto status = TRY(linux::wait_pidfd(child.pidfd.get()), "bootstrap");
  reader.join();
  bool is_cancelled = !archive.ok() && archive.error().error_number() == ECANCELED;
  if (is_cancelled) return std::move(archive).error().in("bootstrap");
  // An empty or cut-off tar is mmdebstrap's failure, in mmdebstrap's words; a full disk is ours.
  bool is_tool_failure = status.exit_code() != 0 && (archive.ok() || archive.error().kind() == ErrorKind::invalid);
  if (is_tool_failure) return Error(ErrorKind::unavailable, concat("bootstrap ", request.suite, ": mmdebstrap failed: ", reader.summary()));
  if (!archive.ok()) return std::move(archive).error().in("bootstrap");

  Pins pins(*content_);
  ImportPlan plan;
  plan.origin = TRY(gate_.admit_local("containers-storage", {}), "bootstrap");  // made here, of packages that apt has verified
  auto machine = TRY_PLAIN(linux::uname());
  plan.config.architecture = platform_of_machine(machine.machine).architecture;
  plan.config.variant = platform_of_machine(machine.machine).variant;
  plan.config.created = recipe.epoch * 1'000'000'000;
  plan.config.config.env = {concat("PATH=", search_path)};
  plan.config.config.cmd = {"bash"};
  HistoryEntry history;
  history.created = plan.config.created;
  history.created_by = concat("mmdebstrap --variant=minbase", request.include.empty() ? "" : " --include=", join(request.include, ","), " ", suite.name);
  history.comment = request.snapshot.empty() ? "Debian archive" : "snapshot.debian.org " + request.snapshot;
  plan.config.history.push_back(std::move(history));
  plan.packages_text = TRY(list_packages(*archive), "bootstrap: read the list of packages");
  plan.name = suite.reference;
  return finish_import(*archive, plan, pins);
}

}  // namespace caisson::image
