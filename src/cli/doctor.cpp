// doctor: shows the findings, and mends what can be mended safely.
#include "cli/doctor.hpp"

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/prune.hpp"
#include "linux/file.hpp"
#include "linux/spawn.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view boot_settings = "/etc/sysctl.d/60-caisson.conf";

std::string_view colour_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::good: return "\x1b[32m";
    case Verdict::note: return "\x1b[36m";
    case Verdict::warning: return "\x1b[33m";
    case Verdict::broken: return "\x1b[31m";
  }
  return "";
}

void print_finding(Output& out, const Finding& finding) {
  std::string word(to_string(finding.verdict));
  word.resize(std::string_view("warning").size(), ' ');
  if (out.has_colour()) word = concat(colour_of(finding.verdict), word, "\x1b[0m");
  out.line(concat(word, "  ", finding.check, ": ", finding.what));
  if (finding.verdict == Verdict::good) return;
  if (!finding.why.empty()) out.line(concat("         why:  ", finding.why));
  if (!finding.mend.empty()) out.line(concat("         mend: ", finding.mend, finding.repair.empty() ? "" : "   (--fix does this)"));
}

void print_all(Output& out, const std::vector<Finding>& findings, bool verbose) {
  std::size_t good = 0;
  for (const auto& finding : findings) {
    if (finding.verdict == Verdict::good) ++good;
    if (finding.verdict != Verdict::good || verbose) print_finding(out, finding);
  }
  out.line(concat(good, " of ", findings.size(), " checks are good", verbose || good == 0 ? "." : "; --verbose shows them."));
}

json::array to_json(const std::vector<Finding>& findings) {
  json::array out;
  for (const auto& finding : findings)
    out.push_back(json::object{{"Check", finding.check}, {"Verdict", to_string(finding.verdict)}, {"What", finding.what}, {"Why", finding.why},
                               {"Mend", finding.mend}, {"CanFix", !finding.repair.empty()}});
  return out;
}

// The setting of this boot, and of the next ones: a line of our own file, which keeps its other lines.
Status apply_setting(std::string_view setting) {
  auto halves = split_once(setting, '=');
  std::string kernel_file = concat("/proc/sys/", replace_all(halves.before, ".", "/"));
  TRY(linux::write_kernel_file(kernel_file, halves.after), concat("write ", kernel_file));
  std::string file(boot_settings);
  std::string text;
  if (auto old = linux::read_file(file); old.ok()) text = *old;
  else if (old.error().kind() != ErrorKind::not_found) return Error(old.error()).in(concat("read ", file));
  std::string kept;
  for (auto line : split(text, '\n'))
    if (!line.empty() && trim(split_once(line, '=').before) != halves.before) kept += concat(line, "\n");
  TRY(linux::make_dirs("/etc/sysctl.d", 0755), "make /etc/sysctl.d");
  TRY(linux::write_file_atomic(file, concat(kept, setting, "\n"), 0644, linux::Durability::synced), concat("write ", file));
  return {};
}

Status fix_all(Session& session, const HostReading& host, const std::vector<Finding>& findings, bool without_asking) {
  for (const auto& finding : findings) {
    if (finding.verdict == Verdict::good || finding.repair.empty()) continue;
    session.err().line(concat(finding.check, ": ", finding.what, "; mending it: ", finding.mend));
    if (!without_asking && !TRY_PLAIN(ask_yes_or_no(session.err(), "Do it?"))) continue;
    auto done = apply_repair(finding.repair, host);
    if (done.ok()) session.err().line(concat(finding.check, ": done"));
    else print_error(session.err(), Error(done.error()).in(concat("caisson: mend ", finding.check)));
  }
  return session.err().flush();
}

}  // namespace

Status ask_daemon(Session& session, HostReading& host) {
  constexpr int timeout_ms = 1000;
  auto client = TRY_PLAIN(session.connect_quickly(timeout_ms));
  TRY_PLAIN(session.open_stream(*client, "GET", "/info"));
  const auto document = TRY_PLAIN(parse_json(TRY_PLAIN(client->read_all()), "the daemon's answer"));
  const auto store = TRY_PLAIN(JsonView(document).at("ImageStore"));
  TRY_PLAIN(store.read("UsedBytes", host.store_used_bytes));
  return store.read("QuotaBytes", host.store_quota_bytes);
}

Status apply_repair(const Repair& repair, const HostReading& host) {
  if (!repair.setting.empty()) TRY_PLAIN(apply_setting(repair.setting));
  if (repair.socket_mode) TRY(linux::fchmodat(AT_FDCWD, host.socket, *repair.socket_mode), concat("chmod ", host.socket));
  for (const auto& command : repair.commands) {
    auto output = TRY(linux::run_program(command), concat("run ", command[0]));
    if (output.status.exit_code() != 0)
      return Error(ErrorKind::io, concat(join(command, " "), ": exit ", output.status.exit_code(), ": ", trim(output.standard_error)));
  }
  return {};
}

Result<int> run_doctor(Session& session, const Invocation& invocation) {
  std::string_view format = invocation.text("format");
  if (!format.empty() && format != "json" && format != "table")
    return Error(ErrorKind::invalid, concat("invalid argument \"", format, "\" for \"--format\" flag: it can be table or json"));
  HostReading host = TRY_PLAIN(read_host(session.global()));
  ignore(ask_daemon(session, host));  // without one there is nothing to say about it
  auto findings = judge_host(host);
  if (invocation.flag("fix")) {
    TRY_PLAIN(fix_all(session, host, findings, invocation.flag("yes")));
    host = TRY_PLAIN(read_host(session.global()));
    ignore(ask_daemon(session, host));  // as above
    findings = judge_host(host);
  }
  if (format == "json") session.out().line(to_text(to_json(findings)));
  else print_all(session.out(), findings, invocation.flag("verbose"));
  for (const auto& finding : findings)
    if (finding.verdict == Verdict::broken) return 1;
  return 0;
}

}  // namespace caisson::cli
