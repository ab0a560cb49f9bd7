// Flags, dispatch, and how errors are told: on standard error, and in the log file that containerd's shim reads.
#include "runtime/oci_cli.hpp"

#include <array>
#include <cstdlib>
#include <span>

#include "linux/file.hpp"
#include "linux/process.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

struct Flag {
  std::string_view name;
  char letter = 0;
  bool takes_value = false;
};

constexpr Flag create_flags[] = {{"bundle", 'b', true},        {"config", 'f', true},       {"console-socket", 0, true}, {"no-pivot"},
                                 {"no-new-keyring"},           {"preserve-fds", 0, true},   {"pid-file", 0, true},       {"no-subreaper"},
                                 {"detach", 'd'},              {"keep"}};
constexpr Flag exec_flags[] = {{"process", 'p', true}, {"cwd", 0, true},         {"env", 'e', true},        {"tty", 't'},
                               {"user", 'u', true},    {"cap", 'c', true},       {"detach", 'd'},           {"pid-file", 0, true},
                               {"console-socket", 0, true}, {"preserve-fds", 0, true}, {"no-new-privs"},    {"additional-gids", 'g', true},
                               {"ignore-paused"}};
constexpr Flag kill_flags[] = {{"all", 'a'}};
constexpr Flag delete_flags[] = {{"force", 'f'}};
constexpr Flag list_flags[] = {{"quiet", 'q'}, {"format", 'f', true}};
constexpr Flag spec_flags[] = {{"bundle", 'b', true}, {"file", 'f', true}, {"rootless"}};
constexpr Flag update_flags[] = {{"resources", 'r', true},   {"blkio-weight", 0, true}, {"cpu-period", 0, true},         {"cpu-quota", 0, true},
                                 {"cpu-share", 0, true},     {"cpu-rt-period", 0, true}, {"cpu-rt-runtime", 0, true},    {"cpu-burst", 0, true},
                                 {"cpu-idle", 0, true},      {"cpuset-cpus", 0, true},  {"cpuset-mems", 0, true},        {"memory", 0, true},
                                 {"memory-reservation", 0, true}, {"memory-swap", 0, true}, {"pids-limit", 0, true}};

struct Command {
  std::string_view name;
  Result<int> (*run)(OciContext&);
  std::span<const Flag> flags;
  int error_code = 1;
  bool stops_at_word = false;  ///< what follows the first word is the program's
};

constexpr std::array commands{
    Command{"create", oci_create, create_flags}, Command{"run", oci_run, create_flags},
    Command{"start", oci_start, {}},             Command{"state", oci_state, {}},
    Command{"exec", oci_exec, exec_flags, 255, true},
    Command{"kill", oci_kill, kill_flags},       Command{"delete", oci_delete, delete_flags},
    Command{"list", oci_list, list_flags},       Command{"ps", oci_ps, list_flags},
    Command{"pause", oci_pause, {}},             Command{"resume", oci_resume, {}},
    Command{"update", oci_update, update_flags}, Command{"spec", oci_spec, spec_flags},
    Command{"features", oci_features, {}}};

constexpr Flag global_flags[] = {{"root", 0, true},         {"log", 0, true},          {"log-format", 0, true}, {"log-level", 0, true}, {"debug"},
                                 {"systemd-cgroup"},        {"cgroup-manager", 0, true}, {"rootless", 0, true}, {"version", 'v'},       {"help", 'h'}};

const Flag* find_flag(std::span<const Flag> flags, std::string_view name, char letter) {
  for (const auto& flag : flags)
    if ((letter == 0 && flag.name == name) || (letter != 0 && flag.letter == letter)) return &flag;
  return nullptr;
}

/// Reads flags until the first word (`stop`) or to the end. Returns how many of `args` were used.
Result<std::size_t> parse_flags(std::span<const std::string> args, std::span<const Flag> flags, bool stop, OciArguments& out) {
  std::size_t i = 0;
  for (; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      out.words.insert(out.words.end(), args.begin() + static_cast<std::ptrdiff_t>(i) + 1, args.end());
      return args.size();
    }
    if (arg.size() < 2 || arg[0] != '-') {
      if (stop) break;
      out.words.push_back(arg);
      continue;
    }
    const bool is_long = arg[1] == '-';
    auto halves = split_once(std::string_view(arg).substr(is_long ? 2 : 1), '=');
    // Go's flag package takes one dash for long names too, and callers use it.
    const Flag* flag = !is_long && halves.before.size() == 1 ? find_flag(flags, "", halves.before[0]) : find_flag(flags, halves.before, 0);
    if (flag == nullptr) return Error(ErrorKind::invalid, concat("flag provided but not defined: ", arg));
    std::string value;
    if (!flag->takes_value) {
      if (halves.found && halves.after == "false") continue;
      value = "true";
    } else if (halves.found) {
      value = halves.after;
    } else if (i + 1 < args.size()) {
      value = args[++i];
    } else {
      return Error(ErrorKind::invalid, concat("flag needs an argument: ", arg));
    }
    out.values[std::string(flag->name)].push_back(std::move(value));
  }
  return i;
}

constexpr std::string_view usage =
    "usage: caisson-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND [flags] ID\n"
    "commands: create run start state exec kill delete list ps pause resume update spec features\n";

void report(const OciGlobals& globals, const Error& error) {
  std::string text = error.text();
  if (!globals.log_path.empty()) {
    std::string line;
    if (globals.log_json) line = concat(to_text(json::object{{"level", "error"}, {"msg", text}, {"time", to_rfc3339(now_ns())}}), "\n");
    else line = concat("time=\"", to_rfc3339(now_ns()), "\" level=error msg=", to_text(json::value(text)), "\n");
    // A log that cannot be written must not hide the error itself, which goes to standard error below.
    if (auto file = linux::open(globals.log_path, O_WRONLY | O_APPEND | O_CREAT, 0644)) ignore(linux::write_all(file->get(), line));
  }
  ignore(linux::write_all(2, concat("caisson-runtime: ", text, "\n", error.hint().empty() ? "" : concat("hint: ", error.hint(), "\n"))));
}

std::string default_root() {
  if (linux::geteuid() == 0) return "/run/caisson-runtime";
  const char* folder = std::getenv("XDG_RUNTIME_DIR");
  return concat(folder == nullptr ? "/tmp" : folder, "/caisson-runtime");
}

Result<OciGlobals> read_globals(const OciArguments& arguments) {
  OciGlobals out;
  out.root = arguments.value("root", default_root());
  out.log_path = arguments.value("log");
  if (out.log_path.starts_with("file:")) out.log_path.erase(0, 5);
  if (out.log_path.starts_with("journald:") || out.log_path.starts_with("syslog:"))
    return Error(ErrorKind::unsupported, concat("--log ", out.log_path, ": only files are supported"));
  out.log_json = arguments.value("log-format", "text") == "json";
  out.debug = arguments.has("debug") || arguments.value("log-level") == "debug";
  if (out.root.empty() || out.root == "/") return Error(ErrorKind::invalid, "--root: \"/\" is not a state folder");
  const std::string manager = arguments.value("cgroup-manager", "cgroupfs");
  if (arguments.has("systemd-cgroup") || manager == "systemd")
    return Error(ErrorKind::unsupported, "the systemd cgroup driver is not supported yet").with_hint("use --cgroup-manager cgroupfs");
  if (manager != "cgroupfs") return Error(ErrorKind::unsupported, concat("--cgroup-manager ", manager, " is not supported"));
  return out;
}

}  // namespace

Status OciContext::find_cgroups() {
  if (!layout) layout = std::make_shared<const linux::CgroupLayout>(TRY_PLAIN(linux::detect_cgroup_layout()));
  return {};
}

int run_oci_command(const std::vector<std::string>& args) {
  OciArguments global_arguments;
  OciGlobals globals;
  auto used = parse_flags(args, global_flags, true, global_arguments);
  if (!used) {
    report(globals, used.error());
    return 1;
  }
  if (global_arguments.has("version")) {
    return oci_print(concat("caisson-runtime version ", CAISSON_VERSION, "\ncommit: unknown\nspec: 1.3.0\n")) ? 0 : 1;
  }
  if (global_arguments.has("help") || *used == args.size()) {
    ignore(linux::write_all(global_arguments.has("help") ? 1 : 2, usage));
    return global_arguments.has("help") ? 0 : 1;
  }
  auto read = read_globals(global_arguments);
  if (!read) {
    report(globals, read.error());
    return 1;
  }
  globals = std::move(read).value();
  const std::string& name = args[*used];
  for (const auto& command : commands) {
    if (command.name != name) continue;
    OciContext context{globals, {}, OciStore(globals.root), nullptr};
    std::span<const std::string> rest(args.begin() + static_cast<std::ptrdiff_t>(*used) + 1, args.end());
    auto run = [&]() -> Result<int> {
      const std::size_t taken = TRY_PLAIN(parse_flags(rest, command.flags, command.stops_at_word, context.arguments));
      for (auto word : rest.subspan(taken)) context.arguments.words.push_back(word);
      const bool runs_again = command.run == oci_create || command.run == oci_run || command.run == oci_exec;
      if (!runs_again) TRY_PLAIN(context.find_cgroups());
      return command.run(context);
    };
    auto outcome = run();
    if (outcome) return *outcome;
    report(globals, outcome.error());
    return command.error_code;
  }
  report(globals, Error(ErrorKind::invalid, concat("unknown command \"", name, "\"")));
  return 1;
}

}  // namespace caisson::runtime
