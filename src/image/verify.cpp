// verify and attach_signature: what registries have, judged and added to.
#include "base/strings.hpp"
#include "image/local_image_store.hpp"
#include "image/signatures.hpp"
#include "linux/sysinfo.hpp"

namespace caisson::image {

Result<VerifyReport> LocalImageStore::verify(const VerifyRequest& request, Cancel cancel) {
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  auto reference = TRY_PLAIN(parse_reference(request.reference));
  if (reference.digest) reference.tag.clear();
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull", request.credentials));
  auto manifest = TRY_PLAIN(fetch_manifest(*session, reference, reference.digest ? reference.digest->text() : reference.tag, cancel));
  VerifyReport report;
  report.digest = manifest.digest;
  // As a pull on this machine would: a signature of the index counts, and so does one of the manifest that it leads to.
  const auto platform = platform_of_machine(TRY_PLAIN(linux::uname()).machine);
  auto found = TRY_PLAIN(find_manifest(*session, reference, std::move(manifest), platform, cancel));
  auto verdict = TRY_PLAIN(gate_.verify(*options_.registries, *session, reference, found.digests, request.requirements, cancel));
  report.where = std::move(verdict.where);
  report.scope = std::move(verdict.admission.scope);
  report.reasons = std::move(verdict.admission.reasons);
  report.signatures = verdict.signatures;
  return report;
}

Result<Digest> LocalImageStore::attach_signature(const SignRequest& request, Cancel cancel) {
  if (options_.registries == nullptr) return Error(ErrorKind::unsupported, "this engine was set up without registries");
  auto reference = TRY_PLAIN(parse_reference(request.reference));
  if (!reference.digest) return Error(ErrorKind::invalid, concat("\"", request.reference, "\" names no digest: what was signed must not depend on a tag"));
  reference.tag.clear();
  auto session = TRY_PLAIN(options_.registries->open(reference, "pull,push", request.credentials));
  auto manifest = TRY_PLAIN(fetch_manifest(*session, reference, reference.digest->text(), cancel));
  Descriptor subject;
  subject.media_type = manifest.media_type;
  subject.digest = manifest.digest;
  subject.size_bytes = manifest.text.size();
  auto made = TRY(image::attach_signature(*session, reference, subject, request.signature, cancel), "attach the signature");
  return made.digest;
}

}  // namespace caisson::image
