// Digests are computed over all bytes of a file, however it came to be.
#include "transport/checked_blob.hpp"

#include "base/strings.hpp"
#include "image/content_store.hpp"
#include "linux/file.hpp"

namespace caisson::transport {

namespace {

Status check(Place& source, const image::Descriptor& blob, int fd) {
  const auto size = static_cast<std::uint64_t>(TRY(linux::fstat(fd), source.name()).st_size);
  if (size != blob.size_bytes) return Error(ErrorKind::corrupt, concat(source.name(), ": blob ", blob.digest.text(), " has ", size, " bytes, not ", blob.size_bytes));
  const auto found = TRY(image::digest_of_file(fd, blob.digest.kind()), "check the blob");
  if (found == blob.digest) return {};
  return Error(ErrorKind::corrupt, concat(source.name(), ": blob ", blob.digest.text(), " is something else, with digest ", found.text()));
}

Status receive(Place& source, const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) {
  if (offset < blob.size_bytes) TRY_PLAIN(source.fetch_blob(blob, fd, offset, on_bytes));
  return check(source, blob, fd);
}

Status receive_into(Place& source, const image::Descriptor& blob, const Spool::Held& held, const OnBytes& on_bytes) {
  auto here = static_cast<std::uint64_t>(TRY(linux::fstat(held.fd.get()), held.path).st_size);
  if (here > blob.size_bytes) here = 0;
  if (here == 0) TRY(linux::ftruncate(held.fd.get(), 0), held.path);
  auto received = receive(source, blob, held.fd.get(), here, on_bytes);
  // What an earlier attempt left may itself be the fault, after a power cut for instance: once more from the start.
  if (!received.ok() && received.error().kind() == ErrorKind::corrupt && here != 0) {
    TRY(linux::ftruncate(held.fd.get(), 0), held.path);
    received = receive(source, blob, held.fd.get(), 0, on_bytes);
  }
  if (!received.ok() && received.error().kind() == ErrorKind::corrupt) ignore(linux::unlink(held.path));  // the mismatch is the error to tell
  return received;
}

}  // namespace

Result<std::optional<CheckedBlob>> bring_checked(Place& source, const image::Descriptor& blob, const Spool& spool, const OnBytes& on_bytes, const std::function<Result<bool>()>& is_needed) {
  CheckedBlob out;
  out.fd = TRY_PLAIN(source.open_blob(blob));
  if (out.fd) {
    TRY_PLAIN(check(source, blob, out.fd.get()));
    return std::optional(std::move(out));
  }
  auto held = TRY_PLAIN(spool.hold(blob.digest));
  // Another process may have brought it while this one waited for its turn.
  if (is_needed && !TRY_PLAIN(is_needed())) {
    TRY_PLAIN(linux::unlink(held.path));
    return std::optional<CheckedBlob>();
  }
  TRY_PLAIN(receive_into(source, blob, held, on_bytes));
  out.fd = std::move(held.fd);
  out.path = std::move(held.path);
  return std::optional(std::move(out));
}

Result<image::FetchedManifest> listed_manifest(Place& source, const image::Descriptor& descriptor) {
  auto manifest = TRY_PLAIN(source.manifest(descriptor.digest.text()));
  if (manifest.text.size() != descriptor.size_bytes)
    return Error(ErrorKind::corrupt, concat(source.name(), ": manifest ", descriptor.digest.text(), " has ", manifest.text.size(), " bytes, not ", descriptor.size_bytes));
  return manifest;
}

Result<image::FetchedManifest> resolve_image(Place& source, const std::string& name, const image::Platform& platform) {
  return TRY_PLAIN(find_image(source, name, platform)).manifest;
}

Result<image::FoundManifest> find_image(Place& source, const std::string& name, const image::Platform& platform) {
  image::FoundManifest out;
  out.manifest = TRY_PLAIN(source.manifest(name));
  auto& found = out.manifest;
  out.digests.push_back(found.digest);
  for (std::size_t depth = 0; image::is_index_type(found.media_type); ++depth) {
    const auto step = concat(source.name(), ": index ", found.digest.text());
    if (depth == most_index_depth) return Error(ErrorKind::invalid, concat(step, ": indexes nested too deep"));
    auto chosen = TRY(image::choose_platform(TRY(image::parse_index(found.text), step), platform), step);
    found = TRY_PLAIN(listed_manifest(source, chosen));
    out.digests.insert(out.digests.begin(), found.digest);
  }
  return out;
}

}  // namespace caisson::transport
