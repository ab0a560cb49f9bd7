// Flags, and the way of a cache between a folder here and the daemon's store.
#include "cli/build_cache.hpp"

#include <algorithm>
#include <optional>
#include <set>
#include <span>

#include "base/strings.hpp"
#include "cli/place_here.hpp"
#include "cli/platform.hpp"
#include "cli/progress.hpp"
#include "cli/registry.hpp"
#include "cli/request.hpp"
#include "image/manifest.hpp"
#include "image/tar_writer.hpp"
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

constexpr std::size_t most_index_depth = 4;  // as deep as the daemon looks

std::string blob_path(const Digest& digest) { return concat("blobs/", digest.algorithm(), "/", digest.hex()); }

/// The manifest for `wanted` in an index of the layout, or in those below it; nothing when there is none.
Result<std::optional<image::Descriptor>> find_manifest(int layout, const std::string& index_path, const image::Platform& wanted, std::size_t depth = 0) {
  if (depth == most_index_depth) return Error(ErrorKind::invalid, concat(index_path, ": indexes are nested too deep"));
  const auto index = TRY(image::parse_index(TRY(linux::read_file_at(layout, index_path), index_path)), index_path);
  for (const auto& entry : index.manifests) {
    if (entry.platform && !image::platform_matches(*entry.platform, wanted)) continue;
    if (!image::is_index_type(entry.media_type)) return std::optional(entry);
    if (auto found = TRY_PLAIN(find_manifest(layout, blob_path(entry.digest), wanted, depth + 1))) return found;
  }
  return std::optional<image::Descriptor>();
}

Status pack_file(int layout, const std::string& name, image::TarWriter& tar) {
  auto file = TRY_PLAIN(linux::openat(layout, name, O_RDONLY | O_NOFOLLOW));
  image::TarEntry entry;
  entry.name = name;
  entry.mode = 0644;
  entry.size_bytes = static_cast<std::uint64_t>(TRY_PLAIN(linux::fstat(file.get())).st_size);
  TRY_PLAIN(tar.begin(entry));
  std::string buffer(256U << 10U, '\0');
  for (std::uint64_t left = entry.size_bytes; left > 0;) {
    const auto got = TRY_PLAIN(linux::read(file.get(), std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(left, buffer.size())))));
    if (got == 0) return Error(ErrorKind::corrupt, "it has shrunk while it was read");
    TRY_PLAIN(tar.write(std::string_view(buffer).substr(0, got)));
    left -= got;
  }
  return {};
}

/// A layout with this one image, without a name. The daemon judges the digests.
Status pack_one(int layout, const image::Descriptor& manifest, const image::Manifest& parts, image::TarWriter& tar) {
  std::set<std::string> blobs{blob_path(manifest.digest), blob_path(parts.config.digest)};
  for (const auto& layer : parts.layers) blobs.insert(blob_path(layer.digest));
  for (const auto& blob : blobs) TRY(pack_file(layout, blob, tar), blob);
  image::Index index;
  index.manifests.push_back(manifest);
  index.manifests.back().annotations.clear();
  image::TarEntry entry;
  entry.mode = 0644;
  entry.name = "index.json";
  TRY_PLAIN(tar.add(entry, image::write_index(index)));
  entry.name = "oci-layout";
  TRY_PLAIN(tar.add(entry, R"({"imageLayoutVersion":"1.0.0"})"));
  return tar.finish();
}

Error not_known(std::string_view flag, const std::string& type, std::string_view known) {
  return {ErrorKind::unsupported, concat(flag, ": type=", type, " is not supported (", known, ")")};
}

}  // namespace

Result<CacheFlags> parse_cache_flags(const std::vector<std::string>& from, const std::vector<std::string>& to, bool is_split) {
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
    const bool is_ours = fields.type == "local" || (fields.type == "registry" && is_split);
    if (is_ours) flags.places.push_back({fields.folder, fields.type == "local" ? std::string() : fields.reference});
    flags.to.push_back(json::object{{"type", is_ours ? "image" : fields.type}, {"ref", is_ours ? std::string() : fields.reference}, {"all_stages", fields.all_stages}});
  }
  return flags;
}

LentCaches::~LentCaches() {
  for (const auto& id : images_) {
    auto removed = session_.call("DELETE", object_path("images", id));
    if (!removed.ok()) session_.err().line(concat("WARNING: the cache's image ", id, " stays with the daemon: ", removed.error().text()));
  }
}

Result<std::string> LentCaches::lend(const std::string& folder, const std::string& platform) {
  const auto step = concat("--cache-from ", folder);
  auto layout = linux::open(folder, O_RDONLY | O_DIRECTORY);
  if (!layout.ok() && layout.error().kind() == ErrorKind::not_found) {
    session_.err().line(concat("WARNING: --cache-from: there is no folder ", folder));
    return std::string();
  }
  if (!layout.ok()) return std::move(layout).error().in(step);
  const auto wanted = TRY_PLAIN(image::parse_platform(platform.empty() ? TRY_PLAIN(daemon_platform(session_)) : platform));
  const auto manifest = TRY(find_manifest(layout->get(), "index.json", wanted), step);
  if (!manifest) {
    session_.err().line(concat("WARNING: ", step, ": nothing in it is for ", image::platform_text(wanted)));
    return std::string();
  }
  const auto parts = TRY(image::parse_manifest(TRY(linux::read_file_at(layout->get(), blob_path(manifest->digest)), step)), step);
  auto client = TRY_PLAIN(session_.connect());
  auto sent = TRY_PLAIN(session_.upload_written(*client, "/images/load?quiet=1", [&](int fd) {
    image::TarWriter tar([fd](std::string_view bytes) { return linux::send_all(fd, bytes); });
    return pack_one(layout->get(), *manifest, parts, tar);
  }));
  TRY(std::move(sent.answered), step);
  TRY(std::move(sent.written), step);
  auto printer = TRY(follow_progress(session_, *client, {.is_quiet = true, .prints_results = false}), step);
  const auto& said = printer.last_result();  // "Loaded image ID: sha256:…"
  const auto at = said.find("sha256:");
  if (at == std::string::npos) return Error(ErrorKind::invalid, concat(step, ": it holds no build cache"));
  auto id = std::string(trim(std::string_view(said).substr(at)));
  auto image = TRY_PLAIN(session_.get(object_path("images", id, "json")));
  std::vector<std::string> names;
  TRY_PLAIN(JsonView(image).read("RepoTags", names));
  const bool is_known = !names.empty() || std::find(images_.begin(), images_.end(), id) != images_.end();
  if (!is_known) images_.push_back(id);  // else it was somebody's before, or is lent twice
  return id;
}

TakenCaches::~TakenCaches() {
  std::set<std::string> images;
  for (const auto& build : builds_) images.insert(build.begin(), build.end());
  for (const auto& id : images) {
    auto removed = session_.call("DELETE", object_path("images", id));
    if (!removed.ok()) session_.err().line(concat("WARNING: the cache's image ", id, " stays with the daemon: ", removed.error().text()));
  }
}

void TakenCaches::add(const std::vector<std::string>& images) { builds_.push_back(images); }

Status TakenCaches::deliver(const std::vector<CachePlace>& places, bool is_quiet) {
  for (std::size_t i = 0; i < places.size(); ++i) {
    const auto& place = places[i];
    const auto step = concat("--cache-to ", place.folder.empty() ? place.reference : place.folder);
    PushWish wish{place.reference, false, is_quiet, {}};
    for (const auto& build : builds_) {
      if (build.size() <= i) return Error(ErrorKind::corrupt, concat(step, ": the daemon made no image of the cache"));
      wish.images.push_back(build[i]);
    }
    if (place.folder.empty()) {
      TRY(push(session_, wish), step);
      continue;
    }
    TRY(linux::make_dirs(place.folder, 0755), step);
    Query query;
    for (const auto& image : wish.images) query.add("names", image);
    query.add_if(wish.images.size() > 1, "index", "cache:latest");  // an index needs a name; nobody reads it
    auto client = TRY_PLAIN(session_.connect());
    TRY_PLAIN(session_.open_stream(*client, "GET", "/images/get" + query.text()));
    TRY(place_here(*client, place.folder), step);
  }
  return {};
}

}  // namespace caisson::cli
