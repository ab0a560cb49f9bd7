// A container's files: /changes, /export, /archive, and /commit.
#include "api/create_body.hpp"
#include "api/handlers.hpp"
#include "api/json_out.hpp"
#include "api/transfer.hpp"
#include "base/digest.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"

namespace caisson::api {

namespace {

/// Go's os.FileMode, which clients decode: type and special bits stand elsewhere than in st_mode.
std::uint32_t go_file_mode(std::uint32_t mode) {
  constexpr std::uint32_t directory = 1U << 31U;
  constexpr std::uint32_t symlink = 1U << 27U;
  constexpr std::uint32_t device = 1U << 26U;
  constexpr std::uint32_t named_pipe = 1U << 25U;
  constexpr std::uint32_t socket = 1U << 24U;
  constexpr std::uint32_t setuid = 1U << 23U;
  constexpr std::uint32_t setgid = 1U << 22U;
  constexpr std::uint32_t char_device = 1U << 21U;
  constexpr std::uint32_t sticky = 1U << 20U;
  std::uint32_t out = mode & 0777;
  if (S_ISDIR(mode)) out |= directory;
  if (S_ISLNK(mode)) out |= symlink;
  if (S_ISBLK(mode)) out |= device;
  if (S_ISCHR(mode)) out |= device | char_device;
  if (S_ISFIFO(mode)) out |= named_pipe;
  if (S_ISSOCK(mode)) out |= socket;
  if ((mode & S_ISUID) != 0) out |= setuid;
  if ((mode & S_ISGID) != 0) out |= setgid;
  if ((mode & S_ISVTX) != 0) out |= sticky;
  return out;
}

/// Docker's name for what a path leads to: its last part; "/" for the root, "." for "/etc/.".
std::string base_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  if (path == "/") return "/";
  return std::string(path.substr(path.find_last_of('/') + 1));
}

/// "a/./b/../c/." → "/a/c/.": clean, but a last "/" or "/." stays, because it means "what is in it".
std::string clean_archive_path(std::string_view path) {
  std::vector<std::string> parts;
  for (auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") parts.emplace_back(part);
    else if (!parts.empty()) parts.pop_back();
  }
  std::string clean = "/" + join(parts, "/");
  const bool names_inside = path == "." || path.ends_with("/.");
  if (names_inside) return clean == "/" ? "/." : clean + "/.";
  return path.ends_with('/') && clean != "/" ? clean + "/" : clean;
}

Result<std::string> archive_path(const Request& request) {
  auto path = request.query.text("path");
  if (path.empty()) return Error(ErrorKind::invalid, "bad parameter: path cannot be empty");
  if (path.find('\0') != std::string::npos) return Error(ErrorKind::invalid, "path: holds a zero byte");
  return clean_archive_path(path);
}

/// Go's RFC3339Nano: no zeros at the end of the fraction.
std::string go_time(TimestampNs time) {
  auto text = to_rfc3339(time);
  const auto dot = text.find('.');
  if (dot == std::string::npos) return text;
  text.pop_back();  // "Z"
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text + "Z";
}

std::string path_stat_header(const std::string& path, const image::PathStatus& status) {
  const auto time = static_cast<TimestampNs>(status.mtime_s) * 1'000'000'000 + status.mtime_ns;
  json::object out{{"name", base_name(path)},
                   {"size", status.size_bytes},
                   {"mode", go_file_mode(status.mode)},
                   {"mtime", go_time(time)},
                   {"linkTarget", status.link_target}};
  return base64_encode(to_text(out));
}

Result<wire::Headers> path_headers(Request& request, const std::string& path) {
  auto status = TRY_PLAIN(request.engine.stat_path(request.caller, request.name, path));
  auto headers = common_headers();
  headers.emplace_back("X-Docker-Container-Path-Stat", path_stat_header(path, status));
  return headers;
}

}  // namespace

Status show_changes(Request& request) {
  auto changes = TRY_PLAIN(request.engine.changes(request.caller, request.name));
  json::array out;
  for (const auto& change : changes) out.push_back(json::object{{"Path", change.path}, {"Kind", static_cast<int>(change.kind)}});
  return request.reply_json(200, out.empty() ? json::value(nullptr) : json::value(std::move(out)));
}

Status export_container(Request& request) {
  engine::ExportOptions options;
  options.has_mount_points = request.query.flag("mountpoints", true);  // ours
  TRY_PLAIN(request.engine.inspect(request.caller, request.name, false));  // a wrong name is an error answer, not a cut stream
  return stream_out(request, headers_of_type("application/octet-stream"),
                    [&](int fd, Cancel cancel) { return request.engine.export_container(request.caller, request.name, options, fd, cancel); });
}

Status stat_archive(Request& request) {
  auto path = TRY_PLAIN(archive_path(request));
  auto headers = TRY_PLAIN(path_headers(request, path));
  return request.exchange.respond(200, headers, "");
}

Status get_archive(Request& request) {
  auto path = TRY_PLAIN(archive_path(request));
  auto headers = TRY_PLAIN(path_headers(request, path));
  headers.emplace_back("Content-Type", "application/x-tar");
  return stream_out(request, headers, [&](int fd, Cancel cancel) {
    return request.engine.read_archive(request.caller, request.name, path, base_name(path), fd, cancel);
  });
}

Status put_archive(Request& request) {
  engine::PlaceOptions options;
  options.path = TRY_PLAIN(archive_path(request));
  options.keep_kinds = request.query.flag("noOverwriteDirNonDir");
  options.own_by_user = request.query.flag("copyUIDGID");
  TRY_PLAIN(feed_body(request, [&](int fd) {
    return request.engine.write_archive(request.caller, request.name, options, fd, request.exchange.cancel());
  }));
  return request.reply_empty(200);
}

Status commit_container(Request& request) {
  engine::CommitOptions options;
  const auto container = request.query.text("container");
  if (container.empty()) return Error(ErrorKind::invalid, "query parameter container is missing");
  const auto repo = request.query.text("repo");
  const auto tag = request.query.text("tag");
  options.reference = repo.empty() || tag.empty() ? repo : concat(repo, ":", tag);
  options.author = request.query.text("author");
  options.comment = request.query.text("comment");
  options.changes = request.query.all("changes");
  options.pause = request.query.flag("pause", true);
  options.config = TRY_PLAIN(read_commit_body(TRY_PLAIN(request.read_optional_json())));
  auto image = TRY_PLAIN(request.engine.commit(request.caller, container, options, request.exchange.cancel()));
  return request.reply_json(201, json::object{{"Id", image.id.text()}});
}

}  // namespace caisson::api
