// The engine itself: events, info, version, disk usage, prune, and the daemon in the foreground.
#include <array>
#include <cstdlib>
#include <set>

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/daemon.hpp"
#include "cli/listing.hpp"
#include "cli/prune.hpp"
#include "cli/request.hpp"
#include "linux/process.hpp"

namespace caisson::cli {

namespace {

// "time Type Action id (key=value, …)", the attributes in key order.
Result<std::string> event_line(const JsonView& event) {
  std::string type;
  std::string action;
  std::int64_t time = 0;
  std::int64_t time_nano = 0;
  TRY_PLAIN(event.read("Type", type));
  TRY_PLAIN(event.read("Action", action));
  TRY_PLAIN(event.read("time", time));
  TRY_PLAIN(event.read("timeNano", time_nano));
  JsonView actor = TRY_PLAIN(event.at("Actor"));
  std::string id;
  TRY_PLAIN(actor.read("ID", id));
  std::map<std::string, std::string> attributes;
  TRY_PLAIN(actor.read("Attributes", attributes));
  std::vector<std::string> pairs;
  for (const auto& [key, value] : attributes) pairs.push_back(concat(key, "=", value));
  constexpr std::int64_t second_ns = 1'000'000'000;
  std::string at = to_rfc3339(time_nano != 0 ? time_nano : time * second_ns);
  return concat(at, " ", type, " ", action, " ", id, pairs.empty() ? "" : concat(" (", join(pairs, ", "), ")"));
}

Status print_event(Session& session, std::string_view line, std::string_view format) {
  auto document = TRY_PLAIN(parse_json(line, "the daemon's event"));
  if (format.empty()) {
    session.out().line(TRY_PLAIN(event_line(JsonView(document))));
  } else if (format == "json") {
    session.out().line(to_text(document));
  } else {
    auto parsed = TRY_PLAIN(Template::parse(unescape_format(format)));
    session.out().line(TRY_PLAIN(parsed.render(TemplateData{&document, nullptr, false})));
  }
  return session.out().flush();
}

// A line of info: indented "Name: value".
class Facts {
 public:
  Facts(Output& out, const JsonView& view) : out_(out), view_(view) {}
  Status show(std::string_view title, std::string_view field) {
    JsonView value = TRY_PLAIN(view_.at(field));
    if (!value.is_set()) return {};
    const auto& raw = value.raw();
    std::string text = raw.is_string() ? std::string(raw.get_string()) : raw.is_array() ? TRY_PLAIN(list(value)) : to_text(raw);
    if (field == "MemTotal" && raw.is_number()) text = human_size_binary(raw.to_number<std::uint64_t>());
    out_.line(concat(" ", title, ": ", text));
    return {};
  }

 private:
  static Result<std::string> list(const JsonView& value) {
    std::vector<std::string> items;
    TRY_PLAIN(value.read(items));
    return join(items, " ");
  }
  Output& out_;
  const JsonView& view_;
};

Status print_info(Output& out, const JsonView& view) {
  out.line("Client:");
  out.line(" Version: " CAISSON_VERSION);
  out.line("");
  out.line("Server:");
  Facts facts(out, view);
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 24> lines = {{
      {"Containers", "Containers"}, {" Running", "ContainersRunning"}, {" Paused", "ContainersPaused"}, {" Stopped", "ContainersStopped"},
      {"Images", "Images"}, {"Server Version", "ServerVersion"}, {"Storage Driver", "Driver"}, {"Logging Driver", "LoggingDriver"},
      {"Cgroup Driver", "CgroupDriver"}, {"Cgroup Version", "CgroupVersion"}, {"Default Runtime", "DefaultRuntime"}, {"Init Binary", "InitBinary"},
      {"Security Options", "SecurityOptions"}, {"Kernel Version", "KernelVersion"}, {"Operating System", "OperatingSystem"}, {"OSType", "OSType"},
      {"Architecture", "Architecture"}, {"CPUs", "NCPU"}, {"Total Memory", "MemTotal"}, {"Name", "Name"}, {"ID", "ID"},
      {"Root Dir", "DockerRootDir"}, {"Debug Mode", "Debug"}, {"Live Restore Enabled", "LiveRestoreEnabled"},
  }};
  for (const auto& [title, field] : lines) {
    TRY_PLAIN(facts.show(title, field));
    if (field != "Driver") continue;
    std::vector<std::vector<std::string>> status;  // as docker shows it, a name and a value each
    TRY_PLAIN(view.read("DriverStatus", status));
    for (const auto& entry : status)
      if (entry.size() == 2) out.line(concat("  ", entry[0], ": ", entry[1]));
  }
  std::vector<std::string> warnings;
  TRY_PLAIN(view.read("Warnings", warnings));
  for (const auto& warning : warnings) out.line(concat(" WARNING: ", warning));
  return {};
}

json::object client_version() {
  return {{"Version", CAISSON_VERSION}, {"ApiVersion", "1.45"}, {"Os", "linux"}, {"Arch", "amd64"}};
}

Status print_version_part(Output& out, std::string_view title, const json::value& part) {
  JsonView view(part);
  std::vector<std::vector<std::string>> rows;
  std::string system;
  std::string machine;
  TRY_PLAIN(view.read("Os", system));
  TRY_PLAIN(view.read("Arch", machine));
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 5> lines = {
      {{"Version", "Version"}, {"API version", "ApiVersion"}, {"Git commit", "GitCommit"}, {"Built", "BuildTime"}, {"Kernel", "KernelVersion"}}};
  for (const auto& [name, field] : lines) {
    std::string text;
    TRY_PLAIN(view.read(field, text));
    if (!text.empty()) rows.push_back({concat(" ", name, ":"), text});
  }
  rows.push_back({" OS/Arch:", concat(system, "/", machine)});
  out.line(concat(title, ":"));
  out.write(align(rows));
  return {};
}

}  // namespace

Result<int> show_events(Session& session, const Invocation& invocation) {
  std::string_view format = invocation.text("format");
  if (!format.empty() && format != "json") TRY_PLAIN(Template::parse(unescape_format(format)));
  Query query;
  query.add_filters(TRY_PLAIN(parse_filters(invocation.list("filter"))));
  for (std::string_view flag : {"since", "until"}) {
    if (!invocation.has(flag)) continue;
    std::string_view text = invocation.text(flag);
    bool is_number = text.find_first_not_of("0123456789.") == std::string_view::npos;
    constexpr std::int64_t second_ns = 1'000'000'000;
    if (is_number) {
      query.add(flag, text);
    } else {
      TimestampNs time = TRY_PLAIN(parse_point_in_time(text, now_ns()));
      std::string fraction = concat(time % second_ns);
      query.add(flag, concat(time / second_ns, ".", std::string(9 - fraction.size(), '0'), fraction));
    }
  }
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", "/events" + query.text()));
  std::string buffer;
  for (;;) {
    std::string piece = TRY(client->read_some(), "read events");
    if (piece.empty()) return 0;
    buffer += piece;
    for (std::size_t end = buffer.find('\n'); end != std::string::npos; end = buffer.find('\n')) {
      std::string line = buffer.substr(0, end);
      buffer.erase(0, end + 1);
      if (!trim(line).empty()) TRY_PLAIN(print_event(session, line, format));
    }
  }
}

Result<int> show_info(Session& session, const Invocation& invocation) {
  auto document = TRY_PLAIN(session.get("/info"));
  std::string_view format = invocation.text("format");
  if (!format.empty()) TRY_PLAIN(print_document(session.out(), document, format));
  else TRY_PLAIN(print_info(session.out(), JsonView(document)));
  return 0;
}

Result<int> show_version(Session& session, const Invocation& invocation) {
  json::object both{{"Client", client_version()}, {"Server", nullptr}};
  auto server = session.get("/version");
  if (server.ok()) both["Server"] = *server;
  std::string_view format = invocation.text("format");
  if (!format.empty()) {
    TRY_PLAIN(print_document(session.out(), json::value(both), format));
  } else {
    TRY_PLAIN(print_version_part(session.out(), "Client", both["Client"]));
    if (server.ok()) {
      session.out().line("");
      TRY_PLAIN(print_version_part(session.out(), "Server", both["Server"]));
    }
  }
  TRY_PLAIN(session.out().flush());
  if (!server.ok()) return std::move(server).error();
  return 0;
}

Result<int> prune_system(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  auto image_filters = filters;
  bool all = invocation.flag("all");
  add_filter(image_filters, "dangling", all ? "false" : "true");
  std::string warning = "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n";
  if (invocation.flag("volumes")) warning += "  - all anonymous volumes not used by at least one container\n";
  warning += all ? "  - all images without at least one container associated to them\n  - all build cache\n" : "  - all dangling images\n  - unused build cache\n";
  std::vector<PruneStep> steps = {{"containers", filters}, {"networks", filters}};
  if (invocation.flag("volumes")) steps.push_back({"volumes", filters});
  steps.push_back({"images", image_filters});
  steps.push_back({"build", filters, all});  // last, as docker: what a cache entry shares with an image is free only once both are gone
  return prune(session, invocation.flag("force"), warning, steps);
}

Result<int> list_plugins(Session& session, const Invocation& invocation) {
  static constexpr std::array columns = {Column{"ID", "ID"}, Column{"Name", "NAME"}, Column{"Description", "DESCRIPTION"}, Column{"Enabled", "ENABLED"}, Column{"PluginReference", "REFERENCE"}};
  TRY_PLAIN(parse_filters(invocation.list("filter")));
  TRY_PLAIN(session.get("/plugins"));  // an engine that is not there is no empty list
  ListFormat list;
  list.columns = columns;
  list.table = "{{.ID}}\t{{.Name}}\t{{.Description}}\t{{.Enabled}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, {}));
  return 0;
}

Result<int> run_daemon(Session& session, const Invocation& /*invocation*/) {
  std::string binary = TRY_PLAIN(find_own_binary("caissond"));
  Endpoint endpoint = TRY_PLAIN(choose_endpoint(session.global()));
  return linux::execve(binary, daemon_arguments(binary, endpoint, session.global()), whole_environment());
}

}  // namespace caisson::cli
