// cp: which end is the container, what the target will be called, and archives in between. The rules are docker's.
#include <optional>

#include "base/strings.hpp"
#include "cli/commands.hpp"
#include "cli/place_here.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"
#include "image/inflate.hpp"
#include "image/pack.hpp"
#include "image/root_path.hpp"
#include "linux/file.hpp"
#include "linux/process.hpp"
#include "linux/socket.hpp"

namespace caisson::cli {

namespace {

struct CopyEnd {
  std::string container;  ///< "": a path of this machine
  std::string path;
};

/// "web:/etc" names a container; "/a:b", "./a:b" and "a" do not.
CopyEnd parse_end(const std::string& word) {
  if (word.starts_with('/')) return {"", word};
  auto halves = split_once(word, ':');
  if (!halves.found || halves.before.starts_with('.')) return {"", word};
  return {std::string(halves.before), std::string(halves.after)};
}

bool names_contents(std::string_view path) { return path == "." || path.ends_with("/."); }

/// The path without what stands behind its last part: "/a/b/." → "/a/b".
std::string trimmed(std::string_view path) {
  while (path.size() > 1 && (path.ends_with('/') || path.ends_with("/."))) path.remove_suffix(1);
  return std::string(path);
}

struct PathParts {
  std::string folder;  ///< "." or what stands before the last slash
  std::string name;
};
PathParts cut_path(std::string_view path) {
  auto whole = trimmed(path);
  auto slash = whole.find_last_of('/');
  if (slash == std::string::npos) return {".", whole};
  return {slash == 0 ? "/" : whole.substr(0, slash), whole.substr(slash + 1)};
}

struct Target {
  std::string path;
  bool exists = false;
  bool is_folder = false;
};

/// Where an archive goes, and what its first name becomes ("": stays).
struct Landing {
  std::string folder;
  std::string first_name;
};
Result<Landing> choose_landing(const Target& target, bool source_is_folder) {
  if (target.exists && target.is_folder) return Landing{target.path, ""};
  if (target.exists && source_is_folder) return Error(ErrorKind::invalid, "cannot copy directory");
  if (!target.exists && !source_is_folder && (target.path.ends_with('/') || names_contents(target.path)))
    return Error(ErrorKind::invalid, "no such directory");
  auto parts = cut_path(target.path);
  return Landing{parts.folder, parts.name};
}

constexpr std::uint32_t go_directory = 1U << 31U;
constexpr std::uint32_t go_symlink = 1U << 27U;
constexpr std::uint32_t go_irregular = (1U << 26U) | (1U << 25U) | (1U << 24U);  // devices, pipes, sockets

struct PathFacts {
  std::uint32_t mode = 0;  ///< Go's os.FileMode
  std::string link_target;
};
Result<PathFacts> read_facts(std::string_view header) {
  auto text = TRY(base64_decode(header), "X-Docker-Container-Path-Stat");
  auto document = TRY_PLAIN(parse_json(text, "X-Docker-Container-Path-Stat"));
  PathFacts facts;
  TRY_PLAIN(JsonView(document).read("mode", facts.mode));
  TRY_PLAIN(JsonView(document).read("linkTarget", facts.link_target));
  return facts;
}

std::string archive_target(const std::string& container, Query query, const std::string& path) {
  return object_path("containers", container, "archive") + query.add("path", path).text();
}

/// Nothing when the path does not exist.
Result<std::optional<PathFacts>> ask_facts(Session& session, const std::string& container, const std::string& path) {
  auto client = TRY_PLAIN(session.connect());
  auto response = session.open_stream(*client, "HEAD", archive_target(container, {}, path));
  if (!response.ok() && response.error().kind() == ErrorKind::not_found) return std::optional<PathFacts>();
  if (!response.ok()) return std::move(response).error();
  return std::optional<PathFacts>(TRY_PLAIN(read_facts(response->header("X-Docker-Container-Path-Stat"))));
}

Result<Target> look_at_target(const std::string& path) {
  Target target;
  target.path = path;
  auto status = linux::stat(trimmed(path));
  target.exists = status.ok();
  target.is_folder = status.ok() && S_ISDIR(status->st_mode);
  if (status.ok() && !S_ISDIR(status->st_mode) && !S_ISREG(status->st_mode))
    return Error(ErrorKind::invalid, concat("invalid output path: \"", path, "\" must be a directory or a regular file: got ", S_ISCHR(status->st_mode) || S_ISBLK(status->st_mode) ? "a device" : "an irregular file"));
  auto parts = cut_path(path);
  auto folder = linux::stat(parts.folder);
  if (!target.exists && (!folder.ok() || !S_ISDIR(folder->st_mode)))
    return Error(ErrorKind::invalid, concat("invalid output path: directory \"", parts.folder, "\" does not exist"));
  return target;
}

Result<int> copy_out(Session& session, const CopyEnd& from, const std::string& to, bool follow_link) {
  std::string path = from.path;
  std::string name = cut_path(path).name;
  if (follow_link) {
    auto facts = TRY_PLAIN(ask_facts(session, from.container, path));
    if (facts && (facts->mode & go_symlink) != 0) path = facts->link_target;
  }
  Target target;
  if (to != "-") {
    target = TRY_PLAIN(look_at_target(to));
    // What is in a folder becomes a new folder: its own attributes come along then.
    if (!target.exists && names_contents(path) && trimmed(path) != "/") path = trimmed(path) + "/";
  }
  auto client = TRY_PLAIN(session.connect());
  auto response = TRY_PLAIN(session.open_stream(*client, "GET", archive_target(from.container, {}, path)));
  if (to == "-") {
    TRY_PLAIN(save_stream(*client, ""));
    return 0;
  }
  auto facts = TRY_PLAIN(read_facts(response.header("X-Docker-Container-Path-Stat")));
  auto landing = TRY_PLAIN(choose_landing(target, (facts.mode & go_directory) != 0));
  if (landing.first_name.empty() && follow_link && path != from.path) landing.first_name = name;  // a followed link keeps its own name
  if (trimmed(path) == "/" && !landing.first_name.empty()) {  // the root has no name that could be replaced
    TRY_PLAIN(linux::mkdir(to, 0755));
    landing = {to, ""};
  }
  TRY(place_here(*client, landing.folder, landing.first_name), concat("copy to ", to));
  return 0;
}

/// Packs a path of this machine into a pipe while the other end is sent.
Status send_packed(Session& session, wire::Client& client, const std::string& upload_target, const image::PackRequest& request) {
  auto root = TRY_PLAIN(linux::open("/", O_RDONLY | O_DIRECTORY));
  auto pack = [&](int fd) {
    image::TarWriter tar([fd](std::string_view bytes) { return linux::send_all(fd, bytes); });
    return image::pack_tree(root.get(), request, tar);
  };
  auto sent = TRY_PLAIN(session.upload_written(client, upload_target, pack, "PUT"));
  TRY_PLAIN(std::move(sent.answered));  // the cause, when both failed
  return std::move(sent.written);
}

Result<Target> find_container_target(Session& session, const CopyEnd& to) {
  Target target;
  target.path = to.path;
  auto facts = TRY_PLAIN(ask_facts(session, to.container, to.path));
  if (facts && (facts->mode & go_symlink) != 0) {
    target.path = facts->link_target;
    facts = TRY_PLAIN(ask_facts(session, to.container, target.path));
  }
  if (facts && (facts->mode & go_irregular) != 0)
    return Error(ErrorKind::invalid, concat("destination \"", to.container, ":", to.path, "\" must be a directory or a regular file"));
  target.exists = facts.has_value();
  target.is_folder = facts && (facts->mode & go_directory) != 0;
  return target;
}

Result<int> copy_in(Session& session, const std::string& from, const CopyEnd& to, const Invocation& invocation) {
  auto target = TRY_PLAIN(find_container_target(session, to));
  Query query;
  query.add_if(invocation.flag("archive"), "copyUIDGID", "true").add("noOverwriteDirNonDir", "true");
  auto client = TRY_PLAIN(session.connect());
  if (from == "-") {
    if (!target.is_folder) return Error(ErrorKind::invalid, concat("destination \"", to.container, ":", to.path, "\" must be a directory"));
    TRY_PLAIN(session.upload(*client, archive_target(to.container, query, target.path), 0, "PUT"));
    return 0;
  }
  image::PackRequest request;
  request.path = from.starts_with('/') ? from : concat(TRY_PLAIN(linux::getcwd()), "/", from);
  const bool follows = invocation.flag("follow-link") || from.ends_with('/') || names_contents(from);
  auto status = TRY_PLAIN(follows ? linux::stat(trimmed(from)) : linux::lstat(from));
  const bool is_folder = S_ISDIR(status.st_mode);
  auto landing = TRY_PLAIN(choose_landing(target, is_folder));
  request.name = !landing.first_name.empty() ? landing.first_name : names_contents(from) ? "." : cut_path(request.path).name;
  if (request.name.empty()) request.name = "/";
  if (follows && is_folder && !request.path.ends_with('/') && !names_contents(request.path)) request.path += "/";
  if (follows && !is_folder) {
    auto root = TRY_PLAIN(linux::open("/", O_PATH | O_DIRECTORY));
    request.path = TRY_PLAIN(image::resolve_in_root(root.get(), request.path));
  }
  TRY_PLAIN(send_packed(session, *client, archive_target(to.container, query, landing.folder), request));
  return 0;
}

}  // namespace

Result<int> copy_files(Session& session, const Invocation& invocation) {
  const auto& source_word = invocation.word(0);
  const auto& target_word = invocation.word(1);
  if (source_word.empty()) return Error(ErrorKind::invalid, "source can not be empty");
  if (target_word.empty()) return Error(ErrorKind::invalid, "destination can not be empty");
  const auto source = parse_end(source_word);
  const auto target = parse_end(target_word);
  if (!source.container.empty() && !target.container.empty()) return Error(ErrorKind::invalid, "copying between containers is not supported");
  if (source.container.empty() && target.container.empty()) return Error(ErrorKind::invalid, "must specify at least one container source");
  if (!source.container.empty()) return copy_out(session, source, target.path, invocation.flag("follow-link"));
  return copy_in(session, source.path, target, invocation);
}

}  // namespace caisson::cli
