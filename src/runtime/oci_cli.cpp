// Flags, dispatch and help of the OCI command line: the union of crun's and runc's.
#include "runtime/oci_cli.hpp"

#include <algorithm>
#include <array>
#include <span>

#include "base/environment.hpp"
#include "linux/file.hpp"
#include "linux/idmap.hpp"
#include "linux/process.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

struct Flag {
  std::string_view name;
  char letter = 0;
  bool takes_value = false;
};

constexpr Flag create_flags[] = {{"bundle", 'b', true}, {"config", 'f', true}, {"console-socket", 0, true},
                                 {"no-pivot"},          {"no-new-keyring"},    {"preserve-fds", 0, true},
                                 {"pid-file", 0, true}, {"no-subreaper"},      {"pidfd-socket", 0, true}};
constexpr Flag run_flags[] = {{"bundle", 'b', true},
                              {"config", 'f', true},
                              {"console-socket", 0, true},
                              {"no-pivot"},
                              {"no-new-keyring"},
                              {"preserve-fds", 0, true},
                              {"pid-file", 0, true},
                              {"no-subreaper"},
                              {"pidfd-socket", 0, true},
                              {"detach", 'd'},
                              {"keep"}};
constexpr Flag exec_flags[] = {
    {"process", 'p', true},      {"cwd", 0, true},           {"env", 'e', true},    {"tty", 't'},
    {"user", 'u', true},         {"cap", 'c', true},         {"detach", 'd'},       {"pid-file", 0, true},
    {"console-socket", 0, true}, {"preserve-fds", 0, true},  {"no-new-privs"},      {"additional-gids", 'g', true},
    {"ignore-paused"},           {"process-label", 0, true}, {"apparmor", 0, true}, {"cgroup", 0, true},
    {"pidfd-socket", 0, true}};
constexpr Flag kill_flags[] = {{"all", 'a'}, {"regex", 'r'}};
constexpr Flag delete_flags[] = {{"force", 'f'}, {"regex", 'r'}};
constexpr Flag list_flags[] = {{"quiet", 'q'}, {"format", 'f', true}};
constexpr Flag ps_flags[] = {{"format", 'f', true}};
constexpr Flag spec_flags[] = {{"bundle", 'b', true}, {"file", 'f', true}, {"rootless"}};
constexpr Flag events_flags[] = {{"stats"}, {"interval", 0, true}};
constexpr Flag update_flags[] = {
    {"resources", 'r', true},        {"blkio-weight", 0, true},    {"cpu-period", 0, true},     {"cpu-quota", 0, true},
    {"cpu-share", 0, true},          {"cpu-rt-period", 0, true},   {"cpu-rt-runtime", 0, true}, {"cpu-burst", 0, true},
    {"cpu-idle", 0, true},           {"cpuset-cpus", 0, true},     {"cpuset-mems", 0, true},    {"memory", 0, true},
    {"memory-reservation", 0, true}, {"memory-swap", 0, true},     {"pids-limit", 0, true},     {"kernel-memory", 0, true},
    {"kernel-memory-tcp", 0, true},  {"l3-cache-schema", 0, true}, {"mem-bw-schema", 0, true}};
constexpr Flag checkpoint_flags[] = {
    {"image-path", 0, true}, {"work-path", 0, true},   {"parent-path", 0, true}, {"leave-running"}, {"tcp-established"},
    {"tcp-skip-in-flight"},  {"link-remap"},           {"ext-unix-sk"},          {"shell-job"},     {"lazy-pages"},
    {"status-fd", 0, true},  {"page-server", 0, true}, {"file-locks"},           {"pre-dump"},      {"manage-cgroups-mode", 0, true},
    {"empty-ns", 0, true},   {"auto-dedup"},           {"network-lock", 0, true}};
constexpr Flag restore_flags[] = {{"bundle", 'b', true},
                                  {"config", 'f', true},
                                  {"image-path", 0, true},
                                  {"work-path", 0, true},
                                  {"detach", 'd'},
                                  {"pid-file", 0, true},
                                  {"console-socket", 0, true},
                                  {"tcp-established"},
                                  {"tcp-close"},
                                  {"ext-unix-sk"},
                                  {"shell-job"},
                                  {"file-locks"},
                                  {"manage-cgroups-mode", 0, true},
                                  {"lsm-profile", 0, true},
                                  {"lsm-mount-context", 0, true},
                                  {"network-lock", 0, true},
                                  {"no-subreaper"},
                                  {"no-pivot"},
                                  {"empty-ns", 0, true},
                                  {"auto-dedup"},
                                  {"lazy-pages"}};

struct Command {
  std::string_view name;
  Result<int> (*run)(OciContext&);
  std::span<const Flag> flags;
  std::string_view words;
  int error_code = 1;
  bool stops_at_word = false;  ///< what follows the first word is not ours to read
};

constexpr std::array commands{Command{"create", oci_create, create_flags, "ID"},
                              Command{"run", oci_run, run_flags, "ID"},
                              Command{"start", oci_start, {}, "ID"},
                              Command{"state", oci_state, {}, "ID"},
                              Command{"exec", oci_exec, exec_flags, "ID [COMMAND [ARGUMENT...]]", 255, true},
                              Command{"kill", oci_kill, kill_flags, "ID [SIGNAL]", 1, true},
                              Command{"delete", oci_delete, delete_flags, "ID"},
                              Command{"list", oci_list, list_flags, ""},
                              Command{"ps", oci_ps, ps_flags, "ID [PS-ARGUMENT...]", 1, true},
                              Command{"pause", oci_pause, {}, "ID"},
                              Command{"resume", oci_resume, {}, "ID"},
                              Command{"update", oci_update, update_flags, "ID"},
                              Command{"events", oci_events, events_flags, "ID"},
                              Command{"spec", oci_spec, spec_flags, ""},
                              Command{"features", oci_features, {}, ""},
                              Command{"mounts", oci_mounts, {}, "add|remove ID FILE"},
                              Command{"checkpoint", oci_checkpoint, checkpoint_flags, "ID"},
                              Command{"restore", oci_restore, restore_flags, "ID"}};

constexpr Flag global_flags[] = {{"root", 0, true},
                                 {"log", 0, true},
                                 {"log-format", 0, true},
                                 {"log-level", 0, true},
                                 {"debug"},
                                 {"systemd-cgroup"},
                                 {"cgroup-manager", 0, true},
                                 {"rootless", 0, true},
                                 {"criu", 0, true},
                                 {"version", 'v'},
                                 {"version", 'V'},
                                 {"help", 'h'}};

const Flag* find_flag(std::span<const Flag> flags, std::string_view name, char letter) {
  for (const auto& flag : flags)
    if ((letter == 0 && flag.name == name) || (letter != 0 && flag.letter == letter)) return &flag;
  return nullptr;
}

bool asks_for_help(std::string_view name) { return name == "h" || name == "?" || name == "help" || name == "usage"; }

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
    if (asks_for_help(halves.before)) {
      out.values["help"].emplace_back("true");
      continue;
    }
    // Go's flag package takes one dash for long names too, and callers use it.
    const Flag* flag =
        !is_long && halves.before.size() == 1 ? find_flag(flags, "", halves.before[0]) : find_flag(flags, halves.before, 0);
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

std::string flag_lines(std::span<const Flag> flags) {
  std::string out;
  for (const auto& flag : flags) {
    const std::string letter = flag.letter == 0 ? std::string("    ") : concat("-", flag.letter, ", ");
    out += concat("  ", letter, "--", flag.name, flag.takes_value ? " VALUE" : "", "\n");
  }
  return out;
}

std::string general_help() {
  std::string out = "usage: caisson-runtime [FLAG...] COMMAND [FLAG...] [ID]\n\nflags:\n";
  out += flag_lines(global_flags);
  out += "\ncommands (COMMAND --help shows its flags):\n";
  for (const auto& command : commands) out += concat("  ", command.name, command.words.empty() ? "" : " ", command.words, "\n");
  return out;
}

std::string command_help(const Command& command) {
  const std::string head = concat("usage: caisson-runtime ", command.name, command.flags.empty() ? "" : " [FLAG...]",
                                  command.words.empty() ? "" : " ", command.words, "\n");
  return command.flags.empty() ? head : concat(head, "\nflags:\n", flag_lines(command.flags));
}

std::string default_root() {
  const bool is_user = linux::geteuid() != 0;
  const char* folder = environment("XDG_RUNTIME_DIR");
  // Root of a user namespace is a user too (podman runs us so); root itself may have the variable from whom it was before sudo.
  if (folder != nullptr && *folder != '\0' && (is_user || !linux::in_initial_user_namespace())) return concat(folder, "/caisson-runtime");
  // Where logind makes it. Never in /tmp, where others could have made it before us.
  return is_user ? concat("/run/user/", linux::geteuid(), "/caisson-runtime") : "/run/caisson-runtime";
}

Status read_globals(const OciArguments& arguments, OciGlobals& out) {
  // The log first: what is wrong with the others belongs into it.
  set_destination(out.log, arguments.value("log"));
  const std::string format = arguments.value("log-format", "text");
  if (format != "text" && format != "json")
    return Error(ErrorKind::invalid, concat("invalid log-format \"", format, "\": want text or json"));
  out.log.json = format == "json";
  out.log.level = TRY_PLAIN(parse_log_level(arguments.has("debug") ? "debug" : arguments.value("log-level", "warning")));
  out.root = arguments.has("root") ? arguments.value("root") : default_root();
  if (out.root.find_first_not_of('/') == std::string::npos) return Error(ErrorKind::invalid, "--root: \"/\" is not a state folder");
  const std::string rootless = arguments.value("rootless", "auto");  // crun and we find out ourselves; runc's words are checked
  if (rootless != "auto" && rootless != "true" && rootless != "false")
    return Error(ErrorKind::invalid, concat("--rootless ", rootless, ": want true, false or auto"));
  const std::string manager = arguments.value("cgroup-manager", arguments.has("systemd-cgroup") ? "systemd" : "cgroupfs");
  if (manager != "cgroupfs" && manager != "systemd" && manager != "disabled")
    return Error(ErrorKind::invalid, concat("--cgroup-manager ", manager, ": want cgroupfs, systemd or disabled"));
  out.criu = arguments.value("criu", "criu");
  if (manager == "systemd") out.cgroup_driver = linux::CgroupDriver::systemd;
  else if (manager == "disabled") out.cgroup_driver = linux::CgroupDriver::disabled;
  return {};
}

Result<int> run_command(const Command& command, std::span<const std::string> rest, const OciGlobals& globals) {
  OciContext context{globals, {}, OciStore(globals.root), nullptr};
  const std::size_t taken = TRY_PLAIN(parse_flags(rest, command.flags, command.stops_at_word, context.arguments));
  if (context.arguments.has("help")) {
    TRY_PLAIN(oci_print(command_help(command)));
    return 0;
  }
  for (auto word : rest.subspan(taken)) context.arguments.words.push_back(word);
  // Those that may run us again look for themselves, afterwards; two have no use for cgroups.
  constexpr std::array by_themselves{oci_create, oci_run, oci_exec, oci_spec, oci_features};
  if (std::find(by_themselves.begin(), by_themselves.end(), command.run) == by_themselves.end()) TRY_PLAIN(context.find_cgroups());
  return command.run(context);
}

}  // namespace

Status OciContext::find_cgroups() {
  if (!layout) layout = std::make_shared<const linux::CgroupLayout>(TRY_PLAIN(linux::detect_cgroup_layout()));
  return {};
}

Result<std::string> OciArguments::id() const {
  if (words.size() != 1) return Error(ErrorKind::invalid, "exactly one argument is needed: the container's ID");
  return words[0];
}

int run_oci_command(const std::vector<std::string>& args) {
  OciArguments arguments;
  OciGlobals globals;
  auto fail = [&](const Error& error, int code) {
    report(globals.log, error);
    return code;
  };
  auto used = parse_flags(args, global_flags, true, arguments);
  if (!used) return fail(used.error(), 1);
  if (arguments.has("version"))
    return oci_print(concat("caisson-runtime version ", CAISSON_VERSION, "\ncommit: unknown\nspec: 1.3.0\n")) ? 0 : 1;
  if (arguments.has("help") || *used == args.size()) {
    const auto written = linux::write_all(arguments.has("help") ? 1 : 2, general_help());
    return written && arguments.has("help") ? 0 : 1;
  }
  if (auto read = read_globals(arguments, globals); !read) return fail(read.error(), 1);
  const std::string& name = args[*used];
  const auto* command = std::find_if(commands.begin(), commands.end(), [&](const Command& known) { return known.name == name; });
  if (command == commands.end()) return fail(Error(ErrorKind::invalid, concat("unknown command \"", name, "\"")), 1);
  auto outcome = run_command(*command, std::span<const std::string>(args).subspan(*used + 1), globals);
  return outcome ? *outcome : fail(outcome.error(), command->error_code);
}

}  // namespace caisson::runtime
