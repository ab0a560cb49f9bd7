// What `image sync` is to bring: lists of repositories with filters of their tags, and where each goes. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "image/image_store.hpp"

namespace caisson::transport {

/// One repository and the tags of it that are meant.
struct SyncEntry {
  std::string from;                 ///< "docker.io/library/alpine"; below a folder of layouts: "library/alpine"
  std::vector<std::string> tags;    ///< names and patterns ("3.*"); none: all
  std::vector<std::string> except;  ///< patterns of tags that are left out
  std::string digest;               ///< in place of tags
  std::string to;                   ///< the path below the target; "": the source's own path
};

enum class SyncFormat : std::uint8_t { lines, yaml, toml };
/// By the file's name: .yaml and .yml, .toml, else lines.
SyncFormat format_of(std::string_view file_name);

/// Lines: "repository[:TAG|@DIGEST]", "#" begins a comment. YAML and TOML: `images`, a list of {from, tags, except, to} or of such lines.
/// `from` may name a tag or digest itself. Errors: invalid, with the line or field.
Result<std::vector<SyncEntry>> parse_sync_list(std::string_view text, SyncFormat format);
/// One line of such a list. A repository without a tag means all of its tags. Errors: invalid.
Result<SyncEntry> parse_sync_line(std::string_view line);

/// The tags that an entry means, in order of the registry's list. A name without wildcards that is not on the list is still meant, so that its absence
/// becomes an error of its own. Errors: invalid (a pattern).
Result<std::vector<std::string>> select_tags(const SyncEntry& entry, const std::vector<std::string>& there);
/// True when the registry has to be asked for its tags.
bool needs_listing(const SyncEntry& entry);

/// Where images go: a registry with a path in front of theirs, or a folder that gets a layout for each repository.
struct SyncTarget {
  bool is_folder = false;
  std::string folder;
  std::string domain;
  std::string prefix;  ///< "mirror", or ""
};
/// "host:5000[/path]" or "oci:FOLDER". Errors: invalid.
Result<SyncTarget> parse_sync_target(std::string_view text);
/// The repository "host:5000/mirror/library/alpine", or the folder of its layout. Errors: invalid (a path that no registry takes, or that leads out).
Result<std::string> target_of(const SyncTarget& target, const std::string& path);

}  // namespace caisson::transport
