// Finding and adding signatures, by the conventions of cosign, sigstore, notation and containers.
#include "image/signatures.hpp"

#include <algorithm>

#include "base/json_array.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "linux/file.hpp"
#include "trust/bundle.hpp"
#include "trust/notation.hpp"
#include "trust/simple_signing.hpp"

namespace caisson::image {

namespace {

using trust::FoundSignature;
using trust::SignatureFormat;

constexpr std::size_t most_signature_bytes = 256 << 10;  // of one document: a notation chain is 10 KiB
constexpr std::size_t most_signatures = 64;              // of one image
constexpr int most_rounds = 5;                           // of adding to a tag that others add to, too
constexpr std::string_view created_annotation = "org.opencontainers.image.created";

bool is_missing(const Error& error) { return error.kind() == ErrorKind::not_found; }
/// What is there and is not what we look for: somebody else's artifact, or a broken one, which signs nothing.
bool is_useless(const Error& error) { return is_missing(error) || error.kind() == ErrorKind::invalid || error.kind() == ErrorKind::unsupported; }

class Finder {
 public:
  Finder(const Registries& registries, RegistrySession& session, const SignatureSearch& search, const Cancel& cancel)
      : registries_(registries), session_(session), search_(search), cancel_(cancel) {}

  Result<std::vector<FoundSignature>> find() {
    for (const auto& digest : search_.digests) {
      if (search_.wants.sigstore) {
        TRY_PLAIN(under_the_tag(digest));
        TRY_PLAIN(among_referrers(digest, SignatureFormat::bundle, trust::media_type::bundle, trust::media_type::bundle));
      }
      if (search_.wants.notation) TRY_PLAIN(among_referrers(digest, SignatureFormat::notation, trust::media_type::notation, trust::media_type::jws));
    }
    if (search_.wants.gpg) TRY_PLAIN(in_the_lookaside());
    return std::move(found_);
  }

 private:
  [[nodiscard]] bool is_full() const { return found_.size() >= most_signatures; }

  Status under_the_tag(const Digest& digest) {
    auto fetched = fetch_artifact(session_, search_.reference, signature_tag(digest), cancel_);
    if (!fetched.ok() && is_useless(fetched.error())) return {};
    auto artifact = TRY(std::move(fetched), "signatures");
    for (const auto& layer : artifact.manifest.layers) {
      auto signature = layer.annotations.find(std::string(trust::cosign_signature_annotation));
      if (layer.media_type != trust::media_type::simple_signing || signature == layer.annotations.end()) continue;
      auto bytes = base64_decode(signature->second);
      if (!bytes.ok()) continue;
      TRY_PLAIN(take(SignatureFormat::cosign, layer, std::move(*bytes)));
    }
    return {};
  }

  Status among_referrers(const Digest& digest, SignatureFormat format, std::string_view artifact_type, std::string_view layer_type) {
    for (const auto& referrer : TRY_PLAIN(list_referrers(session_, search_.reference, digest, std::string(artifact_type), cancel_))) {
      // An SBOM or a scan is no approval, and may be large: what says so itself is not even fetched.
      auto predicate = referrer.descriptor.annotations.find(std::string(trust::bundle_predicate_annotation));
      if (predicate != referrer.descriptor.annotations.end() && predicate->second != trust::sign_predicate) continue;
      auto fetched = fetch_artifact(session_, search_.reference, referrer.descriptor.digest.text(), cancel_);
      if (!fetched.ok() && is_useless(fetched.error())) continue;
      auto artifact = TRY(std::move(fetched), "signatures");
      for (const auto& layer : artifact.manifest.layers)
        if (layer.media_type == layer_type) TRY_PLAIN(take(format, layer, ""));
      if (is_full()) return {};
    }
    return {};
  }

  Status take(SignatureFormat format, const Descriptor& layer, std::string signature) {
    if (is_full()) return {};
    auto document = fetch_small_blob(session_, layer, cancel_, most_signature_bytes);
    if (!document.ok() && is_useless(document.error())) return {};
    auto text = TRY(std::move(document), "signatures");
    found_.push_back({format, std::move(text), std::move(signature)});
    return {};
  }

  /// signature-1, signature-2, … until one is not there.
  Status in_the_lookaside() {
    if (search_.lookaside_folder.empty()) return {};
    auto base = TRY_PLAIN(trust::find_lookaside(TRY_PLAIN(trust::read_lookaside_files(search_.lookaside_folder)), search_.reference));
    if (!base) return {};
    for (const auto& digest : search_.digests) {
      for (std::size_t number = 1; !is_full(); ++number) {
        auto message = read_place(trust::lookaside_url(*base, search_.reference, digest, number));
        if (!message.ok() && is_missing(message.error())) break;
        auto text = TRY(std::move(message), "signatures");
        found_.push_back({SignatureFormat::gpg, std::move(text), ""});
      }
    }
    return {};
  }

  Result<std::string> read_place(const std::string& url) {
    constexpr std::string_view file_scheme = "file://";
    if (url.starts_with(file_scheme)) return linux::read_file(url.substr(file_scheme.size()), most_signature_bytes);
    return registries_.get_document(url, cancel_);
  }

  const Registries& registries_;
  RegistrySession& session_;
  const SignatureSearch& search_;
  const Cancel& cancel_;
  std::vector<FoundSignature> found_;
};

/// What cosign gives such a manifest as its config: an image of nothing, whose layers are the signed documents.
std::string cosign_config(const std::vector<Descriptor>& kept, const ArtifactBlob& added) {
  json::array diff_ids;
  for (const auto& layer : kept) diff_ids.emplace_back(layer.digest.text());
  diff_ids.emplace_back(sha256_of(added.bytes).text());
  json::object config{{"architecture", ""}, {"config", json::object()}, {"created", "0001-01-01T00:00:00Z"}, {"history", json::array()}, {"os", ""}};
  config["rootfs"] = json::object{{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
  return to_text(config);
}

Result<Descriptor> add_to_tag(RegistrySession& session, const Reference& repository, const Digest& subject, const FoundSignature& signature, const Cancel& cancel) {
  ArtifactBlob blob{std::string(trust::media_type::simple_signing), signature.document, {}};
  blob.annotations[std::string(trust::cosign_signature_annotation)] = base64_encode(signature.signature);
  for (int round = 1;; ++round) {
    Artifact artifact;
    auto there = fetch_artifact(session, repository, signature_tag(subject), cancel);
    if (!there.ok() && !is_missing(there.error())) return std::move(there).error();
    if (there.ok()) {
      artifact.kept = there->manifest.layers;
      artifact.replaces = there->document.etag;
    }
    artifact.config = {std::string(media_type::oci_config), cosign_config(artifact.kept, blob), {}};
    artifact.blobs.push_back(blob);
    auto pushed = push_artifact(session, repository, artifact, signature_tag(subject), cancel);
    if (pushed.ok() || pushed.error().kind() != ErrorKind::conflict || round == most_rounds) return pushed;
  }
}

Artifact bundle_artifact(const FoundSignature& signature, const trust::Statement& statement) {
  Artifact artifact;
  artifact.artifact_type = trust::media_type::bundle;
  artifact.blobs.push_back({std::string(trust::media_type::bundle), signature.document, {}});
  artifact.annotations[std::string(trust::bundle_content_annotation)] = "dsse-envelope";
  artifact.annotations[std::string(trust::bundle_predicate_annotation)] = statement.predicate_type;
  return artifact;
}

Artifact notation_artifact(const FoundSignature& signature, const trust::NotationEnvelope& envelope) {
  std::vector<std::string> thumbprints;
  for (const auto& der : envelope.chain) thumbprints.emplace_back(sha256_of(der).hex());
  Artifact artifact;
  artifact.artifact_type = trust::media_type::notation;
  artifact.config = {std::string(trust::media_type::notation), "{}", {}};
  artifact.blobs.push_back({std::string(trust::media_type::jws), signature.document, {}});
  artifact.annotations[std::string(trust::thumbprint_annotation)] = to_text(texts(thumbprints));
  return artifact;
}

Result<Artifact> referrer_of(const FoundSignature& signature) {
  if (signature.format == SignatureFormat::notation) return notation_artifact(signature, TRY_PLAIN(trust::parse_notation(signature.document)));
  auto bundle = TRY_PLAIN(trust::parse_bundle(signature.document));
  return bundle_artifact(signature, TRY_PLAIN(trust::parse_statement(bundle.payload)));
}

}  // namespace

Result<std::vector<FoundSignature>> find_signatures(const Registries& registries, RegistrySession& session, const SignatureSearch& search, const Cancel& cancel) {
  return Finder(registries, session, search, cancel).find();
}

Result<Artifact> signature_artifact(const Descriptor& subject, const FoundSignature& signature) {
  auto artifact = TRY_PLAIN(referrer_of(signature));
  artifact.annotations[std::string(created_annotation)] = concat(std::string_view(to_rfc3339(now_ns())).substr(0, 19), "Z");
  artifact.subject.emplace();
  artifact.subject->media_type = subject.media_type;
  artifact.subject->digest = subject.digest;
  artifact.subject->size_bytes = subject.size_bytes;
  return artifact;
}

Result<Descriptor> attach_signature(RegistrySession& session, const Reference& repository, const Descriptor& subject, const FoundSignature& signature, const Cancel& cancel) {
  if (signature.format == SignatureFormat::gpg) return Error(ErrorKind::invalid, "OpenPGP signatures are not kept in registries");
  if (signature.format == SignatureFormat::cosign) {
    auto document = TRY_PLAIN(trust::parse_simple_signing(signature.document, trust::cosign_type));
    if (document.manifest != subject.digest) return Error(ErrorKind::invalid, concat("the signature is of ", document.manifest.text(), ", not of ", subject.digest.text()));
    return add_to_tag(session, repository, subject.digest, signature, cancel);
  }
  return push_artifact(session, repository, TRY_PLAIN(signature_artifact(subject, signature)), "", cancel);
}

}  // namespace caisson::image
