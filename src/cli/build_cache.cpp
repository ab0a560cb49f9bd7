// Flags, and the way of a cache between a folder here and the daemon's store.
#include "cli/build_cache.hpp"

#include "base/strings.hpp"
#include "cli/build_context.hpp"
#include "cli/place_here.hpp"
#include "cli/progress.hpp"
#include "cli/request.hpp"
#include "linux/file.hpp"
#include "linux/socket.hpp"
#include "linux/tree.hpp"

namespace caisson::cli {

namespace {

struct Fields {
  std::string type = "registry";
  std::string reference;
  std::string folder;
  bool all_stages = false;
};

Result<Fields> parse_fields(std::string_view flag, const std::string& text, std::string_view folder_key) {
  Fields out;
  if (text.find('=') == std::string::npos) {  // an image's name alone
    out.reference = text;
    return out;
  }
  for (auto field : split(text, ',')) {
    auto halves = split_once(field, '=');
    if (halves.before == "type") out.type = halves.after;
    else if (halves.before == "ref") out.reference = halves.after;
    else if (halves.before == folder_key) out.folder = halves.after;
    else if (halves.before == "mode" && (halves.after == "min" || halves.after == "max")) out.all_stages = halves.after == "max";
    else if (halves.before == "mode") return Error(ErrorKind::invalid, concat(flag, ": mode=", halves.after, " is neither min nor max"));
    // What our caches always are.
    else if (halves.before != "oci-mediatypes" && halves.before != "image-manifest") return Error(ErrorKind::invalid, concat(flag, ": unexpected key '", halves.before, "' in ", text));
  }
  if (out.type == "registry" && out.reference.empty()) return Error(ErrorKind::invalid, concat(flag, ": type=registry needs ref=NAME"));
  if (out.type == "local" && out.folder.empty()) return Error(ErrorKind::invalid, concat(flag, ": type=local needs ", folder_key, "=FOLDER"));
  return out;
}

Error not_known(std::string_view flag, const std::string& type, std::string_view known) {
  return {ErrorKind::unsupported, concat(flag, ": type=", type, " is not supported (", known, ")")};
}

}  // namespace

Result<CacheFlags> parse_cache_flags(const std::vector<std::string>& from, const std::vector<std::string>& to) {
  CacheFlags flags;
  for (const auto& text : from) {
    auto fields = TRY_PLAIN(parse_fields("--cache-from", text, "src"));
    if (fields.type == "local") flags.folders.push_back(fields.folder);
    else if (fields.type == "registry") flags.from.push_back(json::object{{"ref", fields.reference}, {"remote", text.find('=') != std::string::npos}});
    else return not_known("--cache-from", fields.type, "registry, local");
  }
  for (const auto& text : to) {
    auto fields = TRY_PLAIN(parse_fields("--cache-to", text, "dest"));
    if (fields.type != "local" && fields.type != "registry" && fields.type != "inline") return not_known("--cache-to", fields.type, "registry, local, inline");
    if (fields.type == "local" && !flags.destination.empty()) return Error(ErrorKind::invalid, "--cache-to: one folder is enough");
    if (fields.type == "local") flags.destination = fields.folder;
    flags.to.push_back(json::object{{"type", fields.type == "local" ? "image" : fields.type}, {"ref", fields.reference}, {"all_stages", fields.all_stages}});
  }
  return flags;
}

LentCaches::~LentCaches() {
  for (const auto& id : images_) {
    auto removed = session_.call("DELETE", object_path("images", id));
    if (!removed.ok()) session_.err().line(concat("WARNING: the cache's image ", id, " stays with the daemon: ", removed.error().text()));
  }
}

Result<std::string> LentCaches::lend(const std::string& folder) {
  BuildContext layout;
  auto opened = linux::open(folder, O_RDONLY | O_DIRECTORY);
  if (!opened.ok() && opened.error().kind() == ErrorKind::not_found) {
    session_.err().line(concat("WARNING: --cache-from: there is no folder ", folder));
    return std::string();
  }
  layout.folder = TRY(std::move(opened), concat("--cache-from ", folder));
  auto client = TRY_PLAIN(session_.connect());
  auto sent = TRY_PLAIN(session_.upload_written(*client, "/images/load?quiet=1", [&](int fd) {
    image::TarWriter tar([fd](std::string_view bytes) { return linux::send_all(fd, bytes); });
    return pack_context(layout, tar);
  }));
  TRY(std::move(sent.answered), concat("--cache-from ", folder));
  TRY(std::move(sent.written), concat("--cache-from ", folder));
  auto printer = TRY(follow_progress(session_, *client, {.is_quiet = true, .prints_results = false}), concat("--cache-from ", folder));
  const auto& said = printer.last_result();  // "Loaded image ID: sha256:…"
  const auto at = said.find("sha256:");
  if (at == std::string::npos) return Error(ErrorKind::invalid, concat("--cache-from ", folder, ": it holds no build cache"));
  auto id = std::string(trim(std::string_view(said).substr(at)));
  auto image = TRY_PLAIN(session_.get(object_path("images", id, "json")));
  std::vector<std::string> names;
  TRY_PLAIN(JsonView(image).read("RepoTags", names));
  if (names.empty()) images_.push_back(id);  // else it was somebody's before
  return id;
}

Status take_cache(Session& session, const std::string& id, const std::string& folder) {
  TRY(linux::make_dirs(folder, 0755), concat("--cache-to ", folder));
  auto client = TRY_PLAIN(session.connect());
  TRY_PLAIN(session.open_stream(*client, "GET", object_path("images", id, "get")));
  TRY(place_here(*client, folder), concat("--cache-to ", folder));
  TRY_PLAIN(session.call("DELETE", object_path("images", id)));
  return {};
}

}  // namespace caisson::cli
