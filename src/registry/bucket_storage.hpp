// Blobs and records as objects of a bucket; the registry's folder holds what grows and a cache of what was asked for.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "registry/s3_client.hpp"
#include "registry/storage.hpp"

namespace caisson::registry {

struct BucketOptions {
  std::uint64_t cache_bytes = 10ULL << 30;  ///< of blobs kept in the folder; the least recently asked for go first
  bool redirects = false;                   ///< clients fetch blobs from the bucket themselves, by a signed URL
};

/// Below the client's prefix: "blobs/sha256/ab/abcd…" and "records/KEY".
std::unique_ptr<Storage> bucket_storage(image::ContentStore& local, std::unique_ptr<S3Client> client, BucketOptions options);

}  // namespace caisson::registry
