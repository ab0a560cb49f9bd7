// state, kill, pause, resume and delete, and what all commands need to find a container.
#include <regex.h>

#include <array>

#include "linux/event.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/resctrl.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

Status oci_print(std::string_view text) { return linux::write_all(1, text); }

Result<OciState> oci_load(const OciContext& context) { return context.store.load(TRY_PLAIN(context.arguments.id())); }

Result<linux::Cgroup> oci_cgroup(const OciContext& context, const OciState& state) {
  if (state.cgroup_path.empty()) return Error(ErrorKind::unsupported, "the container is not using cgroups: it has no cgroup of its own");
  // With a hierarchy that other containers are not in; the record has it.
  const bool has_named = state.annotations.contains(force_cgroup_v1) && !state.cgroup_layout.hierarchies.empty();
  return linux::Cgroup::open(has_named ? std::make_shared<const linux::CgroupLayout>(state.cgroup_layout) : context.layout, state.cgroup_path);
}

Result<UniqueFd> open_init(const OciState& state) {
  auto pidfd = linux::pidfd_open(state.pid);
  if (!pidfd && pidfd.error().kind() != ErrorKind::not_found) return pidfd;
  const OciProcess init{state.pid, state.start_time};
  // Between the look and the open the pid may have been given to another process.
  if (!pidfd || !TRY_PLAIN(init.lives())) return Error(ErrorKind::conflict, "container not running");
  return pidfd;
}

Result<std::vector<std::string>> matching_ids(const OciStore& store, const std::string& expression) {
  regex_t compiled;
  const int bad = regcomp(&compiled, expression.c_str(), REG_EXTENDED | REG_NOSUB);
  if (bad != 0) {
    std::array<char, 256> reason{};
    regerror(bad, &compiled, reason.data(), reason.size());
    return Error(ErrorKind::invalid, concat("invalid regular expression \"", expression, "\": ", reason.data()));
  }
  auto ids = store.ids();
  std::vector<std::string> out;
  if (ids)
    for (auto& id : *ids)
      if (regexec(&compiled, id.c_str(), 0, nullptr, 0) == 0) out.push_back(std::move(id));
  regfree(&compiled);
  if (!ids) return std::move(ids).error();
  return out;
}

// --- signals -------------------------------------------------------------------------------------------------------

namespace {

/// "RTMIN+3", "RTMAX-1" (kill(1)); glibc's numbers, as everybody's kill takes them.
std::optional<int> realtime_signal(std::string_view name) {
  for (auto [word, base] : {std::pair<std::string_view, int>{"RTMIN", SIGRTMIN}, {"RTMAX", SIGRTMAX}}) {
    if (!name.starts_with(word)) continue;
    name.remove_prefix(word.size());
    const char direction = word == "RTMIN" ? '+' : '-';
    if (name.empty()) return base;
    auto offset = parse_integer<int>(name.substr(1));
    if (name[0] != direction || !offset || *offset < 0) return std::nullopt;
    const int number = direction == '+' ? base + *offset : base - *offset;
    if (number >= SIGRTMIN && number <= SIGRTMAX) return number;
  }
  return std::nullopt;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return out;
}

}  // namespace

Result<int> parse_signal(std::string_view text) {
  static constexpr std::array<std::string_view, 32> names{"",       "HUP",  "INT",    "QUIT", "ILL",   "TRAP", "ABRT", "BUS",
                                                          "FPE",    "KILL", "USR1",   "SEGV", "USR2",  "PIPE", "ALRM", "TERM",
                                                          "STKFLT", "CHLD", "CONT",   "STOP", "TSTP",  "TTIN", "TTOU", "URG",
                                                          "XCPU",   "XFSZ", "VTALRM", "PROF", "WINCH", "IO",   "PWR",  "SYS"};
  static constexpr std::pair<std::string_view, int> aliases[] = {{"IOT", SIGABRT}, {"CLD", SIGCHLD}, {"POLL", SIGIO}};
  const Error unknown(ErrorKind::invalid, concat("unknown signal \"", text, "\""));
  if (auto number = parse_integer<int>(text)) {
    if (*number >= 0 && *number <= 64) return *number;
    return unknown;
  }
  const std::string whole = upper(text);
  const std::string_view name = std::string_view(whole).substr(whole.starts_with("SIG") ? 3 : 0);
  for (std::size_t i = 1; i < names.size(); ++i)
    if (names[i] == name) return static_cast<int>(i);
  for (const auto& [alias, number] : aliases)
    if (alias == name) return number;
  if (auto number = realtime_signal(name)) return *number;
  return unknown;
}

namespace {

Status kill_everything(const OciContext& context, const OciState& state, int signal) {
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  if (!cgroup.exists()) return {};
  if (signal == SIGKILL) return cgroup.kill_all();
  for (int pid : TRY_PLAIN(cgroup.pids())) ignore(linux::kill(pid, signal));  // one that has just ended is no error
  return {};
}

Status kill_init(const OciContext& context, const OciState& state, int signal) {
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::stopped || status == OciStatus::creating) return Error(ErrorKind::conflict, "container not running");
  auto pidfd = TRY_PLAIN(open_init(state));
  auto sent = linux::pidfd_send_signal(pidfd.get(), signal);
  if (!sent && sent.error().kind() == ErrorKind::not_found) return Error(ErrorKind::conflict, "container not running");
  TRY_PLAIN(std::move(sent));
  // A frozen process dies only once it is thawed.
  if (status == OciStatus::paused && signal == SIGKILL)
    if (auto cgroup = oci_cgroup(context, state)) return cgroup->thaw();
  return {};
}

Status kill_container(const OciContext& context, const std::string& id, int signal) {
  auto state = TRY_PLAIN(context.store.load(id));
  // Without a cgroup of its own the container's processes are those that end with its init.
  if (context.arguments.has("all") && !state.cgroup_path.empty()) return kill_everything(context, state, signal);
  auto killed = kill_init(context, state, signal);
  if (context.arguments.has("all") && !killed && killed.error().kind() == ErrorKind::conflict) return {};
  return killed;
}

}  // namespace

Result<int> oci_kill(OciContext& context) {
  const auto& words = context.arguments.words;
  if (words.empty() || words.size() > 2) return Error(ErrorKind::invalid, "kill needs the container's ID and perhaps a signal");
  const int signal = TRY_PLAIN(parse_signal(words.size() > 1 ? words[1] : "TERM"));
  if (!context.arguments.has("regex")) {
    TRY_PLAIN(kill_container(context, words[0], signal));
    return 0;
  }
  int code = 0;
  for (const auto& id : TRY_PLAIN(matching_ids(context.store, words[0])))
    if (auto killed = kill_container(context, id, signal); !killed) {
      report(context.globals.log, std::move(killed).error().in(concat("container ", id)));
      code = 1;
    }
  return code;
}

// --- state, pause, resume ------------------------------------------------------------------------------------------

Result<int> oci_state(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  TRY_PLAIN(oci_print(concat(to_text(state_json(state, status)), "\n")));
  return 0;
}

Result<int> oci_pause(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status != OciStatus::running && status != OciStatus::created) return Error(ErrorKind::conflict, "container not running");
  if (state.cgroup_path.empty()) return Error(ErrorKind::unsupported, "cannot pause the container without a cgroup: it has no cgroup of its own");
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  TRY_PLAIN(cgroup.freeze());
  return 0;
}

Result<int> oci_resume(OciContext& context) {
  auto state = TRY_PLAIN(oci_load(context));
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  if (status == OciStatus::running && state.cgroup_path.empty())
    return Error(ErrorKind::unsupported, "cannot resume the container without a cgroup: it has no cgroup of its own");
  if (status != OciStatus::paused) return Error(ErrorKind::conflict, "container not paused");
  auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
  TRY_PLAIN(cgroup.thaw());
  return 0;
}

// --- delete --------------------------------------------------------------------------------------------------------

Status oci_destroy(OciContext& context, const OciState& state, const Spec* spec) {
  std::optional<Spec> loaded;
  if (spec == nullptr)
    if (auto read = context.store.load_spec(state.id)) spec = &loaded.emplace(std::move(read).value());
  if (!state.cgroup_path.empty()) {
    auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
    // Empty as a rule, and then it goes at once; only where something lives in it must that be frozen and killed first.
    if (auto gone = cgroup.remove(0); !gone) {
      if (cgroup.exists()) TRY(cgroup.kill_all(), "delete");
      TRY(cgroup.remove(), "delete");
    }
  }
  TRY(linux::ResctrlGroup::remove(state.resctrl_folders), "delete");
  context.store.forget(state.id);
  // The container is gone whatever these say (runtime-spec: a failure is only worth a warning).
  if (spec != nullptr)
    if (auto done = run_hooks(spec->hooks.poststop, "poststop", state, OciStatus::stopped, HookPlace::runtime_namespaces); !done) {
      write_log(context.globals.log, OciLogLevel::warning, done.error().text());
      ignore(linux::write_all(2, concat("warning: ", done.error().text(), "\n")));  // nobody is left to be told
    }
  return {};
}

namespace {

/// Kills a process unless its pid is another's by now, and waits until it is gone.
Status end_process(const OciProcess& process, linux::Cgroup* cgroup) {
  if (process.pid <= 0) return {};
  auto pidfd = linux::pidfd_open(process.pid);
  if (!pidfd && pidfd.error().kind() == ErrorKind::not_found) return {};
  if (!pidfd) return std::move(pidfd).error();  // it may run on
  if (!TRY_PLAIN(process.lives())) return {};
  ignore(linux::pidfd_send_signal(pidfd->get(), SIGKILL));  // it may end by itself meanwhile
  if (cgroup != nullptr) ignore(cgroup->thaw());            // only a frozen process needs it; the wait below tells when it failed
  constexpr int timeout_ms = 10'000;
  if (TRY(linux::wait_readable(pidfd->get(), timeout_ms), "delete")) return {};
  return Error(ErrorKind::timeout, concat("delete: process ", process.pid, " does not die"));
}

}  // namespace

Status oci_delete_container(OciContext& context, const std::string& id, bool force) {
  auto loaded = context.store.load(id);
  if (!loaded) {
    if (!force || loaded.error().kind() != ErrorKind::not_found) return std::move(loaded).error();
    // A create that was killed before its first record leaves an empty folder; anything else it makes comes after the record.
    context.store.forget(id);
    return {};
  }
  const OciState& state = *loaded;
  const auto status = TRY_PLAIN(status_of(state, context.store, context.layout));
  // "created" is killed and deleted without force by both peers, and callers rely on it.
  if (status != OciStatus::stopped && status != OciStatus::created && !force)
    return Error(ErrorKind::conflict, concat("cannot delete container ", id, " that is not stopped: ", to_string(status)));
  std::optional<linux::Cgroup> cgroup;
  if (!state.cgroup_path.empty()) cgroup = TRY_PLAIN(linux::Cgroup::open(context.layout, state.cgroup_path));
  // A creator that still works would go on making things behind our back.
  if (state.creator) TRY_PLAIN(end_process(*state.creator, nullptr));
  TRY_PLAIN(end_process({state.pid, state.start_time}, cgroup ? &*cgroup : nullptr));
  return oci_destroy(context, state);
}

Result<int> oci_delete(OciContext& context) {
  const bool force = context.arguments.has("force");
  const std::string id = TRY_PLAIN(context.arguments.id());
  if (!context.arguments.has("regex")) {
    TRY_PLAIN(oci_delete_container(context, id, force));
    return 0;
  }
  int code = 0;
  for (const auto& match : TRY_PLAIN(matching_ids(context.store, id)))
    if (auto deleted = oci_delete_container(context, match, force); !deleted) {
      report(context.globals.log, std::move(deleted).error().in(concat("container ", match)));
      code = 1;
    }
  return code;
}

}  // namespace caisson::runtime
