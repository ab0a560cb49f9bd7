// Containers of steps go when their steps do.
#include "build/step_container.hpp"

#include "base/log.hpp"

namespace caisson::build {

StepContainer::~StepContainer() {
  if (id_.empty()) return;
  const auto id = id_;
  auto removed = remove();
  if (!removed.ok()) log_error("remove the container of a step", id, removed.error());
}

Status StepContainer::remove() {
  engine::RemoveOptions options;
  options.force = true;
  options.volumes = true;
  return build_->engine.remove(build_->caller, std::exchange(id_, {}), options);
}

}  // namespace caisson::build
