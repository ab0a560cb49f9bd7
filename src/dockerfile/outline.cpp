#include "dockerfile/outline.hpp"

#include <algorithm>
#include <set>

#include "base/strings.hpp"
#include "dockerfile/mount.hpp"

namespace caisson::dockerfile {

namespace {

/// Of the last comment line, which says whose description it is.
std::string description_of(const Instruction& instruction, const std::string& name) {
  if (name.empty() || instruction.comments.empty()) return {};
  const auto& comment = instruction.comments.back();
  if (comment.size() <= name.size() + 1 || lower(comment.substr(0, name.size())) != lower(name) || comment[name.size()] != ' ') return {};
  return std::string(trim(std::string_view(comment).substr(name.size() + 1)));
}

void add_need(std::vector<OutlineNeed>& needs, const RunMount& mount) {
  auto known = std::find_if(needs.begin(), needs.end(), [&](const OutlineNeed& need) { return need.name == mount.id; });
  if (known == needs.end()) known = needs.insert(needs.end(), {mount.id, false});
  known->is_required = known->is_required || mount.required;
}

void add_mounts(const Instruction& run, StageScope& scope, Outline& out) {
  for (const auto& flag : run.flags) {
    if (flag.name != "mount") continue;
    const auto text = scope.expand(flag.value);
    const auto mount = parse_mount(text.ok() ? *text : flag.value);  // what is wrong with it, a build says
    if (!mount.ok()) continue;
    if (mount->kind == MountKind::secret) add_need(out.secrets, *mount);
    if (mount->kind == MountKind::ssh) add_need(out.agents, *mount);
    if (mount->kind != MountKind::cache) continue;
    const auto& id = mount->id.empty() ? mount->target : mount->id;
    if (std::find(out.caches.begin(), out.caches.end(), id) == out.caches.end()) out.caches.push_back(id);
  }
}

/// Names that FROM asks for, in the base's name or the platform.
void add_used(const Stage& stage, const GlobalScope& globals, char escape, std::set<std::string, std::less<>>& used) {
  Expander expander([&](std::string_view name) {
    used.emplace(name);
    return globals.lookup()(name);
  }, escape);
  for (const auto* text : {&stage.base, &stage.platform}) ignore(expander.word(*text));
}

}  // namespace

Result<Outline> outline_of(const File& file, const std::vector<std::size_t>& stages, std::size_t target, const GlobalScope& globals) {
  Outline out;
  out.name = file.stages[target].name;
  out.description = description_of(file.stages[target].from, out.name);
  auto add = [&](const Instruction& instruction, std::size_t pair, std::optional<std::string> value) {
    const auto& name = instruction.pairs[pair].key;
    auto description = pair == 0 ? description_of(instruction, name) : std::string();
    auto known = std::find_if(out.arguments.begin(), out.arguments.end(), [&](const OutlineArgument& argument) { return argument.name == name; });
    if (known == out.arguments.end()) {
      out.arguments.push_back({name, std::move(description), std::move(value)});
      return;
    }
    if (known->description.empty()) known->description = std::move(description);
    if (!known->value) known->value = std::move(value);
  };
  std::set<std::string, std::less<>> used;
  for (const auto number : stages) {
    add_used(file.stages[number], globals, file.directives.escape, used);
    for (const auto& instruction : file.stages[number].instructions)
      if (instruction.keyword == Keyword::arg)
        for (const auto& pair : instruction.pairs) used.insert(pair.key);
  }
  for (const auto& argument : file.arguments)
    for (std::size_t i = 0; i < argument.pairs.size(); ++i)
      if (used.contains(argument.pairs[i].key)) add(argument, i, globals.value(argument.pairs[i].key));
  for (const auto number : stages) {
    StageScope scope(globals, file.directives.escape);
    for (const auto& instruction : file.stages[number].instructions) {
      if (instruction.keyword == Keyword::run) add_mounts(instruction, scope, out);
      if (instruction.keyword == Keyword::env) {
        const auto pairs = scope.expand_pairs(instruction);  // what cannot be expanded, a build says
        for (const auto& pair : pairs.ok() ? *pairs : std::vector<Pair>()) scope.set(pair.key, pair.value);
      }
      if (instruction.keyword != Keyword::arg) continue;
      const auto declared = TRY(scope.declare(instruction), concat("line ", instruction.lines.first));
      for (std::size_t i = 0; i < instruction.pairs.size() && i < declared.size(); ++i) add(instruction, i, declared[i].value);
    }
  }
  return out;
}

std::vector<TargetInfo> targets_of(const File& file) {
  std::vector<TargetInfo> out;
  for (const auto& stage : file.stages) out.push_back({stage.name, description_of(stage.from, stage.name), stage.base, stage.platform, &stage == &file.stages.back()});
  return out;
}

}  // namespace caisson::dockerfile
