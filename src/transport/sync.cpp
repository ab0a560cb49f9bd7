// Repository by repository, tag by tag.
#include "transport/sync.hpp"

#include "base/strings.hpp"
#include "transport/layout_place.hpp"

namespace caisson::transport {

namespace {

class Run {
 public:
  Run(const SyncRequest& request, const SyncSurroundings& surroundings) : request_(request), surroundings_(surroundings) {}
  void entry(const SyncEntry& entry);
  [[nodiscard]] const SyncSummary& summary() const { return summary_; }

 private:
  struct Pair {
    std::unique_ptr<Place> source;
    std::unique_ptr<Place> target;  ///< none in a rehearsal for a layout that is not there yet
    std::vector<std::string> names;
  };
  Result<std::unique_ptr<Place>> open_source(const SyncEntry& entry, std::string& path) const;
  Result<std::unique_ptr<Place>> open_target(const std::string& where) const;
  Result<Pair> open(const SyncEntry& entry, std::string& to) const;
  Result<SyncOutcome> image(Pair& pair, const std::string& name);
  void report(SyncOutcome outcome);

  const SyncRequest& request_;
  const SyncSurroundings& surroundings_;
  Holders holders_;
  SyncSummary summary_;
};

Result<std::unique_ptr<Place>> Run::open_source(const SyncEntry& entry, std::string& path) const {
  if (!request_.source_folder.empty()) {
    path = entry.from;
    return std::unique_ptr<Place>(TRY_PLAIN(LayoutPlace::open(entry.from.empty() ? request_.source_folder : concat(request_.source_folder, "/", entry.from), LayoutPlace::Mode::read)));
  }
  auto reference = TRY_PLAIN(image::parse_reference(entry.from));
  path = reference.path;
  return surroundings_.open_registry(reference, "pull");
}

Result<std::unique_ptr<Place>> Run::open_target(const std::string& where) const {
  if (!request_.target.is_folder) return surroundings_.open_registry(TRY_PLAIN(image::parse_reference(where)), "pull,push");
  if (!request_.is_dry_run) return std::unique_ptr<Place>(TRY_PLAIN(LayoutPlace::open(where, LayoutPlace::Mode::write)));
  auto place = LayoutPlace::open(where, LayoutPlace::Mode::read);
  if (!place.ok() && place.error().kind() == ErrorKind::not_found) return std::unique_ptr<Place>();
  return std::unique_ptr<Place>(TRY_PLAIN(std::move(place)));
}

Result<Run::Pair> Run::open(const SyncEntry& entry, std::string& to) const {
  Pair pair;
  std::string path;
  pair.source = TRY_PLAIN(open_source(entry, path));
  to = TRY_PLAIN(target_of(request_.target, entry.to.empty() ? path : entry.to));
  std::vector<std::string> there;
  if (needs_listing(entry)) there = TRY_PLAIN(pair.source->tags());
  if (entry.digest.empty()) pair.names = TRY_PLAIN(select_tags(entry, there));
  else pair.names.push_back(entry.digest);
  if (pair.names.empty()) return Error(ErrorKind::not_found, concat(pair.source->name(), ": none of its ", there.size(), " tags is meant"));
  pair.target = TRY_PLAIN(open_target(to));
  return pair;
}

void Run::report(SyncOutcome outcome) {
  switch (outcome.kind) {
    case SyncOutcome::Kind::copied: ++summary_.copied; break;
    case SyncOutcome::Kind::would_copy: ++summary_.copied; break;
    case SyncOutcome::Kind::unchanged: ++summary_.unchanged; break;
    case SyncOutcome::Kind::failed: ++summary_.failed; break;
  }
  summary_.traffic += outcome.traffic;
  if (surroundings_.on_outcome) surroundings_.on_outcome(outcome);
}

Result<SyncOutcome> Run::image(Pair& pair, const std::string& name) {
  SyncOutcome outcome;
  auto spool = TRY_PLAIN(Spool::open(pair.target && !pair.target->spool_folder().empty() && !request_.is_dry_run ? pair.target->spool_folder() : surroundings_.spool_folder));
  struct Leave {
    Spool& spool;
    ~Leave() { spool.leave(); }
  } leave{spool};
  // A rehearsal never calls what would write.
  Copier copier(*pair.source, pair.target ? *pair.target : *pair.source, spool, holders_, request_.copy, surroundings_.progress);
  auto manifest = TRY_PLAIN(copier.resolve(name));
  outcome.digest = manifest.digest.text();
  bool is_there = false;
  if (pair.target) {
    auto known = pair.target->manifest(name);
    if (!known.ok() && known.error().kind() != ErrorKind::not_found) return std::move(known).error();
    is_there = known.ok() && known->digest == manifest.digest;
  }
  outcome.kind = is_there ? SyncOutcome::Kind::unchanged : request_.is_dry_run ? SyncOutcome::Kind::would_copy : SyncOutcome::Kind::copied;
  if (request_.is_dry_run) return outcome;
  const bool is_digest = name.find(':') != std::string::npos;
  // A layout lists what is known by its digest without a name; a registry needs no list.
  const auto tag = !is_digest ? std::optional(name) : pair.target->repository() ? std::nullopt : std::optional<std::string>("");
  if (!is_there) TRY_PLAIN(copier.copy(manifest, tag));
  TRY_PLAIN(copier.copy_signatures(manifest));
  TRY_PLAIN(copier.copy_referrers(manifest));
  outcome.traffic = copier.traffic();
  return outcome;
}

void Run::entry(const SyncEntry& entry) {
  std::string to;
  auto opened = open(entry, to);
  if (!opened.ok()) {
    SyncOutcome outcome;
    outcome.from = entry.from;
    outcome.to = to;
    outcome.error = std::move(opened).error();
    return report(std::move(outcome));
  }
  auto& pair = *opened;
  for (const auto& name : pair.names) {
    const auto suffix = concat(name.find(':') == std::string::npos ? ":" : "@", name);
    auto done = image(pair, name);
    SyncOutcome outcome;
    if (done.ok()) outcome = std::move(*done);
    else outcome.error = std::move(done).error();
    outcome.from = pair.source->name() + suffix;
    outcome.to = to + suffix;
    report(std::move(outcome));
  }
}

}  // namespace

Result<SyncSummary> run_sync(const SyncRequest& request, const SyncSurroundings& surroundings) {
  auto entries = request.entries;
  if (!request.source_folder.empty() && entries.empty()) {
    for (auto& path : TRY_PLAIN(find_layouts(request.source_folder))) entries.emplace_back().from = std::move(path);
    if (entries.empty()) return Error(ErrorKind::not_found, concat("no OCI layout lies below ", request.source_folder));
  }
  Run run(request, surroundings);
  for (const auto& entry : entries) run.entry(entry);
  return run.summary();
}

}  // namespace caisson::transport
