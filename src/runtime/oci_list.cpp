// list and ps.
#include <algorithm>

#include "linux/spawn.hpp"
#include "base/environment.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

namespace {

using Row = std::vector<std::string>;

/// Columns as wide as their widest cell, at least 12, three blanks between: what callers of runc cut at (Go's tabwriter).
std::string table_text(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (widths.size() <= i) widths.push_back(12);
      widths[i] = std::max(widths[i], row[i].size() + 3);
    }
  std::string out;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += row[i];
      if (i + 1 < row.size()) out.append(widths[i] - row[i].size(), ' ');
    }
    out += '\n';
  }
  return out;
}

Result<std::string> output_format(const OciContext& context) {
  const std::string format = context.arguments.value("format", "table");
  if (format != "table" && format != "json")
    return Error(ErrorKind::invalid, concat("invalid format option \"", format, "\": want table or json"));
  return format;
}

}  // namespace

Result<int> oci_list(OciContext& context) {
  if (!context.arguments.words.empty()) return Error(ErrorKind::invalid, "list takes no arguments");
  const std::string format = TRY_PLAIN(output_format(context));
  auto ids = TRY_PLAIN(context.store.ids());
  std::sort(ids.begin(), ids.end());
  if (context.arguments.has("quiet")) {
    for (const auto& id : ids) TRY_PLAIN(oci_print(concat(id, "\n")));
    return 0;
  }
  json::array states;
  std::vector<Row> rows{{"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"}};
  for (const auto& id : ids) {
    auto state = context.store.load(id);
    if (!state) {
      // Deleted between the two looks; anything else the user should know of.
      if (state.error().kind() != ErrorKind::not_found) warn(context.globals.log, state.error().text());
      continue;
    }
    const auto status = status_of(*state, context.store, context.layout);
    if (!status) {
      warn(context.globals.log, concat("container ", id, ": ", status.error().text()));
      continue;
    }
    auto object = state_json(*state, *status);
    rows.push_back({id, concat(*status == OciStatus::stopped ? 0 : state->pid), std::string(to_string(*status)), state->bundle,
                    to_rfc3339(state->created), std::string(object.at("owner").as_string())});
    states.push_back(std::move(object));
  }
  TRY_PLAIN(oci_print(format == "json" ? concat(to_text(states), "\n") : table_text(rows)));
  return 0;
}

namespace {

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (auto field : split(line, ' '))
    if (!field.empty()) out.push_back(field);
  return out;
}

/// The lines of ps(1) that are about these processes, and its header.
Result<std::string> filter_ps(std::string_view text, const std::vector<int>& pids) {
  std::string out;
  std::optional<std::size_t> column;
  for (auto line : split(text, '\n')) {
    const auto fields = fields_of(line);
    if (!column) {
      const auto found = std::find(fields.begin(), fields.end(), "PID");
      if (found == fields.end()) return Error(ErrorKind::invalid, "couldn't find PID field in ps output");
      column = static_cast<std::size_t>(found - fields.begin());
      out += concat(line, "\n");
      continue;
    }
    if (fields.size() <= *column) continue;
    auto pid = parse_integer<int>(fields[*column]);
    if (pid && std::find(pids.begin(), pids.end(), *pid) != pids.end()) out += concat(line, "\n");
  }
  return out;
}

/// runc's table: ps(1) of the host with the caller's arguments.
Result<std::string> ps_table(const std::vector<std::string>& arguments, const std::vector<int>& pids) {
  std::vector<std::string> argv{"ps"};
  if (arguments.empty()) argv.emplace_back("-ef");
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  linux::RunOptions options;
  const char* path = environment("PATH");
  options.env = {concat("PATH=", path == nullptr ? "/usr/sbin:/usr/bin:/sbin:/bin" : path), "LC_ALL=C", "COLUMNS=4096"};
  options.timeout_ms = 60'000;
  auto output = linux::run_program(argv, options);
  if (!output && output.error().kind() == ErrorKind::not_found && arguments.empty()) {
    std::string plain = "PID\n";  // as crun shows them
    for (int pid : pids) plain += concat(pid, "\n");
    return plain;
  }
  auto ran = TRY(std::move(output), "ps");
  if (ran.status.exit_code() != 0) return Error(ErrorKind::invalid, concat("ps: ", trim(ran.standard_error)));
  return filter_ps(ran.standard_output, pids);
}

}  // namespace

Result<int> oci_ps(OciContext& context) {
  const auto& words = context.arguments.words;
  if (words.empty()) return Error(ErrorKind::invalid, "ps: the container's ID is needed");
  const std::string format = TRY_PLAIN(output_format(context));
  auto state = TRY_PLAIN(context.store.load(words[0]));
  if (TRY_PLAIN(status_of(state, context.store, context.layout)) == OciStatus::stopped)
    return Error(ErrorKind::conflict, "container not running");
  std::vector<int> pids{state.pid};
  if (!state.cgroup_path.empty()) {
    auto cgroup = TRY_PLAIN(oci_cgroup(context, state));
    pids = TRY_PLAIN(cgroup.pids());
  }
  if (format == "json") {
    json::array list;
    for (int pid : pids) list.emplace_back(pid);
    TRY_PLAIN(oci_print(concat(to_text(list), "\n")));
    return 0;
  }
  TRY_PLAIN(oci_print(TRY_PLAIN(ps_table({words.begin() + 1, words.end()}, pids))));
  return 0;
}

}  // namespace caisson::runtime
