// ENV hides ARG of the same name, as docker's reference has it; of two ARG lines the later one counts.
#include "dockerfile/scope.hpp"

#include <algorithm>
#include <array>
#include <set>

#include "base/strings.hpp"

namespace caisson::dockerfile {

namespace {

void add_platform(Arguments& out, const std::string& prefix, std::string_view platform) {
  auto parts = split(platform, '/');
  out[prefix + "PLATFORM"] = platform;
  out[prefix + "OS"] = parts[0];
  out[prefix + "ARCH"] = parts.size() > 1 ? parts[1] : "";
  out[prefix + "VARIANT"] = parts.size() > 2 ? parts[2] : "";
  out[prefix + "OSVERSION"] = "";
}

}  // namespace

Arguments platform_arguments(std::string_view target_platform, std::string_view build_platform, std::string_view target_stage) {
  Arguments out;
  add_platform(out, "TARGET", target_platform);
  add_platform(out, "BUILD", build_platform);
  out["TARGETSTAGE"] = target_stage.empty() ? "default" : target_stage;
  return out;
}

bool is_proxy_argument(std::string_view name) {
  constexpr std::array<std::string_view, 5> names{"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"};
  auto small = lower(name);
  if (name != small && std::any_of(name.begin(), name.end(), [](char c) { return c >= 'a' && c <= 'z'; })) return false;
  return std::find(names.begin(), names.end(), small) != names.end();
}

Status GlobalScope::declare(const Instruction& argument, char escape) {
  for (const auto& pair : argument.pairs) {
    auto given = given_.find(pair.key);
    if (given != given_.end()) {
      declared_[pair.key] = given->second;
      continue;
    }
    std::optional<std::string> value;
    if (pair.has_value) value = TRY_PLAIN(Expander(lookup(), escape).word(pair.value));
    declared_[pair.key] = std::move(value);
  }
  return {};
}

std::optional<std::string> GlobalScope::value(std::string_view name) const {
  if (auto found = declared_.find(name); found != declared_.end() && found->second) return found->second;
  if (auto given = given_.find(name); given != given_.end() && platform_.contains(name)) return given->second;
  if (auto found = platform_.find(name); found != platform_.end()) return found->second;
  return std::nullopt;
}

Lookup GlobalScope::lookup() const {
  return [this](std::string_view name) { return value(name); };
}

std::vector<std::string> GlobalScope::names() const {
  std::vector<std::string> out;
  for (const auto& [name, value] : declared_) out.push_back(name);
  for (const auto& [name, value] : platform_) out.push_back(name);
  return out;
}

std::optional<std::string> StageScope::value(std::string_view name) const {
  for (const auto& item : environment_) {
    auto halves = split_once(item, '=');
    if (halves.found && halves.before == name) return std::string(halves.after);
  }
  auto found = arguments_.find(name);
  return found == arguments_.end() ? std::nullopt : found->second;
}

template <typename Work>
auto StageScope::with_expander(Work work) {
  Expander expander([this](std::string_view name) { return value(name); }, escape_);
  auto result = work(expander);
  missing_.insert(missing_.end(), expander.missing().begin(), expander.missing().end());
  return result;
}

Result<std::string> StageScope::expand(std::string_view text) {
  return with_expander([&](Expander& expander) { return expander.word(text); });
}
Result<std::vector<std::string>> StageScope::expand_words(std::string_view text) {
  return with_expander([&](Expander& expander) { return expander.words(text); });
}
Result<std::string> StageScope::expand_body(std::string_view text) {
  return with_expander([&](Expander& expander) { return expander.body(text); });
}

Result<std::vector<StageScope::Declared>> StageScope::declare(const Instruction& argument) {
  std::vector<Declared> out;
  for (const auto& pair : argument.pairs) {
    Declared declared{.name = pair.key, .has_default = pair.has_value};
    if (pair.has_value) declared.value = TRY_PLAIN(expand(pair.value));
    if (auto given = globals_->given().find(pair.key); given != globals_->given().end()) declared.value = given->second;
    else if (!pair.has_value) declared.value = globals_->value(pair.key);
    arguments_[declared.name] = declared.value;
    out.push_back(std::move(declared));
  }
  return out;
}

Result<std::vector<Pair>> StageScope::expand_pairs(const Instruction& instruction) {
  std::vector<Pair> out;
  for (const auto& pair : instruction.pairs) {
    auto key = TRY_PLAIN(expand(pair.key));
    auto value = TRY_PLAIN(expand(pair.value));
    if (key.empty()) return Error(ErrorKind::invalid, concat(to_string(instruction.keyword), " names can not be blank"));
    out.push_back({std::move(key), std::move(value)});
  }
  return out;
}

void StageScope::set(std::string_view key, std::string_view value) {
  for (auto& item : environment_) {
    if (split_once(item, '=').before != key) continue;
    item = concat(key, "=", value);
    return;
  }
  environment_.push_back(concat(key, "=", value));
}

std::vector<std::string> StageScope::visible_arguments() const {
  std::vector<std::string> out;
  std::set<std::string_view> hidden;
  for (const auto& item : environment_) hidden.insert(split_once(item, '=').before);
  for (const auto& [name, value] : arguments_)
    if (value && !hidden.contains(name)) out.push_back(concat(name, "=", *value));
  return out;
}

std::vector<std::string> StageScope::names() const {
  std::vector<std::string> out;
  for (const auto& item : environment_) out.emplace_back(split_once(item, '=').before);
  for (const auto& [name, value] : arguments_) out.push_back(name);
  return out;
}

std::vector<std::string> StageScope::take_missing() { return std::exchange(missing_, {}); }

}  // namespace caisson::dockerfile
