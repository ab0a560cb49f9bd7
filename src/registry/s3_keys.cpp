// AWS, "Configuration and credential file settings": sections in brackets, names and values.
#include "registry/s3_keys.hpp"

#include "base/environment.hpp"
#include "base/strings.hpp"
#include "linux/file.hpp"

namespace caisson::registry {

S3Settings s3_settings(const S3Config& config) {
  S3Settings out;
  out.endpoint = config.endpoint;
  out.region = config.region;
  out.bucket = config.bucket;
  out.prefix = config.prefix;
  out.path_style = config.addressing == "path";
  out.signs_payload = config.signs_payload;
  out.part_bytes = config.part_bytes;
  return out;
}

Result<S3Keys> parse_s3_keys(std::string_view text, std::string_view profile) {
  S3Keys out;
  bool is_ours = false;
  std::size_t number = 0;
  for (auto line : split(text, '\n')) {
    ++number;
    line = trim(line);
    if (line.empty() || line.starts_with('#') || line.starts_with(';')) continue;
    if (line.starts_with('[')) {
      if (!line.ends_with(']')) return Error(ErrorKind::invalid, concat("line ", number, ": a section's name ends with \"]\""));
      is_ours = trim(line.substr(1, line.size() - 2)) == profile;
      continue;
    }
    const auto halves = split_once(line, '=');
    if (!halves.found) return Error(ErrorKind::invalid, concat("line ", number, ": want NAME = VALUE"));  // never the line itself: it may hold a key
    if (!is_ours) continue;
    const auto name = trim(halves.before);
    if (name == "aws_access_key_id") out.access_key = trim(halves.after);
    else if (name == "aws_secret_access_key") out.secret_key = trim(halves.after);
    else if (name == "aws_session_token") out.session_token = trim(halves.after);
  }
  if (out.access_key.empty() || out.secret_key.empty()) return Error(ErrorKind::invalid, concat("section [", profile, "] lacks aws_access_key_id or aws_secret_access_key"));
  return out;
}

Result<S3Keys> read_s3_keys(const S3Config& config) {
  if (!config.credentials_file.empty()) {
    const auto text = TRY(linux::read_file(config.credentials_file), "keys of the storage");
    return TRY(parse_s3_keys(text, config.profile), config.credentials_file);
  }
  S3Keys out{environment_text("AWS_ACCESS_KEY_ID"), environment_text("AWS_SECRET_ACCESS_KEY"), environment_text("AWS_SESSION_TOKEN")};
  if (!out.access_key.empty() && !out.secret_key.empty()) return out;
  return Error(ErrorKind::not_found, "keys of the storage: neither credentials_file nor the environment has them").with_hint("set storage.s3.credentials_file, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
}

}  // namespace caisson::registry
