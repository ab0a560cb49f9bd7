// Image verbs: the image store's work, with what only the engine knows: which containers use an image.
#include "base/strings.hpp"
#include "engine/local_engine.hpp"

namespace caisson::engine {

namespace {
std::map<std::string, std::string> name_attribute(const image::Image& image) {
  return {{"name", image.repo_tags.empty() ? image.id.text() : image.repo_tags.front()}};
}
}  // namespace

std::map<std::string, std::vector<std::string>> LocalEngine::image_users() {
  std::map<std::string, std::vector<std::string>> users;
  for (const auto& container : registry_.all()) users[container->snapshot()->info.image_id].push_back(container->id);
  return users;
}

Result<std::vector<ImageInfo>> LocalEngine::list_images(const Caller& caller) {
  TRY_PLAIN(authorize(caller, Verb::image_list, ""));
  auto images = TRY_PLAIN(images_->list());
  auto users = image_users();
  std::vector<ImageInfo> infos;
  for (auto& image : images) {
    ImageInfo info;
    info.used_by = users[image.id.text()];
    info.image = std::move(image);
    infos.push_back(std::move(info));
  }
  return infos;
}

Result<ImageInfo> LocalEngine::inspect_image(const Caller& caller, const std::string& name) {
  TRY_PLAIN(authorize(caller, Verb::image_inspect, name));
  ImageInfo info;
  info.image = TRY_PLAIN(images_->find(name));
  info.used_by = image_users()[info.image.id.text()];
  return info;
}

Result<image::Image> LocalEngine::import_image(const Caller& caller, const image::ImportRequest& request, const image::ProgressSink& progress, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_import, request.reference));
  auto image = TRY_PLAIN(images_->import(request, progress, cancel));
  publish_object("image", "import", image.id.text(), name_attribute(image));
  return image;
}

Result<std::vector<image::Image>> LocalEngine::load_images(const Caller& caller, int source_fd, const image::ProgressSink& progress, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_load, ""));
  auto images = TRY_PLAIN(images_->load(source_fd, progress, cancel));
  for (const auto& image : images) publish_object("image", "load", image.id.text(), name_attribute(image));
  return images;
}

Status LocalEngine::save_images(const Caller& caller, const image::SaveRequest& request, int target_fd, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_save, join(request.names, ", ")));
  std::shared_lock uses(uses_mutex_);  // layers must stay while they are read
  TRY_PLAIN(images_->save(request, target_fd, cancel));
  for (const auto& name : request.names)
    if (auto image = images_->find(name); image.ok()) publish_object("image", "save", image->id.text(), name_attribute(*image));
  return {};
}

Result<image::Image> LocalEngine::bootstrap_image(const Caller& caller, const image::BootstrapRequest& request, const image::ProgressSink& progress,
                                                  Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_bootstrap, request.suite));
  auto image = TRY_PLAIN(images_->bootstrap(request, progress, cancel));
  publish_object("image", "bootstrap", image.id.text(), name_attribute(image));
  return image;
}

Result<std::vector<image::Image>> LocalEngine::pull_images(const Caller& caller, const image::PullRequest& request, const image::ProgressSink& progress, Cancel cancel) {
  TRY_PLAIN(permit_verb(caller, Verb::image_pull, request.reference));
  if (auto judged = check_image(role_of(caller), request.reference, {}); !judged.ok()) return refuse(caller, Verb::image_pull, request.reference, "", judged.error().text()).error();
  note(caller, Verb::image_pull, request.reference, "");
  auto images = TRY_PLAIN(images_->pull(request, progress, cancel));
  for (const auto& image : images) publish_object("image", "pull", request.reference, name_attribute(image));
  return images;
}

Result<std::vector<image::PushedTag>> LocalEngine::push_image(const Caller& caller, const image::PushRequest& request, const image::ProgressSink& progress, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_push, request.reference));
  auto pushed = TRY_PLAIN(images_->push(request, progress, cancel));
  publish_object("image", "push", request.reference, {{"name", request.reference}});
  return pushed;
}

namespace {
Error no_registries() { return {ErrorKind::unsupported, "this engine was set up without registries"}; }
}  // namespace

Result<std::string> LocalEngine::login(const Caller& caller, const std::string& server, const image::RegistryCredentials& credentials, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_login, server));
  if (!registries_) return no_registries();
  return registries_->login(server, credentials, cancel);
}

Result<std::vector<image::SearchHit>> LocalEngine::search_images(const Caller& caller, const image::SearchRequest& request, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_search, request.term));
  if (!registries_) return no_registries();
  return registries_->search(request, cancel);
}

Result<image::DistributionInfo> LocalEngine::inspect_distribution(const Caller& caller, const std::string& reference, const image::RegistryCredentials& credentials,
                                                                  Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_lookup, reference));
  if (!registries_) return no_registries();
  return registries_->inspect(reference, credentials, cancel);
}

Result<image::VerifyReport> LocalEngine::verify_image(const Caller& caller, const image::VerifyRequest& request, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_verify, request.reference));
  return images_->verify(request, cancel);
}

Result<Digest> LocalEngine::attach_signature(const Caller& caller, const image::SignRequest& request, Cancel cancel) {
  TRY_PLAIN(authorize(caller, Verb::image_sign, request.reference));
  auto made = TRY_PLAIN(images_->attach_signature(request, cancel));
  publish_object("image", "sign", request.reference, {{"name", request.reference}, {"digest", made.text()}});
  return made;
}

Status LocalEngine::tag_image(const Caller& caller, const std::string& source, const std::string& target) {
  TRY_PLAIN(authorize(caller, Verb::image_tag, source));
  TRY_PLAIN(images_->tag(source, target));
  auto image = TRY_PLAIN(images_->find(target));
  publish_object("image", "tag", image.id.text(), {{"name", target}});
  return {};
}

Result<image::RemovedImage> LocalEngine::remove_image(const Caller& caller, const std::string& name, bool force) {
  TRY_PLAIN(authorize(caller, Verb::image_remove, name));
  std::unique_lock uses(uses_mutex_);  // no container may take hold of it between the check and the removal
  auto is_in_use = [&](const Digest& id) -> std::optional<std::string> {
    for (const auto& container : registry_.all()) {
      auto record = container->snapshot();
      if (record->info.image_id != id.text()) continue;
      bool runs = record->info.state == State::running || record->info.state == State::paused || record->info.state == State::restarting;
      return concat(runs ? "running" : "stopped", " container ", container->id.substr(0, 12));
    }
    return std::nullopt;
  };
  auto image = TRY_PLAIN(images_->find(name));
  auto removed = TRY_PLAIN(images_->remove(name, force, is_in_use));
  for (const auto& reference : removed.untagged) publish_object("image", "untag", image.id.text(), {{"name", reference}});
  for (const auto& digest : removed.deleted) publish_object("image", "delete", digest, {{"name", digest}});
  return removed;
}

Result<PruneResult> LocalEngine::prune_images(const Caller& caller, const ImageFilter& filter) {
  TRY_PLAIN(authorize(caller, Verb::image_prune, ""));
  PruneResult result;
  for (const auto& candidate : TRY_PLAIN(list_images(caller))) {
    if (!candidate.used_by.empty() || (filter && !filter(candidate))) continue;
    std::vector<std::string> names = candidate.image.repo_tags;
    if (names.empty()) names.push_back(candidate.image.id.text());
    for (const auto& name : names) {
      auto removed = remove_image(caller, name, false);
      if (!removed.ok() && (removed.error().kind() == ErrorKind::conflict || removed.error().kind() == ErrorKind::not_found)) continue;  // taken meanwhile
      if (!removed.ok()) return std::move(removed).error();
      if (!removed->deleted.empty()) result.reclaimed_bytes += candidate.image.size_bytes;
      result.images.push_back(std::move(*removed));
    }
  }
  return result;
}

}  // namespace caisson::engine
