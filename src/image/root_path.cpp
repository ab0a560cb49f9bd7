// Lexical first, then one descriptor per part: never a string that the kernel resolves against our own root.
#include "image/root_path.hpp"

#include <deque>
#include <vector>

#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::image {

namespace {

constexpr int most_links = 255;

std::vector<std::string> clean(std::string_view path) {
  std::vector<std::string> parts;
  for (auto part : split(path, '/')) {
    if (part.empty() || part == ".") continue;
    if (part != "..") parts.emplace_back(part);
    else if (!parts.empty()) parts.pop_back();
  }
  return parts;
}

std::string text_of(const std::vector<std::string>& parts) { return "/" + join(parts, "/"); }

}  // namespace

SplitPath split_root_path(std::string_view path) {
  auto parts = clean(path);
  const bool names_folder = parts.empty() || path.ends_with('/') || path.ends_with("/.");
  SplitPath out;
  if (!names_folder) {
    out.name = std::move(parts.back());
    parts.pop_back();
  }
  out.folder = text_of(parts);
  return out;
}

Result<FoundPath> find_in_root(int root_fd, std::string_view path) {
  auto wanted = split_root_path(path);
  FoundPath found;
  found.folder = TRY_PLAIN(linux::open_in_root(root_fd, wanted.folder, O_PATH | O_DIRECTORY));
  found.name = std::move(wanted.name);
  return found;
}

Result<std::string> resolve_in_root(int root_fd, std::string_view path) {
  auto first = clean(path);
  std::deque<std::string> pending(first.begin(), first.end());
  std::vector<std::string> done;
  for (int links = 0; !pending.empty();) {
    auto part = std::move(pending.front());
    pending.pop_front();
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (!done.empty()) done.pop_back();
      continue;
    }
    auto folder = linux::open_in_root(root_fd, text_of(done), O_PATH | O_DIRECTORY);
    auto target = folder.ok() ? linux::readlinkat(folder->get(), part) : Result<std::string>(std::move(folder).error());
    if (!target.ok()) {  // no link, or nothing that is there
      done.push_back(std::move(part));
      continue;
    }
    if (++links > most_links) return Error(ErrorKind::invalid, concat(path, ": too many levels of symbolic links"), ELOOP);
    if (target->starts_with('/')) done.clear();
    auto parts = split(*target, '/');
    pending.insert(pending.begin(), parts.begin(), parts.end());
  }
  return text_of(done);
}

}  // namespace caisson::image
