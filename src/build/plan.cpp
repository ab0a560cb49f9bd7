// Which stages a build needs, and in which order they may begin.
#include "base/strings.hpp"
#include "build/local_builder.hpp"
#include "build/stage.hpp"

namespace caisson::build {

namespace {

void add_sources(const dockerfile::File& file, const dockerfile::Instruction& instruction, std::size_t stage, const NamedContexts& contexts, std::set<std::size_t>& out) {
  auto add = [&](std::string_view name) {
    if (contexts.find(name) != nullptr) return;
    if (auto number = StageBuilder::find_stage(file, name, stage)) out.insert(*number);
  };
  if (const auto* from = instruction.flag("from")) add(from->value);
  for (const auto& flag : instruction.flags) {
    if (flag.name != "mount") continue;
    auto mount = dockerfile::parse_mount(flag.value);  // what is wrong with it is said when the step is reached
    if (mount.ok() && !mount->from.empty()) add(mount->from);
  }
}

}  // namespace

std::set<std::size_t> needs_of(const dockerfile::File& file, const dockerfile::GlobalScope& globals, std::size_t stage, const NamedContexts& contexts) {
  std::set<std::size_t> out;
  auto base = dockerfile::Expander(globals.lookup(), file.directives.escape).word(file.stages[stage].base);
  bool is_name = base.ok() && base->find_first_not_of("0123456789") != std::string::npos;
  if (is_name && contexts.find(*base) == nullptr)
    if (auto number = StageBuilder::find_stage(file, *base, stage)) out.insert(*number);
  for (const auto& instruction : file.stages[stage].instructions) add_sources(file, instruction, stage, contexts, out);
  return out;
}

std::vector<std::size_t> needed_stages(const dockerfile::File& file, const dockerfile::GlobalScope& globals, std::size_t target, const NamedContexts& contexts) {
  std::set<std::size_t> needed{target};
  // A stage needs earlier ones only, so one pass from the target back finds all.
  for (std::size_t stage = target + 1; stage-- > 0;) {
    if (!needed.contains(stage)) continue;
    for (auto other : needs_of(file, globals, stage, contexts)) needed.insert(other);
  }
  return {needed.begin(), needed.end()};
}

Result<std::size_t> find_target(const dockerfile::File& file, const std::string& target) {
  if (target.empty()) return file.stages.size() - 1;
  if (auto number = StageBuilder::find_stage(file, target, file.stages.size())) return *number;
  std::vector<std::string_view> names;
  for (const auto& stage : file.stages)
    if (!stage.name.empty()) names.push_back(stage.name);
  auto close = dockerfile::nearest(target, names.data(), names.size());
  return Error(ErrorKind::invalid, concat("failed to reach build target ", target, " in Dockerfile", close.empty() ? std::string() : concat(" (did you mean ", close, "?)")));
}

}  // namespace caisson::build
