// .dockerignore: which files of a context stay behind.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "dockerfile/glob.hpp"

namespace caisson::dockerfile {

/// The last pattern that matches a path or a folder above it decides; "!" patterns take files back in.
class IgnoreList {
 public:
  /// Errors: invalid, naming the line.
  static Result<IgnoreList> parse(std::string_view text);
  /// The patterns of `COPY --exclude`.
  static Result<IgnoreList> of_patterns(const std::vector<std::string>& patterns);

  /// `path`: relative, without "." and ".." and leading '/'.
  [[nodiscard]] bool excludes(std::string_view path) const;
  /// True when nothing below this excluded folder can be taken back in: it need not be looked into.
  [[nodiscard]] bool excludes_all_below(std::string_view folder) const;
  [[nodiscard]] bool empty() const { return patterns_.empty(); }
  [[nodiscard]] bool has_exceptions() const { return has_exceptions_; }
  /// As cleaned: "*", "!a/b".
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }

 private:
  struct Pattern {
    Glob glob;
    std::string start;  ///< up to the first wildcard
    bool is_exception = false;
  };
  Status add(std::string_view line);

  std::vector<Pattern> patterns_;
  std::vector<std::string> texts_;
  bool has_exceptions_ = false;
};

/// "a//b/../c/" → "a/c", as Go's path.Clean: "" → ".", ".." stays where nothing is above.
std::string clean_path(std::string_view path);

}  // namespace caisson::dockerfile
