// From build files to builds: groups, targets, what they inherit, matrices, overrides.
// Source: docs.docker.com/build/bake/reference.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.hpp"
#include "base/result.hpp"

namespace caisson::bake {

struct File {
  std::string name;
  std::string text;
};

/// One build, worked out. Unset texts are "".
struct Target {
  std::string name;
  std::string context = ".";
  std::string dockerfile;
  std::string dockerfile_inline;
  std::string target;
  std::string network;
  std::string shm_size;
  std::map<std::string, std::string> contexts;   ///< "target:NAME" names another target of the plan
  std::map<std::string, std::string> arguments;
  std::map<std::string, std::string> labels;
  std::vector<std::string> tags;
  std::vector<std::string> platforms;
  std::vector<std::string> cache_from;
  std::vector<std::string> cache_to;
  std::vector<std::string> outputs;
  std::vector<std::string> secrets;
  std::vector<std::string> ssh;           ///< as `build --ssh` takes them
  std::string call;                       ///< as `build --call` takes it
  std::vector<std::string> annotations;   ///< as `build --annotation` takes them
  std::vector<std::string> no_cache_stages;
  std::vector<std::string> attestations;  ///< as `build --attest` takes them
  std::vector<std::string> ulimits;
  std::vector<std::string> entitlements;
  std::vector<std::string> extra_hosts;  ///< "name:address"
  bool no_cache = false;
  bool pull = false;
};

/// What is to be built, and in which order it may be: a target behind those that its contexts name.
struct Plan {
  std::map<std::string, std::vector<std::string>> groups;  ///< those that were asked for, flattened
  std::vector<Target> targets;
};

struct Request {
  std::vector<File> files;             ///< later ones add to earlier ones, and win
  std::vector<std::string> wanted;     ///< targets and groups; empty: "default"
  std::vector<std::string> overrides;  ///< "web.args.A=b", "*.platform=linux/arm64", "web.tags+=x"
  std::function<std::optional<std::string>(const std::string& name)> environment;  ///< replaces a variable's default
};

/// Files end in .hcl, .json, or (compose files, of which services' `build` is taken) .yaml and .yml; others are tried as HCL.
/// Errors: invalid with file and line, not_found (a target), naming both.
Result<Plan> plan(const Request& request);

/// As `buildx bake --print` shows it.
json::object plan_json(const Plan& plan);

/// What build files hold, for `--list`; each by name.
struct Contents {
  struct Target {
    std::string name;
    std::string description;  ///< of a group that has none: its members
    bool is_group = false;
  };
  struct Variable {
    std::string name;
    json::value value;  ///< the environment's, else the default; null: it has none
    std::string description;
  };
  std::vector<Target> targets;
  std::vector<Variable> variables;
};
/// Of the request's files and environment. Errors: as of plan().
Result<Contents> contents(const Request& request);

}  // namespace caisson::bake
