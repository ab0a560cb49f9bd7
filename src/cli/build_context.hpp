// The context of a build as a tar: what lies in a folder, without what .dockerignore leaves out.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "dockerfile/ignore.hpp"
#include "image/tar_writer.hpp"

namespace caisson::cli {

/// A further folder that travels along.
struct NamedFolder {
  std::string place;            ///< where it lies in the archive: "NAME/SUBFOLDER"
  UniqueFd folder;
  dockerfile::IgnoreList ignored;
};

struct BuildContext {
  UniqueFd folder;              ///< empty: none
  dockerfile::IgnoreList ignored;
  std::string dockerfile;       ///< its name in the archive
  std::string dockerfile_text;  ///< set: it does not lie in the folder, and travels under that name
  std::vector<NamedFolder> named;
};

/// Whether a context is the address of a repository or an archive. A folder of that name comes first: "github.com/a/b" may well be one.
bool is_remote(const std::string& path);

/// --build-context NAME=VALUE: docker-image://REF, the address of a repository or an archive, or a folder, which is added to `context`.
/// Returns {NAME: {"type", "value"}}, as X-Caisson-Build has it. Errors: invalid, not_found, unsupported, naming flag and context.
Result<json::object> parse_named_contexts(const std::vector<std::string>& flags, BuildContext& context);

/// `path`: the folder; `dockerfile`: -f as given ("" and "-" too); `inline_text`: instead of a file. Errors: invalid, not_found, naming the path, in docker's words.
Result<BuildContext> open_context(const std::string& path, const std::string& dockerfile, const std::string& inline_text = "");

/// The files of a context whose contents the daemon may have already.
struct ContextFiles {
  std::string name;             ///< by which the daemon knows the context
  std::string text;             ///< the folder, for people
  struct File {
    std::string name;           ///< in the archive
    std::string digest;         ///< SHA-256, hexadecimal
    std::uint32_t mode = 0;
    std::int64_t mtime_s = 0;
  };
  std::vector<File> files;
};
/// Nothing when it does not pay to ask.
Result<std::optional<ContextFiles>> list_files(const BuildContext& context);

/// Entries in order of names, all owned by 0:0, times in whole seconds: the same files give the same bytes for every user. `left_out`: names of files in the archive that do not travel.
Status pack_context(const BuildContext& context, const std::set<std::string>& left_out, image::TarWriter& tar);

}  // namespace caisson::cli
