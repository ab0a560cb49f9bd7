// Opening what `image copy`, `sync`, `sbom` and `scan` read from and write to, with this user's credentials and settings of registries.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/json.hpp"
#include "base/result.hpp"
#include "cli/session.hpp"
#include "image/registries.hpp"
#include "transport/archive.hpp"
#include "transport/location.hpp"
#include "transport/place.hpp"
#include "transport/spool.hpp"

namespace caisson::cli {

/// Of one command. Reads --insecure-registry and --registry-hosts of its flags.
class Places {
 public:
  /// Errors: invalid (the flags), not_found (caisson-worker is not installed), io.
  static Result<Places> create(Session& session, const Invocation& invocation);

  /// A place to read from; `name`: what it is called there.
  struct Source {
    std::unique_ptr<transport::ScratchLayout> scratch;  ///< set for archives and local images, and then the place
    std::unique_ptr<transport::Place> owned;
    std::string name;
    [[nodiscard]] transport::Place& place() const { return scratch ? scratch->place() : *owned; }
  };
  /// `actions`: at a registry, "pull" or "pull,push".
  Result<Source> open_source(const transport::Location& location, const std::string& actions = "pull");

  /// What the daemon answers to a GET of `target`: an archive with one image.
  Result<Source> open_answer(const std::string& target);
  /// Posts an archive of what `fill` puts into a layout. Returns the daemon's answer.
  Result<json::value> send_archive(const std::string& target, const std::function<Status(transport::Place&)>& fill);

  /// A place to write to. finish() must be called when everything is there: archives and local images come to be then.
  class Target {
   public:
    [[nodiscard]] transport::Place& place() const { return scratch_ ? scratch_->place() : *owned_; }
    [[nodiscard]] const std::optional<std::string>& tag() const { return tag_; }
    Status finish();

   private:
    friend class Places;
    Status send_to_daemon();
    Session* session_ = nullptr;
    std::unique_ptr<transport::ScratchLayout> scratch_;
    std::unique_ptr<transport::Place> owned_;
    std::optional<std::string> tag_;
    transport::Location location_;
    std::string spool_folder_;
  };
  /// `fallback_tag`: for layouts and archives whose location names none.
  Result<Target> open_target(const transport::Location& location, const std::string& fallback_tag);

  /// `actions`: "pull" or "pull,push".
  Result<std::unique_ptr<transport::Place>> open_registry(const image::Reference& reference, const std::string& actions) const;
  /// A folder of this user's for what is on its way; what a killed command left there is gone on with.
  [[nodiscard]] const std::string& spool_folder() const { return spool_folder_; }
  [[nodiscard]] const std::string& worker_path() const { return worker_path_; }

 private:
  Places(Session& session, image::RegistryOptions options, std::string spool_folder, std::string worker_path)
      : session_(&session), registries_(std::make_unique<image::Registries>(std::move(options), image::FetchOptions())), spool_folder_(std::move(spool_folder)), worker_path_(std::move(worker_path)) {}
  Result<std::unique_ptr<transport::ScratchLayout>> open_archive(const std::string& path);

  Session* session_;
  std::unique_ptr<image::Registries> registries_;
  std::string spool_folder_;
  std::string worker_path_;
};

}  // namespace caisson::cli
