// `builder cache`: cache mounts of builds, one by one, and their way to other hosts.
#include <array>

#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/commands.hpp"
#include "cli/disk_usage.hpp"
#include "cli/listing.hpp"
#include "cli/places.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "cli/travel_commands.hpp"
#include "image/manifest.hpp"
#include "linux/file.hpp"
#include "linux/sysinfo.hpp"
#include "transport/copier.hpp"

namespace caisson::cli {

namespace {

constexpr std::string_view mounts_path = "/caisson/v1/cache-mounts";
constexpr std::string_view archive_path = "/caisson/v1/cache-mounts/archive";
constexpr std::string_view tag_on_the_way = "latest";  // a tag alone names no image

constexpr std::array mount_columns = {
    Column{"ID", "CACHE ID"}, Column{"Mount", "MOUNT ID"}, Column{"Scope", "SCOPE"}, Column{"Sharing", "SHARING"}, Column{"Target", "TARGET"}, Column{"Size", "SIZE"},
    Column{"CreatedSince", "CREATED"}, Column{"LastUsedSince", "LAST USED"}, Column{"UsageCount", "USAGE"}, Column{"InUse", "IN USE"},
};

std::string with_id(std::string_view path, std::string_view id) {
  Query query;
  query.add("id", id);
  return concat(path, query.text());
}

Result<Row> mount_row(const JsonView& mount, TimestampNs now, bool no_trunc) {
  auto row = TRY_PLAIN(cache_row(mount, now, no_trunc));
  JsonView own = TRY_PLAIN(mount.at("CacheMount"));
  for (const auto& [field, key] : {std::pair("Mount", "ID"), std::pair("Scope", "Scope"), std::pair("Sharing", "Sharing"), std::pair("Target", "Target")}) {
    std::string text;
    TRY_PLAIN(own.read(key, text));
    row.fields[field] = text;
  }
  return row;
}

/// Where a cache mount can lie: docker's archives have no room for what says which one it is.
Result<transport::Location> parse_mount_location(const std::string& text) {
  auto location = TRY_PLAIN(transport::parse_location(text));
  if (location.kind != transport::Kind::docker_archive && location.kind != transport::Kind::local) return location;
  return Error(ErrorKind::unsupported, concat(text, ": a cache mount is no image to run")).with_hint("say host/path:tag, oci:FOLDER[:TAG] or oci-archive:FILE");
}

Result<image::FetchedManifest> copy_one(const Places& places, const Places::Source& source, transport::Place& target, const std::optional<std::string>& tag) {
  transport::CopyOptions options;
  options.platform = image::platform_of_machine(TRY_PLAIN(linux::uname()).machine);
  const auto at_target = target.spool_folder();
  auto spool = TRY_PLAIN(transport::Spool::open(at_target.empty() ? places.spool_folder() : at_target));
  transport::Holders holders;
  transport::Copier copier(source.place(), target, spool, holders, options, {});
  auto run = [&]() -> Result<image::FetchedManifest> {
    auto manifest = TRY_PLAIN(copier.resolve(source.name));
    TRY_PLAIN(copier.copy(manifest, tag));
    return manifest;
  };
  auto done = run();
  spool.leave();
  return done;
}

}  // namespace

Result<int> list_cache_mounts(Session& session, const Invocation& invocation) {
  auto answer = TRY_PLAIN(session.get(mounts_path));
  const auto now = now_ns();
  std::vector<Row> rows;
  TRY_PLAIN(JsonView(answer).for_each_element([&](const JsonView& mount) -> Status {
    rows.push_back(TRY_PLAIN(mount_row(mount, now, invocation.flag("no-trunc"))));
    return {};
  }));
  ListFormat list;
  list.columns = mount_columns;
  list.table = "{{.ID}}\t{{.Mount}}\t{{.Scope}}\t{{.Sharing}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.InUse}}";
  list.format = invocation.text("format");
  list.is_quiet = invocation.flag("quiet");
  list.quiet_field = "ID";
  TRY_PLAIN(print_list(session.out(), list, rows));
  return 0;
}

Result<int> inspect_cache_mounts(Session& session, const Invocation& invocation) {
  json::array documents;
  for (const auto& id : invocation.words()) {
    auto answer = TRY_PLAIN(session.get(with_id(mounts_path, id)));
    if (!answer.is_array()) return Error(ErrorKind::corrupt, "the daemon's answer is no list of cache mounts");
    for (auto& mount : answer.get_array()) documents.push_back(std::move(mount));
  }
  TRY_PLAIN(print_documents(session.out(), documents, invocation.text("format")));
  return 0;
}

Result<int> remove_cache_mounts(Session& session, const Invocation& invocation) {
  for (const auto& id : invocation.words()) {
    TRY_PLAIN(session.call("DELETE", with_id(mounts_path, id)));
    session.out().line(id);
  }
  return 0;
}

Result<int> export_cache_mount(Session& session, const Invocation& invocation) {
  const auto to = TRY_PLAIN(parse_mount_location(invocation.word(1)));
  auto places = TRY_PLAIN(Places::create(session, invocation));
  auto target = TRY_PLAIN(places.open_target(to, std::string(tag_on_the_way)));  // what is wrong with it is said before anything is packed
  auto source = TRY_PLAIN(places.open_answer(with_id(archive_path, invocation.word(0))));
  const auto manifest = TRY_PLAIN(copy_one(places, source, target.place(), target.tag()));
  TRY_PLAIN(target.finish());
  session.out().line(manifest.digest.text());
  return 0;
}

Result<int> import_cache_mount(Session& session, const Invocation& invocation) {
  const auto from = TRY_PLAIN(parse_mount_location(invocation.word(0)));
  Query query;
  query.add_if(invocation.has("id"), "id", invocation.text("id"));
  json::value made;
  if (from.kind == transport::Kind::registry) {
    query.add("ref", from.reference.canonical());
    const auto headers = TRY_PLAIN(auth_headers(session, from.reference));
    made = TRY_PLAIN(parse_json(TRY_PLAIN(session.call("POST", concat(archive_path, query.text()), nullptr, headers)).body, "the daemon's answer"));
  } else {
    auto places = TRY_PLAIN(Places::create(session, invocation));
    auto source = TRY_PLAIN(places.open_source(from));
    made = TRY_PLAIN(places.send_archive(concat(archive_path, query.text()), [&](transport::Place& target) -> Status {
      TRY_PLAIN(copy_one(places, source, target, std::string(tag_on_the_way)));
      return {};
    }));
  }
  std::string id;
  TRY_PLAIN(TRY_PLAIN(JsonView(made).at("CacheMount")).read("ID", id));
  session.out().line(id);
  return 0;
}

}  // namespace caisson::cli
