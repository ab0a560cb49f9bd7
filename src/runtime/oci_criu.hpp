// What checkpoint and restore have in common: flags, folders, the container as CRIU must know it.
#pragma once

#include <string>
#include <vector>

#include "runtime/criu.hpp"
#include "runtime/oci_commands.hpp"

namespace caisson::runtime {

/// The folders of images and of CRIU's log, open while it works.
struct CriuFolders {
  std::string images_path;
  std::string log_path;
  UniqueFd images;
  UniqueFd work;
};
enum class CriuImages : std::uint8_t { make, use };
/// --image-path (default: ./checkpoint) and --work-path (default: the images'). `log_name` is the log's file in the latter.
Result<CriuFolders> open_criu_folders(const OciArguments& arguments, CriuImages images, const std::string& log_name);

/// The flags that both commands know. Errors: invalid.
Status take_criu_flags(const OciArguments& arguments, const std::map<std::string, std::string>& annotations, CriuOptions& options);

/// The name under which an external namespace travels in the images.
std::string_view external_namespace_name(NamespaceType type);
/// What a failed request is reported as: CRIU's own reason.
Error criu_failure(std::string_view what, const CriuAnswer& answer, const CriuFolders& folders);

}  // namespace caisson::runtime
