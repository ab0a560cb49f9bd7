// Images on this host: an OCI layout of blobs, layers unpacked once each, and names that point at them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/cancel.hpp"
#include "base/digest.hpp"
#include "base/json.hpp"
#include "base/reference.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "base/unique_fd.hpp"
#include "image/fetch_protocol.hpp"
#include "image/pack.hpp"
#include "image/store_account.hpp"
#include "state/store.hpp"
#include "trust/judge.hpp"
#include "trust/policy_file.hpp"

namespace caisson::image {

struct Healthcheck {
  std::vector<std::string> test;
  std::int64_t interval_ns = 0;
  std::int64_t timeout_ns = 0;
  std::int64_t start_period_ns = 0;
  std::int64_t start_interval_ns = 0;  ///< between probes as long as it starts
  std::int64_t retries = 0;
};

/// The `config` object of an image: defaults for its containers.
struct ContainerConfig {
  std::string user;
  std::vector<std::string> exposed_ports;  ///< "80/tcp"
  std::vector<std::string> env;
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> volumes;
  std::string working_dir;
  std::map<std::string, std::string> labels;
  std::string stop_signal;
  std::vector<std::string> shell;
  std::optional<Healthcheck> healthcheck;
};

struct HistoryEntry {
  TimestampNs created = 0;
  std::string created_by;
  std::string author;
  std::string comment;
  bool empty_layer = false;
};

/// How far an image has come whose layers may be used before they are here (docs/adr/0017).
struct Coming {
  std::size_t layers = 0;
  std::size_t layers_here = 0;
  std::string trouble;      ///< why it does not go on at the moment; "": it does
  bool is_refused = false;  ///< what came is not what the registry had promised: no container starts from it any more
};

struct Image {
  Digest id;                            ///< digest of the config blob
  std::vector<std::string> repo_tags;   ///< familiar form: "alpine:latest", "localhost:5000/x:1"
  std::vector<std::string> repo_digests;
  TimestampNs created = 0;
  std::string architecture;             ///< "amd64"
  std::string os = "linux";
  std::string variant;
  std::string author;
  ContainerConfig config;
  std::vector<Digest> diff_ids;         ///< lowest layer first
  std::vector<HistoryEntry> history;
  std::vector<std::string> on_build;    ///< instructions that a build upon this image runs first
  std::uint64_t size_bytes = 0;         ///< of its unpacked layers
  std::optional<Coming> coming;         ///< nothing: it is here
};

using caisson::Reference;
using caisson::parse_reference;

/// One line of progress of a long operation.
struct Progress {
  std::string id;       ///< short layer id, or ""
  std::string status;   ///< "Loading layer", "Unpacking", a line of text
  std::uint64_t current = 0;
  std::uint64_t total = 0;  ///< 0: unknown
};
using ProgressSink = std::function<void(const Progress&)>;

struct ImportRequest {
  int source_fd = -1;                   ///< borrowed; a root file system tar, plain or gzip or zstd
  std::string reference;                ///< "" : no name
  std::string message;
  std::vector<std::string> changes;     ///< "CMD [\"/bin/sh\"]", "ENV A=b": Dockerfile lines as docker import takes
  std::string platform;                 ///< "" : this machine's
};
/// What a layer is made of.
struct LayerTrees {
  int upper_fd = -1;  ///< borrowed: an overlay's upperdir, opened for reading; ids on disk are the container's own
  std::optional<std::int64_t> latest_mtime_s;  ///< what is younger is given this time
  int graft_fd = -1;                           ///< borrowed, opened for reading: the tree of `grafts`
  std::vector<Graft> grafts;                   ///< into folders of the upperdir
  std::uint32_t graft_uid = 0;                 ///< the container's ids
  std::uint32_t graft_gid = 0;
};
/// A layer that lies in the store, kept from being collected while `hold` lives.
struct MadeLayer {
  Digest diff_id;
  Digest blob;
  std::uint64_t blob_bytes = 0;
  std::string media_type;
  std::string directory;  ///< unpacked, ready to be an overlay's lowerdir
  bool is_empty = false;  ///< holds nothing: an image does not list it
  std::shared_ptr<const void> hold;  ///< shared: a build's cache and the image that is being composed need it independently
};
/// An image put together from one that is there and further layers.
struct ComposeRequest {
  std::string base;                     ///< an image's name or id; "": from nothing
  std::string platform;                 ///< without a base; "": this machine's
  std::vector<MadeLayer> layers;        ///< upon the base's, lowest first
  /// The whole configuration of the new image: nothing of the base's is taken over.
  ContainerConfig config;
  std::vector<std::string> on_build;
  std::string author;
  std::string comment;
  TimestampNs created = 0;
  std::vector<HistoryEntry> history;    ///< behind the base's; as many without `empty_layer` as there are layers that are not empty
  std::vector<std::string> references;  ///< names it gets
  std::map<std::string, std::string> annotations;  ///< of the manifest: the image's id does not know them
  std::string artifact_type;            ///< of the manifest of what is no image to run; "": an image
  std::string config_type;              ///< the media type of its configuration; "": an image's
};
/// Whose layers are wanted one by one.
struct LayersRequest {
  std::string reference;
  bool is_remote = false;               ///< what its registry has under that name now, else what this store has
  std::string platform;                 ///< of a remote one; "": this machine's
  std::string artifact_type;            ///< what may come beside images; "": nothing else
  RegistryCredentials credentials;
};
struct LayerEntry {
  Digest diff_id;
  Digest blob;
  std::uint64_t blob_bytes = 0;
  std::string media_type;
};
/// An image of which nothing but its documents need be here.
struct LayerList {
  std::string reference;                ///< canonical; of a remote image by the digest that was admitted
  bool is_remote = false;
  std::map<std::string, std::string> annotations;  ///< of its manifest
  std::string artifact_type;            ///< of its manifest; "": an image
  std::vector<LayerEntry> layers;       ///< lowest first
};
struct BootstrapRequest {
  std::string suite;                    ///< "debian:bookworm" or "debian:trixie"
  std::vector<std::string> include;     ///< further packages
  std::string reference;                ///< "" : the suite's name
  std::string mirror;                   ///< "" : deb.debian.org, through the host's apt settings
  std::string snapshot;                 ///< "" : now; else "20260101T000000Z" of snapshot.debian.org
};
/// In which compression layers leave the store.
struct CompressionWish {
  std::string format;                   ///< gzip, zstd, zstd:chunked (with a table of contents, so that it can be pulled lazily) or uncompressed; "": what the verb does by itself
  std::optional<std::int64_t> level;
  bool has_all = false;                 ///< layers that are compressed otherwise are made anew; else only those that lie without compression
};
/// Of an index of several platforms, and of what names it.
struct IndexAnnotations {
  std::map<std::string, std::string> index;
  std::map<std::string, std::string> manifests;  ///< of each of its entries; in an OCI layout also of an image without an index
  std::map<std::string, std::string> entry;      ///< of the index's own entry in an OCI layout's index.json
};
struct SaveRequest {
  std::vector<std::string> names;       ///< references or ids
  std::string index_name;               ///< unless empty, the OCI layout has one image of that name, an index of their platforms
  IndexAnnotations annotations;
  CompressionWish compression;          ///< by itself: as they are stored
};
struct PullRequest {
  std::string reference;                ///< with a tag or digest; with neither: latest, or all tags
  bool all_tags = false;
  std::string platform;                 ///< "" : this machine's
  RegistryCredentials credentials;
  /// The image may be used before its layers are here: those whose files can be had one by one come behind its back.
  bool is_lazy = false;
};
struct PushRequest {
  std::string reference;                ///< a name of this store; without a tag: latest, or all tags
  bool all_tags = false;
  /// Ids: these go under that name whatever the store calls them, and no name is recorded; several as one index of their platforms.
  /// None: what has the name.
  std::vector<std::string> images;
  IndexAnnotations annotations;         ///< of that index
  RegistryCredentials credentials;
  /// By itself: those that lie without compression as gzip. Layers that are in the form already stay as they are, and so do, with a line of progress, those that
  /// zstd:chunked cannot tell.
  CompressionWish compression;
};
struct PushedTag {
  std::string tag;
  Digest digest;                        ///< of the manifest
  std::uint64_t size_bytes = 0;         ///< of the manifest
};
/// Whether an image in its registry passes.
struct VerifyRequest {
  std::string reference;                ///< with a tag or digest
  RegistryCredentials credentials;
  std::optional<trust::Requirements> requirements;  ///< nothing: the host's policy; keys that are paths are read on this host
};
struct VerifyReport {
  Digest digest;                        ///< what the name means in the registry now
  std::string where;                    ///< the policy's file, or "the given requirements"
  std::string scope;
  std::vector<std::string> reasons;     ///< one per requirement that was fulfilled
  std::size_t signatures = 0;           ///< how many were looked at
};
/// A signature for an image in its registry. The key that made it was never here.
struct SignRequest {
  std::string reference;                ///< with the digest that was signed
  RegistryCredentials credentials;
  trust::FoundSignature signature;
};
struct RemovedImage {
  std::vector<std::string> untagged;  ///< familiar references
  std::vector<std::string> deleted;   ///< ids and layer digests
};

class Registries;

/// Which signatures images need.
struct TrustOptions {
  trust::PolicyPlaces policy;
  std::string lookaside_folder;  ///< containers' registries.d; "": none
};

/// How layers are kept once they are unpacked (docs/adr/0014).
enum class SnapshotForm : std::uint8_t {
  automatic,
  directory,  ///< a tree of the host's file system
  erofs,      ///< the layer's tar and an EROFS index of it, mounted together
};

/// What the store keeps on disk; all below `root`, 0700.
struct ImageOptions {
  std::string root;          ///< holds content/ (OCI layout: oci-layout, blobs/), layers/<hex of diffID>/, ingest/, partial/
  std::string worker_path;   ///< the caisson-worker binary
  /// Host ids that an unpack worker's user namespace uses: 65536 from here on.
  std::uint32_t worker_first_id = 0;
  TrustOptions trust;
  SnapshotForm snapshot_form = SnapshotForm::automatic;  ///< of layers to come; those that are there keep theirs
  std::uint64_t quota_bytes = 0;  ///< of blobs, layers and downloads on the disk; 0: none. What would go beyond is refused (io, EDQUOT)
  const Registries* registries = nullptr;  ///< borrowed, must outlive the store; null: pull and push are refused
};

/// Thread-safe; long operations run in the caller's thread and stop when `cancel` fires.
class ImageStore {
 public:
  virtual ~ImageStore() = default;

  /// By id, unique id prefix (≥ 4 digits), name[:tag] or name@digest. Errors: not_found "No such image: X", conflict (ambiguous).
  virtual Result<Image> find(const std::string& name) = 0;
  virtual Result<std::vector<Image>> list() = 0;
  /// The config blob as stored.
  virtual Result<std::string> raw_config(const Digest& id) = 0;

  /// Errors: invalid (no tar, reference, change), unavailable (full disk); nothing is half-created.
  virtual Result<Image> import(const ImportRequest& request, const ProgressSink& progress, Cancel cancel) = 0;
  /// docker-archive or OCI layout tar, plain or compressed. Returns what was loaded, in the archive's order, each with the names
  /// that the archive gave it.
  virtual Result<std::vector<Image>> load(int source_fd, const ProgressSink& progress, Cancel cancel) = 0;
  /// As load, and artifacts of one type that are made as images are (ComposeRequest::artifact_type) are taken as well. Nobody but who made them knows what they are for: remove them afterwards.
  virtual Result<std::vector<Image>> load_artifacts(int source_fd, const std::string& artifact_type, Cancel cancel) = 0;
  /// A tar that is both a docker-archive (manifest.json) and an OCI layout (index.json), as docker ≥ 25 writes.
  virtual Status save(const SaveRequest& request, int target_fd, Cancel cancel) = 0;
  /// Errors: unavailable with a hint when mmdebstrap is missing.
  virtual Result<Image> bootstrap(const BootstrapRequest& request, const ProgressSink& progress, Cancel cancel) = 0;
  /// A layer from an overlay's upperdir and what is grafted into it. The same tree always gives
  /// the same digest: names in order, times in whole seconds, no attribute of the overlay. A worker reads the tree, a second one
  /// unpacks the stream that the first one writes; nothing is written twice. Whoever could change the tree should be paused: a file
  /// that grows or shrinks meanwhile is taken with the size it had when it was opened.
  /// Errors: invalid, naming the file (a name that begins with ".wh.", deeper than names can say); unavailable (full disk, cancelled).
  virtual Result<MadeLayer> make_layer(const LayerTrees& source, const ProgressSink& progress, Cancel cancel) = 0;
  /// Writes config and manifest and records the image with its names. Errors: not_found (base), invalid (reference, platform,
  /// a history that does not fit the layers), unavailable; nothing is half-created.
  virtual Result<Image> compose(const ComposeRequest& request) = 0;
  /// The layers of an image that satisfies the host's signature policy. Of a remote one only documents travel, and nothing is recorded.
  /// Errors: as find, or as pull.
  virtual Result<LayerList> list_layers(const LayersRequest& request, Cancel cancel) = 0;
  /// One of them, held in the store: from here, or from its registry. Errors: as pull; not_found when it has gone from the store.
  virtual Result<MadeLayer> bring_layer(const LayerList& list, std::size_t index, const RegistryCredentials& credentials, const ProgressSink& progress, Cancel cancel) = 0;
  /// The tree of a layer that is held, once more: into an empty folder (borrowed, opened for reading), by a worker; ids on disk are the layer's. While it is unpacked
  /// it takes room of the quota. A whiteout becomes a character device 0/0, which nobody can open. Errors: invalid (device nodes), corrupt, unavailable (full disk, cancelled), io.
  virtual Status extract_layer(const MadeLayer& layer, int target_fd, Cancel cancel) = 0;
  /// A folder of somebody else's counts in the quota from now on, with so many bytes; 0: no more. It is never refused: who keeps it makes room (when_full).
  virtual void count_folder(const std::string& path, std::uint64_t bytes) = 0;
  /// Brings images from their registry: only what is missing here travels, and what a cut connection left is gone on with. Nothing is
  /// named before every digest of it was checked. Errors: in docker's words; not_found ("manifest for X not found: …", "pull access denied
  /// for X, …"), denied, unavailable, corrupt (a digest or size that is not what was promised), unsupported.
  virtual Result<std::vector<Image>> pull(const PullRequest& request, const ProgressSink& progress, Cancel cancel) = 0;
  /// Sends names of this store to their registry, and only what it lacks: blobs as they are stored, or in the form that is wished for. What is compressed for it is the
  /// same on every machine that has the same libraries. The image is known under the digest of the manifest that went out.
  /// Errors: not_found ("An image does not exist locally with the tag: X"), invalid (compression), corrupt (a layer is not what it was), and those of the registry.
  virtual Result<std::vector<PushedTag>> push(const PushRequest& request, const ProgressSink& progress, Cancel cancel) = 0;
  virtual Status tag(const std::string& source, const std::string& target_reference) = 0;
  /// `is_in_use(image id)` names a container that needs it ("running container 0123456789ab", "stopped container …"), or none.
  /// It runs under a lock of the store and may not call back into it. Deleting is never forced while it names one; force
  /// then only takes the name away. Errors: conflict in docker's words.
  virtual Result<RemovedImage> remove(const std::string& name, bool force,
                                      const std::function<std::optional<std::string>(const Digest&)>& is_in_use) = 0;

  /// Directories of the layers, topmost first, ready to be an overlay's lowerdirs (ids on disk are the image's own). Indexes are mounted
  /// by it; the mounts last until the layer or the store goes.
  /// Errors: corrupt when a layer is missing ("layer sha256:… of image X is missing; load or pull the image again").
  virtual Result<std::vector<std::string>> lowerdirs(const Digest& id) = 0;

  /// At start: removes leftovers of interrupted work, checks that what records name exists. One sentence per repair.
  virtual Result<std::vector<std::string>> recover() = 0;
  struct Usage {
    std::uint64_t blobs_bytes = 0;
    std::uint64_t layers_bytes = 0;  ///< sum of their files' sizes, as images have them
    std::uint64_t disk_bytes = 0;    ///< what blobs, layers and partial downloads take on the disk; shared data once
    std::map<Digest, std::uint64_t> layers;  ///< of each layer, by its diffID, the sum of its files' sizes
  };
  virtual Result<Usage> usage() = 0;
  /// What these images take on the disk together, by their ids; shared data once. Those that are not there take nothing.
  virtual Result<std::uint64_t> disk_bytes(const std::vector<Digest>& ids) = 0;
  /// How full the store is. Costs nothing.
  [[nodiscard]] virtual StoreAccount::Reading room() const = 0;
  /// Before something is refused for lack of room, and when garbage and given-up downloads were not enough, this is called again and again: it lets one
  /// thing go that was only kept to be quick, and says false when it has none. Unset: nobody has. Not while a call into the store waits for it.
  virtual void when_full(std::function<Result<bool>()> release_one) = 0;

  /// As find, for whoever will use the image: it also satisfies the host's signature policy. What is used afterwards is the digest that was judged.
  /// Errors: as find; denied, naming image, digest, the policy's scope and requirement.
  virtual Result<Image> admit(const std::string& name) = 0;
  /// Judges what a registry has under a name, changing nothing. Errors: denied, saying which requirement is not met and why; the registry's.
  virtual Result<VerifyReport> verify(const VerifyRequest& request, Cancel cancel) = 0;
  /// Adds a signature beside the image in its registry. Returns the digest of the manifest that carries it. Errors: invalid, the registry's.
  virtual Result<Digest> attach_signature(const SignRequest& request, Cancel cancel) = 0;
  /// Of layers to come: directory or erofs.
  [[nodiscard]] virtual SnapshotForm snapshot_form() const = 0;
};

/// Errors also: unavailable when SnapshotForm::erofs is asked for and cannot be had, with the reason.
Result<std::unique_ptr<ImageStore>> open_image_store(state::Store& store, const ImageOptions& options);

}  // namespace caisson::image
