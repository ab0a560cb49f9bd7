// Compiled seccomp programs on disk, by the text of the profile: a start whose profile was seen before neither parses nor compiles it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "linux/seccomp.hpp"
#include "runtime/spec.hpp"

namespace caisson::runtime {

/// A folder of programs, one file each. A file holds the profile's whole text beside the program, and the text is compared: the hash
/// in its name decides nothing. Folder and files must belong to us and be writable by nobody else, and a file must have the right
/// length, checksum and shape (linux::is_seccomp_program); whatever is not so counts as absent and is made anew.
class SeccompCache {
 public:
  /// `folder` is made when the first program is kept.
  explicit SeccompCache(std::string folder) : folder_(std::move(folder)) {}

  /// The program that was kept for this text by a compiler like ours.
  [[nodiscard]] std::optional<linux::SeccompProgram> find(std::string_view profile_text) const;
  /// Keeps a program, and drops the ones not used for longest when there are too many. A cache that cannot be written only costs time,
  /// so nothing is reported. Programs that need a listener are not kept: their profiles say more than the program does.
  void keep(std::string_view profile_text, const linux::SeccompProgram& program) const;

 private:
  std::string folder_;
};

/// A configuration, and its filter where that was there already or could be compiled.
struct ConfigWithFilter {
  Spec spec;  ///< without linux.seccomp when the filter came from the cache
  std::optional<linux::SeccompProgram> filter;
};
/// Parses config.json, the seccomp part only when the cache does not know its text. Errors: as parse_spec and compile_profile.
Result<ConfigWithFilter> parse_config(std::string_view text, const SeccompCache& cache);

/// Parses config.json without its seccomp part, for commands that have no use for it. Errors: as parse_spec.
Result<Spec> parse_spec_without_seccomp(std::string_view text);

}  // namespace caisson::runtime
