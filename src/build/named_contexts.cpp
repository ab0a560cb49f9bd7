// Names are compared as stages' are (without case), and as images' are.
#include "build/named_contexts.hpp"

#include "base/reference.hpp"
#include "base/strings.hpp"

namespace caisson::build {

namespace {

std::string key_of(std::string_view name) {
  auto reference = parse_reference(std::string(name));
  return reference.ok() ? reference->canonical() : lower(name);
}

}  // namespace

Status NamedContexts::add(const std::string& name, Opened context) {
  if (name.empty()) return Error(ErrorKind::invalid, "a named context without a name");
  if (!contexts_.emplace(key_of(lower(name)), std::move(context)).second) return Error(ErrorKind::invalid, concat("two named contexts are called ", name));
  return {};
}

const NamedContexts::Opened* NamedContexts::find(std::string_view name) const {
  if (contexts_.empty() || name.empty()) return nullptr;
  auto found = contexts_.find(key_of(lower(name)));
  return found == contexts_.end() ? nullptr : &found->second;
}

}  // namespace caisson::build
