// The keys of a bucket: from a file as the AWS command line keeps it, or from the environment.
#pragma once

#include <string_view>

#include "base/result.hpp"
#include "registry/config.hpp"
#include "registry/s3_client.hpp"

namespace caisson::registry {

/// All but the keys.
S3Settings s3_settings(const S3Config& config);
/// The section [profile] of a credentials file. Errors: invalid (a line, or what is missing). Pure.
Result<S3Keys> parse_s3_keys(std::string_view text, std::string_view profile);
/// From config.credentials_file, else AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN. Errors: invalid, not_found.
Result<S3Keys> read_s3_keys(const S3Config& config);

}  // namespace caisson::registry
