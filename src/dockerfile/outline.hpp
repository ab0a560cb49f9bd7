// What a Dockerfile offers whoever builds it: its targets, and what a target takes (`build --call`).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "dockerfile/parser.hpp"
#include "dockerfile/scope.hpp"

namespace caisson::dockerfile {

struct OutlineArgument {
  std::string name;
  std::string description;           ///< of the comment "# NAME …" above it
  std::optional<std::string> value;  ///< as it would be in this build
};
/// A secret or an ssh agent of RUN steps.
struct OutlineNeed {
  std::string name;
  bool is_required = false;
};
struct Outline {
  std::string name;  ///< of the target; "": it has none
  std::string description;
  std::vector<OutlineArgument> arguments;  ///< in the order of the file, each name once
  std::vector<OutlineNeed> secrets;
  std::vector<OutlineNeed> agents;
  std::vector<std::string> caches;  ///< ids of cache mounts
};
/// `stages`: what `target` needs, itself among them, in the order of the file. Global arguments count where their FROM uses them or a stage declares them.
/// Errors: invalid, naming the argument whose default cannot be expanded.
Result<Outline> outline_of(const File& file, const std::vector<std::size_t>& stages, std::size_t target, const GlobalScope& globals);

struct TargetInfo {
  std::string name;  ///< "": a stage without a name, which is built by its number
  std::string description;
  std::string base;      ///< as written
  std::string platform;  ///< as written
  bool is_default = false;
};
std::vector<TargetInfo> targets_of(const File& file);

}  // namespace caisson::dockerfile
