// LocalImageStore: the ImageStore on this host's disk, split by verb into several files.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "image/content_store.hpp"
#include "image/form_records.hpp"
#include "image/image_records.hpp"
#include "image/image_store.hpp"
#include "image/manifest.hpp"
#include "image/stand_ins.hpp"
#include "image/trust_gate.hpp"
#include "image/worker.hpp"

namespace caisson::image {

/// A line of a transfer, when somebody listens.
inline void tell(const ProgressSink& progress, std::string id, std::string status, std::uint64_t current = 0, std::uint64_t total = 0) {
  if (progress) progress(Progress{std::move(id), std::move(status), current, total});
}

/// A lock per name: two loads of one layer do not unpack it twice.
class KeyedLocks {
 public:
  class Held {
   public:
    Held(KeyedLocks& locks, std::string key) : locks_(&locks), key_(std::move(key)) {}
    Held(Held&& other) noexcept : locks_(std::exchange(other.locks_, nullptr)), key_(std::move(other.key_)) {}
    Held(const Held&) = delete;
    Held& operator=(const Held&) = delete;
    Held& operator=(Held&&) = delete;
    ~Held();

   private:
    KeyedLocks* locks_;
    std::string key_;
  };
  Held lock(const std::string& key);

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::string> held_;
};

/// A layer's archive that was unpacked and is not yet part of the store.
struct UnpackedArchive {
  Staging staging;  ///< "fs", or "layer.tar" and "index.erofs"; and, when the input was copied, "blob"
  WorkerResult result;
  Digest diff_id;
  Digest blob;
};

/// An image whose documents and layers are all in the store, ready to be recorded.
struct NewImage {
  ImageRecord record;
  std::vector<std::string> names;  ///< canonical references
  std::optional<Origin> origin;    ///< nothing: unknown, as when a lost record was found again
};

class LocalImageStore final : public ImageStore {
 public:
  LocalImageStore(state::Store& store, ImageOptions options, std::unique_ptr<ContentStore> content);
  ~LocalImageStore() override;
  /// The second half of construction: counts what is there.
  Status open();

  Result<Image> find(const std::string& name) override;
  Result<Image> admit(const std::string& name) override;
  Result<std::vector<Image>> list() override;
  Result<std::string> raw_config(const Digest& id) override;
  Result<Image> import(const ImportRequest& request, const ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<Image>> load(int source_fd, const ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<Image>> load_artifacts(int source_fd, const std::string& artifact_type, Cancel cancel) override;
  Status save(const SaveRequest& request, int target_fd, Cancel cancel) override;
  Result<Image> bootstrap(const BootstrapRequest& request, const ProgressSink& progress, Cancel cancel) override;
  Result<MadeLayer> make_layer(const LayerTrees& source, const ProgressSink& progress, Cancel cancel) override;
  Result<Image> compose(const ComposeRequest& request) override;
  Result<LayerList> list_layers(const LayersRequest& request, Cancel cancel) override;
  Result<MadeLayer> bring_layer(const LayerList& list, std::size_t index, const RegistryCredentials& credentials, const ProgressSink& progress, Cancel cancel) override;
  Status extract_layer(const MadeLayer& layer, int target_fd, Cancel cancel) override;
  void count_folder(const std::string& path, std::uint64_t bytes) override;
  Result<std::vector<Image>> pull(const PullRequest& request, const ProgressSink& progress, Cancel cancel) override;
  Result<std::vector<PushedTag>> push(const PushRequest& request, const ProgressSink& progress, Cancel cancel) override;
  Result<VerifyReport> verify(const VerifyRequest& request, Cancel cancel) override;
  Result<Digest> attach_signature(const SignRequest& request, Cancel cancel) override;
  Status tag(const std::string& source, const std::string& target_reference) override;
  Result<RemovedImage> remove(const std::string& name, bool force,
                              const std::function<std::optional<std::string>(const Digest&)>& is_in_use) override;
  Result<std::vector<std::string>> lowerdirs(const Digest& id) override;
  Result<std::vector<std::string>> recover() override;
  Result<Usage> usage() override;
  Result<std::uint64_t> disk_bytes(const std::vector<Digest>& ids) override;
  [[nodiscard]] StoreAccount::Reading room() const override { return content_->account().read(); }
  void when_full(std::function<Result<bool>()> release_one) override;
  [[nodiscard]] SnapshotForm snapshot_form() const override { return form_; }

 private:
  // lookup.cpp
  Result<ImageRecord> find_record(const std::string& name);
  Result<std::optional<ImageRecord>> find_by_reference(const Reference& reference);
  Result<std::optional<ImageRecord>> find_by_prefix(const std::string& name);
  Result<Image> image_of(const ImageRecord& record, const std::vector<NameRecord>& names);
  Result<Image> image_of(const ImageRecord& record);
  Result<std::string> open_layer(const ImageRecord& record, const LayerRecord& layer);

  // layers.cpp
  [[nodiscard]] WorkerOptions worker_options() const;
  struct UnpackSource {
    int fd = -1;                 ///< borrowed
    bool keep_blob = false;      ///< copy what is read to "blob"
    std::string kept_file;       ///< the path of `fd`, when it is a file that will stay: a layer's tar may become a second name of it
    std::string known_digest;    ///< "": compute, in the algorithm below
    DigestAlgorithm input_algorithm = DigestAlgorithm::sha256;
    DigestAlgorithm decoded_algorithm = DigestAlgorithm::sha256;
    std::uint64_t total_bytes = 0;
    std::string progress_id;
    const char* progress_status = "Unpacking";
    Reservation* room = nullptr;  ///< borrowed: what is kept for it already, which it takes over
  };
  static Result<std::uint64_t> unpacked_bytes(const Staging& staging, const WorkerResult& result);
  Result<UnpackedArchive> unpack(const UnpackSource& source, const ProgressSink& progress, Cancel cancel);
  struct LayerSource {
    Digest diff_id;
    Digest blob;
    std::string file;  ///< the blob, in staging or in the store
    std::uint64_t size_bytes = 0;
    Reservation* room = nullptr;  ///< borrowed: what is kept for `file`, while it is not in the store
  };
  /// The layer is in the store afterwards. Errors: corrupt when the blob's content is not that diffID.
  Status ensure_layer(const LayerSource& source, const ProgressSink& progress, Cancel cancel);
  Status ensure_layers(const std::vector<LayerSource>& sources, const ProgressSink& progress, Cancel cancel);
  Result<WorkerResult> make_tree(const Staging& staging, WorkerJob& job);
  Result<WorkerResult> make_index(const Staging& staging, const UnpackSource& source, WorkerJob& job);
  Result<Staging> settled_index(const Digest& diff_id, const std::string& tar, const std::vector<DirectoryAttributes>& settled);
  /// The tree of an archive that is not a layer of the store yet.
  static Result<UniqueFd> open_unpacked(const UnpackedArchive& archive);
  Result<std::vector<std::string>> folders_of(const std::vector<Digest>& layers);
  /// Settles the implied directories of all layers that none has stacked before. After a layer was made again, too.
  Status settle(const ImageRecord& record);
  /// Settles implied directories, adds up sizes, syncs, and records all of them in one durable transaction.
  Status record_images(std::vector<NewImage>& images);

  // import.cpp
  struct ImportPlan {
    ImageConfig config;
    std::string name;  ///< canonical; "": none
    std::map<std::string, std::string> annotations;
    std::string packages_text;  ///< "": none
    Origin origin;
  };
  Result<Image> finish_import(UnpackedArchive& archive, ImportPlan& plan, Pins& pins);

  // compose.cpp
  /// The start of a new image: platform, layers and history of what it is built upon.
  struct ComposeBase {
    ImageConfig config;
    std::vector<LayerRecord> layers;
  };
  Result<ComposeBase> load_base(const ComposeRequest& request, Pins& pins);
  /// Keeps layer and blob from being collected for as long as it lives. They may still have to come.
  MadeLayer hold_layer(const LayerEntry& entry);

  // layer_lists.cpp
  Result<LayerList> list_remote_layers(const LayersRequest& request, const Cancel& cancel);
  // pull_layers.cpp, and what pulls are made of
  struct DownloadRoom {
    Reservation blob;
    Reservation layer;
  };
  struct PulledLayer {
    Descriptor blob;
    Digest diff_id;
    std::shared_ptr<DownloadRoom> room;  ///< nothing for what is here
    [[nodiscard]] Reservation* blob_room() const { return room ? &room->blob : nullptr; }
  };

  // pull.cpp
  /// A remote image's manifest, admitted by the policy, its config, and what its layers are called before and behind their compression.
  struct AdmittedImage {
    Digest top;           ///< of what the name means: the manifest, or an index that leads to it
    Origin origin;
    Digest manifest_digest;
    std::string manifest_type;
    std::string manifest_text;
    Manifest manifest;
    std::string config_text;
    std::vector<Digest> diff_ids;
  };
  Result<std::vector<Image>> load_archive(int source_fd, const std::string& artifact_type, const ProgressSink& progress, Cancel cancel);
  /// `artifact_type`: as LayersRequest has it.
  Result<AdmittedImage> fetch_image(class RegistrySession& session, const Reference& reference, const Platform& wanted, const std::string& artifact_type, const ProgressSink& progress,
                                    const Cancel& cancel);
  Result<Image> pull_one(class RegistrySession& session, const Reference& reference, const Platform& wanted, const PullRequest& request, const ProgressSink& progress, const Cancel& cancel);
  /// A pull whose manifest and config are here and whose layers are to come.
  struct BegunPull {
    const Reference& reference;
    AdmittedImage fetched;
    NewImage image;
    std::vector<PulledLayer> layers;
    Pins pins;
  };
  Result<Image> finish_pull(BegunPull& begun, std::string_view status, const ProgressSink& progress);
  Result<Image> name_pulled(BegunPull& begun, std::string_view status, const ProgressSink& progress);
  Result<bool> is_here_otherwise(BegunPull& begun);

  // coming.cpp
  /// Nothing when no layer can come lazily: then it is an ordinary pull. Otherwise the image is recorded, and the rest comes behind its back.
  Result<std::optional<Image>> pull_lazily(class RegistrySession& session, BegunPull& begun, const PullRequest& request, const ProgressSink& progress, const Cancel& cancel);
  struct ComingImage {
    Digest id;
    RegistryCredentials credentials;
    std::vector<PulledLayer> layers;  ///< they keep the room
    UniqueFd stop;                    ///< eventfd
    std::thread thread;
    bool is_lie = false;              ///< the last error is about what was promised, not about how it comes
    std::optional<ComingRecord> told;  ///< what is wrong, under coming_mutex_: the record may have no room on the disk
    /// False: it is to stop.
    [[nodiscard]] bool wait(int milliseconds) const;
  };
  /// In a thread of its own, until all is here or it is told to stop. `layers`: those that room was kept for already.
  void go_on_with(const Digest& id, const RegistryCredentials& credentials, std::vector<PulledLayer> layers);
  void bring(ComingImage& coming);
  Status bring_once(ComingImage& coming);
  Status settle_coming(ComingImage& coming);
  Status note_trouble(ComingImage& coming, const Error& error);
  /// The record's, or what is newer than that.
  std::optional<ComingRecord> coming_now(const ImageRecord& record);
  void stop_coming(const Digest& id);
  Status forget_coming(const ImageRecord& removed);
  Status retire_stand_ins(const ImageRecord& record);
  std::optional<Coming> coming_of(const ImageRecord& record);
  /// Errors: corrupt, for an image that was promised otherwise than it came.
  Status refuse_liars(const ImageRecord& record);
  /// Errors: conflict, for an image that is still coming: whoever needs it as a whole says so.
  Status must_be_here(const ImageRecord& record);
  Result<std::string> fetch_document(class RegistrySession& session, const Descriptor& descriptor, const Cancel& cancel);

  // pull_layers.cpp
  /// Room for the blobs that have to come, and as much again for what they are unpacked to, which is hardly ever less: for all of them or for none, before the
  /// first byte travels. Otherwise two pulls could get half each and fail both. Errors: as StoreAccount::reserve.
  Status reserve_blobs(std::span<PulledLayer> layers);
  /// `whose`: the image, for errors.
  Status pull_layers(class RegistrySession& session, const std::string& whose, const std::vector<PulledLayer>& layers, const ProgressSink& progress, const Cancel& cancel);
  Status pull_layer(class RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel);
  Status pull_and_unpack(class RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel);
  /// The blob is in the store afterwards; nothing is unpacked.
  Status pull_blob(class RegistrySession& session, const PulledLayer& layer, const ProgressSink& progress, const Cancel& cancel);

  // push.cpp
  struct Outgoing;
  /// Blobs, then the manifest under the name's tag, or under its own digest. `image` says afterwards what went out.
  Result<PushedTag> push_one(class RegistrySession& session, const Reference& name, bool is_by_digest, Outgoing& image, const FormPlan& plan, const ProgressSink& progress, const Cancel& cancel);
  static Result<PushedTag> put_document(class RegistrySession& session, const std::string& name, std::string_view media_type, std::string text, const Digest& digest, const Cancel& cancel);
  /// Errors: invalid (two for one platform), corrupt.
  Result<Index> platform_index(const std::vector<ImageRecord>& records, const std::vector<std::uint64_t>& manifest_bytes, const IndexAnnotations& annotations);
  Status record_pushed(const Reference& name, const ImageRecord& record);
  struct BlobToPush {
    std::string id;  ///< for lines of progress
    Digest digest;
    std::string path;  ///< "": it can only be mounted
    std::vector<std::string> mount_from;
  };
  /// True: the registry has it now. False: there is no path, and it could not be mounted.
  static Result<bool> push_blob(class RegistrySession& session, const BlobToPush& blob, const ProgressSink& progress, const Cancel& cancel);
  Result<std::optional<FormRecord>> push_layer(class RegistrySession& session, const Reference& name, const Outgoing& image, std::size_t index, const FormPlan& plan,
                                               const ProgressSink& progress, const Cancel& cancel);
  Result<FormRecord> push_converted(class RegistrySession& session, const Reference& name, const LayerRecord& layer, const FormPlan& plan, const ProgressSink& progress, const Cancel& cancel);
  Result<std::vector<std::string>> mount_sources(const Reference& name, const Digest& blob);

  // convert.cpp
  /// An image as it goes out.
  struct Outgoing {
    ImageRecord record;
    Manifest manifest;
    std::string manifest_text;
    bool is_changed = false;
    void set_form(std::size_t index, LayerForm form, const FormRecord& made);
    /// Writes the manifest of what has changed. The image's id stays, its manifest becomes another one.
    void finish();
  };
  Result<Outgoing> outgoing(ImageRecord record);
  struct ConvertedLayer {
    Staging staging;
    FormRecord made;
    [[nodiscard]] std::string path() const;
  };
  Result<bool> needs_form(const LayerRecord& layer, const Descriptor& descriptor, const FormPlan& plan);
  /// Errors: corrupt (the blob does not hold the layer); unavailable, io (no room on the disk); is_beyond_form.
  Result<ConvertedLayer> convert_layer(const LayerRecord& layer, const FormPlan& plan, const ProgressSink& progress, const Cancel& cancel);
  Result<ConvertedLayer> chunk_layer(const LayerRecord& layer, int level, const ProgressSink& progress, const Cancel& cancel);
  /// All of an image's layers that need it, before any of it goes out. `made`: by the blob it was made of; what is there is used again.
  Status convert_layers(Outgoing& image, const FormPlan& plan, std::map<Digest, ConvertedLayer>& made, const Cancel& cancel);
  /// The layer cannot be told in that form: it goes out as it is.
  static bool is_beyond_form(const FormPlan& plan, const Error& error);

  // remove.cpp
  Status collect_garbage(const ImageRecord& removed, RemovedImage& out);

  // layout_index.cpp
  /// Writes content/index.json: the images and names as an OCI layout has them. It is how images outlive the state file, and
  /// lets other tools read the store. `without`: an image or name whose record is about to be erased.
  struct Without {
    std::optional<Digest> image;
    std::vector<std::string> names;
  };
  Status write_layout_index(const Without& without = {});
  /// Images that index.json lists and the state store does not know.
  Result<std::vector<NewImage>> find_lost_images(const std::vector<ImageRecord>& known, std::vector<std::string>& repairs);

  // recover.cpp
  Status repair_image(const ImageRecord& record, std::vector<std::string>& repairs);

  // make_room.cpp
  /// Blobs and layers that no record names and nobody has pinned. How many. Under records_mutex_, or while nobody else is there.
  Result<std::size_t> remove_unreferenced(const std::vector<ImageRecord>& images);
  Status make_room(const std::function<bool()>& is_enough);

  // bootstrap.cpp
  Result<std::string> list_packages(const UnpackedArchive& archive);

  SnapshotForm form_;  // of layers to come; never automatic
  ImageOptions options_;
  std::unique_ptr<ContentStore> content_;
  TrustGate gate_;
  ImageRecords records_;
  FormRecords forms_;
  state::Store& store_;
  std::mutex records_mutex_;  // read-decide-write on records: tag, remove, recording
  KeyedLocks layer_locks_;
  KeyedLocks download_locks_;  // of blobs: whoever comes second waits and finds it here
  KeyedLocks form_locks_;      // of a registry, a layer and a form: whoever comes second waits and finds it there
  std::mutex compress_mutex_;
  mutable std::mutex folders_mutex_;
  std::map<std::string, std::uint64_t> folders_;  // of others, that count in the quota
  std::mutex rooms_mutex_;
  std::map<Digest, std::weak_ptr<DownloadRoom>> rooms_;  // of blobs on their way; one for all pulls that wait for the same
  std::mutex release_mutex_;                            // of release_one_, and held while it runs
  std::function<Result<bool>()> release_one_;
  StandIns stand_ins_;
  std::mutex coming_mutex_;
  std::map<Digest, std::unique_ptr<ComingImage>> coming_;  // by image id; each with a thread
};

/// First 12 digits, as people read ids.
std::string short_id(const Digest& digest);

}  // namespace caisson::image
