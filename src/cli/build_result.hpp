// Where the result of `build` goes: files, registries, what is attached there, and the files that tell of it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "cli/build_annotations.hpp"
#include "cli/build_attestations.hpp"
#include "cli/parse.hpp"
#include "cli/registry.hpp"
#include "cli/session.hpp"

namespace caisson::cli {

struct BuildOutput {
  std::string type = "image";  ///< image, local, tar, docker or oci
  std::string destination;
  bool is_pushed = false;
  LayerCompression compression;  ///< of an archive and of a push
};
/// --output and --push. Errors: invalid, unsupported.
Result<BuildOutput> parse_build_output(const Invocation& invocation);
/// What can be said before anything is built. Errors: invalid, naming the flags that do not go together.
Status check_result(const Invocation& invocation, const BuildOutput& output, const AttestationFlags& attestations, const std::vector<Annotation>& annotations, std::size_t platform_count);
/// `images`: at least one; the last is the one that names mean. Returns what --metadata-file says. Errors: those of the daemon and the registry, io.
Result<json::object> deliver(Session& session, const Invocation& invocation, const BuildOutput& output, const AttestationFlags& attestations, const std::vector<Annotation>& annotations, const std::vector<BuiltImage>& images);

}  // namespace caisson::cli
