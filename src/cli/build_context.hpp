// The context of a build as a tar: what lies in a folder, without what .dockerignore leaves out.
#pragma once

#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "dockerfile/ignore.hpp"
#include "image/tar_writer.hpp"

namespace caisson::cli {

struct BuildContext {
  UniqueFd folder;              ///< empty: none
  dockerfile::IgnoreList ignored;
  std::string dockerfile;       ///< its name in the archive
  std::string dockerfile_text;  ///< set: it does not lie in the folder, and travels under that name
};

/// `path`: the folder; `dockerfile`: -f as given ("" and "-" too). Errors: invalid, not_found, naming the path, in docker's words.
Result<BuildContext> open_context(const std::string& path, const std::string& dockerfile);

/// Entries in order of names, all owned by 0:0, times in whole seconds: the same files give the same bytes for every user.
Status pack_context(const BuildContext& context, image::TarWriter& tar);

}  // namespace caisson::cli
