// Blobs before the manifest, as with everything that travels.
#include "transport/attach.hpp"

#include "base/strings.hpp"
#include "linux/file.hpp"
#include "transport/checked_blob.hpp"

namespace caisson::transport {

namespace {

Status put_bytes(Place& place, const image::ArtifactBlob& blob) {
  const auto descriptor = image::describe_blob(blob);
  if (TRY_PLAIN(place.has_blob(descriptor))) return {};
  const auto step = concat("blob ", descriptor.digest.text());
  const auto file = TRY(linux::memfd_create("caisson-attach"), step);
  TRY(linux::write_all(file.get(), blob.bytes), step);
  return place.put_blob(descriptor, {file.get(), ""}, [](std::uint64_t) {});
}

}  // namespace

Result<image::Descriptor> attach(Place& place, const image::Artifact& artifact) {
  for (const auto& blob : artifact.blobs) TRY_PLAIN(put_bytes(place, blob));
  TRY_PLAIN(put_bytes(place, artifact.config));
  const auto manifest = image::made_manifest(artifact);
  auto attachment = TRY_PLAIN(image::describe_attachment(manifest));
  TRY_PLAIN(place.put_referrer(manifest, attachment));
  return std::move(attachment.descriptor);
}

Result<image::Manifest> attached_manifest(Place& place, const image::Descriptor& listed) {
  const auto document = TRY_PLAIN(listed_manifest(place, listed));
  return TRY(image::parse_manifest(document.text), concat(place.name(), ": manifest ", listed.digest.text()));
}

Result<std::string> read_blob(Place& place, const image::Descriptor& blob, const Spool& spool, std::size_t most_bytes) {
  const auto step = concat(place.name(), ": blob ", blob.digest.text());
  if (blob.size_bytes > most_bytes) return Error(ErrorKind::invalid, concat(step, " has ", blob.size_bytes, " bytes, more than such a document may have"));
  auto checked = TRY_PLAIN(bring_checked(place, blob, spool, [](std::uint64_t) {}));
  if (!checked->path.empty()) TRY(linux::unlink(checked->path), step);
  TRY(linux::lseek(checked->fd.get(), 0, SEEK_SET), step);
  return TRY(linux::read_all(checked->fd.get(), most_bytes), step);
}

}  // namespace caisson::transport
