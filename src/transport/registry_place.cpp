// Each call is one request to the fetch process.
#include "transport/registry_place.hpp"

#include <array>

#include "base/strings.hpp"

namespace caisson::transport {

namespace {
std::string blob_step(const image::Descriptor& blob) { return concat("blob ", blob.digest.text()); }
}  // namespace

Result<std::unique_ptr<RegistryPlace>> RegistryPlace::open(const image::Registries& registries, const image::Reference& reference, const std::string& actions,
                                                           const image::RegistryCredentials& credentials, Cancel cancel) {
  auto session = TRY_PLAIN(registries.open(reference, actions, credentials));
  return std::unique_ptr<RegistryPlace>(new RegistryPlace(reference, std::move(session), cancel));
}

Result<image::FetchReply> RegistryPlace::call(image::FetchRequest request, int fd, const OnBytes& on_bytes, const std::string& what) {
  auto step = [&] { return concat("registry ", reference_.domain, ": ", reference_.path, ": ", what); };
  auto reply = TRY(session_->call(std::move(request), fd, on_bytes, std::array{cancel_.fd}), step());
  if (!reply.ok) return image::error_of(reply).in(step());
  return reply;
}

Result<image::FetchedManifest> RegistryPlace::manifest(const std::string& name) {
  return TRY(image::fetch_manifest(*session_, reference_, name, cancel_), concat("registry ", reference_.domain));
}

Result<std::vector<std::string>> RegistryPlace::tags() {
  image::FetchRequest request;
  request.task = image::FetchTask::tags;
  auto reply = TRY_PLAIN(call(std::move(request), -1, {}, "list of tags"));
  std::vector<std::string> tags;
  TRY(JsonView(TRY_PLAIN(parse_json(reply.body, "list of tags"))).read(tags), concat("registry ", reference_.domain, ": ", reference_.path, ": list of tags"));
  return tags;
}

Status RegistryPlace::fetch_blob(const image::Descriptor& blob, int fd, std::uint64_t offset, const OnBytes& on_bytes) {
  image::FetchRequest request;
  request.task = image::FetchTask::blob;
  request.name = blob.digest.text();
  request.offset = offset;
  request.size_bytes = blob.size_bytes;
  TRY_PLAIN(call(std::move(request), fd, on_bytes, blob_step(blob)));
  return {};
}

Result<bool> RegistryPlace::has_blob(const image::Descriptor& blob) {
  image::FetchRequest request;
  request.task = image::FetchTask::has_blob;
  request.name = blob.digest.text();
  return TRY_PLAIN(call(std::move(request), -1, {}, blob_step(blob))).found;
}

Result<bool> RegistryPlace::mount_blob(const image::Descriptor& blob, const std::string& from_path) {
  image::FetchRequest request;
  request.task = image::FetchTask::upload;
  request.name = blob.digest.text();
  request.mount_from = {from_path};
  return !TRY_PLAIN(call(std::move(request), -1, {}, blob_step(blob))).mounted_from.empty();
}

Status RegistryPlace::put_blob(const image::Descriptor& blob, const ReadyBlob& ready, const OnBytes& on_bytes) {
  image::FetchRequest request;
  request.task = image::FetchTask::upload;
  request.name = blob.digest.text();
  request.size_bytes = blob.size_bytes;
  TRY_PLAIN(call(std::move(request), ready.fd, on_bytes, "push"));  // the fetch process names the blob
  return {};
}

Status RegistryPlace::put_manifest(const image::FetchedManifest& manifest, const std::optional<std::string>& tag) {
  image::FetchRequest request;
  request.task = image::FetchTask::put_manifest;
  request.name = tag ? *tag : manifest.digest.text();
  request.media_type = manifest.media_type;
  request.body = manifest.text;
  auto what = concat("manifest ", manifest.digest.text());
  auto reply = TRY_PLAIN(call(std::move(request), -1, {}, what));
  auto said = Digest::parse(reply.digest);
  if (said.ok() && said->kind() == manifest.digest.kind() && *said != manifest.digest)
    return Error(ErrorKind::corrupt, concat("registry ", reference_.domain, ": ", reference_.path, ": ", what, " was stored as ", said->text()));
  return {};
}

Result<std::vector<image::Descriptor>> RegistryPlace::referrers(const Digest& subject) {
  std::vector<image::Descriptor> out;
  for (auto& referrer : TRY(image::list_referrers(*session_, reference_, subject, "", cancel_), concat("registry ", reference_.domain, ": ", reference_.path)))
    out.push_back(std::move(referrer.descriptor));
  return out;
}

Status RegistryPlace::put_referrer(const image::FetchedManifest& manifest, const image::Attachment& attachment) {
  TRY(image::put_referrer(*session_, reference_, manifest, attachment, cancel_), concat("registry ", reference_.domain, ": ", reference_.path, ": manifest ", manifest.digest.text()));
  return {};
}

}  // namespace caisson::transport
