// Blobs in the registry's own folder: the image module's content store as it is.
#include "base/strings.hpp"
#include "linux/file.hpp"
#include "registry/storage.hpp"

namespace caisson::registry {

namespace {

class FolderStorage final : public Storage {
 public:
  using Storage::Storage;

  Result<bool> has(const Digest& digest) override { return local().has_blob(digest); }
  Result<std::string> read(const Digest& digest) override { return local().read_blob(digest); }
  Result<OpenedBlob> open(const Digest& digest, std::uint64_t /*size_bytes*/, ByteRange wanted) override {
    auto file = linux::open(local().blob_path(digest), O_RDONLY | O_NOFOLLOW);
    if (!file.ok() && file.error().kind() == ErrorKind::not_found) return Error(ErrorKind::corrupt, concat("blob ", digest.text(), " is held and missing on disk"));
    OpenedBlob out;
    out.fd = TRY_PLAIN(std::move(file));
    out.offset = wanted.first;
    return out;
  }
  Status put(std::string_view bytes, const Digest& digest) override {
    TRY_PLAIN(local().put_blob(bytes, digest.kind()));
    return {};
  }
  Status adopt(const std::string& file, const Digest& digest) override { return local().adopt_blob(file, digest); }

  Result<std::vector<StoredBlob>> list() override {
    std::vector<StoredBlob> out;
    for (auto& digest : TRY_PLAIN(local().list_blobs())) out.push_back({std::move(digest), 0, 0});  // looked at again when it matters: most are held
    return out;
  }
  Result<std::optional<StoredBlob>> look_again(const StoredBlob& listed) override {
    auto status = linux::stat(local().blob_path(listed.digest));
    if (!status.ok() && status.error().kind() == ErrorKind::not_found) return std::optional<StoredBlob>();
    const auto found = TRY_PLAIN(std::move(status));
    return std::optional<StoredBlob>({listed.digest, static_cast<std::uint64_t>(found.st_size), static_cast<TimestampNs>(found.st_mtim.tv_sec) * 1'000'000'000});
  }
  Result<std::optional<std::uint64_t>> total_bytes() override { return std::optional<std::uint64_t>(TRY_PLAIN(local().blobs_bytes())); }
  Result<bool> discard(const Digest& digest) override { return local().discard_blob(digest); }
  Status remove_discarded() override { return local().empty_trash(); }
};

}  // namespace

std::unique_ptr<Storage> folder_storage(image::ContentStore& local) { return std::make_unique<FolderStorage>(local); }

}  // namespace caisson::registry
