// FROM, ARG and the instructions that change the configuration; COPY, ADD and RUN have files of their own.
#include "build/stage.hpp"

#include <algorithm>
#include <cerrno>

#include "base/strings.hpp"
#include "engine/bounds.hpp"
#include "image/changes.hpp"
#include "image/coming.hpp"
#include "linux/event.hpp"

namespace caisson::build {

using dockerfile::Instruction;
using dockerfile::Keyword;

namespace {
constexpr std::string_view default_path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

StageBuilder::StageBuilder(SharedBuild& build, const dockerfile::Stage& stage, Place place)
    : build_(build), stage_(stage), place_(place), scope_(build.globals, build.file.directives.escape), step_(place.first_step), uses_cache_(build.request.use_cache) {
  for (const auto& name : build.request.no_cache_stages)
    if (find_stage(build.file, name, build.file.stages.size()) == place.number) uses_cache_ = false;
}

std::optional<std::size_t> StageBuilder::find_stage(const dockerfile::File& file, std::string_view name, std::size_t before) {
  for (std::size_t i = before; i-- > 0;)
    if (!file.stages[i].name.empty() && file.stages[i].name == lower(name)) return i;
  auto number = parse_integer<std::size_t>(name);
  if (number.ok() && *number < before) return *number;
  return std::nullopt;
}

void StageBuilder::send(EventKind kind, std::string text, std::string id) {
  Event event;
  event.kind = kind;
  event.text = std::move(text);
  event.id = std::move(id);
  event.step = step_;
  event.steps = place_.steps;
  build_.reporter.send(place_.order, std::move(event));
}

void StageBuilder::begin_step(const std::string& text) { send(EventKind::step, text); }

void StageBuilder::end_step() {
  // Docker's users know the line. Nothing needs to be stored for it: it is the same where all until here is, and that is what it says.
  if (state_.history.empty() && !state_.base_image.empty()) {
    made_ = state_.base_image;
  } else {
    Hasher hasher;
    auto add = [&](std::string_view text) {
      hasher.update(concat(text.size(), ":"));
      hasher.update(text);
    };
    add(made_);
    add(state_.key);
    for (; told_history_ < state_.history.size(); ++told_history_) add(state_.history[told_history_].created_by);
    made_ = hasher.finish().text();
  }
  send(EventKind::made, "", made_);
  ++step_;
}

void StageBuilder::add_history(std::string created_by, bool empty_layer) {
  image::HistoryEntry entry;
  entry.created = build_.source_date_epoch_s ? *build_.source_date_epoch_s * 1'000'000'000 : now_ns();
  entry.created_by = std::move(created_by);
  entry.empty_layer = empty_layer;
  state_.history.push_back(std::move(entry));
}

std::vector<std::string> StageBuilder::shell() const {
  return state_.config.config.shell.empty() ? std::vector<std::string>{"/bin/sh", "-c"} : state_.config.config.shell;
}

std::string StageBuilder::metadata_text(const std::string& text, std::string_view blanks) const { return concat(join(shell(), " "), " #(nop)", blanks, text); }

Result<image::Image> StageBuilder::find_image(const std::string& name, const std::string& platform) {
  auto image = TRY_PLAIN(find_or_pull(name, platform));
  TRY_PLAIN(engine::check_image_here(*build_.caller.role, name, image));
  build_.materials.add(image_material(name, image));
  return image;
}

Result<image::Image> StageBuilder::find_or_pull(const std::string& name, const std::string& platform) {
  auto found = build_.engine.inspect_image(build_.caller, name);
  bool is_missing = !found.ok() && found.error().kind() == ErrorKind::not_found;
  if (!found.ok() && !is_missing) return std::move(found).error();
  const bool is_other = !is_missing && !platform.empty() && !image::platform_matches({found->image.os, found->image.architecture, found->image.variant}, TRY_PLAIN(image::parse_platform(platform)));
  if (!is_missing && !is_other && !build_.request.pull) {
    auto image = TRY_PLAIN(build_.images.admit(name));
    TRY(image::must_be_here(image), concat("FROM ", name));
    return image;
  }
  image::PullRequest pull;
  auto reference = TRY_PLAIN(image::parse_reference(name));
  pull.reference = reference.canonical();
  pull.platform = platform;
  pull.credentials = build_.request.credentials_for(reference);
  auto progress = [this](const image::Progress& line) {
    if (line.id.empty() && !line.status.empty()) send(EventKind::warning, line.status);
  };
  auto pulled = build_.engine.pull_images(build_.caller, pull, progress, build_.cancel);
  if (pulled.ok() && !pulled->empty()) return std::move(pulled->front());
  // An image of this host alone (built or imported) has no registry to be asked.
  if (is_other && !pulled.ok()) send(EventKind::warning, concat(name, " is here for ", found->image.os, "/", found->image.architecture, ", and the one for ", platform, " cannot be pulled: ", pulled.error().text()));
  if (!is_missing && (pulled.ok() || is_other || pulled.error().kind() == ErrorKind::not_found)) return build_.images.admit(name);
  if (pulled.ok()) return Error(ErrorKind::not_found, concat("No such image: ", name));
  return std::move(pulled).error();
}

Status StageBuilder::begin_from_image(const std::string& name) {
  if (name == "scratch") {
    auto platform = TRY_PLAIN(image::parse_platform(state_.platform));
    state_.config.architecture = platform.architecture;
    state_.config.os = platform.os;
    state_.config.variant = platform.variant;
    state_.key = KeyHasher("scratch").add(state_.platform).finish();
    return {};
  }
  auto image = TRY_PLAIN(find_image(name, stage_.platform.empty() && build_.request.platform.empty() ? std::string() : state_.platform));
  state_.base_image = image.id.text();
  state_.image = state_.base_image;
  state_.config = TRY(image::parse_image_config(TRY_PLAIN(build_.images.raw_config(image.id))), concat("image ", name));
  state_.key = KeyHasher("image").add(state_.base_image).finish();
  auto wanted = TRY_PLAIN(image::parse_platform(state_.platform));
  image::Platform offered{state_.config.os, state_.config.architecture, state_.config.variant};
  if (!image::platform_matches(offered, wanted))
    send(EventKind::warning, concat("InvalidBaseImagePlatform: Base image ", name, " was pulled with platform \"", offered.os, "/", offered.architecture, "\", expected \"",
                                    state_.platform, "\" for current build"));
  return {};
}

Status StageBuilder::begin(const dockerfile::StageScope* base_scope) {
  const char escape = build_.file.directives.escape;
  auto name = TRY_PLAIN(dockerfile::Expander(build_.globals.lookup(), escape).word(stage_.base));
  if (name.empty()) return Error(ErrorKind::invalid, concat("base name (", stage_.base, ") should not be blank"));
  auto platform = TRY_PLAIN(dockerfile::Expander(build_.globals.lookup(), escape).word(stage_.platform));
  const auto* named = build_.contexts.find(name);
  auto base = named != nullptr ? std::nullopt : find_stage(build_.file, name, place_.number);
  if (named != nullptr) {
    state_.platform = platform.empty() ? build_.platform : platform;
    TRY_PLAIN(begin_from_image(named->folder ? "scratch" : named->image));
    if (named->folder) TRY_PLAIN(begin_from_folder(named->folder.get(), name));
  } else if (base && name.find_first_not_of("0123456789") != std::string::npos) {
    std::lock_guard lock(build_.mutex);
    state_ = build_.finished.at(*base);
    state_.has_cmd = false;
    if (base_scope != nullptr) scope_.inherit(*base_scope);
  } else {
    state_.platform = platform.empty() ? build_.platform : platform;
    TRY_PLAIN(begin_from_image(name));
  }
  auto& env = state_.config.config.env;
  bool has_path = std::any_of(env.begin(), env.end(), [](const std::string& item) { return item.starts_with("PATH="); });
  if (!has_path) env.insert(env.begin(), std::string(default_path));
  scope_.set_environment(env);
  return {};
}

Status StageBuilder::run_triggers() {
  auto triggers = std::exchange(state_.config.on_build, {});
  if (triggers.empty()) return {};
  send(EventKind::warning, concat("# Executing ", triggers.size(), triggers.size() == 1 ? " build trigger" : " build triggers"));
  for (const auto& text : triggers) {
    auto instruction = TRY(dockerfile::parse_instruction(text), concat("ONBUILD ", text));
    TRY(dispatch(instruction), concat("ONBUILD ", text));
  }
  return {};
}

Status StageBuilder::run(const dockerfile::StageScope* base_scope) {
  auto at_place = [&](const Instruction& instruction, Status status) -> Status {
    if (status.ok()) return status;
    if (status.error().error_number() != ECANCELED) {
      send(EventKind::failed);
      note_failure(instruction, status.error());
    }
    {
      std::lock_guard lock(build_.mutex);
      if (build_.failed_code) return status;  // docker's words alone, which clients know
    }
    auto& error = status.error();
    if (error.text().find('\n') != std::string::npos) return status;
    return Error(error.kind(), dockerfile::show_place(build_.source, instruction.lines, "", error.text()), error.error_number()).with_hint(error.hint());
  };
  begin_step(stage_.from.statement);
  TRY_PLAIN(at_place(stage_.from, begin(base_scope)));
  TRY_PLAIN(at_place(stage_.from, run_triggers()));
  end_step();
  for (const auto& instruction : stage_.instructions) {
    if (build_.cancel.fd >= 0) {
      linux::PollEntry entry{build_.cancel.fd, POLLIN, 0};
      if (TRY_PLAIN(linux::poll({&entry, 1}, 0)) > 0) return Error(ErrorKind::unavailable, "the build was cancelled", ECANCELED);
    }
    begin_step(std::string(split_once(instruction.statement, '\n').before));
    TRY_PLAIN(at_place(instruction, dispatch(instruction)));
    end_step();
  }
  if (place_.is_target && !build_.request.labels.empty()) {
    std::string text = "LABEL";
    for (const auto& [key, value] : build_.request.labels) {
      state_.config.config.labels[key] = value;
      text += concat(" ", key, "=", value);
    }
    begin_step(text);
    add_history(metadata_text(text, "  "), true);
    end_step();
  }
  std::lock_guard lock(build_.mutex);
  build_.finished[place_.number] = state_;
  return {};
}

Status StageBuilder::dispatch(const Instruction& instruction) {
  switch (instruction.keyword) {
    case Keyword::arg: return dispatch_argument(instruction);
    case Keyword::run: return dispatch_run(instruction);
    case Keyword::copy:
    case Keyword::add: return dispatch_copy(instruction);
    default: return dispatch_configuration(instruction);
  }
}

Status StageBuilder::dispatch_argument(const Instruction& instruction) {
  std::string text = "ARG";
  for (const auto& argument : TRY_PLAIN(scope_.declare(instruction))) text += argument.has_default ? concat(" ", argument.name, "=", argument.value.value_or("")) : concat(" ", argument.name);
  add_history(metadata_text(text, "  "), true);
  return {};
}

Status StageBuilder::dispatch_configuration(const Instruction& instruction) {
  auto text = TRY_PLAIN(image::apply_instruction(instruction, scope_, state_.config, state_.has_cmd));
  if (instruction.keyword != Keyword::workdir) {
    add_history(metadata_text(text, "  "), true);
    return {};
  }
  auto layers = state_.layers.size();
  TRY_PLAIN(dispatch_workdir_folder());
  bool is_empty = state_.layers.size() == layers || state_.layers.back().is_empty;
  add_history(metadata_text(text, " "), is_empty);
  return {};
}

/// A source that fails is no reason for a build to fail.
Result<std::optional<image::MadeLayer>> StageBuilder::bring_step(const std::string& key) {
  if (!uses_cache_) return std::optional<image::MadeLayer>();
  auto brought = build_.imported.bring(key, build_.cancel);
  if (!brought.ok()) {
    if (brought.error().error_number() == ECANCELED) return std::move(brought).error();
    send(EventKind::warning, concat(brought.error().text(), "; the step is done again"));
    return std::optional<image::MadeLayer>();
  }
  if (*brought) send(EventKind::cached);
  return brought;
}

Status StageBuilder::cached_step(const std::string& key, const std::string& text, const std::function<Result<image::MadeLayer>()>& make) {
  auto held = TRY_PLAIN(build_.cache.hold(key, build_.cancel));
  if (uses_cache_) {
    if (auto made = TRY_PLAIN(build_.cache.find(key))) {
      send(EventKind::cached);
      add_layer(build_, state_, key, *made);
      return {};
    }
  }
  Made made;
  auto brought = TRY_PLAIN(bring_step(key));
  made.layer = brought ? std::move(*brought) : TRY_PLAIN(make());
  made.image = TRY_PLAIN(compose_step(build_, state_, made.layer));
  made.owns_image = !made.layer.is_empty;
  TRY_PLAIN(build_.cache.put(key, text, made));
  add_layer(build_, state_, key, made);
  return {};
}

}  // namespace caisson::build
