// One stage of a build: its instructions in order, each a change of the configuration or a layer.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "build/build_state.hpp"
#include "build/step_container.hpp"
#include "dockerfile/mount.hpp"
#include "dockerfile/scope.hpp"

namespace caisson::build {

class StageBuilder {
 public:
  /// `number`: of the stage in the file; `order`: among those that are built; `first_step`: of the build's steps.
  struct Place {
    std::size_t number = 0;
    std::size_t order = 0;
    std::uint32_t first_step = 1;
    std::uint32_t steps = 0;
    bool is_target = false;
  };
  StageBuilder(SharedBuild& build, const dockerfile::Stage& stage, Place place);

  /// Afterwards the stage stands in build.finished. Errors: as Builder::build, with the place in the Dockerfile.
  Status run(const dockerfile::StageScope* base_scope);
  [[nodiscard]] const dockerfile::StageScope& scope() const { return scope_; }

  /// After a failure: tells of a shell in what the failed step left, and waits for its end or the client's departure. Nothing is left of it.
  void offer_shell(Cancel client);

  /// The number of the stage that `name` means (a name, or digits) among those before `before`; nothing when it is an image.
  static std::optional<std::size_t> find_stage(const dockerfile::File& file, std::string_view name, std::size_t before);

 private:
  void send(EventKind kind, std::string text = "", std::string id = "");
  void begin_step(const std::string& text);
  void end_step();
  Status begin(const dockerfile::StageScope* base_scope);
  Status begin_from_image(const std::string& name);
  /// From this host, or from its registry when it is not here or the build asked for the newest. `platform`: "": this machine's.
  /// From here or its registry, and noted as what the build is made of.
  Result<image::Image> find_image(const std::string& name, const std::string& platform);
  Result<image::Image> find_or_pull(const std::string& name, const std::string& platform);
  Status run_triggers();
  Status dispatch(const dockerfile::Instruction& instruction);
  Status dispatch_argument(const dockerfile::Instruction& instruction);
  Status dispatch_configuration(const dockerfile::Instruction& instruction);
  void add_history(std::string created_by, bool empty_layer);
  [[nodiscard]] std::string metadata_text(const std::string& text, std::string_view blanks) const;
  [[nodiscard]] std::vector<std::string> shell() const;

  /// The step from the cache, or from `make`, which is called at most once per key in this daemon at a time.
  Status cached_step(const std::string& key, const std::string& text, const std::function<Result<image::MadeLayer>()>& make);

  /// The step from one of the sources that the build was given.
  Result<std::optional<image::MadeLayer>> bring_step(const std::string& key);

  // copy_step.cpp
  struct CopyPlan;
  Status dispatch_copy(const dockerfile::Instruction& instruction);
  Result<CopyPlan> plan_copy(const dockerfile::Instruction& instruction);
  Result<image::MadeLayer> make_copy(const CopyPlan& plan);
  Status dispatch_workdir_folder();
  /// A named context's files as the stage's first layer.
  Status begin_from_folder(int folder_fd, const std::string& name);
  /// What --from and --mount=from name: files of a stage, an image or a named context.
  struct NamedSource {
    StageState state;    ///< without a folder
    int folder_fd = -1;  ///< of a named context, whose files belong to nobody in particular
  };
  Result<NamedSource> find_source(const std::string& name);
  /// Its files. Of a state a tree is held for as long as `tree` lives.
  Result<int> open_source(const NamedSource& source, OpenedTree& tree);

  // run_step.cpp
  struct RunPlan;
  Status dispatch_run(const dockerfile::Instruction& instruction);
  Result<RunPlan> plan_run(const dockerfile::Instruction& instruction);
  /// What its mounts need stays in `plan`, unless it is kept.
  Result<image::MadeLayer> make_run(RunPlan& plan);
  /// The image that a RUN step starts from: the files so far, without volumes or a health check of the base.
  Result<std::string> image_to_run();
  Result<engine::StepMount> make_mount(const dockerfile::RunMount& mount);
  /// Whether a secret or an agent is there to mount. Errors: not_found when it is required and is not.
  Result<bool> is_given(const dockerfile::RunMount& mount);
  Result<engine::StepMount> make_agent_mount(const dockerfile::RunMount& mount, RunPlan& plan);
  Result<std::string> bind_source(const dockerfile::RunMount& mount);
  Result<std::string> digest_of_bind(const dockerfile::RunMount& mount);
  [[nodiscard]] Error explain_start_error(Error error) const;
  /// What every container of the stage has in common; without a program.
  Result<engine::ContainerSpec> step_spec();
  Result<engine::StepSpec> run_spec(RunPlan& plan);
  Result<image::MadeLayer> run_and_take_layer(const std::string& id, const RunPlan& plan, const engine::StepSpec& step);
  Result<int> run_container(const std::string& id);

  // debug_shell.cpp
  void note_failure(const dockerfile::Instruction& instruction, const Error& error);
  Status open_shell(DebugShell& shell, Cancel client);
  Result<std::string> find_shell(const std::string& upper);
  Status wait_for_shell(engine::Waiter& end, const std::string& id, Cancel client);

  SharedBuild& build_;
  const dockerfile::Stage& stage_;
  Place place_;
  dockerfile::StageScope scope_;
  StageState state_;
  std::uint32_t step_ = 0;
  bool uses_cache_ = true;
  std::string made_;              ///< what was told of the last step
  std::size_t told_history_ = 0;  ///< how much of the history that covers
  std::optional<FailedStep> kept_;  ///< of a RUN, while somebody may want to look at it
  DebugShell failed_;               ///< of the step by which the stage fails, as far as it is known
};

}  // namespace caisson::build
