// PathArg: a borrowed, NUL-terminated path, so that wrappers take literals and std::string without a copy.
#pragma once

#include <string>
#include <string_view>

namespace caisson::linux {

/// Borrowed for the call. A std::string with a NUL inside is kept apart (has_nul) and refused by every wrapper.
class PathArg {
 public:
  PathArg(const char* path) : text_(path), size_(std::string_view(path).size()) {}                // NOLINT(google-explicit-constructor)
  PathArg(const std::string& path) : text_(path.c_str()), size_(path.size()) {}  // NOLINT(google-explicit-constructor)
  [[nodiscard]] const char* c_str() const { return text_; }
  [[nodiscard]] std::string_view view() const { return {text_, size_}; }
  [[nodiscard]] bool has_nul() const { return view().find('\0') != std::string_view::npos; }
  [[nodiscard]] bool empty() const { return size_ == 0; }

 private:
  const char* text_;
  std::size_t size_;
};

}  // namespace caisson::linux
