// `security explain` and `security learn`: the box a container is in, what it ran into, and the one it needs.
#include <algorithm>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/request.hpp"
#include "cli/stream.hpp"
#include "linux/event.hpp"
#include "linux/file.hpp"

namespace caisson::cli {

namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;

/// "CAP_NET_RAW" → "NET_RAW".
std::string short_names(std::vector<std::string> names) {
  for (auto& name : names)
    if (name.starts_with("CAP_")) name.erase(0, 4);
  return names.empty() ? "none" : join(names, " ");
}

std::string limit_text(std::int64_t limit, bool is_size) { return limit <= 0 ? "no limit" : is_size ? human_size_binary(static_cast<std::uint64_t>(limit)) : concat(limit); }

/// "user, pid: own; network: host".
std::string namespace_text(const std::map<std::string, std::string>& namespaces) {
  std::map<std::string, std::vector<std::string>> by_kind;
  for (const auto& [name, how] : namespaces) by_kind[how == "own" ? "its own" : how == "host" ? "the host's" : concat("that of ", how)].push_back(name);
  std::vector<std::string> parts;
  for (const auto& [how, names] : by_kind) parts.push_back(concat(join(names, ", "), ": ", how));
  return join(parts, "; ");
}

void print_lines(Output& out, const Lines& lines) {
  constexpr std::size_t width = 14;
  for (const auto& [name, text] : lines) out.line(name.empty() ? concat(std::string(width, ' '), text) : concat(name, std::string(width - std::min(width - 1, name.size()), ' '), text));
}

Status add_seccomp(Lines& lines, const JsonView& view) {
  const auto seccomp = TRY_PLAIN(view.at("Seccomp"));
  std::string profile;
  std::uint32_t allowed = 0, conditional = 0, refused = 0;
  bool logs = false;
  TRY_PLAIN(seccomp.read("Profile", profile));
  TRY_PLAIN(seccomp.read("Allowed", allowed));
  TRY_PLAIN(seccomp.read("Conditional", conditional));
  TRY_PLAIN(seccomp.read("Refused", refused));
  TRY_PLAIN(seccomp.read("LogsRefusals", logs));
  if (profile == "unconfined") lines.emplace_back("System calls", "all: it has no filter");
  else lines.emplace_back("System calls", concat(profile, " profile: ", allowed, " allowed, ", conditional, " depend on arguments, ", refused, " refused", logs ? "; the kernel notes refusals down" : ""));
  return {};
}

Status add_mounts(Lines& lines, const JsonView& view) {
  std::string head = "Mounts";
  return TRY_PLAIN(view.at("Mounts")).for_each_element([&](const JsonView& mount) -> Status {
    std::string destination, source;
    bool is_writable = false, keeps_owners = false;
    TRY_PLAIN(mount.read("Destination", destination));
    TRY_PLAIN(mount.read("Source", source));
    TRY_PLAIN(mount.read("RW", is_writable));
    TRY_PLAIN(mount.read("KeepsOwners", keeps_owners));
    lines.emplace_back(std::exchange(head, ""), concat(destination, " from ", source, is_writable ? ", writable" : ", read-only", keeps_owners ? ", owners kept: its root writes there as the host's" : ""));
    return {};
  });
}

Status add_refusals(Lines& lines, const JsonView& view) {
  std::string head = "Refused";
  TRY_PLAIN(TRY_PLAIN(view.at("Refusals")).for_each_element([&](const JsonView& refusal) -> Status {
    std::string by, what, program, last;
    std::uint64_t count = 0;
    bool killed = false;
    TRY_PLAIN(refusal.read("By", by));
    TRY_PLAIN(refusal.read("What", what));
    TRY_PLAIN(refusal.read("Program", program));
    TRY_PLAIN(refusal.read("Count", count));
    TRY_PLAIN(refusal.read("Last", last));
    TRY_PLAIN(refusal.read("Killed", killed));
    lines.emplace_back(std::exchange(head, ""), concat(by, ": ", what, program.empty() ? "" : concat(", asked by \"", program, "\""), ", ", count, count == 1 ? " time" : " times", last.empty() ? "" : concat(", last at ", last),
                                                      killed ? "; it was killed for it" : ""));
    return {};
  }));
  if (!head.empty()) lines.emplace_back(head, "nothing that the kernel has noted down");
  std::vector<std::string> gaps;
  TRY_PLAIN(view.read("Gaps", gaps));
  head = "Not known";
  for (const auto& gap : gaps) lines.emplace_back(std::exchange(head, ""), gap);
  return {};
}

Result<Lines> report_lines(const JsonView& view) {
  std::string id, name, state, label;
  std::int64_t pid = 0, memory = 0, pids = 0;
  std::uint32_t first_host_id = 0, host_ids = 0, of_kernel = 0;
  bool is_privileged = false, is_barred = false, is_read_only = false;
  std::vector<std::string> capabilities, without, masked, read_only, devices;
  std::map<std::string, std::string> namespaces, sysctls;
  TRY_PLAIN(view.read("Id", id));
  TRY_PLAIN(view.read("Name", name));
  TRY_PLAIN(view.read("State", state));
  TRY_PLAIN(view.read("Pid", pid));
  TRY_PLAIN(view.read("Label", label));
  TRY_PLAIN(view.read("Memory", memory));
  TRY_PLAIN(view.read("PidsLimit", pids));
  TRY_PLAIN(view.read("FirstHostId", first_host_id));
  TRY_PLAIN(view.read("HostIds", host_ids));
  TRY_PLAIN(view.read("CapabilitiesOfKernel", of_kernel));
  TRY_PLAIN(view.read("Privileged", is_privileged));
  TRY_PLAIN(view.read("NoNewPrivileges", is_barred));
  TRY_PLAIN(view.read("ReadonlyRootfs", is_read_only));
  TRY_PLAIN(view.read("Capabilities", capabilities));
  TRY_PLAIN(view.read("WithoutDockers", without));
  TRY_PLAIN(view.read("MaskedPaths", masked));
  TRY_PLAIN(view.read("ReadonlyPaths", read_only));
  TRY_PLAIN(view.read("Devices", devices));
  TRY_PLAIN(view.read("Namespaces", namespaces));
  TRY_PLAIN(view.read("Sysctls", sysctls));
  Lines lines;
  lines.emplace_back("Container", concat(name, " (", id.substr(0, 12), "), ", state, pid != 0 ? concat(", process ", pid) : ""));
  if (is_privileged) lines.emplace_back("Privileged", "yes: little holds it back, its root is the host's");
  lines.emplace_back("Namespaces", namespace_text(namespaces));
  if (host_ids == 1) lines.emplace_back("Users", concat("its root is user ", first_host_id, " of the host, whose engine this is; his subordinate ids are all his containers'"));
  else lines.emplace_back("Users", host_ids == 0 ? (namespaces["user"] == "host" ? "its root is the host's root" : "an id range of its own from its start on")
                                            : concat("its root is user ", first_host_id, " of the host, one of ", host_ids, " of its own"));
  lines.emplace_back("Capabilities", concat(capabilities.size(), " of ", of_kernel, ": ", short_names(capabilities)));
  if (!without.empty()) lines.emplace_back("", concat("not, although docker grants it: ", short_names(without)));
  lines.emplace_back("Privileges", is_barred ? "no program gains any by setuid files (no-new-privileges)" : "setuid files of its image work inside (no-new-privileges is off)");
  TRY_PLAIN(add_seccomp(lines, view));
  if (!label.empty()) lines.emplace_back("Label", label);
  lines.emplace_back("Files", concat(is_read_only ? "root read-only" : "root writable", "; ", masked.size(), " paths hidden, ", read_only.size(), " read-only"));
  if (!masked.empty()) lines.emplace_back("", concat("hidden: ", join(masked, " ")));
  if (!read_only.empty()) lines.emplace_back("", concat("read-only: ", join(read_only, " ")));
  TRY_PLAIN(add_mounts(lines, view));
  lines.emplace_back("Devices", devices.empty() ? "null zero full random urandom tty ptmx, and no other" : join(devices, ", "));
  if (!sysctls.empty()) {
    std::vector<std::string> texts;
    for (const auto& [key, value] : sysctls) texts.push_back(concat(key, "=", value));
    lines.emplace_back("Sysctls", join(texts, " "));
  }
  lines.emplace_back("Limits", concat("memory: ", limit_text(memory, true), "; processes: ", limit_text(pids, false)));
  TRY_PLAIN(add_refusals(lines, view));
  return lines;
}

std::string learning_path(const std::string& name) { return object_path("caisson/v1/containers", name, "learning"); }

/// Until the watch has ended by itself, the time is over, or somebody interrupts.
Status watch(Session& session, const std::string& name, std::int64_t duration_ns) {
  auto signals = TRY_PLAIN(SignalGuard::create());
  constexpr int pause_ms = 300;
  const auto end = monotonic_ns() + duration_ns;
  for (;;) {
    auto state = TRY_PLAIN(session.get(learning_path(name)));
    bool is_watching = false;
    TRY_PLAIN(JsonView(state, "learning").read("Watching", is_watching));
    if (!is_watching || (duration_ns > 0 && monotonic_ns() >= end)) return {};
    if (TRY_PLAIN(linux::wait_readable(signals.fd(), pause_ms))) {
      const auto event = TRY_PLAIN(linux::signalfd_take(signals.fd()));
      if (event && (event->signal == SIGINT || event->signal == SIGTERM || event->signal == SIGHUP)) return {};
    }
  }
}

Status print_learned(Session& session, const JsonView& view, const std::string& output) {
  std::vector<std::string> calls, refused, capabilities, lacking, written, cap_add, tmpfs;
  bool saw_the_start = false, knows_capabilities = false, is_read_only = false;
  std::uint64_t lost = 0, processes = 0, memory = 0;
  std::int64_t pids_limit = 0, memory_limit = 0;
  TRY_PLAIN(view.read("Calls", calls));
  TRY_PLAIN(view.read("RefusedCalls", refused));
  TRY_PLAIN(view.read("Capabilities", capabilities));
  TRY_PLAIN(view.read("LackingCapabilities", lacking));
  TRY_PLAIN(view.read("Written", written));
  TRY_PLAIN(view.read("SawTheStart", saw_the_start));
  TRY_PLAIN(view.read("KnowsCapabilities", knows_capabilities));
  TRY_PLAIN(view.read("Lost", lost));
  TRY_PLAIN(view.read("MostProcesses", processes));
  TRY_PLAIN(view.read("MostMemory", memory));
  const auto proposal = TRY_PLAIN(view.at("Proposal"));
  TRY_PLAIN(proposal.read("CapAdd", cap_add));
  TRY_PLAIN(proposal.read("Tmpfs", tmpfs));
  TRY_PLAIN(proposal.read("ReadonlyRootfs", is_read_only));
  TRY_PLAIN(proposal.read("PidsLimit", pids_limit));
  TRY_PLAIN(proposal.read("Memory", memory_limit));

  Lines lines;
  lines.emplace_back("System calls", concat(calls.size(), " used: ", join(calls, " ")));
  if (!refused.empty()) lines.emplace_back("", concat("refused by its filter: ", join(refused, " ")));
  if (knows_capabilities) lines.emplace_back("Capabilities", concat("used: ", short_names(capabilities), lacking.empty() ? "" : concat("; asked for and not had: ", short_names(lacking))));
  else lines.emplace_back("Capabilities", "this kernel does not tell (6.15 does)");
  lines.emplace_back("Written", written.empty() ? "nothing of its own root" : join(written, " "));
  lines.emplace_back("At most", concat(processes, processes == 1 ? " process, " : " processes, ", human_size_binary(memory)));
  if (!saw_the_start) lines.emplace_back("Attention", "its beginning was not seen: watch it from a stopped state, or calls of its start may be missing");
  if (lost != 0) lines.emplace_back("Attention", concat("the kernel lost events ", lost, lost == 1 ? " time" : " times", ": something may be missing"));
  print_lines(session.out(), lines);

  std::string flags = "--cap-drop all";
  if (knows_capabilities) {
    for (const auto& name : cap_add) flags += concat(" --cap-add ", short_names({name}));
  } else {
    flags.clear();
  }
  if (!output.empty()) flags += concat(flags.empty() ? "" : " ", "--security-opt seccomp=", output);
  if (is_read_only) {
    flags += " --read-only";
    for (const auto& folder : tmpfs) flags += concat(" --tmpfs ", folder);
  }
  if (pids_limit > 0) flags += concat(" --pids-limit ", pids_limit);
  if (memory_limit > 0) flags += concat(" --memory ", memory_limit / (1 << 20), "m");
  session.out().line(concat("\nWhat would have done:\n  ", flags));
  if (output.empty()) session.out().line("With --output FILE its system calls are written as a seccomp profile.");
  return {};
}

}  // namespace

Result<int> explain_container(Session& session, const Invocation& invocation) {
  const auto& format = invocation.text("format");
  bool is_first = true;
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto answer = session.get(object_path("caisson/v1/containers", name, "security"));
    if (!answer.ok()) {
      print_error(session, answer.error());
      code = 1;
      continue;
    }
    if (!format.empty()) {
      json::array documents{std::move(*answer)};
      TRY_PLAIN(print_documents(session.out(), documents, format));
      continue;
    }
    if (!std::exchange(is_first, false)) session.out().line("");
    print_lines(session.out(), TRY_PLAIN(report_lines(JsonView(*answer, "security"))));
  }
  return code;
}

Result<int> learn_container(Session& session, const Invocation& invocation) {
  const auto& name = invocation.word(0);
  const std::string output(invocation.text("output"));
  const std::int64_t duration_ns = invocation.duration_ns("for");
  if (duration_ns < 0) return Error(ErrorKind::invalid, "--for cannot be negative");
  if (!invocation.flag("stop")) {
    auto inspected = TRY_PLAIN(session.get(object_path("containers", name, "json")));
    bool is_running = false;
    TRY_PLAIN(TRY_PLAIN(JsonView(inspected, "container").at("State")).read("Running", is_running));
    TRY_PLAIN(session.post(learning_path(name)));
    Status outcome;
    if (!is_running) {
      auto started = session.call("POST", object_path("containers", name, "start"));
      if (!started.ok()) outcome = std::move(started).error();
    }
    if (outcome.ok()) {
      session.err().line(duration_ns > 0 ? "watching ..." : "watching until it ends; interrupt to end the watch before ...");
      TRY_PLAIN(session.err().flush());
      outcome = watch(session, name, duration_ns);
    }
    if (!outcome.ok()) {
      ignore(session.call("DELETE", learning_path(name)));  // what went wrong is told already
      return std::move(outcome).error();
    }
  }
  auto last = TRY_PLAIN(session.call("DELETE", learning_path(name)));
  auto learned = TRY_PLAIN(parse_json(last.body, "learning"));
  const JsonView view(learned, "learning");
  if (!output.empty()) {
    const auto profile = TRY_PLAIN(TRY_PLAIN(view.at("Proposal")).at("Seccomp"));
    if (!profile.is_set()) return Error(ErrorKind::corrupt, "the daemon's answer has no profile");
    TRY(linux::write_file(output, to_text(profile.raw()) + "\n"), "write the profile");
  }
  if (!invocation.text("format").empty()) {
    json::array documents{std::move(learned)};
    TRY_PLAIN(print_documents(session.out(), documents, invocation.text("format")));
    return 0;
  }
  TRY_PLAIN(print_learned(session, view, output));
  return 0;
}

}  // namespace caisson::cli
