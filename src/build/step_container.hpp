// The container of a RUN step, and what is kept of one that failed.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "build/build_state.hpp"

namespace caisson::build {

/// Removes the container, whatever else went wrong.
class StepContainer {
 public:
  StepContainer(SharedBuild& build, std::string id) : build_(&build), id_(std::move(id)) {}
  StepContainer(StepContainer&& other) noexcept : build_(other.build_), id_(std::exchange(other.id_, {})) {}
  StepContainer(const StepContainer&) = delete;
  StepContainer& operator=(const StepContainer&) = delete;
  StepContainer& operator=(StepContainer&&) = delete;
  ~StepContainer();
  [[nodiscard]] const std::string& id() const { return id_; }
  Status remove();

 private:
  SharedBuild* build_;
  std::string id_;
};

/// A RUN as it stood when it failed, with all that its mounts need.
struct FailedStep {
  engine::StepSpec spec;
  std::vector<Cache::Held> held;
  std::vector<std::unique_ptr<AgentSocket>> agents;
  StepContainer container;
};

}  // namespace caisson::build
