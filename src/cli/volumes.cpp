// Volumes.
#include <algorithm>
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/create_body.hpp"
#include "cli/listing.hpp"
#include "cli/prune.hpp"
#include "cli/ps.hpp"
#include "cli/request.hpp"

namespace caisson::cli {

namespace {

constexpr std::array volume_columns = {
    Column{"Name", "VOLUME NAME"}, Column{"Driver", "DRIVER"}, Column{"Scope", "SCOPE"}, Column{"Mountpoint", "MOUNTPOINT"}, Column{"Labels", "LABELS"},
    Column{"Links", "LINKS"}, Column{"Size", "SIZE"}, Column{"Group", "GROUP"}, Column{"Availability", "AVAILABILITY"}, Column{"Status", "STATUS"},
};

Result<Row> volume_row(const JsonView& volume) {
  Row row;
  for (std::string_view field : {"Name", "Driver", "Scope", "Mountpoint"}) {
    std::string text;
    TRY_PLAIN(volume.read(field, text));
    row.fields[field] = text;
  }
  JsonView labels = TRY_PLAIN(volume.at("Labels"));
  if (labels.is_set() && labels.raw().is_object()) row.labels = labels.raw().get_object();
  row.fields["Labels"] = displayed_labels(row.labels);
  std::int64_t links = -1;
  std::int64_t size = -1;
  JsonView usage = TRY_PLAIN(volume.at("UsageData"));
  TRY_PLAIN(usage.read("RefCount", links));
  TRY_PLAIN(usage.read("Size", size));
  row.fields["Links"] = links < 0 ? "N/A" : concat(links);
  row.fields["Size"] = size < 0 ? "N/A" : four_digit_size(static_cast<std::uint64_t>(size));
  for (std::string_view cluster_only : {"Group", "Availability", "Status"}) row.fields[cluster_only] = "N/A";
  return row;
}

}  // namespace

Result<int> create_volume(Session& session, const Invocation& invocation) {
  std::string name(invocation.text("name"));
  if (!invocation.words().empty()) {
    if (!name.empty()) return Error(ErrorKind::invalid, "conflicting options: cannot specify a volume-name through both --name and as a positional arg");
    name = invocation.word(0);
  }
  json::object body{{"Driver", invocation.text("driver")}};
  if (invocation.has("opt")) body["DriverOpts"] = to_map(invocation.list("opt"));
  if (invocation.has("label")) body["Labels"] = TRY_PLAIN(collect_labels({}, invocation.list("label")));
  if (!name.empty()) body["Name"] = name;
  json::value request(body);
  auto answer = TRY_PLAIN(session.post("/volumes/create", &request));
  TRY_PLAIN(JsonView(answer).read("Name", name));
  session.out().line(name);
  return 0;
}

Result<int> list_volumes(Session& session, const Invocation& invocation) {
  Query query;
  query.add_filters(TRY_PLAIN(parse_filters(invocation.list("filter"))));
  auto answer = TRY_PLAIN(session.get("/volumes" + query.text()));
  std::vector<Row> rows;
  JsonView volumes = TRY_PLAIN(JsonView(answer).at("Volumes"));
  TRY_PLAIN(volumes.for_each_element([&](const JsonView& volume) -> Status {
    rows.push_back(TRY_PLAIN(volume_row(volume)));
    return {};
  }));
  sort_by_name(rows);
  ListFormat list;
  list.columns = volume_columns;
  list.table = "{{.Driver}}\t{{.Name}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "Name";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> remove_volumes(Session& session, const Invocation& invocation) {
  Query query;
  query.add_if(invocation.flag("force"), "force");
  int code = 0;
  for (const auto& name : invocation.words()) {
    auto removed = session.call("DELETE", object_path("volumes", name) + query.text());
    if (removed.ok()) {
      session.out().line(name);
      continue;
    }
    TRY_PLAIN(session.out().flush());
    print_error(session, removed.error());
    code = 1;
  }
  return code;
}

Result<int> prune_volumes(Session& session, const Invocation& invocation) {
  auto filters = TRY_PLAIN(parse_filters(invocation.list("filter")));
  bool all = invocation.flag("all");
  if (all) add_filter(filters, "all", "true");
  return prune(session, invocation.flag("force"),
               all ? "This will remove all local volumes not used by at least one container."
                   : "This will remove anonymous local volumes not used by at least one container.",
               {{"volumes", filters}});
}

}  // namespace caisson::cli
