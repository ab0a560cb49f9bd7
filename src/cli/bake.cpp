// `bake`: the builds of a file, those that do not need each other side by side.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "bake/bake.hpp"
#include "base/environment.hpp"
#include "base/strings.hpp"
#include "cli/build_context.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/run_build.hpp"
#include "cli/save_stream.hpp"
#include "cli/stream.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"

namespace caisson::cli {

namespace {

constexpr std::size_t most_at_once = 4;
constexpr std::size_t most_file_bytes = 4U << 20U;
constexpr std::string_view target_scheme = "target:";

constexpr std::array default_files = {"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml", "docker-bake.json", "docker-bake.override.json", "docker-bake.hcl", "docker-bake.override.hcl"};

Status add_file(std::vector<bake::File>& files, const std::string& name) {
  bake::File file;
  file.name = name;
  file.text = TRY(linux::read_file(name, most_file_bytes), concat("-f ", name));
  files.push_back(std::move(file));
  return {};
}

Result<std::vector<bake::File>> read_files(const std::vector<std::string>& named) {
  std::vector<bake::File> files;
  if (named.empty()) {
    for (const char* name : default_files)
      if (TRY_PLAIN(linux::exists(name))) TRY_PLAIN(add_file(files, name));
    if (files.empty()) return Error(ErrorKind::not_found, "there is no build file here").with_hint("write docker-bake.hcl, or name a file with -f");
    return files;
  }
  for (const auto& name : named) {
    if (name.find("://") != std::string::npos) return Error(ErrorKind::unsupported, concat("-f ", name, ": build files are not fetched")).with_hint("clone the repository first");
    if (name != "-") {
      TRY_PLAIN(add_file(files, name));
      continue;
    }
    bake::File file;
    file.name = "standard input";
    file.text = TRY(linux::read_all(0, most_file_bytes), "standard input");
    files.push_back(std::move(file));
  }
  return files;
}

/// The target as words of `build`. `images`: what the targets it needs have become.
std::vector<std::string> words_of(const bake::Target& target, const Invocation& bake, const std::map<std::string, std::string>& images) {
  std::vector<std::string> words{"build"};
  auto add = [&](std::string_view flag, const std::string& value) {
    if (!value.empty()) words.push_back(concat("--", flag, "=", value));
  };
  if (!target.dockerfile.empty() && target.dockerfile_inline.empty()) add("file", is_remote(target.context) || target.dockerfile.starts_with('/') ? target.dockerfile : concat(target.context, "/", target.dockerfile));
  add("target", target.target);
  add("network", target.network);
  add("shm-size", target.shm_size);
  add("platform", join(target.platforms, ","));
  for (const auto& [name, value] : target.arguments) add("build-arg", concat(name, "=", value));
  for (const auto& [name, value] : target.labels) add("label", concat(name, "=", value));
  for (const auto& [name, value] : target.contexts) {
    if (value.starts_with(target_scheme)) {
      const auto& image = images.at(value.substr(target_scheme.size()));  // --call makes none
      if (!image.empty()) add("build-context", concat(name, "=docker-image://", image));
    } else add("build-context", concat(name, "=", value));
  }
  for (const auto& [flag, list] : {std::pair("no-cache-filter", &target.no_cache_stages), std::pair("annotation", &target.annotations), std::pair("tag", &target.tags), std::pair("cache-from", &target.cache_from), std::pair("cache-to", &target.cache_to), std::pair("output", &target.outputs),
                                   std::pair("secret", &target.secrets), std::pair("ssh", &target.ssh), std::pair("attest", &target.attestations), std::pair("ulimit", &target.ulimits), std::pair("allow", &target.entitlements), std::pair("add-host", &target.extra_hosts)})
    for (const auto& value : *list) add(flag, value);
  if (target.no_cache || bake.flag("no-cache")) words.emplace_back("--no-cache");
  if (target.pull || bake.flag("pull")) words.emplace_back("--pull");
  if (bake.flag("push")) words.emplace_back("--push");
  if (bake.flag("check")) words.emplace_back("--check");
  else add("call", bake.has("call") ? std::string(bake.text("call")) : target.call);
  if (bake.has("debug-shell")) words.push_back(concat("--debug-shell=", bake.text("debug-shell")));
  if (bake.text("progress") == "quiet") words.emplace_back("--quiet");
  words.push_back(target.context);
  return words;
}

/// Hands on what comes through a pipe, each line with its target's name before it.
class LinePrefixer {
 public:
  LinePrefixer(std::string name, UniqueFd from, Output& to, std::mutex& mutex) : prefix_(concat("[", name, "] ")), from_(std::move(from)), to_(to), mutex_(mutex), thread_([this] { run(); }) {}
  LinePrefixer(const LinePrefixer&) = delete;
  LinePrefixer& operator=(const LinePrefixer&) = delete;
  ~LinePrefixer() { thread_.join(); }

  /// Returns once all that was written to `end`, the pipe's other end, is out. What is half a line stays for the rest of it.
  Status drain(int end) {
    std::unique_lock lock(drain_mutex_);
    is_draining_ = true;
    TRY_PLAIN(linux::write_all(end, std::string_view(&mark, 1)));
    drained_.wait(lock, [this] { return !is_draining_; });
    return {};
  }

 private:
  static constexpr char mark = '\0';

  void run() {
    std::string buffer(16U << 10U, '\0');
    std::string line;
    while (true) {
      auto got = linux::read(from_.get(), buffer);
      if (!got.ok() || *got == 0) break;
      for (char c : std::string_view(buffer).substr(0, *got)) {
        if (c == mark && end_drain()) continue;
        if (c != '\n') line += c;
        else print(line);
      }
    }
    if (!line.empty()) print(line);
    end_drain();  // what comes no more is out, too
  }
  /// False: nobody waits, and the byte is the build's own.
  bool end_drain() {
    std::lock_guard lock(drain_mutex_);
    drained_.notify_all();
    return std::exchange(is_draining_, false);
  }
  void print(std::string& line) {
    std::lock_guard lock(mutex_);
    to_.line(prefix_ + line);
    ignore(to_.flush());  // the first failure is kept, and ends the command where it ends
    line.clear();
  }
  std::string prefix_;
  UniqueFd from_;
  Output& to_;
  std::mutex& mutex_;
  std::mutex drain_mutex_;
  std::condition_variable drained_;
  bool is_draining_ = false;
  std::thread thread_;  // the last: it uses the others
};

class Baker {
 public:
  Baker(Session& session, const Invocation& invocation, const bake::Plan& plan) : session_(session), invocation_(invocation), plan_(plan) {}

  Status run() {
    const bool has_shell = invocation_.has("debug-shell");
    const auto count = std::min(most_at_once, plan_.targets.size());
    std::vector<std::thread> others;
    working_ = has_shell ? count : 0;
    for (std::size_t i = has_shell ? 0 : 1; i < count; ++i) others.emplace_back([this, has_shell] { has_shell ? work_beside() : work(); });
    if (has_shell) carry_shell();
    else work();
    for (auto& thread : others) thread.join();
    if (failure_) return std::move(*failure_);
    if (const auto file = invocation_.text("metadata-file"); !file.empty()) TRY(write_output_file(std::string(file), to_text(metadata_) + "\n"), "--metadata-file");
    return {};
  }

 private:
  [[nodiscard]] bool is_ready(const bake::Target& target) const {
    return std::all_of(target.contexts.begin(), target.contexts.end(), [&](const auto& context) { return !context.second.starts_with(target_scheme) || images_.contains(context.second.substr(target_scheme.size())); });
  }

  /// The next one whose needs are met; nullptr when all are begun or one has failed.
  const bake::Target* take() {
    std::unique_lock lock(mutex_);
    while (true) {
      if (failure_ || shell_ != Shell::unused || begun_.size() == plan_.targets.size()) return nullptr;
      for (const auto& target : plan_.targets) {
        if (begun_.contains(target.name) || !is_ready(target)) continue;
        begun_.insert(target.name);
        return &target;
      }
      changed_.wait(lock);
    }
  }

  void work() {
    while (const auto* target = take()) {
      auto image = build(*target);
      std::lock_guard lock(mutex_);
      if (image.ok()) images_[target->name] = std::move(*image);
      else if (!failure_ || target->name == shell_target_)  // which failed first, and waited for its shell
        failure_ = std::move(image).error().in(concat("target ", target->name));
      changed_.notify_all();
    }
  }

  void work_beside() {
    auto left = leave_signals_to_the_main_thread();
    if (left.ok()) work();
    std::lock_guard lock(mutex_);
    if (!left.ok() && !failure_) failure_ = std::move(left).error();
    --working_;
    changed_.notify_all();
  }

  /// In the main thread, which alone takes signals: waits until a target has a shell to offer, and until all have ended.
  void carry_shell() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return working_ == 0 || shell_ == Shell::offered; });
      if (shell_ != Shell::offered) return;
      shell_ = Shell::open;
      const auto* offered = offered_;
      lock.unlock();
      auto entered = [&] {
        std::lock_guard quiet(output_mutex_);  // the terminal is the shell's: the others wait with what they have to say
        return enter_debug_shell(session_, *offered);
      }();
      lock.lock();
      entered_ = std::move(entered);
      shell_ = Shell::ended;
      changed_.notify_all();
    }
  }

  /// Of the first target that fails; the others end as they would have without one.
  Status take_shell(const OfferedShell& shell, const std::string& name, Session& own, const std::function<Status()>& drain) {
    if (shell.container.empty()) return decline_debug_shell(own, shell, shell.problem);
    std::unique_lock lock(mutex_);
    if (shell_ != Shell::unused) {
      const auto other = shell_target_;
      lock.unlock();
      return decline_debug_shell(own, shell, concat("target ", other, " failed first and has it"));
    }
    shell_ = Shell::reserved;
    shell_target_ = name;
    offered_ = &shell;
    changed_.notify_all();  // no further target is begun
    lock.unlock();
    auto drained = drain();
    lock.lock();
    shell_ = Shell::offered;
    changed_.notify_all();
    changed_.wait(lock, [this] { return shell_ == Shell::ended; });
    TRY_PLAIN(std::move(drained));
    return std::exchange(entered_, Status());
  }

  Result<std::string> build(const bake::Target& target) {
    std::vector<std::string> words;
    {
      std::lock_guard lock(mutex_);
      words = words_of(target, invocation_, images_);
    }
    std::optional<UsageError> problem;
    auto parsed = parse_command_line(words, problem);
    if (problem) return Error(ErrorKind::invalid, problem->text);
    auto out = TRY_PLAIN(linux::pipe2(O_CLOEXEC));
    auto err = TRY_PLAIN(linux::pipe2(O_CLOEXEC));
    LinePrefixer out_lines(target.name, std::move(out.read_end), session_.out(), output_mutex_);
    LinePrefixer err_lines(target.name, std::move(err.read_end), session_.err(), output_mutex_);
    // They end before the readers do, and close what these read.
    const UniqueFd out_end = std::move(out.write_end);
    const UniqueFd err_end = std::move(err.write_end);
    Session own(session_.global(), out_end.get(), err_end.get());
    BuildWish wish;
    wish.inline_dockerfile = target.dockerfile_inline;
    wish.take_shell = [&](const OfferedShell& shell) {
      return take_shell(shell, target.name, own, [&]() -> Status {
        TRY_PLAIN(own.out().flush());
        TRY_PLAIN(own.err().flush());
        TRY_PLAIN(out_lines.drain(out_end.get()));
        return err_lines.drain(err_end.get());
      });
    };
    json::object metadata;
    if (invocation_.has("metadata-file")) wish.metadata = &metadata;
    auto image = TRY_PLAIN(run_build(own, parsed.invocation, wish));
    std::lock_guard lock(mutex_);
    if (!metadata.empty()) metadata_[target.name] = std::move(metadata);
    return image;
  }

  Session& session_;
  const Invocation& invocation_;
  const bake::Plan& plan_;
  std::mutex mutex_;
  std::mutex output_mutex_;
  std::condition_variable changed_;
  std::set<std::string> begun_;
  std::map<std::string, std::string> images_;
  json::object metadata_;  ///< by target
  std::optional<Error> failure_;
  enum class Shell : std::uint8_t { unused, reserved, offered, open, ended };
  Shell shell_ = Shell::unused;
  const OfferedShell* offered_ = nullptr;  ///< its target waits
  std::string shell_target_;
  Status entered_;
  std::size_t working_ = 0;                ///< threads beside the main one, with --debug-shell
};

/// --list: "targets", "variables", or fields with a format.
struct ListWish {
  std::string type;
  bool is_json = false;
};

Result<ListWish> parse_list(std::string_view text) {
  ListWish wish;
  for (auto field : split(text, ',')) {
    const auto halves = split_once(field, '=');
    const auto value = halves.found ? halves.after : halves.before;
    if (!halves.found || halves.before == "type") wish.type = value;
    else if (halves.before == "format" && (value == "json" || value == "table")) wish.is_json = value == "json";
    else return Error(ErrorKind::invalid, concat("--list ", text, ": want targets, variables, or type=TYPE,format=json|table"));
  }
  if (wish.type != "targets" && wish.type != "variables") return Error(ErrorKind::invalid, concat("--list ", text, ": there are targets and variables"));
  return wish;
}

std::string shown_value(const json::value& value) {
  if (value.is_null()) return "<null>";
  return value.is_string() ? std::string(value.get_string()) : to_text(value);
}

void print_contents(Output& out, const bake::Contents& contents, const ListWish& wish) {
  json::array items;
  std::vector<std::vector<std::string>> rows;
  if (wish.type == "targets") {
    rows.push_back({"TARGET", "DESCRIPTION"});
    for (const auto& target : contents.targets) {
      rows.push_back({target.name, target.description});
      items.push_back(json::object{{"name", target.name}, {"description", target.description}, {"group", target.is_group}});
    }
  } else {
    rows.push_back({"VARIABLE", "VALUE", "DESCRIPTION"});
    for (const auto& variable : contents.variables) {
      rows.push_back({variable.name, shown_value(variable.value), variable.description});
      items.push_back(json::object{{"name", variable.name}, {"value", variable.value}, {"description", variable.description}});
    }
  }
  if (wish.is_json) out.line(indented_json(items));
  else out.write(align(rows));
}

}  // namespace

Result<int> bake_targets(Session& session, const Invocation& invocation) {
  bake::Request request;
  const auto files = invocation.list("file");
  if (invocation.has("debug-shell") && std::find(files.begin(), files.end(), "-") != files.end()) return Error(ErrorKind::invalid, "--debug-shell needs standard input, which is the build file here");
  request.files = TRY_PLAIN(read_files(invocation.list("file")));
  request.wanted = invocation.words();
  request.overrides = invocation.list("set");
  request.environment = [](const std::string& name) -> std::optional<std::string> {
    const char* value = environment(name.c_str());
    return value == nullptr ? std::nullopt : std::optional<std::string>(value);
  };
  if (invocation.has("list")) {
    const auto wish = TRY_PLAIN(parse_list(invocation.text("list")));
    print_contents(session.out(), TRY_PLAIN(bake::contents(request)), wish);
    return 0;
  }
  auto plan = TRY_PLAIN(bake::plan(request));
  if (invocation.flag("print")) {
    session.out().line(indented_json(bake::plan_json(plan)));
    return 0;
  }
  TRY_PLAIN(Baker(session, invocation, plan).run());
  return 0;
}

}  // namespace caisson::cli
