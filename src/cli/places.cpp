// Registries by a fetch process of our own, archives by a worker, local images by asking the daemon for an archive.
#include "cli/places.hpp"

#include "base/environment.hpp"
#include "base/ids.hpp"
#include "base/strings.hpp"
#include "base/time.hpp"
#include "cli/credentials.hpp"
#include "cli/daemon.hpp"
#include "cli/progress.hpp"
#include "cli/request.hpp"
#include "cli/save_stream.hpp"
#include "linux/file.hpp"
#include "linux/tree.hpp"
#include "transport/layout_place.hpp"
#include "transport/registry_place.hpp"

namespace caisson::cli {

namespace {

using transport::Kind;

/// $XDG_CACHE_HOME/caisson/transit: it may be thrown away at any time, and /tmp may be memory.
Result<std::string> transit_folder() {
  auto cache = environment_text("XDG_CACHE_HOME");
  if (cache.empty()) {
    const auto home = environment_text("HOME");
    if (home.empty()) return Error(ErrorKind::invalid, "neither XDG_CACHE_HOME nor HOME says where blobs may lie on their way");
    cache = home + "/.cache";
  }
  return cache + "/caisson/transit";
}

image::RegistryCredentials for_registry(Credentials found) {
  image::RegistryCredentials out;
  out.username = std::move(found.username);
  out.password = std::move(found.password);
  out.identity_token = std::move(found.identity_token);
  return out;
}

/// A file without a name: it is gone with this process.
Result<UniqueFd> nameless_file(const std::string& folder) {
  constexpr std::size_t short_id = 16;
  const auto path = concat(folder, "/archive-", random_id().substr(0, short_id));
  auto file = TRY_PLAIN(linux::open(path, O_RDWR | O_CREAT | O_EXCL, 0600));
  TRY_PLAIN(linux::unlink(path));
  return file;
}

}  // namespace

Result<Places> Places::create(Session& session, const Invocation& invocation) {
  image::RegistryOptions options;
  // Without it folders and archives can still be read; whoever asks a registry is told.
  options.fetch_path = find_own_binary("caisson-fetch").value_or("/usr/libexec/caisson/caisson-fetch");
  options.insecure = invocation.list("insecure-registry");
  for (const auto& entry : options.insecure) TRY_PLAIN(image::check_insecure(entry));
  options.hosts_dir = invocation.text("registry-hosts");
  auto worker = TRY_PLAIN(find_own_binary("caisson-worker"));
  auto spool = TRY_PLAIN(transit_folder());
  TRY_PLAIN(linux::make_dirs(spool, 0700));
  return Places(session, std::move(options), std::move(spool), std::move(worker));
}

Result<std::unique_ptr<transport::Place>> Places::open_registry(const image::Reference& reference, const std::string& actions) const {
  auto file = TRY_PLAIN(CredentialFile::open(credentials_path(session_->global().text("config"))));
  auto credentials = for_registry(TRY_PLAIN(file.find(credentials_key(reference.domain))));
  return std::unique_ptr<transport::Place>(TRY_PLAIN(transport::RegistryPlace::open(*registries_, reference, actions, credentials, Cancel{})));
}

Result<Places::Source> Places::open_answer(const std::string& target) {
  auto client = TRY_PLAIN(session_->connect());
  TRY_PLAIN(session_->open_stream(*client, "GET", target));
  const auto archive = TRY_PLAIN(nameless_file(spool_folder_));
  TRY_PLAIN(copy_stream(*client, archive.get()));
  TRY_PLAIN(linux::lseek(archive.get(), 0, SEEK_SET));
  Source out;
  out.scratch = TRY_PLAIN(transport::ScratchLayout::from_archive(spool_folder_, archive.get(), worker_path_, Cancel{}));
  return out;
}

Result<json::value> Places::send_archive(const std::string& target, const std::function<Status(transport::Place&)>& fill) {
  const auto scratch = TRY_PLAIN(transport::ScratchLayout::create(spool_folder_));
  TRY_PLAIN(fill(scratch->place()));
  const auto archive = TRY_PLAIN(nameless_file(spool_folder_));
  TRY_PLAIN(scratch->write_archive(archive.get()));
  TRY_PLAIN(linux::lseek(archive.get(), 0, SEEK_SET));
  auto client = TRY_PLAIN(session_->connect());
  TRY_PLAIN(session_->upload(*client, target, archive.get()));
  return parse_json(TRY_PLAIN(client->read_all()), "the daemon's answer");
}

Result<std::unique_ptr<transport::ScratchLayout>> Places::open_archive(const std::string& path) {
  const auto archive = TRY_PLAIN(linux::open(path, O_RDONLY));
  return TRY(transport::ScratchLayout::from_archive(spool_folder_, archive.get(), worker_path_, Cancel{}), path);
}

Result<Places::Source> Places::open_source(const transport::Location& location, const std::string& actions) {
  Source out;
  out.name = transport::name_in(location);
  switch (location.kind) {
    case Kind::registry: out.owned = TRY_PLAIN(open_registry(location.reference, actions)); break;
    case Kind::layout: out.owned = TRY_PLAIN(transport::LayoutPlace::open(location.path, transport::LayoutPlace::Mode::read)); break;
    case Kind::oci_archive:
    case Kind::docker_archive: out.scratch = TRY_PLAIN(open_archive(location.path)); break;
    case Kind::local: {  // without a name: the daemon gives the one image that is asked for
      Query query;
      query.add("names", location.path);
      return open_answer("/images/get" + query.text());
    }
  }
  return out;
}

Result<Places::Target> Places::open_target(const transport::Location& location, const std::string& fallback_tag) {
  Target out;
  out.session_ = session_;
  out.location_ = location;
  out.spool_folder_ = spool_folder_;
  if (location.digest) return Error(ErrorKind::invalid, concat(transport::to_text(location), ": an image's digest follows from what it is; name a tag, or none"));
  if (location.kind == Kind::registry) {
    out.owned_ = TRY_PLAIN(open_registry(location.reference, "pull,push"));
    if (!location.reference.digest) out.tag_ = location.reference.tag;
    return out;
  }
  if (location.kind == Kind::local && location.reference.path.empty()) return Error(ErrorKind::invalid, concat(transport::to_text(location), ": an image gets a name, not an id"));
  const bool is_named = location.kind == Kind::local || (location.kind == Kind::docker_archive && !location.reference.path.empty());
  if (is_named && location.reference.digest) return Error(ErrorKind::invalid, concat(transport::to_text(location), ": cannot be written by digest"));
  out.tag_ = is_named ? location.reference.tag : location.tag.empty() ? fallback_tag : location.tag;
  if (location.kind == Kind::layout) {
    out.owned_ = TRY_PLAIN(transport::LayoutPlace::open(location.path, transport::LayoutPlace::Mode::write));
    return out;
  }
  if (location.kind != Kind::local && TRY_PLAIN(linux::exists(location.path))) return Error(ErrorKind::conflict, concat(location.path, " is there already: archives are written anew"));
  out.scratch_ = TRY_PLAIN(transport::ScratchLayout::create(spool_folder_));
  if (is_named) out.scratch_->place().set_repository_name(location.reference.repository());
  return out;
}

Status Places::Target::send_to_daemon() {
  const auto archive = TRY_PLAIN(nameless_file(spool_folder_));
  TRY_PLAIN(scratch_->write_archive(archive.get()));
  TRY_PLAIN(linux::lseek(archive.get(), 0, SEEK_SET));
  auto client = TRY_PLAIN(session_->connect());
  TRY_PLAIN(session_->upload(*client, "/images/load?quiet=1", archive.get()));
  TRY_PLAIN(follow_progress(*session_, *client, {.is_quiet = true, .prints_results = false}));
  return {};
}

Status Places::Target::finish() {
  if (!scratch_) return {};
  if (location_.kind == Kind::local) return send_to_daemon();
  const auto temporary = concat(location_.path, ".", now_ns(), ".tmp");
  auto write = [&]() -> Status {
    auto file = TRY_PLAIN(linux::open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0644));
    TRY_PLAIN(scratch_->write_archive(file.get()));
    TRY_PLAIN(linux::fsync(file.get()));
    return linux::rename(temporary, location_.path);
  };
  auto written = write();
  if (!written.ok()) ignore(linux::unlink(temporary));  // the first error is the one to tell
  return written;
}

}  // namespace caisson::cli
