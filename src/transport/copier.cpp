// From the leaves of an index to its root; a blob is checked between its arrival and its departure.
#include "transport/copier.hpp"

#include <algorithm>

#include "base/strings.hpp"
#include "image/artifacts.hpp"
#include "image/side_by_side.hpp"
#include "linux/file.hpp"
#include "transport/checked_blob.hpp"

namespace caisson::transport {

namespace {

constexpr std::size_t short_digest = 12;
constexpr std::size_t most_mount_sources = 3;
constexpr std::size_t most_attached_depth = 8;   // a signature of a report on an SBOM is 3
constexpr std::size_t most_attached = 1024;      // of one image, over all depths

/// image-spec, "Non-Distributable Layers", and Docker's foreign layers: they stay where their URLs lead.
bool may_stay_elsewhere(const image::Descriptor& layer) {
  return layer.media_type.find("nondistributable") != std::string::npos || layer.media_type.find(".foreign.") != std::string::npos;
}

std::vector<image::Descriptor> blobs_of(const image::Manifest& manifest) {
  std::vector<image::Descriptor> out;
  auto add = [&](const image::Descriptor& blob) {
    const bool is_known = std::any_of(out.begin(), out.end(), [&](const auto& other) { return other.digest == blob.digest; });
    if (!is_known) out.push_back(blob);
  };
  for (const auto& layer : manifest.layers)
    if (!may_stay_elsewhere(layer)) add(layer);
  add(manifest.config);
  return out;
}

}  // namespace

Traffic& operator+=(Traffic& sum, const Traffic& more) {
  sum.manifests += more.manifests;
  sum.blobs += more.blobs;
  sum.bytes += more.bytes;
  sum.mounted += more.mounted;
  sum.there += more.there;
  return sum;
}

void Holders::add(const image::Reference& repository, const Digest& blob) {
  std::lock_guard lock(mutex_);
  paths_[repository.domain][blob].insert(repository.path);
}

std::vector<std::string> Holders::others(const image::Reference& repository, const Digest& blob) const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> out;
  auto domain = paths_.find(repository.domain);
  if (domain == paths_.end()) return out;
  auto found = domain->second.find(blob);
  if (found == domain->second.end()) return out;
  for (const auto& path : found->second)
    if (path != repository.path && out.size() < most_mount_sources) out.push_back(path);
  return out;
}

Traffic Copier::traffic() const { return {manifests_, blobs_, bytes_, mounted_, there_}; }

void Copier::tell(const image::Descriptor& blob, std::string status, std::uint64_t current) {
  if (!progress_) return;
  image::Progress line;
  line.id = blob.digest.hex().substr(0, short_digest);
  line.status = std::move(status);
  line.current = current;
  line.total = current == 0 ? 0 : blob.size_bytes;
  std::lock_guard lock(progress_mutex_);
  progress_(line);
}

Result<image::FetchedManifest> Copier::resolve(const std::string& name) {
  return options_.all_platforms ? source_.manifest(name) : resolve_image(source_, name, options_.platform);
}

Status Copier::copy(const image::FetchedManifest& manifest, const std::optional<std::string>& target_tag) { return copy_tree(manifest, target_tag, 0); }

Status Copier::copy_parts(const image::FetchedManifest& manifest, std::size_t depth) {
  const auto step = concat(source_.name(), ": manifest ", manifest.digest.text());
  if (!image::is_index_type(manifest.media_type)) return copy_blobs(TRY(image::parse_manifest(manifest.text), step));
  if (depth == most_index_depth) return Error(ErrorKind::invalid, concat(step, ": indexes nested too deep"));
  for (const auto& entry : TRY(image::parse_index(manifest.text), step).manifests) {
    if (done_.count(entry.digest) != 0) continue;
    TRY_PLAIN(copy_tree(TRY_PLAIN(listed_manifest(source_, entry)), std::nullopt, depth + 1));
  }
  return {};
}

Status Copier::copy_tree(const image::FetchedManifest& manifest, const std::optional<std::string>& tag, std::size_t depth) {
  TRY_PLAIN(copy_parts(manifest, depth));
  TRY_PLAIN(target_.put_manifest(manifest, tag));
  done_.insert(manifest.digest);
  ++manifests_;
  return {};
}

Status Copier::copy_blobs(const image::Manifest& manifest) {
  std::vector<image::Descriptor> blobs;
  for (auto& blob : blobs_of(manifest))
    if (done_.count(blob.digest) == 0) blobs.push_back(std::move(blob));
  TRY_PLAIN(image::side_by_side(blobs.size(), options_.blobs_at_once, [&](std::size_t index) { return copy_blob(blobs[index]); }));
  for (const auto& blob : blobs) done_.insert(blob.digest);
  return {};
}

Status Copier::copy_blob(const image::Descriptor& blob) {
  if (const auto from = source_.repository()) holders_.add(*from, blob.digest);
  if (TRY_PLAIN(target_.has_blob(blob))) {
    ++there_;
    tell(blob, "Already exists");
  } else if (TRY_PLAIN(is_mounted(blob))) {
    ++mounted_;
  } else {
    TRY_PLAIN(bring_blob(blob));
    ++blobs_;
    bytes_ += blob.size_bytes;
    tell(blob, "Copied");
  }
  if (const auto to = target_.repository()) holders_.add(*to, blob.digest);
  return {};
}

Result<bool> Copier::is_mounted(const image::Descriptor& blob) {
  const auto repository = target_.repository();
  if (!repository) return false;
  for (const auto& path : holders_.others(*repository, blob.digest)) {
    if (!TRY_PLAIN(target_.mount_blob(blob, path))) continue;
    tell(blob, concat("Mounted from ", path));
    return true;
  }
  return false;
}

Status Copier::bring_blob(const image::Descriptor& blob) {
  auto on_read = [&](std::uint64_t bytes) { tell(blob, "Reading", bytes); };
  auto on_written = [&](std::uint64_t bytes) { tell(blob, "Writing", bytes); };
  auto is_needed = [&]() -> Result<bool> { return !TRY_PLAIN(target_.has_blob(blob)); };
  const auto checked = TRY_PLAIN(bring_checked(source_, blob, spool_, on_read, is_needed));
  if (!checked) return {};
  const bool may_rename = !target_.spool_folder().empty();
  TRY_PLAIN(target_.put_blob(blob, {checked->fd.get(), may_rename ? checked->path : ""}, on_written));
  return may_rename || checked->path.empty() ? Status() : linux::unlink(checked->path);
}

Status Copier::copy_attachment(const Digest& subject, const image::Descriptor& listed) {
  const auto manifest = TRY_PLAIN(listed_manifest(source_, listed));
  const auto attachment = TRY(image::describe_attachment(manifest), source_.name());
  if (!attachment.subject || attachment.subject->digest != subject)
    return Error(ErrorKind::corrupt, concat(source_.name(), ": manifest ", manifest.digest.text(), " is listed as attached to ", subject.text(), ", and is not"));
  TRY_PLAIN(copy_parts(manifest, 0));
  TRY_PLAIN(target_.put_referrer(manifest, attachment));
  ++manifests_;
  return {};
}

Status Copier::copy_attached(const Digest& subject, std::size_t depth, Walk& walk) {
  const auto step = concat(source_.name(), ": manifest ", subject.text());
  const auto listed = TRY_PLAIN(source_.referrers(subject));
  if (listed.empty()) return {};
  // A list that may have been cut off is not all that is attached.
  if (listed.size() >= image::most_referrers) return Error(ErrorKind::invalid, concat(step, " has ", image::most_referrers, " attachments or more"));
  if (depth == most_attached_depth) return Error(ErrorKind::invalid, concat(step, ": attachments nested too deep"));
  std::set<Digest> there;
  for (const auto& known : TRY_PLAIN(target_.referrers(subject))) there.insert(known.digest);
  for (const auto& entry : listed) {
    if (walk.image.count(entry.digest) != 0) continue;  // BuildKit's attestations are parts of their index, too
    // A manifest has one subject: whoever comes by it twice is being led in a circle.
    if (!walk.seen.insert(entry.digest).second) return Error(ErrorKind::corrupt, concat(step, ": attachments lead in a circle, by ", entry.digest.text()));
    if (walk.seen.size() > most_attached) return Error(ErrorKind::invalid, concat(step, ": more than ", most_attached, " attachments of one image"));
    if (there.count(entry.digest) == 0) TRY_PLAIN(copy_attachment(subject, entry));
    TRY_PLAIN(copy_attached(entry.digest, depth + 1, walk));
  }
  return {};
}

Result<std::size_t> Copier::copy_referrers(const image::FetchedManifest& manifest) {
  if (!options_.referrers) return std::size_t{0};
  Walk walk;
  walk.image.insert(manifest.digest);
  if (image::is_index_type(manifest.media_type))
    for (const auto& entry : TRY_PLAIN(image::parse_index(manifest.text)).manifests) walk.image.insert(entry.digest);
  for (const auto& subject : walk.image) TRY_PLAIN(copy_attached(subject, 0, walk));
  return walk.seen.size();
}

Result<std::size_t> Copier::copy_signatures(const image::FetchedManifest& manifest) {
  std::size_t count = 0;
  if (!options_.signatures) return count;
  std::vector<Digest> subjects{manifest.digest};
  if (image::is_index_type(manifest.media_type))
    for (const auto& entry : TRY_PLAIN(image::parse_index(manifest.text)).manifests) subjects.push_back(entry.digest);
  for (const auto& subject : subjects)
    for (const char* suffix : {".sig", ".att", ".sbom"}) {
      const auto tag = image::tag_of(subject, suffix);
      auto found = source_.manifest(tag);
      if (!found.ok() && found.error().kind() == ErrorKind::not_found) continue;
      TRY_PLAIN(copy_tree(TRY_PLAIN(std::move(found)), tag, 0));
      ++count;
    }
  return count;
}

}  // namespace caisson::transport
