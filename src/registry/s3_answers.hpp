// What S3 answers in XML: lists of objects and of begun uploads, an upload's name, errors. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/time.hpp"

namespace caisson::registry {

struct S3Object {
  std::string key;
  std::uint64_t size_bytes = 0;
  TimestampNs written = 0;
};
struct S3Page {
  std::vector<S3Object> objects;
  std::string next;  ///< the token of the next page; "": this is the last
};
struct S3Upload {
  std::string key;
  std::string id;
  TimestampNs begun = 0;
};
struct S3Uploads {
  std::vector<S3Upload> uploads;
  std::string next_key;  ///< markers of the next page; "": this is the last
  std::string next_id;
};
struct S3Fault {
  std::string code;     ///< "NoSuchKey", "SlowDown"
  std::string message;
};

/// ListObjectsV2. Errors: corrupt, naming the element.
Result<S3Page> parse_s3_page(std::string_view text);
/// ListMultipartUploads.
Result<S3Uploads> parse_s3_uploads(std::string_view text);
/// CreateMultipartUpload: the upload's id.
Result<std::string> parse_s3_upload_id(std::string_view text);
/// An error's document; without a code when it is none, as of proxies in between.
S3Fault parse_s3_fault(std::string_view text);

/// CompleteMultipartUpload's body: parts by their entity tags, from 1 on.
std::string write_s3_parts(const std::vector<std::string>& etags);

}  // namespace caisson::registry
