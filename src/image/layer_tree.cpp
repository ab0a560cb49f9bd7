// Resolution of hostile names in memory.
#include "image/layer_tree.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "image/layer_target.hpp"

namespace caisson::image {

namespace {
constexpr std::size_t most_component_bytes = 255;  // NAME_MAX
/// Deeper trees make every walk cost more than they are worth; the deepest seen in images is about 60.
constexpr std::size_t most_components = 255;
constexpr int most_links = 40;  // what the kernel follows, too (path_resolution(7))
}  // namespace

Result<std::vector<std::string>> clean_components(std::string_view name) {
  std::vector<std::string> out;
  for (auto piece : split(name, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece == "..") {
      if (out.empty()) return Error(ErrorKind::invalid, "name leads out of the layer");
      out.pop_back();
      continue;
    }
    if (piece.size() > most_component_bytes) return Error(ErrorKind::invalid, concat("part of the name is longer than ", most_component_bytes, " bytes"));
    if (out.size() >= most_components) return Error(ErrorKind::invalid, concat("nested deeper than ", most_components, " directories"));
    out.emplace_back(piece);
  }
  return out;
}

LayerTree::LayerTree(LayerTarget& target) : target_(target) { root_.attributes.mode = 0755; }

Result<LayerTree::Directory*> LayerTree::make_directory(Directory& parent, const std::string& name) {
  auto made = std::make_unique<Directory>();
  made->parent = &parent;
  made->name = name;
  made->attributes.mode = 0755;
  TRY_PLAIN(target_.make_directory(*made));
  auto* raw = made.get();
  parent.directories.emplace(name, std::move(made));
  return raw;
}

Result<LayerTree::Directory*> LayerTree::resolve(const std::vector<std::string>& components, std::size_t count, Missing missing, const TarEntry& entry) {
  std::vector<std::string> pending(components.rend() - static_cast<std::ptrdiff_t>(count), components.rend());  // next one at the back
  Directory* at = &root_;
  int links = 0;
  while (!pending.empty()) {
    std::string part = std::move(pending.back());
    pending.pop_back();
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (at->parent != nullptr) at = at->parent;
      continue;
    }
    if (auto found = at->directories.find(part); found != at->directories.end()) {
      at = found->second.get();
      continue;
    }
    if (auto link = at->links.find(part); link != at->links.end()) {
      if (++links > most_links) return Error(ErrorKind::invalid, "too many symbolic links on the way");
      if (link->second.starts_with('/')) at = &root_;
      auto target = split(link->second, '/');
      for (auto piece = target.rbegin(); piece != target.rend(); ++piece) pending.emplace_back(*piece);
      continue;
    }
    if (at->devices.count(part) != 0) return Error(ErrorKind::invalid, concat("\"", part, "\" on the way is not a directory"));
    if (missing == Missing::refuse) return Error(ErrorKind::not_found, concat("\"", part, "\" is not in this layer"));
    if (part.size() > most_component_bytes) return Error(ErrorKind::invalid, "a symbolic link on the way leads to an impossible name");
    bool was_whiteout = at->whiteouts.erase(part) > 0;
    if (was_whiteout) TRY_PLAIN(target_.remove(*at, part));
    auto made = make_directory(*at, part);
    if (!made.ok() && made.error().error_number() == EEXIST) return Error(ErrorKind::invalid, concat("\"", part, "\" on the way is not a directory"));
    if (!made.ok()) return made;
    (*made)->is_opaque = was_whiteout;
    (*made)->attributes.mtime_s = entry.mtime_s;
    (*made)->attributes.mtime_ns = entry.mtime_ns;
    at = *made;
  }
  return at;
}

Status LayerTree::remove_directory(Directory& parent, const std::string& name) {
  auto found = parent.directories.find(name);
  if (found == parent.directories.end()) return {};
  ++generation_;
  TRY_PLAIN(target_.remove_directory(*found->second));
  parent.directories.erase(found);
  return {};
}

std::string LayerTree::path_of(const Directory& directory) {
  std::vector<std::string> names;
  for (const auto* at = &directory; at->parent != nullptr; at = at->parent) names.push_back(at->name);
  std::reverse(names.begin(), names.end());
  return join(names, "/");
}

Status LayerTree::for_each(const std::function<Status(Directory&)>& visit) {
  // Depth is bounded by the components of a name, but links make trees deeper than names: an explicit stack.
  struct Frame {
    Directory* directory;
    std::map<std::string, std::unique_ptr<Directory>, std::less<>>::iterator next;
  };
  std::vector<Frame> stack{{&root_, root_.directories.begin()}};
  while (!stack.empty()) {
    auto& top = stack.back();
    if (top.next != top.directory->directories.end()) {
      auto* child = (top.next++)->second.get();
      stack.push_back({child, child->directories.begin()});
      continue;
    }
    TRY_PLAIN(visit(*top.directory));
    stack.pop_back();
  }
  return {};
}

}  // namespace caisson::image
