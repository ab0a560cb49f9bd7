// Writing an answer's body to a file or to standard output: archives of images and containers.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "wire/http_client.hpp"

namespace caisson::cli {

/// All of it to a descriptor.
Status copy_stream(wire::Client& client, int target_fd);
/// `output`: a file's path; "": standard output. The file appears when all of it is there: a transfer that fails leaves neither half an
/// archive nor the old one destroyed.
Status save_stream(wire::Client& client, const std::string& output);

/// What somebody wants in a file: as a whole or not at all; into a device or a pipe (/dev/stdout) as it comes.
Status write_output_file(const std::string& path, std::string_view text);

}  // namespace caisson::cli
