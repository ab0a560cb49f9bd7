// .dockerignore by docker's rules: the reference's section, and the behaviour of its pattern matcher where the text leaves room.
#include "dockerfile/ignore.hpp"

#include <algorithm>

#include "base/strings.hpp"

namespace caisson::dockerfile {

std::string clean_path(std::string_view path) {
  bool is_absolute = path.starts_with('/');
  std::vector<std::string> kept;
  for (auto piece : split(path, '/')) {
    if (piece.empty() || piece == ".") continue;
    if (piece != "..") kept.emplace_back(piece);
    else if (!kept.empty() && kept.back() != "..") kept.pop_back();
    else if (!is_absolute) kept.emplace_back(piece);
  }
  auto joined = join(kept, "/");
  if (is_absolute) return concat("/", joined);
  return joined.empty() ? "." : joined;
}

Result<IgnoreList> IgnoreList::parse(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  IgnoreList list;
  std::uint32_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    if (line.starts_with('#')) continue;
    TRY(list.add(line), concat("line ", number));
  }
  return list;
}

Result<IgnoreList> IgnoreList::of_patterns(const std::vector<std::string>& patterns) {
  IgnoreList list;
  for (const auto& pattern : patterns) TRY_PLAIN(list.add(pattern));
  return list;
}

Status IgnoreList::add(std::string_view line) {
  line = trim(line);
  if (line.empty()) return {};
  Pattern pattern;
  if (line.starts_with('!')) {
    pattern.is_exception = true;
    line = trim(line.substr(1));
    if (line.empty()) return Error(ErrorKind::invalid, "illegal exclusion pattern: \"!\"");
  }
  auto text = clean_path(line);
  if (text.size() > 1 && text.starts_with('/')) text.erase(0, 1);
  auto glob = Glob::for_ignore(text);
  if (!glob.ok()) return std::move(glob).error().in(concat("\"", text, "\""));
  pattern.glob = std::move(*glob);
  pattern.start = text.substr(0, text.find_first_of("*?[\\"));
  texts_.push_back(pattern.is_exception ? concat("!", text) : text);
  has_exceptions_ = has_exceptions_ || pattern.is_exception;
  patterns_.push_back(std::move(pattern));
  return {};
}

bool IgnoreList::excludes(std::string_view path) const {
  // From the last pattern back: the first hit decides.
  for (auto pattern = patterns_.rbegin(); pattern != patterns_.rend(); ++pattern) {
    for (auto end = path.find('/');; end = path.find('/', end + 1)) {
      if (pattern->glob.matches(path.substr(0, end))) return !pattern->is_exception;
      if (end == std::string_view::npos) break;
    }
  }
  return false;
}

bool IgnoreList::excludes_all_below(std::string_view folder) const {
  if (!excludes(folder)) return false;
  if (!has_exceptions_) return true;
  auto inside = concat(folder, "/");
  return std::none_of(patterns_.begin(), patterns_.end(), [&](const Pattern& pattern) {
    // What an exception's plain start and this folder agree on may go on below it.
    return pattern.is_exception && (pattern.start.starts_with(inside) || inside.starts_with(pattern.start));
  });
}

}  // namespace caisson::dockerfile
