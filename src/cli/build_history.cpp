// `build history`: the last builds of the daemon.
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/listing.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view builds_path = "/caisson/v1/builds";
constexpr std::size_t name_width = 40;

constexpr std::array build_columns = {
    Column{"ID", "BUILD ID"}, Column{"Name", "NAME"}, Column{"Status", "STATUS"}, Column{"CreatedAt", "CREATED AT"}, Column{"Duration", "DURATION"},
    Column{"Steps", "STEPS"}, Column{"Cached", "CACHED"}, Column{"Image", "IMAGE"}, Column{"Error", "ERROR"},
};

Result<Row> build_row(const JsonView& build, bool no_trunc) {
  Row row;
  for (const auto& [field, key] : {std::pair("ID", "ID"), std::pair("Name", "Name"), std::pair("Status", "Status"), std::pair("Image", "ImageID"), std::pair("Error", "Error")}) {
    std::string text;
    TRY_PLAIN(build.read(key, text));
    row.fields[field] = text;
  }
  if (!no_trunc) row.fields["Name"] = ellipsis(std::string_view(row.fields["Name"].get_string()), name_width);
  std::string created;
  std::int64_t duration_ns = 0;
  TRY_PLAIN(build.read("CreatedAt", created));
  TRY_PLAIN(build.read("DurationNs", duration_ns));
  auto since = TRY_PLAIN(parse_rfc3339(created));
  row.fields["CreatedAt"] = concat(human_duration(now_ns() - since), " ago");
  constexpr std::int64_t ns_per_tenth = 100'000'000;
  row.fields["Duration"] = concat(duration_ns / ns_per_tenth / 10, ".", duration_ns / ns_per_tenth % 10, "s");
  for (const auto& [field, key] : {std::pair("Steps", "TotalSteps"), std::pair("Cached", "CachedSteps")}) {
    std::uint64_t number = 0;
    TRY_PLAIN(build.read(key, number));
    row.fields[field] = concat(number);
  }
  return row;
}

/// The newest when none is named.
std::string path_of(const Invocation& invocation, std::string_view what) { return object_path(builds_path.substr(1), invocation.words().empty() ? std::string_view("^0") : invocation.word(0), what); }

}  // namespace

Result<int> list_builds(Session& session, const Invocation& invocation) {
  auto answer = TRY_PLAIN(session.get(builds_path));
  std::vector<Row> rows;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& build) -> Status {
    rows.push_back(TRY_PLAIN(build_row(build, invocation.flag("no-trunc"))));
    return {};
  }));
  ListFormat list;
  list.columns = build_columns;
  list.table = "{{.ID}}\t{{.Name}}\t{{.Status}}\t{{.CreatedAt}}\t{{.Duration}}\t{{.Steps}}\t{{.Cached}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> inspect_build(Session& session, const Invocation& invocation) {
  auto answer = TRY_PLAIN(session.get(path_of(invocation, "")));
  json::array documents{std::move(answer)};
  TRY_PLAIN(print_documents(session.out(), documents, invocation.text("format")));
  return 0;
}

Result<int> show_build_log(Session& session, const Invocation& invocation) {
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", path_of(invocation, "logs")));
  TRY_PLAIN(copy_stream(*client, 1));
  return 0;
}

Result<int> remove_builds(Session& session, const Invocation& invocation) {
  std::vector<std::string> names = invocation.words();
  if (invocation.flag("all")) {
    if (!names.empty()) return Error(ErrorKind::invalid, "either --all or names of builds");
    auto answer = TRY_PLAIN(session.get(builds_path));
    TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& build) -> Status {
      std::string status;
      TRY_PLAIN(build.read("Status", status));
      if (status != "Running") TRY_PLAIN(build.read("ID", names.emplace_back()));
      return {};
    }));
  } else if (names.empty()) {
    return Error(ErrorKind::invalid, "which build?").with_hint("name one, or say --all");
  }
  for (const auto& name : names) {
    TRY_PLAIN(session.call("DELETE", object_path(builds_path.substr(1), name)));
    session.out().line(name);
  }
  return 0;
}

}  // namespace caisson::cli
